"""Moment: what time it is, for one camera or for several."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]

LATE = 1e-6
"""Seconds by which a deadline may be missed: sums of frame periods are not exact."""


@dataclass(frozen=True, slots=True, eq=False)
class Moment:
    """When the frames of one call are: plain numbers for one stream, arrays with an entry a stream, or a row, for more.

    Attributes:
        now: seconds. dt: seconds since the frame before; 0 in the first one.
        first: whether it is the stream's first frame. active: whether the stream has a frame at all.
    """

    now: float | Floats
    dt: float | Floats
    first: bool | Mask
    active: bool | Mask = True

    def of(self, streams: Indices) -> Moment:
        """The same, an entry for each of these streams; unchanged where there is one stream."""
        if isinstance(self.now, float):
            return self
        return Moment(*(np.asarray(getattr(self, name))[streams] for name in ("now", "dt", "first", "active")))


def clock(before: float | None, timestamp: float | None, period: float) -> tuple[float, float]:
    """The time of a frame and what has passed since the one before, in seconds.

    Args:
        before: time of the frame before; None if there was none. timestamp: None: `period` has passed.

    Raises:
        ValueError: no number, or a time before the last one.
    """
    if timestamp is None:
        return (0.0, 0.0) if before is None else (before + period, period)
    now = float(timestamp)
    if not math.isfinite(now):
        raise ValueError(f"timestamp must be a number of seconds, not {timestamp}")
    if before is None:
        return now, 0.0
    if now < before:
        raise ValueError(f"time goes backwards, from {before:.6g} s to {now:.6g} s; call reset() to start again")
    return now, now - before
