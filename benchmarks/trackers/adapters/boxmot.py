"""BoxMOT."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch
from boxmot.structures import Boxes, Detections
from boxmot.trackers.factory import create_tracker
from boxmot.trackers.specs import TrackerSpec

PACKAGE = "boxmot"

_WITHOUT_IMAGE: dict[str, dict[str, Any]] = {
    "botsort": {"use_cmc": False},
    "boosttrack": {"use_cmc": False},
    "occluboost": {"use_cmc": False},
    "deepocsort": {"cmc_off": True},
    "hybridsort": {"cmc_method": "sof"},  # has no way to switch it off; finds nothing to follow in a grey image
}
_DEEP = ("botsort", "boosttrack", "occluboost", "deepocsort", "hybridsort")
_RATED = ("bytetrack", "botsort")


def make(name: str, rate: float, features: bool) -> Adapter:
    """A tracker by name; `name-cpp` is its C++ backend, compiled at first use."""
    logging.disable(logging.INFO)
    name, _, backend = name.partition("-")
    options: dict[str, Any] = dict(_WITHOUT_IMAGE.get(name, {}))
    if name in _DEEP:
        options["use_embeddings"] = features
    if name in _RATED:
        options["frame_rate"] = round(rate)
    tracker = create_tracker(TrackerSpec(name, options=tuple(sorted(options.items())), backend=backend or "python"))
    return Adapter(tracker, wants_features=name == "strongsort")


class Adapter:
    """A table in and out; with features, its own structures."""

    def __init__(self, tracker: Any, wants_features: bool) -> None:
        self.tracker = tracker
        self.wants_features = wants_features
        needs = tracker.requirements
        shape = (1080, 1920, 3) if needs.frame_dimensions_only else (48, 64, 3)
        self.image = np.full(shape, 128, np.uint8) if needs.frame or needs.frame_dimensions_only else None

    def prepare(self, xyxy: Any, scores: Any, features: Any, seconds: float) -> Any:
        """A table of box, score and class, or structures that bring features."""
        if features is None and self.wants_features:
            features = np.ones((len(xyxy), 2), np.float32)
        if features is None:
            return np.column_stack([xyxy, scores, np.zeros(len(xyxy))]).astype(np.float32)
        return Detections(
            geometry=Boxes(torch.from_numpy(xyxy.astype(np.float32))),
            scores=torch.from_numpy(scores.astype(np.float32)),
            class_ids=torch.zeros(len(xyxy), dtype=torch.int64),
            sample_id=str(seconds),
            embeddings=torch.from_numpy(features),
        )

    def update(self, given: Any) -> Any:
        """One frame."""
        return self.tracker.update(given, self.image)

    def rows(self, shown: Any) -> Any:
        """All that it returns."""
        if isinstance(shown, np.ndarray):
            return np.column_stack([shown[:, 4], shown[:, :4], np.zeros(len(shown))])
        boxes = shown.geometry.values.numpy()
        return np.column_stack([shown.track_ids.numpy(), boxes, np.zeros(len(boxes))])
