"""Pace: whether decoding keeps up with a camera, and what is left out where it does not."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

_IDLE = 0.25
"""Share of the time spent waiting for packets from which on there cannot be a backlog, whatever the clocks say.

On a full machine a thread that asks for a packet that is there waits for Python's lock: 5 ms of 40 at most.
"""

_LOOK = 0.5
"""Seconds over which that share is measured."""

_CREEP = 1e-3
"""Seconds a second by which a camera's clock may be slow, for all we know; quartz is within a tenth of that."""


_MADE_UP = 0.25
"""Of the budget: who is late leaves things out until he is no further behind than that."""


class Pace:
    """Judges by the times of a stream's packets how far its decoding is behind, and says what to leave out.

    Behind is who has hardly waited for packets lately, and whose present packet comes later, after the camera took it,
    than the promptest ones did. Up to `budget` that is nothing. Beyond it pictures are decoded and not converted; if
    that does not help within `budget` seconds, only keyframes are decoded until it is made up for: nothing else can be
    left out without damage to what follows, as the pictures of most cameras all build on one another.

    Args:
        budget: seconds. clock: monotonic, in seconds.
    """

    def __init__(self, budget: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._budget = budget
        self._clock = clock
        self._least = math.inf  # of now less media time: how prompt a packet can be
        self._last: float | None = None
        self._window = (0.0, 0.0)  # when the present look began, and how much had been waited by then
        self._busy = False
        self._late = False
        self._late_since: float | None = None
        self._lag_then = 0.0
        self._keyframes_only = False
        self._given = -math.inf

    def decodes(self, timestamp: float | None, keyframe: bool, waited: float) -> bool:
        """Whether a packet is to be decoded.

        Args:
            timestamp: its media time. waited: seconds spent waiting for packets so far, in all.
        """
        now = self._clock()
        if timestamp is not None:
            self._look(now, timestamp, waited)
        if keyframe and not self._late:
            self._keyframes_only = False
        return keyframe or not self._keyframes_only

    def converts(self) -> bool:
        """Whether the picture just decoded is to be given; one every `budget` seconds is, however late it is."""
        now = self._clock()
        if self._late and not self._keyframes_only and now - self._given < self._budget:
            return False
        self._given = now
        return True

    def _look(self, now: float, timestamp: float, waited: float) -> None:
        delay = now - timestamp
        if self._last is None or timestamp < self._last - self._budget or delay < self._least - 10 * self._budget:
            self._least, self._window = delay, (now, waited)  # the stream's clock began anew
        elapsed = 0.0 if self._last is None else max(0.0, timestamp - self._last)
        self._last = timestamp
        self._least = min(delay, self._least + _CREEP * elapsed)
        began, before = self._window
        if now - began >= _LOOK:
            self._busy = (waited - before) < _IDLE * (now - began)
            self._window = (now, waited)
        lag = delay - self._least
        self._late = self._busy and lag > (_MADE_UP * self._budget if self._late else self._budget)
        if not self._late:
            self._late_since = None
        elif self._late_since is None:
            self._late_since, self._lag_then = now, lag
        elif now - self._late_since >= self._budget:
            self._keyframes_only |= lag >= self._lag_then
            self._late_since, self._lag_then = now, lag
