"""SORT as its paper says, written out over filterpy: one filter a track, a dense cost matrix, one assignment a frame.

It stands for the many loops that are built so.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from filterpy.kalman import KalmanFilter
from scipy.optimize import linear_sum_assignment

PACKAGE = "filterpy"

_KEPT = 30
"""Frames that a track lives unseen."""


def make(name: str, rate: float, features: bool) -> Textbook:
    """A new loop; there is one kind."""
    return Textbook()


class Textbook:
    """Predict, match, correct, one object at a time."""

    def __init__(self) -> None:
        self.tracks: list[dict[str, Any]] = []
        self.count = 0

    def prepare(self, xyxy: Any, scores: Any, features: Any, seconds: float) -> Any:
        """Boxes alone."""
        return xyxy[scores >= 0.3]

    def update(self, boxes: Any) -> Any:
        """One frame; the tracks that it shows."""
        for track in self.tracks:
            track["filter"].predict()
            track["age"] += 1
        predicted = [_box(track["filter"]) for track in self.tracks]
        cost = np.array([[1 - _iou(a, b) for b in boxes] for a in predicted]).reshape(len(predicted), len(boxes))
        rows, cols = linear_sum_assignment(cost)
        used = set()
        for row, col in zip(rows, cols, strict=True):
            if cost[row, col] < 0.7:
                track = self.tracks[row]
                track["filter"].update(_measure(boxes[col]))
                track["age"] = 0
                track["hits"] += 1
                used.add(col)
        self.tracks = [track for track in self.tracks if track["age"] < _KEPT]
        self.tracks += [self._new(box) for n, box in enumerate(boxes) if n not in used]
        return [
            [track["id"], *_box(track["filter"]), 0.0]
            for track in self.tracks
            if track["age"] == 0 and track["hits"] >= 3
        ]

    def rows(self, shown: Any) -> Any:
        """As they are."""
        return shown

    def _new(self, box: Any) -> dict[str, Any]:
        kalman = KalmanFilter(dim_x=8, dim_z=4)
        kalman.F = np.eye(8) + np.eye(8, k=4)
        kalman.H = np.eye(4, 8)
        kalman.P = np.diag([10.0, 10.0, 0.01, 10.0, 100.0, 100.0, 1e-4, 100.0])
        kalman.Q = np.diag([1.0, 1.0, 1e-4, 1.0, 1.0, 1.0, 1e-6, 1.0])
        kalman.R = np.diag([10.0, 10.0, 0.01, 10.0])
        kalman.x[:4] = _measure(box)
        self.count += 1
        return {"id": self.count, "filter": kalman, "age": 0, "hits": 1}


def _measure(box: Any) -> Any:
    width, height = box[2] - box[0], box[3] - box[1]
    return np.array([[box[0] + width / 2], [box[1] + height / 2], [width / height], [height]])


def _box(kalman: Any) -> list[float]:
    x, y, ratio, height = kalman.x[:4, 0]
    return [x - ratio * height / 2, y - height / 2, x + ratio * height / 2, y + height / 2]


def _iou(a: Any, b: Any) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return float(shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared))
