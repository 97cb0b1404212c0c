"""ByteTrack: faint detections keep tracks alive (Zhang et al. 2022, arXiv:2110.06864)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np

from trackers.lifecycle import Floats, KalmanTracker, Mask, Picture
from trackers.matching import Matching
from trackers.moment import LATE, Moment
from trackers.motion import XYAH, MotionModel
from trackers.observed import Observed
from trackers.tracker import Range


class ByteTrack(KalmanTracker):
    """Two-score association: confident detections first, then the faint ones for tracks that have none.

    Matching is by overlap of boxes alone, in the first and the last step weighted by the detections' scores: confirmed
    tracks, lost ones among them, with confident detections; those seen in the last frame with the faint ones;
    tentative tracks with the confident detections that are left. A tentative track is confirmed when it is seen again
    in the next frame, else dropped; what the very first frame shows is confirmed at once.

    Args:
        max_coast: seconds a confirmed track is predicted without being seen before it is dropped.
        high_score: detections from this score on are confident.
        low_score: fainter detections than this are not used at all.
        birth_score: least score of a detection that starts a track.
        iou_threshold: least overlap times score of a track and a confident detection.
        low_iou_threshold: least overlap of a track and a faint detection.
        tentative_iou_threshold: least overlap times score of a tentative track and a confident detection.
    """

    name = "bytetrack"
    _model: MotionModel = XYAH()
    _kept = 3
    """From this column on a track keeps its size while it is not seen."""

    def __init__(
        self,
        *,
        max_coast: Annotated[float, Range(0)] = 1.0,
        high_score: Annotated[float, Range(0, 1)] = 0.5,
        low_score: Annotated[float, Range(0, 1)] = 0.1,
        birth_score: Annotated[float, Range(0, 1)] = 0.6,
        iou_threshold: Annotated[float, Range(0, 1)] = 0.2,
        low_iou_threshold: Annotated[float, Range(0, 1)] = 0.5,
        tentative_iou_threshold: Annotated[float, Range(0, 1)] = 0.3,
        **common: Any,
    ) -> None:
        self._max_coast = max_coast
        self._high_score = high_score
        self._low_score = low_score
        self._birth_score = birth_score
        self._iou_threshold = iou_threshold
        self._low_iou_threshold = low_iou_threshold
        self._tentative_iou_threshold = tentative_iou_threshold
        super().__init__(**common)

    def _advance(self, seen: Observed, when: Moment, frames: Sequence[Picture | None]) -> Mask:
        r = self._records
        confirmed = r.id > 0
        lost = confirmed & (r.det_index < 0)
        high = seen.scores >= self._high_score
        low = (seen.scores >= self._low_score) & ~high
        self._motion.velocity[lost, self._kept :] = 0.0
        predicted = self._predict(when, frames)
        matching = self._matching(seen)
        self._by_worth(matching, confirmed, high, predicted, seen, self._iou_threshold)
        matching.by_overlap(confirmed & ~lost, low, predicted, seen.xyxy, self._low_iou_threshold)
        self._by_worth(matching, ~confirmed, high, predicted, seen, self._tentative_iou_threshold)
        rows, cols = matching.pairs()
        self._hit(rows, seen, cols, when)
        unclaimed = (matching.track_of < 0) & (seen.scores >= max(self._high_score, self._birth_score))
        self._born(seen, unclaimed.nonzero()[0], when)
        at = when.of(r.stream)
        self._name((r.det_index >= 0) & ((r.hits > 1) | at.first))
        self._look(when)
        return np.asarray((r.det_index >= 0) | ((r.id > 0) & (at.now - r.seen <= self._max_coast + LATE)))

    def _by_worth(
        self, matching: Matching, tracks: Mask, detections: Mask, predicted: Floats, seen: Observed, least: float
    ) -> None:
        """Match by overlap times score."""
        matching.by_overlap(tracks, detections, predicted, seen.xyxy, least, seen.scores)
