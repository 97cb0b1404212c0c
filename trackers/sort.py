"""SORT: Kalman-filtered boxes matched by overlap (Bewley et al. 2016, arXiv:1602.00763)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np

from trackers.association import assign, contested, iou, iou_of_pairs, overlapping
from trackers.lifecycle import Floats, Indices, KalmanTracker, Mask, Picture
from trackers.moment import LATE, Moment
from trackers.motion import XYSR
from trackers.observed import Observed
from trackers.tracker import Range


class SORT(KalmanTracker):
    """Simple online and realtime tracking, as published.

    A track is shown in a frame that saw it if it was seen in `min_hits` frames in a row after its first one, or
    if the sequence is not older than `min_hits` frames. After a miss it has to earn that again.

    Args:
        max_coast: seconds a track is predicted on without being seen before it is dropped; the paper uses one frame.
        min_hits: frames in a row, after the first, that must see a track before it is shown.
        iou_threshold: least overlap of a prediction and a detection that are taken for the same object.
        number_at_birth: give ids when tracks are born, as the published program does, which leaves gaps where a track
            is never shown; otherwise ids are given when tracks are first shown, without gaps.
    """

    name = "sort"
    _model = XYSR()
    _looks_behind = False

    def __init__(
        self,
        *,
        max_coast: Annotated[float, Range(0)] = 0.1,
        min_hits: Annotated[int, Range(0)] = 3,
        iou_threshold: Annotated[float, Range(0, 1)] = 0.3,
        number_at_birth: bool = False,
        **common: Any,
    ) -> None:
        self._max_coast = max_coast
        self._min_hits = min_hits
        self._iou_threshold = iou_threshold
        self._number_at_birth = number_at_birth
        super().__init__(**common)

    def _advance(self, seen: Observed, when: Moment, frames: Sequence[Picture | None]) -> Mask:
        rows, cols, rejected = self._match(self._predict(when, frames), seen)
        self._hit(rows, seen, cols, when)
        self._records.streak[self._records.det_index < 0] = 0
        unmatched = np.ones(len(seen), bool)
        unmatched[cols] = unmatched[rejected] = False
        self._born(seen, np.concatenate((unmatched.nonzero()[0], rejected)), when)
        if self._number_at_birth:
            self._name(np.ones(len(self._records), bool))
        self._name(self._shown())
        r = self._records
        return np.asarray(when.of(r.stream).now - r.seen <= self._max_coast + LATE)

    def _match(self, predicted: Floats, seen: Observed) -> tuple[Indices, Indices, Indices]:
        """Matched tracks and detections, and those detections that the published program numbers last."""
        found = seen.xyxy
        rows, cols = overlapping(predicted, found, self._groups(seen))
        overlap = iou_of_pairs(predicted, rows, found, cols)
        enough = overlap > self._iou_threshold
        tangled = self._tangled(rows[enough], cols[enough])[self._records.stream[rows]]
        chosen = enough & ~tangled
        if tangled.any():
            # the largest sum of overlaps, those below the threshold included; they are rejected afterwards
            pairs = tangled.nonzero()[0]
            best = pairs[assign(rows[pairs], cols[pairs], -overlap[pairs], 0.0)]
            chosen[best[overlap[best] >= self._iou_threshold]] = True
        rejected = cols[:0]
        if self._number_at_birth and tangled.any():
            rejected = self._rejected(predicted, seen, np.unique(seen.streams[cols[tangled]]), cols[chosen])
        return rows[chosen], cols[chosen], rejected

    def _tangled(self, rows: Indices, cols: Indices) -> Mask:
        """Streams in which these pairs are not one-to-one, or that have none."""
        clear = np.zeros(len(self._frames), bool)
        clear[self._records.stream[rows]] = True
        clear[self._records.stream[rows[contested(rows, cols)]]] = False
        return ~clear

    def _rejected(self, predicted: Floats, seen: Observed, streams: Indices, matched: Indices) -> Indices:
        """What the program's dense problem pairs and then rejects; it is numbered last."""
        from scipy.optimize import linear_sum_assignment

        parts = [matched[:0]]
        for stream in streams:
            mine, tracks = (seen.streams == stream).nonzero()[0], self._records.stream == stream
            paired = mine[linear_sum_assignment(-iou(seen.xyxy[mine], predicted[tracks]))[0]]
            parts.append(paired[~np.isin(paired, matched)])
        return np.concatenate(parts)

    def _shown(self) -> Mask:
        r = self._records
        young = self._of_stream(self._frames) <= self._min_hits
        return np.asarray((r.det_index >= 0) & ((r.streak >= self._min_hits) | young))
