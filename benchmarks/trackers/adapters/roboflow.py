"""Roboflow's package `trackers`."""

from __future__ import annotations

from typing import Any

import numpy as np
import supervision as sv

import trackers

PACKAGE = "trackers"

_KINDS = {
    "sort": (trackers.SORTTracker, {}),
    "bytetrack": (trackers.ByteTrackTracker, {}),
    "ocsort": (trackers.OCSORTTracker, {}),
    "botsort": (trackers.BoTSORTTracker, {"enable_cmc": False}),
    "cbiou": (trackers.CBIoUTracker, {}),
    "mcbyte": (trackers.McByteTracker, {"enable_cmc": False}),
}


def make(name: str, rate: float, features: bool) -> Adapter:
    """A tracker by name."""
    kind, options = _KINDS[name]
    return Adapter(kind(frame_rate=rate, **options))


class Adapter:
    """Its detections are supervision's; -1 is a track that it does not trust yet."""

    def __init__(self, tracker: Any) -> None:
        self.tracker = tracker

    def prepare(self, xyxy: Any, scores: Any, features: Any, seconds: float) -> Any:
        """Supervision's detections."""
        return sv.Detections(xyxy=xyxy, confidence=scores, class_id=np.zeros(len(xyxy), int))

    def update(self, given: Any) -> Any:
        """One frame."""
        return self.tracker.update(given)

    def rows(self, shown: Any) -> Any:
        """Those with an id."""
        if shown.tracker_id is None:
            return np.zeros((0, 6))
        rows = np.column_stack([shown.tracker_id, shown.xyxy, np.zeros(len(shown))])
        return rows[shown.tracker_id >= 0]
