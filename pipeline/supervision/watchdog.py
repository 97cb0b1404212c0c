"""Watchdog: notices a stage or sink that has been at one call for too long, and a chain that does not get on."""

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
        self._calls = self._finished = self._given = 0  # at the last look at which something had moved
        self._still_since: float | None = None  # frames wait, and nothing has moved
        self._vain_since: float | None = None  # frames were given since the last one was finished
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
        self._still_since = self._vain_since = None

    def overdue(self) -> list[str]:
        """What takes too long now: "track has been at one call for 61 s", or frames that nobody takes."""
        now, since = time.perf_counter(), self._still_since
        stands = 0.0 if since is None else now - since
        still = f"frames of live sources wait, and no stage or sink has taken one for {stands:.0f} s"
        return [still] * (stands > self._limit) + [
            f"{part.name} has been at one call for {now - began:.0f} s"
            for part in self._metrics.parts
            for began in part.present.values()
            if now - began > self._limit
        ]

    @property
    def vain(self) -> list[str]:
        """For how long no frame has come through the chain although it was given some, where that is too long."""
        since = self._vain_since
        vain = 0.0 if since is None else time.perf_counter() - since
        return [f"no frame of a live source has come through the chain for {vain:.0f} s"] * (vain > self._limit)

    def _run(self) -> None:
        while not self._over.wait(min(1.0, self._limit / _LOOKS)):
            now = time.perf_counter()
            self._look_at_flow(now)
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

    def _look_at_flow(self, now: float) -> None:
        given, finished, inside = self._metrics.flow()
        parts = [part for part in self._metrics.parts if part.kind != "source"]
        calls = sum(part.calls for part in parts)
        if calls != self._calls or not inside or any(part.present for part in parts):
            self._calls, self._still_since = calls, None
        elif self._still_since is None:
            self._still_since = now
        if finished != self._finished:
            self._finished, self._given, self._vain_since = finished, given, None
        elif given > self._given and self._vain_since is None:
            self._vain_since = now


def _where(thread: int) -> str:
    """The line of Python that a thread is at, in words; empty if it is gone."""
    frame = sys._current_frames().get(thread)
    if frame is None:
        return ""
    code = frame.f_code
    return f", in {code.co_name} ({Path(code.co_filename).name} line {frame.f_lineno})"
