"""Deep OC-SORT: OC-SORT with camera motion and looks (Maggiolino et al. 2023, arXiv:2302.11813)."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np

from trackers.association import lead
from trackers.averaged import AveragedLooks
from trackers.lifecycle import Floats, Indices
from trackers.observed import Observed
from trackers.ocsort import OCSORT
from trackers.tracker import Choice, Range


class DeepOCSORT(AveragedLooks, OCSORT):
    """OC-SORT on boxes that follow the camera, with looks in the first step.

    Likeness counts the more, the better it tells the best candidate from the second (adaptive weighting), and a faint
    detection changes a track's look less than a sure one (dynamic appearance).

    Args:
        look_weight: how much likeness counts beside overlap.
        look_boost: by how much more it counts at most where it tells candidates apart.
        look_memory: share of a track's look that stays when a sure detection shows it again.
        camera: how camera motion is estimated from the frames, where they are given to `update`.
    """

    name = "deepocsort"

    def __init__(
        self,
        *,
        look_weight: Annotated[float, Range(0)] = 0.75,
        look_boost: Annotated[float, Range(0)] = 0.5,
        look_memory: Annotated[float, Range(0, 1)] = 0.95,
        camera: Annotated[str, Choice(("flow", "ecc", "none"))] = "flow",
        **common: Any,
    ) -> None:
        self._look_weight = look_weight
        self._look_boost = look_boost
        self._look_memory = look_memory
        self._camera = camera
        super().__init__(**common)

    def _warp(self, affine: Floats, rows: Indices | slice) -> None:
        super()._warp(affine, rows)
        self._anchors.warp(affine, rows)
        boxes = self._observations.xyxy[rows]
        middle, half = (boxes[..., :2] + boxes[..., 2:]) / 2, (boxes[..., 2:] - boxes[..., :2]) / 2
        middle = middle @ affine[:, :2].T + affine[:, 2]
        half *= abs(float(np.linalg.det(affine[:, :2]))) ** 0.5
        self._observations.xyxy[rows] = np.concatenate((middle - half, middle + half), axis=-1)

    def _likeness(self, rows: Indices, seen: Observed, cols: Indices) -> Floats | float:
        if not seen.has_features or not len(rows):
            return 0.0
        alike = 1 - np.nan_to_num(self._looks.distance(rows, seen, cols), nan=1.0)
        apart = lead(rows, alike) + lead(cols, alike)
        return np.asarray(alike * (self._look_weight + np.minimum(apart / 2, self._look_boost)))

    def _remember(self, rows: Indices, seen: Observed, cols: Indices) -> None:
        sure = np.clip((seen.scores[cols] - self._high_score) / max(1 - self._high_score, 1e-6), 0, 1)
        keep = self._look_memory + (1 - self._look_memory) * (1 - sure)
        self._looks.store(rows, seen.features(cols), keep)
