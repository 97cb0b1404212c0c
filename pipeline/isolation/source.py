"""IsolatedSource: a source that is read in a process of its own, so that a crash of its decoder ends nothing else."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, ClassVar

from pydantic import PrivateAttr
from pydantic_core import PydanticSerializationError
from typing_extensions import Self

from pipeline.address import redacted
from pipeline.errors import AccessDenied, FramechainError, NotThere, Over, UsageError
from pipeline.frame import Frame
from pipeline.isolation.child import Child
from pipeline.isolation.messages import Closed
from pipeline.isolation.slots import SLOTS, Slots, reserve
from pipeline.source import Patience, Source, SourceInfo

logger = logging.getLogger("framechain")

_ENDING = 0.5
"""Seconds that a process gets to say goodbye to its camera before it is killed; nobody waits longer for a reader."""

_ERRORS = {kind.__name__: kind for kind in (FramechainError, UsageError, AccessDenied, NotThere, Over)}


class ReadingChild(Child):
    """A process that reads sources, one after the other.

    Args:
        pixels: most of a picture.
    """

    def __init__(self, pixels: int) -> None:
        memory, pipe = reserve(pixels), _standard_input()
        try:
            self.slots = Slots(memory)
            super().__init__("pipeline.isolation.reader", str(memory), str(pipe), inherits=(memory, pipe))
        finally:
            os.close(memory)
            os.close(pipe)

    def close(self) -> None:
        """End the process at once."""
        super().close()
        self.slots.close()


class Spare:
    """At most one process that has nothing to do, kept for the next attempt. Any thread may ask.

    To start one takes 0.4 s of processor time: too much for a camera that is away and tried each second.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: ReadingChild | None = None
        self._over = False

    def take(self, pixels: int) -> ReadingChild:
        """The one that is kept, or a new one."""
        with self._lock:
            child, self._child = self._child, None
        return child or ReadingChild(pixels)

    def keep(self, child: ReadingChild) -> None:
        """Nobody needs this one now."""
        with self._lock:
            if self._child is None and not self._over:
                self._child = child
                return
        child.close()

    def close(self) -> None:
        """Keep none any more."""
        with self._lock:
            self._over = True
            child, self._child = self._child, None
        if child is not None:
            child.close()


class IsolatedSource(Source):
    """Tells what another source tells, which is opened, decoded and converted in another process.

    Pictures come over shared memory, and each is copied once on either side. The other process reads ahead by as many
    as there are slots; what it had read before it died is still given. One that hangs is killed once it is abandoned.
    """

    name: ClassVar[str] = "isolated"

    _source: Source = PrivateAttr()
    _spare: Spare | None = PrivateAttr(None)
    _child: ReadingChild | None = PrivateAttr(None)
    _live: bool = PrivateAttr(False)
    _owed: int = PrivateAttr(0)  # pictures that were asked for and have not come
    _last: int = PrivateAttr(-1)  # index of the last one that came
    _over: bool = PrivateAttr(False)  # nothing more will come
    _complete: bool = PrivateAttr(True)

    @classmethod
    def of(cls, source: Source, spare: Spare | None = None) -> Self:
        """Another way to read `source`, which is not opened; a process that is not needed any more goes to `spare`."""
        isolated = cls(uri=redacted(source.uri), id=source.id)
        isolated._source, isolated._spare = source, spare
        return isolated

    @classmethod
    def matches(cls, uri: str) -> bool:
        """No uri by itself."""
        return False

    def open(self) -> SourceInfo:
        """Have it opened.

        Raises:
            UsageError, FramechainError: what the source raises, or its process died.
            UsageError: this kind of source cannot be read by another process, or none can here.
        """
        self.close()
        if os.name != "posix":
            raise UsageError("isolation: process needs Linux or macOS; leave it out")
        kind, options = type(self._source), self._options()
        most = self._source.max_pixels
        try:
            self._child = ReadingChild(most) if self._spare is None else self._spare.take(most)
        except OSError as error:
            raise FramechainError(
                f"no process can be started to read '{self.uri}' ({error.strerror}); raise its limits (ulimit)"
            ) from error
        if self._abandoned.is_set():
            self.abandon()
        place = [kind.__module__, kind.__qualname__]
        self._ask({"open": place, "options": options, "level": logger.getEffectiveLevel()})
        try:
            told = self._answer("info")
        except FramechainError:
            self.close()
            raise
        self._owed, self._last, self._over, self._complete = 0, -1, False, True
        info = SourceInfo(**told["info"])
        self._live = info.live
        return info

    def skip(self, index: int, given: int, stopping: Callable[[], bool]) -> None:
        """As `Source.skip`, in the other process."""
        self._ask({"skip": [index, given]})
        while "skipped" not in self._told():
            if stopping():
                self.abandon()
                return
        self._last = index

    def read(self) -> Frame | None:
        """The next frame, or None at the end.

        Raises:
            FramechainError: what the source raises, or its process died.
        """
        if self._over or self._abandoned.is_set():
            return None
        start = time.perf_counter()
        try:
            while self._owed < SLOTS:
                self._ask({"more": True})
                self._owed += 1
            told = self._answer("frame", "end")
        except _Died:
            if self._abandoned.is_set():
                return None
            raise
        if "end" in told:
            self._over, self._complete = True, told["end"]
            return None
        assert self._child is not None
        image = self._child.slots.take(told["slot"], told["shape"])
        self._ask({"more": True})
        self._last, timestamp, captured_at, broken = told["frame"]
        # less than nothing where it was read ahead: the work was done while nobody asked
        self._waited += time.perf_counter() - start - told["worked"]
        return Frame(image, self.id, self._last, timestamp, captured_at, discontinuity=broken)

    def abandon(self) -> None:
        """Nobody wants more of it: its process ends soon, whatever it hangs in."""
        super().abandon()
        if (child := self._child) is not None:
            child.end_in(_ENDING)
            with contextlib.suppress(Closed):
                child.channel.send({"abandon": True})

    def close(self) -> None:
        """Have it closed. The process is kept, or ended if nobody keeps it, or it takes too long."""
        child = self._child
        if child is None:
            return
        well = True
        try:
            with child.within(_ENDING):
                child.channel.send({"close": True})
                while "closed" not in child.channel.receive()[0]:
                    continue  # what it had read ahead
        except Closed:
            well = False
        self._child, self._over = None, True
        # asked last: once there is no child here, nobody tells it that it is abandoned
        if self._spare is None or not well or self._abandoned.is_set():
            child.close()
        else:
            self._spare.keep(child)

    @property
    def waited(self) -> float:
        """For the other process, other than while it worked."""
        return self._waited

    @property
    def patience(self) -> Patience:
        """That of the source."""
        return self._source.patience

    @property
    def complete(self) -> bool:
        """As the source says."""
        return self._complete

    @property
    def process(self) -> int | None:
        """The number of the process; None while there is none."""
        return None if self._child is None else self._child.id

    def anew(self) -> Self:
        """Another one with the same options, not opened."""
        return self.of(self._source.anew(), self._spare)

    def _options(self) -> dict[str, Any]:
        try:
            return {**self._source.model_dump(mode="json"), "isolation": "none"}
        except PydanticSerializationError as error:
            raise UsageError(
                f"a source '{self._source.name}' has options that are no plain data, so that no other process can read "
                "it; leave isolation out"
            ) from error

    def _ask(self, asked: dict[str, Any]) -> None:
        if self._child is None:
            raise FramechainError(f"source '{self._source.name}' is read before it is opened; call open() first")
        with contextlib.suppress(Closed):  # what it told before that is still to be heard
            self._child.channel.send(asked)

    def _answer(self, *kinds: str) -> dict[str, Any]:
        """The next message of one of these kinds."""
        while True:
            told = self._told()
            if any(kind in told for kind in kinds):
                return told

    def _told(self) -> dict[str, Any]:
        """The next message, what it tells by the way noted.

        Raises:
            FramechainError: it tells of one.
            _Died: there will be none.
        """
        assert self._child is not None
        try:
            told = self._child.channel.receive()[0]
        except Closed:
            raise self._died() from None
        if "log" in told:
            level, text = told["log"]
            logger.log(level, "%s", text)
        if "id" in told:
            self.id = told["id"]
        if "dropped" in told:
            self._dropped = Counter(told["dropped"])
        if "failed" in told:
            self._over = True
            kind, message = told["failed"]
            raise _ERRORS[kind](message)
        return told

    def _died(self) -> _Died:
        child, self._child, self._over = self._child, None, True
        assert child is not None
        # of a camera that is not the index that the frame has in the run
        where = "" if self._live or self._last < 0 else f" after frame {self._last}"
        return _Died(f"the decoder of '{self.id or self.uri}' {child.ended()}{where}")


class _Died(FramechainError):
    """The other process ended, or was ended."""


def _standard_input() -> int:
    """What the process gets as its standard input: that of this one, which may be the source."""
    try:
        return os.dup(0)
    except OSError:
        return os.open(os.devnull, os.O_RDONLY)
