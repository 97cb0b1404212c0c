"""The Sink contract, the registry of sinks, and where per-source outputs go."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from pydantic import PrivateAttr

from pipeline.component import Component
from pipeline.frame import Frame
from pipeline.source import SourceInfo
from trackers.registry import Registry


class StopRun(Exception):
    """Raised by a sink's `write` to end the run cleanly: the person at the window pressed q."""


class Sink(Component, ABC):
    """Where results go. One instance is called by one thread, frames of a source in order.

    Life: `open`, then for each source `begin`, `write` per frame, `end`; then `close`. `close` is called
    after a failure too and leaves every file valid.
    """

    requires: ClassVar[frozenset[str]] = frozenset()
    """Fields of Frame that it reads and that a stage must set, as for stages."""

    per_source: ClassVar[bool] = False
    """True where each source needs a file of its own: `{source}` in the path is then replaced by the source's id."""

    _dropped: Counter[str] = PrivateAttr(default_factory=Counter)

    @property
    def dropped(self) -> Counter[str]:
        """Frames that it took and that are not in its output, by reason: "disk full", "refused" ..."""
        return self._dropped

    @property
    def pending(self) -> int:
        """Frames that it took, and keeps safe, and that have not reached their peer yet."""
        return 0

    @property
    def trouble(self) -> str:
        """What it waits for while nothing gets to its output, in words; "" while all is well. Any thread may ask."""
        return ""

    def open(self) -> None:
        """Check that the output can be written, before any model is loaded.

        Raises:
            UsageError: it cannot be written there.
        """

    def begin(self, source: SourceInfo) -> None:
        """A source starts."""

    @abstractmethod
    def write(self, frame: Frame) -> None:
        """Take one frame. Neither the frame nor its arrays may be changed."""

    def state_dict(self) -> dict[str, Any]:
        """Put on disk what was taken so far, and tell where it ends, in plain values and NumPy arrays.

        Called between two frames, by the thread that calls `write`.
        """
        return {}

    def put_down(self) -> Callable[[], bool]:
        """For what cannot be on disk yet when `state_dict` is called: a question whether all of that is there by now.

        Asked after each frame that is taken later, by the same thread; the state counts once it is answered by yes, or
        the sink is closed. Only what can be read again need be waited for: sources that repeat.
        """
        return lambda: True

    def forget(self, source: str) -> None:
        """A source of the earlier run is not among those of this one, and does not come back: its output is complete.

        Called before `load_state_dict`.
        """

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned, perhaps in another process. Called once it is open, before `begin`.

        Sources that are not live are gone on with after the last frame that was taken then: what was written later is
        written again. Tuples may have become lists.

        Raises:
            ValueError: it cannot go on there.
        """

    def end(self, source: str) -> None:
        """A source ended: finish its output."""

    def abort(self) -> None:
        """The run is cut short: `close` shall leave every file valid, and no more. Any thread may call it."""

    def close(self) -> None:
        """Finish everything."""


sinks: Registry[Sink] = Registry("sink", Sink, "pipeline.sinks", "framechain.sinks")  # type: ignore[type-abstract]
