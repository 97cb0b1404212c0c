"""supervision's ByteTrack."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import supervision as sv

PACKAGE = "supervision"


def make(name: str, rate: float, features: bool) -> Adapter:
    """Its one tracker."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated
        return Adapter(sv.ByteTrack(frame_rate=rate))


class Adapter:
    """Detections in, detections with ids out."""

    def __init__(self, tracker: Any) -> None:
        self.tracker = tracker

    def prepare(self, xyxy: Any, scores: Any, features: Any, seconds: float) -> Any:
        """Supervision's detections."""
        return sv.Detections(xyxy=xyxy, confidence=scores, class_id=np.zeros(len(xyxy), int))

    def update(self, given: Any) -> Any:
        """One frame."""
        return self.tracker.update_with_detections(given)

    def rows(self, shown: Any) -> Any:
        """All that it returns."""
        if shown.tracker_id is None:
            return np.zeros((0, 6))
        return np.column_stack([shown.tracker_id, shown.xyxy, np.zeros(len(shown))])
