"""Appearance galleries: the last vectors of every track, and cosine distances to them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trackers.columns import Columns
from trackers.tracker import Observed

Indices = NDArray[np.int64]


@dataclass
class Galleries(Columns):
    """For each track the last `budget` appearance vectors (Wojke et al. 2017, section 2.2).

    Attributes:
        vectors: (T, budget, D) float32 unit vectors; D is 0 until the first vector is known.
        count: (T,) how many were ever stored; the next one goes to slot `count % budget`.
        stored: (T,) seconds, when the last one was; -inf if none was.
    """

    vectors: NDArray[np.float32]
    count: Indices
    stored: NDArray[np.float64]

    @classmethod
    def empty(cls, tracks: int, budget: int, size: int = 0) -> Galleries:
        """Galleries without vectors for so many tracks."""
        return cls(np.zeros((tracks, budget, size), np.float32), np.zeros(tracks, np.int64), np.full(tracks, -np.inf))

    def extend(self, other: Galleries) -> None:
        """Append the rows of other galleries; they may be without vectors where these have some."""
        size = max(self.vectors.shape[2], other.vectors.shape[2])
        self._widen(size)
        other._widen(size)
        super().extend(other)

    def store(self, rows: Indices, vectors: NDArray[np.float32], now: float) -> None:
        """Add one vector to the gallery of each track in `rows`, each at most once; the oldest one makes room.

        Raises:
            ValueError: vectors of another length than before.
        """
        self._widen(vectors.shape[1])
        self.vectors[rows, self.count[rows] % self.vectors.shape[1]] = vectors
        self.count[rows] += 1
        self.stored[rows] = now

    def distance(self, rows: Indices, cols: Indices, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """(P,) smallest cosine distance, in 0..2, between vectors[cols[p]] and the gallery of track rows[p].

        The galleries must not be empty.
        """
        tracks, position = np.unique(rows, return_inverse=True)
        similarity = self.vectors[tracks] @ vectors.T
        similarity[np.arange(self.vectors.shape[1]) >= self.count[tracks, None]] = -1.0
        return np.asarray(1.0 - similarity.max(axis=1)[position, cols], np.float64)

    def _widen(self, size: int) -> None:
        have = self.vectors.shape[2]
        if have == 0 and size:
            self.vectors = np.zeros((*self.vectors.shape[:2], size), np.float32)
        elif have != size:
            raise ValueError(f"features have {size} numbers each; those of earlier frames had {have}")


class Vectors:
    """The appearance vectors of one frame's detections, fetched when first needed and never twice."""

    def __init__(self, seen: Observed) -> None:
        self._seen = seen
        self._at = np.full(len(seen), -1)
        self._fetched: NDArray[np.float32] | None = None

    def of(self, cols: Indices) -> NDArray[np.float32]:
        """(len(cols), D) vectors of some detections."""
        missing = np.unique(cols[self._at[cols] < 0])
        if len(missing):
            new = self._seen.features(missing)
            old = new[:0] if self._fetched is None else self._fetched
            self._at[missing] = len(old) + np.arange(len(new))
            self._fetched = np.concatenate([old, new])
        if self._fetched is None:
            return np.zeros((0, 0), np.float32)
        return np.asarray(self._fetched[self._at[cols]])

    def of_rows(self, rows: Indices) -> NDArray[np.float32]:
        """The same by the rows that the detections had in the arguments of `update`."""
        return self.of(np.searchsorted(self._seen.rows, rows))

    def distance(self, galleries: Galleries, rows: Indices, cols: Indices) -> NDArray[np.float64]:
        """(P,) cosine distance between detection cols[p] and the gallery of track rows[p]; NaN if that is empty."""
        known = (galleries.count[rows] > 0).nonzero()[0]
        out = np.full(len(rows), np.nan)
        if len(known):
            wanted, position = np.unique(cols[known], return_inverse=True)
            out[known] = galleries.distance(rows[known], position, self.of(wanted))
        return out
