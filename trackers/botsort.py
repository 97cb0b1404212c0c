"""BoT-SORT: two-score association with camera motion and appearance (Aharon et al. 2022, arXiv:2206.14651)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from trackers.appearance import Averages, Vectors
from trackers.association import Floats, overlapping, paired_iou
from trackers.camera import ImageMotion
from trackers.columns import Columns
from trackers.lifecycle import LATE, Indices, KalmanTracker, Mask
from trackers.matching import Matching
from trackers.motion import XYWH
from trackers.tracker import Choice, Observed, Range
from trackers.tracks import Tracks


class BoTSORT(KalmanTracker):
    """ByteTrack's association on boxes that follow the camera, with looks where boxes overlap.

    The steps are those of ByteTrack. In the first and the last, a pair costs 1 - overlap times score, or half the
    cosine distance of their looks where that is less, the boxes overlap and the looks are alike enough. A track's look
    is an exponential average.

    Args:
        max_coast: seconds a confirmed track is predicted without being seen before it is dropped.
        high_score: detections from this score on are confident.
        low_score: fainter detections than this are not used at all.
        birth_score: least score of a detection that starts a track.
        iou_threshold: least overlap times score of a track and a confident detection.
        low_iou_threshold: least overlap of a track and a faint detection.
        tentative_iou_threshold: least overlap times score of a tentative track and a confident detection.
        max_cosine: largest cosine distance of looks that are alike.
        look_iou_threshold: least overlap of boxes whose looks are compared.
        look_memory: share of a track's look that stays when it is seen again.
        camera: how camera motion is estimated from the frames, where they are given to `update`.
    """

    name = "botsort"
    _model = XYWH()

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
        max_cosine: Annotated[float, Range(0, 2)] = 0.5,
        look_iou_threshold: Annotated[float, Range(0, 1)] = 0.5,
        look_memory: Annotated[float, Range(0, 1)] = 0.9,
        camera: Annotated[str, Choice(("flow", "ecc", "none"))] = "flow",
        **common: Any,
    ) -> None:
        self._max_coast = max_coast
        self._high_score = high_score
        self._low_score = low_score
        self._birth_score = birth_score
        self._iou_threshold = iou_threshold
        self._low_iou_threshold = low_iou_threshold
        self._tentative_iou_threshold = tentative_iou_threshold
        self._max_cosine = max_cosine
        self._look_iou_threshold = look_iou_threshold
        self._look_memory = look_memory
        self._method = camera
        super().__init__(**common)

    def _begin(self) -> None:
        super()._begin()
        self._looks = Averages(0)
        self._camera = ImageMotion(self._method)

    def _tables(self) -> dict[str, Columns]:
        return {**super()._tables(), "looks": self._looks}

    def _step(self, seen: Observed, now: float, dt: float, frame: NDArray[np.uint8] | None) -> Tracks:
        r = self._records
        confirmed = r.id > 0
        lost = confirmed & (r.det_index < 0)
        high = seen.scores >= self._high_score
        low = (seen.scores >= self._low_score) & ~high
        self._motion.velocity[lost, 2:] = 0.0  # what is not seen keeps its size
        self._predict(dt)
        if frame is not None and self._method != "none":
            self._motion.warp(self._model, self._camera.estimate(frame))
        predicted = self._model.decode(self._motion.position)
        looks = Vectors(seen) if seen.has_features else None
        matching = self._matching(seen)
        self._by_both(matching, confirmed, high, predicted, seen, looks, self._iou_threshold)
        matching.by_overlap(confirmed & ~lost, low, predicted, seen.xyxy, self._low_iou_threshold)
        self._by_both(matching, ~confirmed, high, predicted, seen, looks, self._tentative_iou_threshold)
        rows, cols = matching.pairs()
        self._hit(rows, seen, cols, now)
        unclaimed = (matching.track_of < 0) & (seen.scores >= max(self._high_score, self._birth_score))
        self._born(seen, unclaimed.nonzero()[0], now)
        if looks is not None:
            shown = ((r.det_index >= 0) & (r.score >= self._high_score)).nonzero()[0]
            if len(shown):
                self._looks.store(shown, looks.of_rows(r.det_index[shown]), self._look_memory)
        self._name((r.det_index >= 0) & ((r.hits > 1) | (self._now is None)))
        self._look(now)
        result = self._result(now)
        self._keep((r.det_index >= 0) | ((r.id > 0) & (now - r.seen <= self._max_coast + LATE)))
        return result

    def _by_both(
        self,
        matching: Matching,
        tracks: Mask,
        detections: Mask,
        predicted: Floats,
        seen: Observed,
        looks: Vectors | None,
        least: float,
    ) -> None:
        free, found = matching.free(tracks, detections)
        i, j = overlapping(predicted[free], seen.xyxy[found])
        rows, cols = free[i], found[j]
        overlap = paired_iou(predicted[rows], seen.xyxy[cols])
        cost = 1 - overlap * seen.scores[cols]
        if looks is not None:
            near = (overlap >= self._look_iou_threshold).nonzero()[0]
            distance = looks.distance(self._looks, rows[near], cols[near])
            alike = distance < self._max_cosine
            cost[near[alike]] = np.minimum(cost[near[alike]], distance[alike] / 2)
        matching.take(rows, cols, cost, 1 - least)

    def _born(self, seen: Observed, cols: Indices, now: float) -> None:
        super()._born(seen, cols, now)
        if len(cols):
            self._looks.extend(Averages(len(cols)))

    def state_dict(self) -> dict[str, Any]:
        """Everything remembered, as a new dictionary of arrays and plain values. Options are not part of it."""
        return {**super().state_dict(), "camera": self._camera.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned, bit for bit.

        Raises:
            ValueError: it was saved by another kind of tracker.
        """
        super().load_state_dict(state)
        self._camera.load_state_dict(state["camera"])
