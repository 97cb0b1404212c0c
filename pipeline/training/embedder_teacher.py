"""A larger embedder as the teacher of a smaller one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.inference.model import load
from pipeline.stages.embed import Embedder
from pipeline.training.identities import Identities

_AT_ONCE = 64  # crops a call


class Teacher:
    """Gives unit vectors of crops, without what its vectors of all crops share.

    Vectors of re-identification networks are all alike to a degree (OSNet: a mean cosine of 0.41 with a deviation of
    0.09); without the common part their similarities are the differences between people.

    Attributes:
        originals: (N, E) of the crops that are trained on, as they are.
    """

    def __init__(self, weights: Path, data: Identities, device: str) -> None:
        """Load any network that the embed stage takes, and learn what its vectors of the data have in common."""
        self._embedder = Embedder(load(weights, device), weights)
        boxes = data.boxes()
        vectors = np.concatenate([self._vectors(boxes[n : n + _AT_ONCE]) for n in range(0, len(data), _AT_ONCE)])
        self._common = vectors.mean(axis=0)
        self.originals = self._centred(vectors)

    def __call__(self, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """(B, E) of crops (HEIGHT, WIDTH, 3); may be called from several threads at once."""
        return self._centred(self._vectors(crops))

    def close(self) -> None:
        """Release the network."""
        self._embedder.model.close()

    def _vectors(self, crops: Sequence[NDArray[np.uint8]] | NDArray[np.uint8]) -> NDArray[np.float32]:
        return self._embedder([[np.ascontiguousarray(crop) for crop in crops]])[0]

    def _centred(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        rest = vectors - self._common
        return np.asarray(rest / np.maximum(np.linalg.norm(rest, axis=1, keepdims=True), 1e-12), np.float32)
