"""An OCR engine in a process of its own, so that a crash in its native code takes nothing else with it."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UsageError
from pipeline.ocr.engine import Line
from pipeline.ocr.messages import Channel, Closed

logger = logging.getLogger("framechain")

_LOADING = 120.0
"""Seconds that loading the models may take: on a cold disk they take 10."""

_READING = 30.0
"""Seconds that one image may take; the largest takes 2 s on a slow core."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 30.0
"""Seconds after a crash before the next start; doubled while it crashes again, until an image was read."""


class EngineDied(Exception):
    """The engine's process ended, or was ended as it hung, over an image."""


class EngineAway(Exception):
    """The engine's process has ended and is not started again yet."""


class IsolatedEngine:
    """Reads as the engine of that name does, in another process, which is started again when it dies.

    An image costs what it takes to copy it: 0.1 ms for a crop of 200×100 pixels. Used by one thread at a time.

    Args:
        name: of the engine. threads: CPU threads that it computes with; 0: as many as there are cores.

    Raises:
        UsageError: the engine refuses to load; says why.
        EngineDied: it cannot be started.
    """

    def __init__(self, name: str, threads: int = 0) -> None:
        self._name, self._threads = name, threads
        self._pause = 0.0
        self._start_at = 0.0
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: Channel | None = None
        self._start()

    @property
    def process(self) -> int | None:
        """The id of the process; None while there is none."""
        return None if self._process is None else self._process.pid

    def read_line(self, image: NDArray[np.uint8]) -> list[Line]:
        """As `Engine.read_line`.

        Raises:
            EngineDied: over this image.
            EngineAway: nobody read it.
        """
        return self._ask(image, None)

    def read(self, image: NDArray[np.uint8], size: int) -> list[Line]:
        """As `Engine.read`.

        Raises:
            EngineDied: over this image.
            EngineAway: nobody read it.
        """
        return self._ask(image, size)

    def close(self) -> None:
        """End the process."""
        process, self._process, self._channel = self._process, None, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # what it was never sent
                    pipe.close()

    def _ask(self, image: NDArray[np.uint8], size: int | None) -> list[Line]:
        if self._channel is None:
            if time.monotonic() < self._start_at:
                raise EngineAway
            try:
                self._start()
            except EngineDied as error:
                self._back_off(str(error))
                raise EngineAway from error
        assert self._channel is not None
        try:
            self._channel.send({"shape": image.shape, "size": size}, image.tobytes())
            told = self._answer(_READING)
        except Closed as error:
            why = self._ended()
            self._back_off(why)
            raise EngineDied(why) from error
        self._pause = 0.0
        if "failed" in told:
            raise RuntimeError(told["failed"])
        return [
            Line(text, tuple(confidences), cast("tuple[float, float, float, float]", tuple(xyxy)))
            for text, confidences, xyxy in told["lines"]
        ]

    def _start(self) -> None:
        command = [sys.executable, "-m", "pipeline.ocr.child", self._name, str(self._threads)]
        path = os.pathsep.join(filter(None, [os.getcwd() if part == "" else part for part in sys.path]))
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path}
        )
        self._channel = Channel(cast("BinaryIO", self._process.stdout), cast("BinaryIO", self._process.stdin))
        try:
            told = self._answer(_LOADING)
        except Closed:
            raise EngineDied(self._ended()) from None
        if "refused" in told:
            self.close()
            raise UsageError(told["refused"])

    def _answer(self, seconds: float) -> dict[str, Any]:
        """The next answer; the process is ended if it takes too long."""
        assert self._channel is not None
        assert self._process is not None
        timer = threading.Timer(seconds, self._process.kill)
        timer.daemon = True
        timer.start()
        try:
            return self._channel.receive()[0]
        finally:
            timer.cancel()

    def _ended(self) -> str:
        """Clear away a process that is gone; what it ended with, in words."""
        process = self._process
        if process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(1.0)  # one that crashes closes its pipes before it is gone
        self.close()
        code = None if process is None else process.returncode
        if code is not None and code < 0:
            return f"OCR engine {self._name} was ended by {signal.Signals(-code).name}"
        return f"OCR engine {self._name} ended with exit code {code}"

    def _back_off(self, why: str) -> None:
        self._pause = min(max(_FIRST_PAUSE, 2 * self._pause), _LONGEST_PAUSE)
        self._start_at = time.monotonic() + self._pause
        logger.warning("%s; it is started again in %.1f s", why, self._pause)
