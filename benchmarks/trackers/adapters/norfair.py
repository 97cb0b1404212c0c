"""norfair."""

from __future__ import annotations

from typing import Any

import numpy as np
from norfair import Detection, Tracker

PACKAGE = "norfair"


def make(name: str, rate: float, features: bool) -> Adapter:
    """A tracker with one of its distances."""
    threshold = {"iou": 0.7, "euclidean": 100.0}[name]
    if features:
        tracker = Tracker(
            name,
            threshold,
            reid_distance_function=_unlike,
            reid_distance_threshold=0.3,
            reid_hit_counter_max=int(rate),
        )
    else:
        tracker = Tracker(name, threshold)
    return Adapter(tracker)


def _unlike(new: Any, lost: Any) -> float:
    a, b = new.last_detection.embedding, lost.last_detection.embedding
    return 1.0 - float(a @ b)


class Adapter:
    """Its detections are objects of two points; its tracks go on for a while unseen."""

    def __init__(self, tracker: Any) -> None:
        self.tracker = tracker

    def prepare(self, xyxy: Any, scores: Any, features: Any, seconds: float) -> Any:
        """A list of detections."""
        return [
            Detection(box.reshape(2, 2), scores=np.full(2, score), embedding=None if features is None else features[n])
            for n, (box, score) in enumerate(zip(xyxy, scores, strict=True))
        ]

    def update(self, given: Any) -> Any:
        """One frame."""
        return self.tracker.update(given)

    def rows(self, shown: Any) -> Any:
        """All that it returns: live objects, seen now or not."""
        return [[each.id, *each.estimate.ravel(), 0.0] for each in shown]
