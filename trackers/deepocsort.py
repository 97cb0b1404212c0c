"""Deep OC-SORT: OC-SORT with camera motion and looks (Maggiolino et al. 2023, arXiv:2302.11813)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from trackers.appearance import Averages, Vectors
from trackers.association import Floats
from trackers.camera import ImageMotion
from trackers.columns import Columns
from trackers.lifecycle import Indices
from trackers.ocsort import OCSORT
from trackers.tracker import Choice, Observed, Range
from trackers.tracks import Tracks


class DeepOCSORT(OCSORT):
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
        self._method = camera
        super().__init__(**common)

    def _begin(self) -> None:
        super()._begin()
        self._looks = Averages(0)
        self._camera = ImageMotion(self._method)
        self._vectors: Vectors | None = None

    def _tables(self) -> dict[str, Columns]:
        return {**super()._tables(), "looks": self._looks}

    def _step(self, seen: Observed, now: float, dt: float, frame: NDArray[np.uint8] | None) -> Tracks:
        self._vectors = Vectors(seen) if seen.has_features else None
        if frame is not None and self._method != "none":
            self._warp(self._camera.estimate(frame))
        return super()._step(seen, now, dt, frame)

    def _warp(self, affine: Floats) -> None:
        """Everything that is remembered of places moves along, what was observed as well."""
        self._motion.warp(self._model, affine)
        self._anchors.warp(self._model, affine)
        corners = self._observations.xyxy.reshape(-1, 2, 2)
        centre, half = corners.mean(axis=1), (corners[:, 1] - corners[:, 0]) / 2
        centre = centre @ affine[:, :2].T + affine[:, 2]
        half *= abs(float(np.linalg.det(affine[:, :2]))) ** 0.5
        moved = np.concatenate([centre - half, centre + half], axis=1)
        self._observations.xyxy[:] = moved.reshape(self._observations.xyxy.shape)

    def _likeness(self, rows: Indices, cols: Indices) -> Floats | float:
        if self._vectors is None or not len(rows):
            return 0.0
        alike = 1 - np.nan_to_num(self._vectors.distance(self._looks, rows, cols), nan=1.0)
        apart = _lead(rows, alike) + _lead(cols, alike)
        return np.asarray(alike * (self._look_weight + np.minimum(apart / 2, self._look_boost)))

    def _hit(self, rows: Indices, seen: Observed, cols: Indices, now: float) -> None:
        super()._hit(rows, seen, cols, now)
        self._remember(rows, seen, cols)

    def _born(self, seen: Observed, cols: Indices, now: float) -> None:
        super()._born(seen, cols, now)
        if len(cols):
            self._looks.extend(Averages(len(cols)))
            self._remember(len(self._looks) - len(cols) + np.arange(len(cols)), seen, cols)

    def _remember(self, rows: Indices, seen: Observed, cols: Indices) -> None:
        if self._vectors is None or not len(rows):
            return
        sure = np.clip((seen.scores[cols] - self._high_score) / max(1 - self._high_score, 1e-6), 0, 1)
        keep = self._look_memory + (1 - self._look_memory) * (1 - sure)
        self._looks.store(rows, self._vectors.of(cols), keep)

    def state_dict(self) -> dict[str, Any]:
        """Everything remembered, as a new dictionary of arrays and plain values. Options are not part of it."""
        return {**super().state_dict(), "camera": self._camera.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned, bit for bit.

        Raises:
            ValueError: it was saved by another kind of tracker.
        """
        super().load_state_dict(state)
        self._camera.load_state_dict(state["camera"])


def _lead(group: Indices, value: Floats) -> Floats:
    """For each pair that is the best of its group, by how much; 0 for the others, and for the best of one alone."""
    order = np.lexsort((-value, group))
    first = np.ones(len(order), bool)
    first[1:] = group[order[1:]] != group[order[:-1]]
    lead = np.zeros(len(order))
    second = first[:-1] & ~first[1:]
    lead[order[:-1][second]] = value[order[:-1][second]] - value[order[1:][second]]
    return lead
