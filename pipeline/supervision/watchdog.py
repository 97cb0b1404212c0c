"""Watchdog: notices a stage or sink that has been at one call for too long."""

from __future__ import annotations

import logging
import sys
import threading
import time
from pathlib import Path

from pipeline.limits import start
from pipeline.metrics import Metrics

logger = logging.getLogger("framechain")

_LOOKS = 4
"""Looks within the time that a call may take; at most one a second."""


class Watchdog:
    """Tells which calls take too long, logs each of them once with the line that it is at, and counts it.

    A thread cannot be ended from outside; who supervises the process ends it when the run is no longer healthy.

    Args:
        metrics: know when each call began. limit: seconds that a call may take.
    """

    def __init__(self, metrics: Metrics, limit: float) -> None:
        self._metrics = metrics
        self._limit = limit
        self._told: set[tuple[int, float]] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        start(self._thread)

    def close(self) -> None:
        """Look no more."""
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join()

    def overdue(self) -> list[str]:
        """The calls that take too long now: "track has been at one call for 61 s"."""
        now = time.perf_counter()
        return [
            f"{part.name} has been at one call for {now - began:.0f} s"
            for part in self._metrics.parts
            for began in part.present.values()
            if now - began > self._limit
        ]

    def _run(self) -> None:
        while not self._over.wait(min(1.0, self._limit / _LOOKS)):
            now = time.perf_counter()
            late = set()
            for part in self._metrics.parts:
                for thread, began in part.present.items():
                    if now - began <= self._limit:
                        continue
                    late.add((thread, began))
                    if (thread, began) not in self._told:
                        part.fault("overdue")
                        logger.warning(
                            "%s has been at one call for %.0f s%s; the run is not healthy until it returns",
                            *(part.name, now - began, _where(thread)),
                        )
            self._told = late


def _where(thread: int) -> str:
    """The line of Python that a thread is at, in words; empty if it is gone."""
    frame = sys._current_frames().get(thread)
    if frame is None:
        return ""
    code = frame.f_code
    return f", in {code.co_name} ({Path(code.co_filename).name} line {frame.f_lineno})"
