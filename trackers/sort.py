"""SORT: Kalman-filtered boxes matched by overlap (Bewley et al. 2016, arXiv:1602.00763)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from trackers.association import assign, iou, overlapping, paired_iou
from trackers.lifecycle import LATE, Indices, KalmanTracker, Mask
from trackers.motion import XYSR, Floats
from trackers.tracker import Observed, Range
from trackers.tracks import Tracks


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

    def __init__(
        self,
        *,
        max_coast: Annotated[float, Range(0)] = 0.1,
        min_hits: Annotated[int, Range(0)] = 3,
        iou_threshold: Annotated[float, Range(0, 1)] = 0.3,
        number_at_birth: bool = False,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self._max_coast = max_coast
        self._min_hits = min_hits
        self._iou_threshold = iou_threshold
        self._number_at_birth = number_at_birth

    def _begin(self) -> None:
        super()._begin()
        self._frames = 0

    def _step(self, seen: Observed, now: float, dt: float, frame: NDArray[np.uint8] | None) -> Tracks:
        self._frames += 1
        self._predict(dt)
        predicted = self._model.decode(self._motion.position)
        rows, cols, rejected = self._match(predicted, seen)
        self._hit(rows, seen, cols, now)
        self._records.streak[self._records.det_index < 0] = 0
        unmatched = np.ones(len(seen), bool)
        unmatched[cols] = unmatched[rejected] = False
        self._born(seen, np.concatenate([unmatched.nonzero()[0], rejected]), now)
        if self._number_at_birth:
            self._name(np.ones(len(self._records), bool))
        self._name(self._shown())
        result = self._result(now)
        self._keep(now - self._records.seen <= self._max_coast + LATE)
        return result

    def _match(self, predicted: Floats, seen: Observed) -> tuple[Indices, Indices, Indices]:
        """Matched tracks and detections, and those detections that the published program numbers last."""
        found = seen.xyxy
        rows, cols = overlapping(predicted, found)
        if self._class_policy == "separate":
            same = self._records.class_id[rows] == seen.class_ids[cols]
            rows, cols = rows[same], cols[same]
        overlap = paired_iou(predicted[rows], found[cols])
        enough = overlap > self._iou_threshold
        if enough.any() and np.bincount(rows[enough]).max() == 1 and np.bincount(cols[enough]).max() == 1:
            return rows[enough], cols[enough], cols[:0]
        # the largest sum of overlaps, those below the threshold included; they are rejected afterwards
        best = assign(rows, cols, -overlap, 0.0)
        best = best[overlap[best] >= self._iou_threshold]
        rows, cols = rows[best], cols[best]
        if not self._number_at_birth:
            return rows, cols, cols[:0]
        # the program solves the dense problem, and what it pairs there and then rejects is numbered last
        from scipy.optimize import linear_sum_assignment

        paired = linear_sum_assignment(-iou(found, predicted))[0]
        return rows, cols, paired[~np.isin(paired, cols)]

    def _shown(self) -> Mask:
        return (self._records.det_index >= 0) & (
            (self._records.streak >= self._min_hits) | (self._frames <= self._min_hits)
        )

    def state_dict(self) -> dict[str, Any]:
        """Everything remembered, as a new dictionary of arrays and plain values. Options are not part of it."""
        return {**super().state_dict(), "frames": self._frames}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned, bit for bit.

        Raises:
            ValueError: it was saved by another kind of tracker.
        """
        super().load_state_dict(state)
        self._frames = state["frames"]
