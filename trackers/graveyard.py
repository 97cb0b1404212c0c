"""Graveyard: tracks that were dropped, remembered by their looks in case they come back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackers.appearance import Galleries
from trackers.association import centre
from trackers.columns import Columns
from trackers.lifecycle import Records
from trackers.moment import Moment

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]
Vectors = NDArray[np.float32]

MOST = 256
"""Dropped tracks remembered of each stream; the oldest makes room. With 16 vectors of 512 numbers: 8 MiB a stream."""

_PACE = 1.5
"""Heights that somebody moves in a second at most: a person runs at 2, and walks at 0.8."""

_GROWTH = 0.7
"""Logarithm of the ratio of heights by which somebody who was away may have come nearer: twice as large."""


class Graveyard(Columns):
    """Dropped tracks, a row each.

    Attributes:
        stream, id: (G,) of the track. born, seen: (G,) seconds, when it was seen first and last.
        xyxy: (G, 4) its last box. class_id: (G,). count: (G,) how many vectors are known.
        vectors: (G, budget, D) float32 unit vectors, zeros beyond `count`.
    """

    stream: Indices
    id: Indices
    born: Floats
    seen: Floats
    xyxy: Floats
    class_id: Indices
    count: Indices
    vectors: Vectors

    def __init__(self, budget: int) -> None:
        """Empty; so many vectors of each track."""
        self.stream = self.id = self.class_id = self.count = np.zeros(0, np.int64)
        self.born = self.seen = np.zeros(0)
        self.xyxy = np.zeros((0, 4))
        self.vectors = np.zeros((0, budget, 0), np.float32)

    def bury(self, rows: Indices, records: Records, galleries: Galleries, last: Floats) -> None:
        """Remember some tracks.

        Args:
            rows: of tracks whose galleries are not empty. last: (T, 4) where all tracks were seen last.
        """
        if not len(rows):
            return
        r, (vectors, count) = records, galleries.vectors(rows)
        if not self.vectors.shape[2]:
            self.vectors = np.zeros((0, *vectors.shape[1:]), np.float32)
        columns = (r.stream, r.id, r.born, r.seen, last, r.class_id)
        self.append(*(column[rows] for column in columns), count, vectors)

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take over what `state_dict` returned.

        Raises:
            ValueError: it is not of such a table.
        """
        super().load_state_dict(state)
        if np.any((self.count < 1) | (self.count > self.vectors.shape[1])):
            raise ValueError("a saved state remembers looks that it does not have")

    def expire(self, when: Moment, seconds: float) -> None:
        """Forget who was seen last so long ago, and of each stream all but the last of `MOST`."""
        if not len(self):
            return
        at = when.of(self.stream)
        fresh = np.asarray(at.now - self.seen <= seconds) | ~np.asarray(at.active)  # who has no frame has no time
        order = np.argsort(self.stream, kind="stable")
        _, first, size = np.unique(self.stream[order], return_index=True, return_counts=True)
        rank = np.arange(len(order)) - np.repeat(first, size)
        fresh[order[rank < np.repeat(size, size) - MOST]] = False
        if not fresh.all():
            self.keep(fresh)

    def recall(
        self,
        new: Indices,
        records: Records,
        galleries: Galleries,
        boxes: Floats,
        separate: bool,
        most: float,
        margin: float,
    ) -> tuple[Indices, Indices]:
        """New tracks that look like one that is here, and which.

        Args:
            new: (R,) tracks whose galleries are not empty. boxes: (R, 4) where they are.
            separate: only tracks of the same class. most: largest cosine distance.
            margin: by how much less alike any other of both sides must look.

        Returns:
            some of `new`, and their graves.
        """
        distance = far_apart(*galleries.vectors(new), self.vectors, self.count)
        distance[~self._plausible(new, records, boxes, separate)] = np.inf
        i, j = (distance < most).nonzero()
        clear = np.minimum(_second(distance, 1)[i], _second(distance, 0)[j]) - distance[i, j] > margin
        return new[i[clear]], j[clear]

    def _plausible(self, new: Indices, records: Records, boxes: Floats, separate: bool) -> Mask:
        """(R, G) whether those tracks may be these, as far as place, size and time go."""
        r, tall = records, self.xyxy[:, 3] - self.xyxy[:, 1]
        height = (boxes[:, 3] - boxes[:, 1])[:, None]
        gap = r.born[new, None] - self.seen
        apart = np.hypot(*(centre(boxes)[:, None] - centre(self.xyxy)).transpose(2, 0, 1))
        fits = (gap > 0) & (apart <= np.maximum(height, tall) * (1 + _PACE * np.maximum(gap, 0)))
        fits &= (np.abs(np.log(height / tall)) <= _GROWTH) & (r.stream[new, None] == self.stream)
        if separate:
            fits &= r.class_id[new, None] == self.class_id
        return np.asarray(fits)


def _second(distance: Floats, axis: int) -> Floats:
    """The second smallest along an axis; inf where there is one only."""
    if distance.shape[axis] < 2:
        return np.full(distance.shape[1 - axis], np.inf)
    return np.asarray(np.partition(distance, 1, axis=axis).take(1, axis=axis))


def far_apart(vectors: Vectors, count: Indices, others: Vectors, their_count: Indices) -> Floats:
    """(R, G) how little alike galleries look: the median, over one's vectors, of the distance to the other's nearest.

    Cosine distances; the median, because one look through a crowd proves nothing.

    Args:
        vectors: (R, B, D) with `count` (R,) valid each, at least one. others: (G, B, D), likewise.
    """
    out = np.empty((len(vectors), len(others)))
    there = np.arange(others.shape[1]) < their_count[:, None]
    for row, mine in enumerate(vectors):
        alike = np.einsum("bd,gcd->gbc", mine[: count[row]], others)
        alike = np.where(there[:, None], alike, -1.0)
        out[row] = np.median(1 - alike.max(axis=2), axis=1)
    return out
