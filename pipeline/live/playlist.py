"""Playlist: what a live stream in pieces (HLS, DASH) needs to be watched like a camera: a pace, and no repeats."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

_LATE = 0.25
"""Seconds. What comes later was not there in time, and what follows will be as late; what is less late hurries."""

_LONGEST_WAIT = 2.0
"""Seconds from one picture to the next; more is a jump of the stream's clock, and waiting for it would be a stall."""

_REMEMBERED = 4096
"""Pictures: more than the three pieces that a connection begins with hold, of up to 10 s each at 60 a second."""

_NEWS = 0.3
"""Seconds. What is listed already comes at once; what follows a picture that took that long is new."""

_SAMPLES = 997
"""Bytes of a picture from one that is looked at to the next: 4 µs for 1080p instead of 1 ms for all, and they differ
wherever a camera's noise does."""

_Print: TypeAlias = "tuple[int | None, int]"


class Playout:
    """When pictures are due that come a piece at a time, many at once.

    Without it a chain would be given 50 pictures at once every two seconds and lose nearly all of them as late.

    Args:
        longest_wait: seconds after which a wait would look like a stall.
    """

    def __init__(self, longest_wait: float) -> None:
        self._longest_wait = min(_LONGEST_WAIT, longest_wait)
        self._start: float | None = None  # clock at media time 0

    def wait(self, timestamp: float, now: float) -> float:
        """Seconds from `now` (monotonic clock) until the picture of this media time is due; 0 for one that is late.

        Where the pieces come too late, or the stream's clock jumps, time goes on from there.
        """
        due = now if self._start is None else self._start + timestamp
        if not now - _LATE <= due <= now + self._longest_wait:
            due = now
        self._start = due - timestamp
        return max(0.0, due - now)


class Memory:
    """The last pictures of a stream over all connections: a new one begins with pieces that were watched already.

    A playlist that has stopped growing would otherwise be watched again and again, as if it were alive.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._prints: dict[_Print, None] = {}  # the oldest first

    def __len__(self) -> int:
        with self._lock:
            return len(self._prints)

    def __contains__(self, frame: VideoFrame) -> bool:
        mark = _print(frame)
        with self._lock:
            return mark in self._prints

    def keep(self, frame: VideoFrame) -> None:
        """This one is watched now."""
        mark = _print(frame)
        with self._lock:
            self._prints[mark] = None
            if len(self._prints) > _REMEMBERED:
                del self._prints[next(iter(self._prints))]

    def recall(self) -> Recall:
        """For a connection that begins now."""
        return Recall(self)


class Recall:
    """Tells a connection which of its first pictures were watched already, until it gives one that was not.

    Another connection may go on watching meanwhile.

    Args:
        memory: of what was watched.
    """

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._over = not len(memory)

    @property
    def is_over(self) -> bool:
        """Whether all that comes now is new."""
        return self._over

    def knows(self, frame: VideoFrame, waited: float) -> bool:
        """Whether this one was watched; `waited`: seconds that it took to come.

        An encoder that is started anew may make the same pictures with the same times, as test patterns do, but it
        goes on to make them, so that somebody waits for them.
        """
        if self.is_over:
            return False
        known = frame in self._memory
        self._over = not known or waited >= _NEWS
        return known


def _print(frame: VideoFrame) -> _Print:
    """Tells a picture from others: its time on the stream's clock, and some of its brightness."""
    samples: NDArray[np.uint8] = np.frombuffer(frame.planes[0], np.uint8)[::_SAMPLES]  # type: ignore[call-overload]
    return frame.pts, hash(samples.tobytes())
