"""Timeline: one line of indices and timestamps over all connections of a live source, whatever its clock does."""

from __future__ import annotations

import math

from pipeline.frame import Frame

_JUMP = 1.0
"""Seconds by which media time may overtake the wall clock from one frame to the next, or fall back; more is a jump.

To fall behind the wall clock is none: after a hold-up the network delivers what waited, all at once, with right times.
"""


_WINDOW = 30.0
"""Seconds over which the least delay of a frame is compared with that at the connection's start.

Frames come early or late by what the network holds back (an HLS stream by its segments), but their least delay stays.
"""


class Timeline:
    """Indices never repeat, timestamps never decrease and go on by the wall clock over every gap, which is marked.

    A clock that runs too fast or too slow is put right whenever it is wrong by more than a second.
    """

    def __init__(self) -> None:
        self._first_index = 0  # of this connection
        self._next_index = 0
        self._shift = 0.0  # of this connection's timestamps
        self._raw = 0.0  # the last timestamp as it came, and as it was given
        self._time = 0.0
        self._arrived: float | None = None
        self._new = True
        self._size: tuple[int, int] | None = None
        self._begun = 0.0  # when the window began
        self._least = math.inf  # delay in it: wall clock less media time
        self._delay: float | None = None  # the least in the connection's first window

    def reconnected(self, seen: int) -> None:
        """What comes next is of a new connection; the one before had `seen` frames, given or not."""
        self._first_index = self._next_index = max(self._next_index, self._first_index + seen)
        self._new = True

    def place(self, frame: Frame, now: float, silence: bool = False) -> None:
        """Give a frame its place in line.

        Args:
            now: when it came, on a monotonic clock. silence: whether it came later than expected.
        """
        gap = 0.0 if self._arrived is None else now - self._arrived
        step = frame.timestamp - self._raw
        if self._arrived is None:
            broken = False
        elif self._new:
            broken, self._shift = True, self._time + gap - frame.timestamp
        elif step - gap > _JUMP or step < -_JUMP:
            broken, self._shift = True, self._shift + gap - step
        else:
            broken = silence
        if self._new:
            self._begun, self._least, self._delay = now, math.inf, None
        if drift := self._drift(now, frame.timestamp + self._shift):
            broken, self._shift = True, self._shift + drift
        size = frame.image.shape[0], frame.image.shape[1]
        broken |= self._size not in (None, size)
        self._new, self._size, self._arrived, self._raw = False, size, now, frame.timestamp
        self._time = max(self._time, frame.timestamp + self._shift)
        frame.index += self._first_index
        self._next_index = frame.index + 1
        frame.timestamp = self._time
        frame.discontinuity |= broken

    def _drift(self, now: float, timestamp: float) -> float:
        """Seconds that the connection's clock has fallen behind the wall clock; 0 while it is about right."""
        self._least = min(self._least, now - timestamp)
        if now - self._begun < _WINDOW:
            return 0.0
        least, self._least, self._begun = self._least, math.inf, now
        if self._delay is None:
            self._delay = least
        behind = least - self._delay
        return behind if abs(behind) > _JUMP else 0.0
