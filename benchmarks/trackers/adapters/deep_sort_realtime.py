"""deep-sort-realtime."""

from __future__ import annotations

from typing import Any

import numpy as np
from deep_sort_realtime.deepsort_tracker import DeepSort

PACKAGE = "deep-sort-realtime"


def make(name: str, rate: float, features: bool) -> Adapter:
    """Its one tracker, without its own embedder."""
    return Adapter(DeepSort(embedder=None))


class Adapter:
    """Its detections are tuples of left, top, width, height; score; class."""

    def __init__(self, tracker: Any) -> None:
        self.tracker = tracker

    def prepare(self, xyxy: Any, scores: Any, features: Any, seconds: float) -> Any:
        """Tuples and vectors."""
        ltwh = np.column_stack([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]]).tolist()
        raw = [(box, float(score), "person") for box, score in zip(ltwh, scores, strict=True)]
        return raw, list(np.ones((len(raw), 2), np.float32) if features is None else features)

    def update(self, given: Any) -> Any:
        """One frame."""
        raw, vectors = given
        return self.tracker.update_tracks(raw, embeds=vectors)

    def rows(self, shown: Any) -> Any:
        """Confirmed tracks seen in this frame or the one before, as DeepSORT's own demo shows them."""
        return [
            [int(track.track_id), *track.to_ltrb(), 0.0]
            for track in shown
            if track.is_confirmed() and track.time_since_update <= 1
        ]
