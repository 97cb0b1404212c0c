"""Appearance: what every track looked like, and cosine distances to what detections look like."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackers.columns import Columns
from trackers.compiled import kernels
from trackers.moment import LATE
from trackers.observed import Observed

Indices = NDArray[np.int64]
Floats = NDArray[np.float64]
Vectors = NDArray[np.float32]


_AT_ONCE = 256
"""Pairs compared in one operation: their galleries of 16 x 512 numbers take 8 MiB."""


class Looks(Columns):
    """Base of what is kept of the appearance of each track.

    Attributes:
        count: (T,) vectors stored so far.
    """

    count: Indices

    def distance(self, rows: Indices, seen: Observed, cols: Indices) -> Floats:
        """(P,) cosine distance, in 0..2, between track rows[p] and detection cols[p]; NaN if nothing is stored."""
        known = (self.count[rows] > 0).nonzero()[0]
        out = np.full(len(rows), np.nan)
        if len(known):
            vectors, place = seen.looks(cols[known])
            out[known] = self._distance(rows[known], place, vectors)
        return out

    def likeness(self, rows: Indices, seen: Observed, cols: Indices, max_cosine: float) -> Floats:
        """(P,) 1 for the same look, 0 at a distance of `max_cosine` or where nothing is stored, down to -1."""
        likeness = 1 - self.distance(rows, seen, cols) / max_cosine
        likeness[np.isnan(likeness)] = 0.0
        return np.clip(likeness, -1, 1)

    @abstractmethod
    def _distance(self, rows: Indices, cols: Indices, vectors: Vectors) -> Floats:
        """(P,) distance between track rows[p], of which something is stored, and vectors[cols[p]]."""


class Galleries(Looks):
    """For each track the last `budget` appearance vectors (Wojke et al. 2017, section 2.2).

    The vectors are in a pool that births and deaths do not move: copying 16 x 512 numbers of every track whenever
    one comes or goes would cost more than the rest of the tracker.

    Attributes:
        count: (T,) how many were ever stored; the next one replaces number `count % budget`.
        slot: (T,) place of a track's vectors in the pool; -1 before its first one.
        stored: (T,) seconds, when the last one was; -inf if none was.
    """

    count: Indices
    slot: Indices
    stored: Floats

    never = frozenset({"stored"})

    def __init__(self, budget: int, period: float) -> None:
        """So many vectors of each track, and so many seconds between two of them."""
        self._period = period
        self.count, self.slot, self.stored = np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
        self._pool = np.zeros((0, budget, 0), np.float32)
        self._free = np.zeros(0, np.int64)

    def grow(self, seen: Observed, cols: Indices, now: Floats) -> None:
        """Append empty galleries."""
        self.append(np.zeros(len(cols), np.int64), np.full(len(cols), -1), np.full(len(cols), -np.inf))

    def keep(self, rows: NDArray[np.bool_]) -> None:
        """Drop the rows that are False in `rows`; their room in the pool is free again."""
        left = self.slot[~rows]
        self._free = np.concatenate((self._free, left[left >= 0]))
        super().keep(rows)

    def remember(self, rows: Indices, seen: Observed, cols: Indices, now: float | Floats) -> None:
        """Store the looks of detections `cols` in the galleries of tracks `rows` for which it is time.

        Args:
            now: seconds, or (len(rows),).
        """
        due = now - self.stored[rows] >= self._period - LATE
        if due.any():
            self.store(rows[due], seen.features(cols[due]), now[due] if isinstance(now, np.ndarray) else now)

    def store(self, rows: Indices, vectors: Vectors, now: float | Floats) -> None:
        """Add one vector to the gallery of each track in `rows`, each at most once; the oldest one makes room.

        Vectors that are not finite are left out: they would spoil every later comparison.

        Args:
            now: seconds, or (len(rows),).

        Raises:
            ValueError: vectors of another length than before.
        """
        sound = np.isfinite(vectors).all(axis=1)
        if not sound.all():
            rows, vectors, now = rows[sound], vectors[sound], now[sound] if isinstance(now, np.ndarray) else now
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
        if len(self._free) < len(rows):
            grown = np.zeros((max(2 * slots, slots + len(rows)), budget, size), np.float32)
            if slots:
                grown[:slots] = self._pool
            self._free = np.concatenate((self._free, np.arange(slots, len(grown))))
            self._pool = grown
        self.slot[rows], self._free = self._free[: len(rows)], self._free[len(rows) :]

    def vectors(self, rows: Indices) -> tuple[Vectors, Indices]:
        """(R, budget, D) what is stored of some tracks of which something is, and (R,) how many vectors of each."""
        return self._pool[self.slot[rows]], np.minimum(self.count[rows], self._pool.shape[1])

    def _distance(self, rows: Indices, cols: Indices, vectors: Vectors) -> Floats:
        """The smallest distance to any vector of the gallery.

        Pair by pair: of all tracks and detections of a crowd only few are neighbours.
        """
        if fast := kernels():
            found: Floats = fast.nearest_look(self._pool, self.slot[rows], self.count[rows], vectors, cols)
            return found
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
        return {**super().state_dict(), "pool": self._pool.copy(), "free": self._free.copy()}

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take over what `state_dict` returned.

        Raises:
            ValueError: it is not of such galleries.
        """
        super().load_state_dict(state)
        pool, free = np.array(state["pool"]), np.array(state["free"])
        used = np.concatenate((self.slot[self.slot >= 0], free))
        sound = pool.dtype == np.float32 and pool.ndim == 3 and pool.shape[1] == self._pool.shape[1]
        sound = sound and free.dtype == np.int64 and len(np.unique(used)) == len(used) == len(pool)
        if not sound or np.any((used < 0) | (used >= len(pool))) or np.any((self.slot < 0) & (self.count > 0)):
            raise ValueError("the vectors of a saved state are not where its galleries say")
        if np.any(self.count < 0):
            raise ValueError("a gallery of a saved state holds less than nothing")
        self._pool, self._free = pool, free


class Averages(Looks):
    """For each track one appearance vector, an exponential moving average (Du et al. 2021, StrongSORT).

    Attributes:
        count: (T,) how many were stored. vector: (T, D) float32 unit vectors; D is 0 before the first is stored.
    """

    count: Indices
    vector: Vectors

    def __init__(self) -> None:
        self.count, self.vector = np.zeros(0, np.int64), np.zeros((0, 0), np.float32)

    def grow(self, seen: Observed, cols: Indices, now: Floats) -> None:
        """Append tracks that have no vector yet."""
        self.append(np.zeros(len(cols), np.int64), np.zeros((len(cols), self.vector.shape[1]), np.float32))

    def extend(self, other: Averages) -> None:
        """Append all rows of another table."""
        if not other.vector.shape[1]:
            other.vector = np.zeros((len(other), self.vector.shape[1]), np.float32)
        super().extend(other)

    def store(self, rows: Indices, vectors: Vectors, keep: float | Floats) -> None:
        """Mix a unit vector into the average of each track in `rows`, each at most once.

        Args:
            keep: share of the old average that stays, (len(rows),) or one for all.

        Raises:
            ValueError: vectors of another length than before.
        """
        if not len(rows):
            return
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

    def _distance(self, rows: Indices, cols: Indices, vectors: Vectors) -> Floats:
        return np.asarray(1.0 - np.einsum("pd,pd->p", self.vector[rows], vectors[cols]), np.float64)
