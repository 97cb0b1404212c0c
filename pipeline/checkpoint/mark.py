"""Mark: travels through the chain in line with the frames, and collects what the parts remember there."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from pipeline.checkpoint.progress import Progress
from pipeline.checkpoint.saved import Known

Told = TypeVar("Told")


class Counted(Protocol):
    """A reader's own count."""

    @property
    def dropped(self) -> Counter[str]:
        """Frames that it could not give, by reason."""


class Mark:
    """In line between two frames: collects what the parts of the chain remember there. Any thread may add.

    Args:
        sources: how far each was taken into the line. ended: those that are not known one by one any more, together.
        line: where the files were, seconds of media time.
        clean: whether no frame follows that this run finishes.
        done: called with the mark once it has passed everything; on a thread that must not wait.

    Attributes:
        leaving: the readers of those that are counted among `ended` from here on.
        made: monotonic clock. made_at: wall clock, seconds since the epoch.
    """

    def __init__(
        self,
        sources: dict[str, Known],
        ended: Progress,
        line: float,
        clean: bool,
        done: Callable[[Mark], None],
    ) -> None:
        self.sources, self.ended, self.line, self.clean = sources, ended, line, clean
        self.leaving: list[Counted] = []
        self.made, self.made_at = time.monotonic(), time.time()
        self.parts: dict[str, dict[str, Any]] = {}
        self.failure: Exception | None = None
        self._done = done
        self._lock = threading.Lock()
        self._ends = 1

    def add(self, part: str, state: Callable[[], dict[str, Any]]) -> None:
        """A part of the chain, by its name in the metrics, tells its state."""
        if (told := self.asks(state, None)) is not None:
            with self._lock:
                self.parts[part] = told

    def asks(self, question: Callable[[], Told], otherwise: Told) -> Told:
        """What a part answers. Where it fails, which spoils this checkpoint and nothing else, `otherwise`."""
        try:
            return question()
        except Exception as error:  # a part of somebody else; the run goes on
            self.failure = error
            return otherwise

    def lost(self, source: str, reason: str, count: int) -> None:
        """So many frames of a source were left out before it."""
        with self._lock:
            known = self.sources.get(source)
            (self.ended if known is None else known.progress).lost[reason] += count

    def expect(self, ends: int) -> None:
        """It goes on to so many ends of the chain; `passed` is called at each, and here."""
        with self._lock:
            self._ends += ends
        self.passed()

    def passed(self) -> None:
        """One end of the chain has put down all that came before."""
        with self._lock:
            self._ends -= 1
            complete = self._ends == 0
        if complete:
            for progress in (*(known.progress for known in self.sources.values()), self.ended):
                progress.finished = progress.given - sum(progress.lost.values())
            self._done(self)
