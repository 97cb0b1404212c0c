"""Columns: a struct of arrays whose rows are tracks, and that grows, shrinks, is saved and restored as one."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from trackers.observed import Observed

Mask = NDArray[np.bool_]
Indices = NDArray[np.int64]


class Columns:
    """Base of the tables a tracker keeps. Every annotated attribute of a subclass is an array with one row a track."""

    columns: ClassVar[tuple[str, ...]]
    never: ClassVar[frozenset[str]] = frozenset()
    """Those of them in which -inf stands for what never was; all others hold finite numbers."""

    def __init_subclass__(cls) -> None:
        """The annotated attributes are the columns."""
        cls.columns = tuple(vars(cls).get("__annotations__", {})) or cls.columns

    def __len__(self) -> int:
        return len(getattr(self, self.columns[0]))

    def grow(self, seen: Observed, cols: Indices, now: NDArray[np.float64]) -> None:
        """Append a row for each of the detections `cols`, which start new tracks at `now`, (len(cols),) seconds."""
        raise NotImplementedError

    def append(self, *values: NDArray[Any]) -> None:
        """Append rows: the values of each column, in order."""
        for name, value in zip(self.columns, values, strict=True):
            setattr(self, name, np.concatenate((getattr(self, name), value)))

    def extend(self, other: Self) -> None:
        """Append all rows of another table."""
        self.append(*(getattr(other, name) for name in self.columns))

    def keep(self, rows: Mask) -> None:
        """Drop the rows that are False in `rows`."""
        self.pick(rows.nonzero()[0])

    def pick(self, rows: Indices) -> None:
        """Have these rows only, in this order."""
        for name in self.columns:
            setattr(self, name, getattr(self, name).take(rows, axis=0))

    def take(self, rows: Indices) -> Self:
        """A copy of some rows."""
        other = copy.copy(self)
        other.pick(rows)
        return other

    def put(self, rows: Indices, other: Self) -> None:
        """Overwrite some rows with all of another table."""
        for name in self.columns:
            getattr(self, name)[rows] = getattr(other, name)

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """A copy of every column by name."""
        return {name: getattr(self, name).copy() for name in self.columns}

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take over the columns that `state_dict` returned.

        Raises:
            ValueError: they are not of this kind of table, which compiled code would trust; or they are no numbers.
        """
        loaded = {name: np.array(state[name]) for name in self.columns}
        rows = {column.shape[:1] for column in loaded.values()}
        for name, column in loaded.items():
            own = getattr(self, name)
            # what is empty does not tell how long the vectors of others are
            fits = [size in (0, there) for size, there in zip(own.shape[1:], column.shape[1:], strict=False)]
            if column.dtype != own.dtype or column.ndim != own.ndim or len(rows) > 1 or not all(fits):
                raise ValueError(f"'{name}' of a saved state is not what {type(self).__name__} keeps")
            if column.dtype.kind == "f" and not np.all(
                np.isfinite(column) | (np.isneginf(column) if name in self.never else False)
            ):
                raise ValueError(f"'{name}' of a saved state holds what is no number")
        for name, column in loaded.items():
            setattr(self, name, column)
