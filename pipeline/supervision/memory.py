"""Memory: what was freed goes back to the system now and then: a run of months holds what a run of minutes does."""

from __future__ import annotations

import ctypes
import sys
import threading

from pipeline.limits import start

_EVERY = 60.0
"""Seconds. It takes 2 to 20 ms, in which threads that allocate may wait."""


class Trimmer:
    """Has the C library give back what it holds and nobody uses, once a minute, while a run goes on.

    glibc keeps an arena of memory for each few threads, and what one of them freed is not used by the others. Frames of
    all sizes leave holes in it: with four cameras, text and video the process grew by some 10 MB a minute while what
    was in use stayed the same, and more than 100 MB were holes. Where there is no glibc this does nothing.
    """

    def __init__(self) -> None:
        self._over = threading.Event()
        self._trim = _malloc_trim()
        self._thread = threading.Thread(target=self._run, name="memory", daemon=True)

    def start(self) -> None:
        """Begin."""
        if self._trim is not None:
            start(self._thread)

    def close(self) -> None:
        """Do it no more."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        assert self._trim is not None
        while not self._over.wait(_EVERY):
            self._trim(0)


def _malloc_trim() -> ctypes._NamedFuncPointer | None:
    if sys.platform != "linux":
        return None
    try:
        return ctypes.CDLL(None).malloc_trim
    except AttributeError:  # another C library
        return None
