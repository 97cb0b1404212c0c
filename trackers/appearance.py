"""Appearance galleries: the last vectors of every track, and cosine distances to them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trackers.columns import Columns

Indices = NDArray[np.int64]


@dataclass
class Galleries(Columns):
    """For each track the last `budget` appearance vectors (Wojke et al. 2017, section 2.2).

    Attributes:
        vectors: (T, budget, D) float32 unit vectors; D is 0 until the first vector is known.
        count: (T,) how many were ever stored; the next one goes to slot `count % budget`.
    """

    vectors: NDArray[np.float32]
    count: Indices

    @classmethod
    def empty(cls, tracks: int, budget: int, size: int = 0) -> Galleries:
        """Galleries without vectors for so many tracks."""
        return cls(np.zeros((tracks, budget, size), np.float32), np.zeros(tracks, np.int64))

    def extend(self, other: Galleries) -> None:
        """Append the rows of other galleries; they may be without vectors where these have some."""
        size = max(self.vectors.shape[2], other.vectors.shape[2])
        self._widen(size)
        other._widen(size)
        super().extend(other)

    def store(self, rows: Indices, vectors: NDArray[np.float32]) -> None:
        """Add one vector to the gallery of each track in `rows`, each at most once; the oldest one makes room.

        Raises:
            ValueError: vectors of another length than before.
        """
        self._widen(vectors.shape[1])
        self.vectors[rows, self.count[rows] % self.vectors.shape[1]] = vectors
        self.count[rows] += 1

    def distance(self, rows: Indices, cols: Indices, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """(P,) smallest cosine distance, in 0..2, between vectors[cols[p]] and the gallery of track rows[p].

        NaN where the gallery is empty.
        """
        out = np.full(len(rows), np.nan)
        known = (self.count[rows] > 0).nonzero()[0]
        if len(known):
            tracks, inverse = np.unique(rows[known], return_inverse=True)
            similarity = self.vectors[tracks] @ vectors.T
            unfilled = np.arange(self.vectors.shape[1]) >= self.count[tracks, None]
            similarity[unfilled] = -1.0
            out[known] = 1.0 - similarity.max(axis=1)[inverse, cols[known]]
        return out

    def _widen(self, size: int) -> None:
        have = self.vectors.shape[2]
        if have == 0 and size:
            self.vectors = np.zeros((*self.vectors.shape[:2], size), np.float32)
        elif have != size:
            raise ValueError(f"features have {size} numbers each; those of earlier frames had {have}")
