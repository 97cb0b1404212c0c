"""Tracks: what a tracker says about one frame, as a frozen struct of arrays."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray


def _rows(*shape: int, dtype: type) -> NDArray[Any]:
    array: NDArray[Any] = np.zeros((0, *shape), dtype)
    array.flags.writeable = False
    return array


@dataclass(frozen=True, slots=True, eq=False)
class Tracks:
    """The tracks that this frame really showed: confirmed, and matched to a detection of this very frame.

    Row m of every array describes one track. Tracks that are only predicted through an occlusion, and those
    too young to be trusted, are not rows here: ask `lost()` and `tentative()`.

    Attributes:
        id: (M,) int64, from 1, unique within one tracker; -1 for a tentative track that has none yet.
        xyxy: (M, 4) float64 pixels, the filtered box.
        score: (M,) float64 in 0..1, of the matched detection (the last one while lost).
        class_id: (M,) int64.
        det_index: (M,) int64, row of the detection given to `update`; -1 where there was none.
        age: (M,) float64 seconds since the track's first detection.
        since_seen: (M,) float64 seconds since its last detection; 0 for rows this frame showed.
        velocity: (M, 2) float64 pixels per second of the box centre.
        occluded: (M,) bool, whether others in front cover a good part of the box; never with trackers that do not look.
        occluder: (M,) int64 id of the track that covers most of it; -1 if none does, or if that one has no id yet.
        occluded_for: (M,) float64 seconds since it was first covered, 0 if it is not.
        believed: (M,) bool, whether the object is in the picture as far as the tracker can tell, see `hidden()`.
    """

    id: NDArray[np.int64] = field(default_factory=lambda: _rows(dtype=np.int64))
    xyxy: NDArray[np.float64] = field(default_factory=lambda: _rows(4, dtype=np.float64))
    score: NDArray[np.float64] = field(default_factory=lambda: _rows(dtype=np.float64))
    class_id: NDArray[np.int64] = field(default_factory=lambda: _rows(dtype=np.int64))
    det_index: NDArray[np.int64] = field(default_factory=lambda: _rows(dtype=np.int64))
    age: NDArray[np.float64] = field(default_factory=lambda: _rows(dtype=np.float64))
    since_seen: NDArray[np.float64] = field(default_factory=lambda: _rows(dtype=np.float64))
    velocity: NDArray[np.float64] = field(default_factory=lambda: _rows(2, dtype=np.float64))
    occluded: NDArray[np.bool_] = field(default_factory=lambda: _rows(dtype=np.bool_))
    occluder: NDArray[np.int64] = field(default_factory=lambda: _rows(dtype=np.int64))
    occluded_for: NDArray[np.float64] = field(default_factory=lambda: _rows(dtype=np.float64))
    believed: NDArray[np.bool_] = field(default_factory=lambda: _rows(dtype=np.bool_))
    _hidden: Tracks | None = field(default=None, repr=False)
    _mine: slice | None = field(default=None, repr=False)  # rows of the hidden ones; None: all

    def __post_init__(self) -> None:
        """Nothing is occluded, and what was seen is believed, where it is not said."""
        for name, value in (("occluded", False), ("occluder", -1), ("occluded_for", 0.0)):
            if len(getattr(self, name)) != len(self.id):
                object.__setattr__(self, name, np.full(len(self.id), value))
        if len(self.believed) != len(self.id):
            object.__setattr__(self, "believed", self.det_index >= 0)

    def __len__(self) -> int:
        return len(self.id)

    def __getitem__(self, rows: NDArray[np.bool_] | NDArray[np.int64] | slice) -> Tracks:
        """The given rows only (a mask, indices or a slice), without the lost and tentative views.

        >>> Tracks()[:0].id
        array([], dtype=int64)
        """
        return self.part(rows, None)

    def part(
        self, rows: NDArray[np.bool_] | NDArray[np.int64] | slice, hidden: Tracks | None, mine: slice | None = None
    ) -> Tracks:
        """The given rows, with these lost and tentative tracks behind them."""
        return Tracks(**{name: getattr(self, name)[rows] for name in _COLUMNS}, _hidden=hidden, _mine=mine)

    def _behind(self) -> Tracks:
        return Tracks() if self._hidden is None else self._hidden[self._mine or slice(None)]

    def lost(self) -> Tracks:
        """Confirmed tracks that this frame did not show: predicted boxes, `det_index` -1."""
        behind = self._behind()
        return behind[behind.det_index < 0]

    def hidden(self) -> Tracks:
        """Of the lost tracks those that are still there as far as the tracker can tell: behind another, or just missed.

        With these a result says where everyone is, not only where everyone was seen; see the options of the tracker.
        """
        behind = self._behind()
        return behind[(behind.det_index < 0) & behind.believed]

    def tentative(self) -> Tracks:
        """Tracks seen in this frame but not trusted yet: `id` -1 unless the track was trusted before."""
        behind = self._behind()
        return behind[behind.det_index >= 0]


_COLUMNS = tuple(column.name for column in fields(Tracks) if not column.name.startswith("_"))
