"""Observed: the detections of one moment that a tracker can use, of one camera or of several."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Indices = NDArray[np.int64]

Features = ArrayLike | Callable[[Indices], ArrayLike]
"""(N, D) appearance vectors, or a callable that returns (len(rows), D) of them for given rows."""


class Observed:
    """The detections that can be used, one row each.

    Attributes:
        xyxy: (N, 4) float64, C-contiguous, positive areas. scores: (N,) float64 in 0..1. class_ids: (N,) int64.
        rows: (N,) int64, the row each had in the arguments of `update`.
        streams: (N,) int64, the number of the camera that saw it; all 0 where there is one camera.
    """

    __slots__ = ("_at", "_features", "_fetched", "class_ids", "rows", "scores", "streams", "xyxy")

    def __init__(
        self,
        xyxy: NDArray[np.float64],
        scores: NDArray[np.float64],
        class_ids: Indices,
        rows: Indices,
        streams: Indices,
        features: Sequence[Features | None] = (None,),
    ) -> None:
        """The appearance vectors, or what is asked for them, are given by camera; None for a camera without."""
        self.xyxy = xyxy
        self.scores = scores
        self.class_ids = class_ids
        self.rows = rows
        self.streams = streams
        self._features = features
        self._at: Indices | None = None
        self._fetched: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.xyxy)

    @property
    def has_features(self) -> bool:
        """Whether `features` can be asked."""
        return any(one is not None for one in self._features)

    def features(self, which: Indices) -> NDArray[np.float32]:
        """(len(which), D) float32 unit vectors of some of these detections, fetched when first needed and never twice.

        Raises:
            ValueError: the callable given to `update` returned something of another shape.
        """
        if self._at is None:
            self._at = np.full(len(self), -1)
        missing = np.unique(which[self._at[which] < 0])
        if len(missing):
            new = self._fetch(missing)
            old = new[:0] if self._fetched is None else self._fetched
            self._at[missing] = len(old) + np.arange(len(new))
            self._fetched = np.concatenate([old, new])
        if self._fetched is None:
            return np.zeros((0, 0), np.float32)
        return np.asarray(self._fetched[self._at[which]])

    def _fetch(self, which: Indices) -> NDArray[np.float32]:
        if len(self._features) == 1:
            return _unit(self._features[0], self.rows[which])
        streams = self.streams[which]
        parts = [
            _unit(source, self.rows[which[streams == stream]])
            for stream, source in enumerate(self._features)
            if source is not None
        ]
        together = np.concatenate([part for part in parts if len(part)])
        order = np.argsort(streams, kind="stable")
        out = np.empty_like(together)
        out[order] = together
        return out


def _unit(source: Features | None, rows: Indices) -> NDArray[np.float32]:
    given = source(rows) if callable(source) else np.asarray(source)[rows]
    vectors = np.asarray(given, np.float32)
    if vectors.ndim != 2 or len(vectors) != len(rows):
        raise ValueError(f"features for {len(rows)} rows came as {vectors.shape}; they must be ({len(rows)}, D)")
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(length > 0, length, 1), np.float32)
