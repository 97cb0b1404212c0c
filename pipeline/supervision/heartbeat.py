"""Heartbeat: keeps the service manager told of a run's health."""

from __future__ import annotations

import logging
import threading

from pipeline.engine import Pipeline
from pipeline.limits import start
from pipeline.supervision.health import examine
from pipeline.supervision.systemd import Systemd

logger = logging.getLogger("framechain")

_PERIOD = 1.0  # seconds between two looks; three within the watchdog's time at least


class Heartbeat:
    """Tells systemd when the run has begun, how it is, that it lives, and that it ends.

    A sign of life is sent only while no stage or sink is stuck, so that systemd ends and restarts a process that is.
    """

    def __init__(self, pipeline: Pipeline, systemd: Systemd) -> None:
        self._pipeline, self._systemd = pipeline, systemd
        self._period = _PERIOD if systemd.watchdog is None else min(_PERIOD, systemd.watchdog / 3)
        self._told: set[str] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Begin, before the pipeline starts; does nothing where nobody wants to be told."""
        if self._systemd.asked:
            start(self._thread)

    def close(self) -> None:
        """Tell no more."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()
            self._tell()

    def _run(self) -> None:
        over = False
        while not over:
            try:
                self._tell()
            except Exception as error:  # a mistake of ours must not have a healthy run ended
                logger.warning("the service manager is not told how the run is: %s: %s", type(error).__name__, error)
            over = self._over.wait(self._period)

    def _tell(self) -> None:
        health = examine(self._pipeline)
        if self._pipeline.phase == "running" and "ready" not in self._told:
            self._told.add("ready")
            self._systemd.ready()
        if self._pipeline.phase in ("stopping", "ended") and "stopping" not in self._told:
            self._told.add("stopping")
            self._systemd.stopping()
        if health.alive and self._systemd.watchdog is not None:
            self._systemd.alive()
        self._systemd.status(health.status)
