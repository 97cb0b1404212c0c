"""An OCR engine in a process of its own, so that a crash in its native code takes nothing else with it."""

from __future__ import annotations

import logging
import time
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UsageError
from pipeline.isolation.child import Child
from pipeline.isolation.messages import Closed
from pipeline.ocr.engine import Line

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
        self._child: Child | None = None
        self._start()

    @property
    def process(self) -> int | None:
        """The id of the process; None while there is none."""
        return None if self._child is None else self._child.id

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
        child, self._child = self._child, None
        if child is not None:
            child.close()

    def _ask(self, image: NDArray[np.uint8], size: int | None) -> list[Line]:
        if self._child is None:
            if time.monotonic() < self._start_at:
                raise EngineAway
            try:
                self._start()
            except EngineDied as error:
                self._back_off(str(error))
                raise EngineAway from error
        assert self._child is not None
        try:
            self._child.channel.send({"shape": image.shape, "size": size}, image.tobytes())
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
        self._child = Child("pipeline.ocr.child", self._name, str(self._threads))
        try:
            told = self._answer(_LOADING)
        except Closed:
            raise EngineDied(self._ended()) from None
        if "refused" in told:
            self.close()
            raise UsageError(told["refused"])

    def _answer(self, seconds: float) -> dict[str, Any]:
        """The next answer; the process is ended if it takes too long."""
        assert self._child is not None
        with self._child.within(seconds):
            return self._child.channel.receive()[0]

    def _ended(self) -> str:
        """Clear away a process that is gone; what it ended with, in words."""
        child, self._child = self._child, None
        assert child is not None
        return f"OCR engine {self._name} {child.ended()}"

    def _back_off(self, why: str) -> None:
        self._pause = min(max(_FIRST_PAUSE, 2 * self._pause), _LONGEST_PAUSE)
        self._start_at = time.monotonic() + self._pause
        logger.warning("%s; it is started again in %.1f s", why, self._pause)
