"""Our own trackers."""

from __future__ import annotations

from typing import Any

import numpy as np

import trackers
from trackers.multistream import MultiStreamTracker, View

PACKAGE = "framechain"


def make(name: str, rate: float, features: bool) -> Adapter:
    """A tracker by name, with the options it has by itself."""
    return Adapter(trackers.create(name))


class Adapter:
    """Arrays in, arrays out."""

    def __init__(self, tracker: Any) -> None:
        self.tracker = tracker

    def prepare(self, xyxy: Any, scores: Any, features: Any, seconds: float) -> Any:
        """Arguments of `update`."""
        return {"xyxy": xyxy, "scores": scores, "features": features, "timestamp": seconds}

    def update(self, given: Any) -> Any:
        """One frame."""
        return self.tracker.update(**given)

    def rows(self, shown: Any) -> Any:
        """What was measured, then what is believed to be there."""
        parts = [(shown, 0.0), (shown.hidden(), 1.0)]
        return np.concatenate(
            [np.column_stack([part.id, part.xyxy, np.full(len(part), believed)]) for part, believed in parts]
        )


def make_together(name: str, rate: float, features: bool, cameras: int) -> Together:
    """All cameras in one object."""
    return Together(MultiStreamTracker(name))


class Together:
    """One update for a frame of every camera."""

    def __init__(self, tracker: MultiStreamTracker) -> None:
        self.tracker = tracker

    def prepare(self, found: list[tuple[Any, Any, Any]], seconds: float) -> Any:
        """A view of each camera."""
        return {
            camera: View(xyxy, scores, features=features, timestamp=seconds)
            for camera, (xyxy, scores, features) in enumerate(found)
        }

    def update(self, given: Any) -> Any:
        """One frame of every camera."""
        return self.tracker.update(given)
