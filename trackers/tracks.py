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
    """

    id: NDArray[np.int64] = field(default_factory=lambda: _rows(dtype=np.int64))
    xyxy: NDArray[np.float64] = field(default_factory=lambda: _rows(4, dtype=np.float64))
    score: NDArray[np.float64] = field(default_factory=lambda: _rows(dtype=np.float64))
    class_id: NDArray[np.int64] = field(default_factory=lambda: _rows(dtype=np.int64))
    det_index: NDArray[np.int64] = field(default_factory=lambda: _rows(dtype=np.int64))
    age: NDArray[np.float64] = field(default_factory=lambda: _rows(dtype=np.float64))
    since_seen: NDArray[np.float64] = field(default_factory=lambda: _rows(dtype=np.float64))
    velocity: NDArray[np.float64] = field(default_factory=lambda: _rows(2, dtype=np.float64))
    _hidden: Tracks | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.id)

    def __getitem__(self, rows: NDArray[np.bool_] | NDArray[np.int64] | slice) -> Tracks:
        """The given rows only (a mask, indices or a slice), without the lost and tentative views.

        >>> Tracks()[:0].id
        array([], dtype=int64)
        """
        return Tracks(**{f.name: getattr(self, f.name)[rows] for f in fields(self) if not f.name.startswith("_")})

    def lost(self) -> Tracks:
        """Confirmed tracks that this frame did not show: predicted boxes, `det_index` -1."""
        return Tracks() if self._hidden is None else self._hidden[self._hidden.det_index < 0]

    def tentative(self) -> Tracks:
        """Tracks seen in this frame but not trusted yet: `id` -1 unless the track was trusted before."""
        return Tracks() if self._hidden is None else self._hidden[self._hidden.det_index >= 0]
