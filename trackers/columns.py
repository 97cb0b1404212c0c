"""Columns: a struct of arrays whose rows are tracks, and that grows, shrinks, is saved and restored as one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self


@dataclass
class Columns:
    """Base of the tables a tracker keeps. Every field of a subclass is an array with one row a track."""

    def __len__(self) -> int:
        return len(getattr(self, fields(self)[0].name))

    def keep(self, rows: NDArray[np.bool_]) -> None:
        """Drop the rows that are False in `rows`."""
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name)[rows])

    def extend(self, other: Self) -> None:
        """Append the rows of another table of the same kind."""
        for field in fields(self):
            setattr(self, field.name, np.concatenate([getattr(self, field.name), getattr(other, field.name)]))

    def take(self, rows: NDArray[np.int64]) -> Self:
        """A copy of some rows."""
        return type(self)(*(getattr(self, field.name)[rows] for field in fields(self)))

    def put(self, rows: NDArray[np.int64], other: Self) -> None:
        """Overwrite some rows with all of another table."""
        for field in fields(self):
            getattr(self, field.name)[rows] = getattr(other, field.name)

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """A copy of every column by name."""
        return {field.name: getattr(self, field.name).copy() for field in fields(self)}

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take over the columns that `state_dict` returned."""
        for field in fields(self):
            setattr(self, field.name, np.array(state[field.name]))
