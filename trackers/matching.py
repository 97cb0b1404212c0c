"""Matching: which detection each track has in a frame, filled step by step."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from trackers.association import Floats, Indices, assign, iou_of_pairs, overlapping

Mask = NDArray[np.bool_]


class Matching:
    """One-to-one, and never taken back.

    Attributes:
        detection_of: (T,) the detection of each track, -1 if none yet. track_of: (N,) likewise.
        groups: of the tracks and of the detections; only equal ones are ever matched. None: all may be.
    """

    def __init__(self, tracks: int, detections: int, groups: tuple[Indices, Indices] | None = None) -> None:
        """Nothing is matched yet."""
        self.groups = groups
        self.detection_of = np.full(tracks, -1)
        self.track_of = np.full(detections, -1)

    def free(self, tracks: Mask, detections: Mask) -> tuple[Indices, Indices]:
        """Those of the given tracks and detections that are not matched yet."""
        return (tracks & (self.detection_of < 0)).nonzero()[0], (detections & (self.track_of < 0)).nonzero()[0]

    def candidates(
        self, tracks: Indices, boxes: Floats, detections: Indices, others: Floats
    ) -> tuple[Indices, Indices]:
        """Positions (i, j) for which tracks[i] may be matched with detections[j], as far as their boxes touch.

        Args:
            boxes: (len(tracks), 4). others: (len(detections), 4).
        """
        groups = None if self.groups is None else (self.groups[0][tracks], self.groups[1][detections])
        return overlapping(boxes, others, groups)

    def take(
        self,
        rows: Indices,
        cols: Indices,
        cost: Floats,
        limit: float,
        solver: Callable[[Indices, Indices, Floats, float], Indices] = assign,
    ) -> None:
        """Match the best of these pairs, none of them matched yet, that cost less than the limit."""
        if len(rows):
            best = solver(rows, cols, cost, limit)
            rows, cols = rows[best], cols[best]
            self.detection_of[rows] = cols
            self.track_of[cols] = rows

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
        scores: Floats | None = None,
    ) -> None:
        """Match those that are free by the overlap of their boxes, given the weights of the detections' scores.

        Args:
            predicted: (T, 4) boxes of all tracks. xyxy: (N, 4) boxes of all detections. least: of overlap times score.
        """
        free, found = self.free(tracks, detections)
        i, j = self.candidates(free, predicted[free], found, xyxy[found])
        rows, cols = free[i], found[j]
        worth = iou_of_pairs(predicted, rows, xyxy, cols)
        if scores is not None:
            worth *= scores[cols]
        self.take(rows, cols, 1 - worth, 1 - least)

    def unclaimed(self, detections: Mask, xyxy: Floats, overlap: float) -> Indices:
        """Those of the given detections that have no track and overlap none that has by more than so much."""
        new = (detections & (self.track_of < 0)).nonzero()[0]
        claimed = (self.track_of >= 0).nonzero()[0]
        if not len(new) or not len(claimed):
            return new
        groups = None if self.groups is None else (self.groups[1][new], self.groups[1][claimed])
        i, j = overlapping(xyxy[new], xyxy[claimed], groups)
        twin = iou_of_pairs(xyxy, new[i], xyxy, claimed[j]) > overlap
        return np.delete(new, i[twin])
