"""Matching: which detection each track has in a frame, filled step by step."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from trackers.association import Floats, Indices, assign, overlapping, paired_iou

Mask = NDArray[np.bool_]


class Matching:
    """One-to-one, and never taken back.

    Attributes:
        detection_of: (T,) the detection of each track, -1 if none yet. track_of: (N,) likewise.
    """

    def __init__(self, tracks: int, detections: int, classes: tuple[Indices, Indices] | None = None) -> None:
        """Nothing is matched yet. With `classes`, of the tracks and of the detections, only equal ones ever will be."""
        self._classes = classes
        self.detection_of = np.full(tracks, -1)
        self.track_of = np.full(detections, -1)

    def free(self, tracks: Mask, detections: Mask) -> tuple[Indices, Indices]:
        """Those of the given tracks and detections that are not matched yet."""
        return (tracks & (self.detection_of < 0)).nonzero()[0], (detections & (self.track_of < 0)).nonzero()[0]

    def take(
        self,
        rows: Indices,
        cols: Indices,
        cost: Floats,
        limit: float,
        solver: Callable[[Indices, Indices, Floats, float], Indices] = assign,
    ) -> None:
        """Match the best of these pairs, none of them matched yet, that cost less than the limit."""
        if self._classes is not None:
            same = self._classes[0][rows] == self._classes[1][cols]
            rows, cols, cost = rows[same], cols[same], cost[same]
        best = solver(rows, cols, cost, limit)
        self.detection_of[rows[best]] = cols[best]
        self.track_of[cols[best]] = rows[best]

    def pairs(self) -> tuple[Indices, Indices]:
        """All matches: tracks and their detections."""
        rows = (self.detection_of >= 0).nonzero()[0]
        return rows, self.detection_of[rows]

    def by_overlap(
        self,
        tracks: Mask,
        detections: Mask,
        predicted: Floats,
        xyxy: Floats,
        least: float,
        scores: Floats | float = 1.0,
    ) -> None:
        """Match those that are free by the overlap of their boxes, given the weights of the detections' scores.

        Args:
            predicted: (T, 4) boxes of all tracks. xyxy: (N, 4) boxes of all detections. least: of overlap times score.
        """
        free, found = self.free(tracks, detections)
        i, j = overlapping(predicted[free], xyxy[found])
        rows, cols = free[i], found[j]
        weight = scores[cols] if isinstance(scores, np.ndarray) else scores
        self.take(rows, cols, 1 - paired_iou(predicted[rows], xyxy[cols]) * weight, 1 - least)
