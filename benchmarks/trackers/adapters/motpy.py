"""motpy."""

from __future__ import annotations

from typing import Any

from motpy import Detection, MultiObjectTracker

PACKAGE = "motpy"


def make(name: str, rate: float, features: bool) -> Adapter:
    """Its one tracker; with features, half of the likeness is theirs."""
    return Adapter(
        MultiObjectTracker(
            dt=1 / rate,
            active_tracks_kwargs={"min_steps_alive": 2, "max_staleness": 6},
            matching_fn_kwargs={"feature_similarity_beta": 0.5} if features else {},
        )
    )


class Adapter:
    """Its detections are objects, its ids are texts."""

    def __init__(self, tracker: Any) -> None:
        self.tracker = tracker
        self.numbers: dict[str, int] = {}

    def prepare(self, xyxy: Any, scores: Any, features: Any, seconds: float) -> Any:
        """A list of detections."""
        return [
            Detection(box=box, score=float(score), class_id=0, feature=None if features is None else features[n])
            for n, (box, score) in enumerate(zip(xyxy, scores, strict=True))
        ]

    def update(self, given: Any) -> Any:
        """One frame."""
        return self.tracker.step(given)

    def rows(self, shown: Any) -> Any:
        """All that it calls active, seen now or not."""
        return [[self.numbers.setdefault(each.id, len(self.numbers) + 1), *each.box, 0.0] for each in shown]
