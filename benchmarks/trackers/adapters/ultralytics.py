"""Ultralytics' trackers, called with arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from ultralytics.engine.results import Boxes
from ultralytics.trackers.track import TRACKER_MAP
from ultralytics.utils import YAML, IterableSimpleNamespace
from ultralytics.utils.checks import check_yaml

PACKAGE = "ultralytics"


def make(name: str, rate: float, features: bool) -> Adapter:
    """A tracker by name, with its shipped configuration."""
    options = YAML.load(check_yaml(f"{name}.yaml")) | {"gmc_method": "none", "with_reid": features, "model": "auto"}
    return Adapter(TRACKER_MAP[name](args=IterableSimpleNamespace(**options)))


class Adapter:
    """Boxes of its own in, a table out."""

    def __init__(self, tracker: Any) -> None:
        self.tracker = tracker

    def prepare(self, xyxy: Any, scores: Any, features: Any, seconds: float) -> Any:
        """Boxes and features."""
        table = np.column_stack([xyxy, scores, np.zeros(len(xyxy))]).astype(np.float32)
        return Boxes(table, (1080, 1920)), features

    def update(self, given: Any) -> Any:
        """One frame."""
        boxes, features = given
        return self.tracker.update(boxes, None, feats=features)

    def rows(self, shown: Any) -> Any:
        """All that it returns."""
        shown = np.asarray(shown).reshape(-1, 8)
        return np.column_stack([shown[:, 4], shown[:, :4], np.zeros(len(shown))])
