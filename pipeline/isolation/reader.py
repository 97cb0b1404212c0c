"""The process in which sources are read; `source.py` starts it and talks to it over its pipes."""

from __future__ import annotations

import importlib
import logging
import os
import sys
import threading
import time
from dataclasses import asdict
from queue import SimpleQueue
from typing import Any

from pipeline.address import redacted
from pipeline.errors import AccessDenied, FramechainError, NotThere, Over, UsageError
from pipeline.isolation.child import attach
from pipeline.isolation.messages import Channel, Closed
from pipeline.isolation.slots import SLOTS, Slots
from pipeline.live.work import Work
from pipeline.source import Source

logger = logging.getLogger("framechain")

_TELL = 0.25
"""Seconds between two messages that tell what was dropped, where no frame tells it: it shows that a camera is alive."""


class Reading:
    """Opens, reads and closes sources as it is asked to.

    Args:
        channel: to who asks. slots: where pictures go.
    """

    def __init__(self, channel: Channel, slots: Slots) -> None:
        self._channel = channel
        self._slots = slots
        self._asked: SimpleQueue[dict[str, Any]] = SimpleQueue()
        self._telling = threading.Lock()
        self._source: Source | None = None
        self._before: tuple[object, Source] | None = None  # the last one, and what it was made of
        self._slot = 0
        self._over = True  # nothing more is read of this source
        self._skipping = False
        self._dropped: dict[str, int] = {}  # as told
        self._unwanted = False

    def run(self) -> None:
        """Do what is asked for, until nobody is there any more."""
        for work in (self._listen, self._keep_telling):
            threading.Thread(target=work, daemon=True).start()
        while True:
            asked = self._asked.get()
            try:
                self._do(asked)
            except Exception as error:
                self._over = True
                self.tell({"failed": _described(error)})

    def tell(self, told: dict[str, Any]) -> None:
        """Send a message, with what was dropped so far."""
        with self._telling:
            if self._source is not None:
                self._dropped = dict(self._source.dropped)
                told |= {"dropped": self._dropped, "id": self._source.id}
            try:
                self._channel.send(told)
            except Closed:
                os._exit(0)

    def _do(self, asked: dict[str, Any]) -> None:
        source = self._source
        if "open" in asked:
            logger.setLevel(asked["level"])
            module, name = asked["open"]
            source = self._source = self._new(module, name, asked["options"])
            if self._unwanted:
                source.abandon()
            info = source.open()
            self._over = False
            self.tell({"info": asdict(info)})
        elif source is None:
            self.tell({"closed": True})
        elif "close" in asked:
            source.close()
            self.tell({"closed": True})
            self._source, self._over = None, True
        elif "skip" in asked and not self._over:
            self._skipping = True
            try:
                index, given = asked["skip"]
                source.skip(index, given, lambda: self._unwanted)
            finally:
                self._skipping = False
            self.tell({"skipped": True})
        elif "more" in asked and not self._over:
            self._read(source)

    def _new(self, module: str, name: str, options: dict[str, Any]) -> Source:
        """A source; after another one of the same options it knows what that gave."""
        key, before = (module, name, options), self._before
        made = before[1].anew() if before is not None and before[0] == key else _made(module, name, options)
        self._before = key, made
        return made

    def _read(self, source: Source) -> None:
        work = Work(source)
        frame = source.read()
        worked = time.perf_counter() - work.began()
        if frame is None:
            self._over = True
            self.tell({"end": source.complete})
            return
        self._slots.put(self._slot, frame.image)
        when = [frame.index, frame.timestamp, frame.captured_at, frame.discontinuity]
        self.tell({"frame": when, "slot": self._slot, "shape": frame.image.shape, "worked": worked})
        self._slot = (self._slot + 1) % SLOTS

    def _listen(self) -> None:
        """Thread body: hear what is asked, whatever the source hangs in."""
        while True:
            try:
                asked = self._channel.receive()[0]
            except Closed:
                os._exit(0)  # who asked is gone
            self._unwanted |= "abandon" in asked
            if (source := self._source) is not None and ("abandon" in asked or "close" in asked):
                source.abandon()
            self._asked.put(asked)

    def _keep_telling(self) -> None:
        """Thread body: tell what is dropped where no frame tells it."""
        while True:
            threading.Event().wait(_TELL)
            if self._skipping or ((source := self._source) is not None and dict(source.dropped) != self._dropped):
                self.tell({})


class _Telling(logging.Handler):
    """Passes on what is logged."""

    def __init__(self, reading: Reading) -> None:
        super().__init__()
        self._reading = reading

    def emit(self, record: logging.LogRecord) -> None:
        """Pass on one record."""
        self._reading.tell({"log": [record.levelno, record.getMessage()]})


def _made(module: str, name: str, options: dict[str, Any]) -> Source:
    try:
        kind = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UsageError(
            f"another process cannot read sources of {module}.{name}: {error}; leave isolation out"
        ) from error
    source: Source = kind.model_validate(options)
    return source


def _described(error: Exception) -> tuple[str, str]:
    """An error as its kind and its message, one line and no password."""
    kinds = (AccessDenied, NotThere, Over, UsageError, FramechainError)
    kind = next((kind for kind in kinds if isinstance(error, kind)), None)
    message = str(error) if kind is not None else f"{type(error).__name__}: {error}"
    return (kind or FramechainError).__name__, redacted(" ".join(message.split()))


def main() -> None:
    """Serve who started this process."""
    channel = attach()
    memory, pipe = map(int, sys.argv[1:])
    slots = Slots(memory)
    os.close(memory)
    os.dup2(pipe, 0)
    os.close(pipe)
    reading = Reading(channel, slots)
    logger.addHandler(_Telling(reading))
    logger.propagate = False
    reading.run()


if __name__ == "__main__":
    main()
