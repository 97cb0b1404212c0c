"""LazyFeatures: appearance vectors that are computed when somebody asks for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


class LazyFeatures:
    """(N, D) float32 vectors, each computed when it is first asked for and never twice.

    Trackers call it with the rows they need; to whoever takes all of it (`numpy.asarray`, indexing) it is an array.

        >>> squares = LazyFeatures(lambda rows: np.float32(rows[:, None]) ** 2, (4, 1))
        >>> squares(np.array([3])).tolist(), squares[2].tolist(), np.asarray(squares).shape
        ([[9.0]], [4.0], (4, 1))

    Args:
        compute: gives the (len(rows), D) vectors of some rows.
        shape: N and D.
    """

    dtype = np.dtype(np.float32)
    ndim = 2

    def __init__(self, compute: Callable[[Rows], NDArray[np.float32]], shape: tuple[int, int]) -> None:
        self.shape = shape
        self._compute = compute
        self._vectors: NDArray[np.float32] | None = None
        self._known = np.zeros(shape[0], np.bool_)

    def __len__(self) -> int:
        return self.shape[0]

    def __call__(self, rows: Rows) -> NDArray[np.float32]:
        """The vectors of these rows, (len(rows), D)."""
        if self._vectors is None:
            self._vectors = np.zeros(self.shape, np.float32)
        wanted = np.zeros(len(self), np.bool_)
        wanted[rows] = True
        missing = np.flatnonzero(wanted & ~self._known)
        if len(missing):
            self._vectors[missing] = self._compute(missing)
            self._known[missing] = True
        return self._vectors[rows]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self(np.arange(len(self))), dtype=dtype)

    def __getitem__(self, rows: Any) -> NDArray[np.float32]:
        return np.asarray(np.asarray(self)[rows])
