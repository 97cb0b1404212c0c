"""Small real parts that tests build chains from: a source in memory, stages and sinks that do one thing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
from pydantic import PrivateAttr

from pipeline.frame import Frame
from pipeline.sink import Sink
from pipeline.source import Source, SourceInfo
from pipeline.stage import Stage

IMAGE = np.zeros((8, 8, 3), np.uint8)


class Memory(Source):
    """Gives `count` frames at `period` seconds; fails before frame `fail_at`; waits for `gate` before each."""

    name = "memory"
    uri: str = "memory"
    count: int = 10
    period: float = 0.1
    fail_at: int | None = None
    is_live: bool = False
    gate: Callable[[], Any] | None = None

    _next: int = PrivateAttr(0)
    closed: ClassVar[list[str]] = []

    @classmethod
    def matches(cls, uri: str) -> bool:
        return False

    def open(self) -> SourceInfo:
        self._next = 0
        return SourceInfo(self.id or self.uri, self.uri, 8, 8, 1 / self.period, self.count, live=self.is_live)

    def read(self) -> Frame | None:
        if self.gate is not None:
            self.gate()
        if self._next == self.fail_at:
            raise OSError("the cable is out")
        if self._next >= self.count:
            return None
        self._next += 1
        return Frame(IMAGE, index=self._next - 1, timestamp=(self._next - 1) * self.period)


class Call(Stage):
    """Calls a function on every frame."""

    name = "call"
    stateless = True
    function: Callable[[Frame], Any] = lambda frame: None

    _opened: int = PrivateAttr(0)
    _closed: int = PrivateAttr(0)
    _forgotten: list[str] = PrivateAttr(default_factory=list)

    def open(self) -> None:
        self._opened += 1

    def process(self, frames: Sequence[Frame]) -> None:
        for frame in frames:
            self.function(frame)

    def forget(self, source: str) -> None:
        self._forgotten.append(source)

    def close(self) -> None:
        self._closed += 1


class Stateful(Call):
    """The same, but its frames must come in order and from one thread."""

    name = "stateful"
    stateless = False


class Keep(Sink):
    """Keeps what it was told."""

    name = "keep"
    function: Callable[[Frame], Any] = lambda frame: None

    _seen: list[tuple[str, int]] = PrivateAttr(default_factory=list)
    _events: list[str] = PrivateAttr(default_factory=list)
    _threads: set[int] = PrivateAttr(default_factory=set)

    @property
    def seen(self) -> list[tuple[str, int]]:
        return self._seen

    @property
    def events(self) -> list[str]:
        return self._events

    def open(self) -> None:
        self._events.append("open")

    def begin(self, source: SourceInfo) -> None:
        self._events.append(f"begin {source.id}")

    def write(self, frame: Frame) -> None:
        self._threads.add(threading.get_ident())
        self.function(frame)
        self._seen.append((frame.source, frame.index))

    def end(self, source: str) -> None:
        self._events.append(f"end {source}")

    def close(self) -> None:
        self._events.append("close")
