"""Memory: what was freed is used again or goes back to the system: a run of months holds what a run of minutes does.

glibc makes up to eight arenas of memory a core, and what threads of one freed is not used by those of another. Frames,
texts and tensors of all sizes leave holes in them: with three cameras, text and video 300 MB were in use all the time,
and the arenas grew from 400 to 610 MB within 7 minutes. So there are few arenas (decoding is as fast with two; with one
on two cores a whole chain is 6 % slower), and what lies free in them goes back every ten seconds: within a minute the
parts in use spread over 50 MB more, and over some more in each hour. (Blocks of their own from 1 or 4 MB on kept it
lower still, and cost 7 ms of processor time a frame of 1080p, as the system clears pages anew.) Without glibc that is
left out.

What refers to itself, as errors with their tracebacks do, Python frees when it looks for it, and through everything it
looks the more rarely the more there is: in an hour of cameras that break off it did so once, after 50 minutes, which
gave back ten open files and 40 MB. So it is told to, once a minute.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import threading

from pipeline.limits import start

_EVERY, _LOOKS = 10.0, 6
"""Seconds; and how many times that for each look through everything. Giving back takes 2 to 20 ms, a look some 100 ms,
in which other threads may wait."""

_M_ARENA_MAX = -8
"""mallopt's name of it, from glibc's malloc.h."""


def use_few_arenas() -> None:
    """Have threads that begin later share arenas, one for two cores. Who sets MALLOC_ARENA_MAX knows better."""
    if (library := _glibc()) is not None and "MALLOC_ARENA_MAX" not in os.environ:
        library.mallopt(_M_ARENA_MAX, max(2, (os.cpu_count() or 1) // 2))


class Trimmer:
    """Gives back what lies free, now and then while a run goes on."""

    def __init__(self) -> None:
        self._over = threading.Event()
        self._library = _glibc()
        self._thread = threading.Thread(target=self._run, name="memory", daemon=True)

    def start(self) -> None:
        """Begin."""
        start(self._thread)

    def close(self) -> None:
        """Do it no more."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        turn = 0
        while not self._over.wait(_EVERY):
            turn += 1
            if turn % _LOOKS == 0:
                gc.collect()
            if self._library is not None:
                self._library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "malloc_trim") and hasattr(library, "mallopt") else None
