"""Appearance galleries: the last vectors of every track, and cosine distances to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackers.columns import Columns
from trackers.tracker import Observed

Indices = NDArray[np.int64]


_AT_ONCE = 256
"""Pairs compared in one operation: their galleries of 16 x 512 numbers take 8 MiB."""


@dataclass(init=False)
class Galleries(Columns):
    """For each track the last `budget` appearance vectors (Wojke et al. 2017, section 2.2).

    The vectors are in a pool that births and deaths do not move: copying 16 x 512 numbers of every track whenever
    one comes or goes would cost more than the rest of the tracker.

    Attributes:
        slot: (T,) place of a track's vectors in the pool; -1 before its first one.
        count: (T,) how many were ever stored; the next one replaces number `count % budget`.
        stored: (T,) seconds, when the last one was; -inf if none was.
    """

    slot: Indices
    count: Indices
    stored: NDArray[np.float64]

    def __init__(self, tracks: int, budget: int) -> None:
        self.slot = np.full(tracks, -1)
        self.count = np.zeros(tracks, np.int64)
        self.stored = np.full(tracks, -np.inf)
        self._pool = np.zeros((0, budget, 0), np.float32)

    def store(self, rows: Indices, vectors: NDArray[np.float32], now: float) -> None:
        """Add one vector to the gallery of each track in `rows`, each at most once; the oldest one makes room.

        Raises:
            ValueError: vectors of another length than before.
        """
        self._settle(rows[self.slot[rows] < 0], vectors.shape[1])
        self._pool[self.slot[rows], self.count[rows] % self._pool.shape[1]] = vectors
        self.count[rows] += 1
        self.stored[rows] = now

    def _settle(self, rows: Indices, size: int) -> None:
        """Give tracks that have none a slot; the pool grows by doubling, to the most tracks there ever were at once."""
        slots, budget, have = self._pool.shape
        if have == 0:
            have = size
        if have != size:
            raise ValueError(f"features have {size} numbers each; those of earlier frames had {have}")
        free = np.setdiff1d(np.arange(slots), self.slot)
        if len(free) < len(rows):
            grown = np.zeros((max(2 * slots, slots + len(rows)), budget, size), np.float32)
            if slots:
                grown[:slots] = self._pool
            free = np.concatenate([free, np.arange(slots, len(grown))])
            self._pool = grown
        self.slot[rows] = free[: len(rows)]

    def distance(self, rows: Indices, cols: Indices, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """(P,) smallest cosine distance, in 0..2, between vectors[cols[p]] and the gallery of track rows[p].

        Pair by pair: of all tracks and detections of a crowd only few are neighbours. The galleries must not be empty.
        """
        nearest = np.empty(len(rows))
        stored = np.arange(self._pool.shape[1])
        for start in range(0, len(rows), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            similarity = np.matmul(self._pool[self.slot[rows[part]]], vectors[cols[part], :, None])[..., 0]
            similarity[stored >= self.count[rows[part], None]] = -1.0
            nearest[part] = similarity.max(axis=1)
        return 1.0 - nearest

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """A copy of every column by name, and of the vectors."""
        return {**super().state_dict(), "pool": self._pool.copy()}

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take over what `state_dict` returned."""
        super().load_state_dict(state)
        self._pool = np.array(state["pool"])


@dataclass(init=False)
class Averages(Columns):
    """For each track one appearance vector, an exponential moving average (Du et al. 2021, StrongSORT).

    Attributes:
        vector: (T, D) float32 unit vectors; D is 0 before the first is stored. count: (T,) how many were stored.
    """

    vector: NDArray[np.float32]
    count: Indices

    def __init__(self, tracks: int) -> None:
        self.vector = np.zeros((tracks, 0), np.float32)
        self.count = np.zeros(tracks, np.int64)

    def extend(self, other: Averages) -> None:
        """Append tracks that have no vector yet."""
        empty = np.zeros((len(other), self.vector.shape[1]), np.float32)
        self.vector = np.concatenate([self.vector, empty])
        self.count = np.concatenate([self.count, other.count])

    def store(self, rows: Indices, vectors: NDArray[np.float32], keep: float | NDArray[np.float64]) -> None:
        """Mix a unit vector into the average of each track in `rows`, each at most once.

        Args:
            keep: share of the old average that stays, (R,) or one for all.

        Raises:
            ValueError: vectors of another length than before.
        """
        if not self.vector.shape[1]:
            self.vector = np.zeros((len(self.vector), vectors.shape[1]), np.float32)
        if self.vector.shape[1] != vectors.shape[1]:
            raise ValueError(
                f"features have {vectors.shape[1]} numbers each; those of earlier frames had {self.vector.shape[1]}"
            )
        old = np.where(self.count[rows] > 0, keep, 0.0)[:, None]
        mixed = old * self.vector[rows] + (1 - old) * vectors
        length = np.linalg.norm(mixed, axis=1, keepdims=True)
        self.vector[rows] = mixed / np.where(length > 0, length, 1)
        self.count[rows] += 1

    def distance(self, rows: Indices, cols: Indices, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """(P,) cosine distance, in 0..2, between vectors[cols[p]] and the average of track rows[p]."""
        return np.asarray(1.0 - np.einsum("pd,pd->p", self.vector[rows], vectors[cols]), np.float64)


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

    def distance(self, galleries: Galleries | Averages, rows: Indices, cols: Indices) -> NDArray[np.float64]:
        """(P,) cosine distance between detection cols[p] and the gallery of track rows[p]; NaN if that is empty."""
        known = (galleries.count[rows] > 0).nonzero()[0]
        out = np.full(len(rows), np.nan)
        if len(known):
            wanted, position = np.unique(cols[known], return_inverse=True)
            out[known] = galleries.distance(rows[known], position, self.of(wanted))
        return out
