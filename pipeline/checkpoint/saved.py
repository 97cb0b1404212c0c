"""Saved: what an earlier run left in a checkpoint, checked as far as this can be done without the parts of a chain."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pipeline.address import local_path, redacted
from pipeline.checkpoint.progress import Progress
from pipeline.source import SourceInfo


@dataclass(slots=True)
class Known:
    """A source that is followed.

    Attributes:
        wanted: the id that it asked for; it may have got another.
        identity: what tells it from others, and a file from one that took its place; empty until that is known.
        repeats: whether it can be read from its beginning again.
        passing: whether it came while the run went on, so that what is known of it does not stay for ever.
    """

    wanted: str
    progress: Progress
    identity: dict[str, Any]
    repeats: bool = False
    passing: bool = False

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Known:
        """What was saved.

        Raises:
            ValueError, TypeError, KeyError: it is something else.
        """
        wanted, identity, repeats = plain["wanted"], dict(plain["identity"]), plain["repeats"]
        if not (isinstance(wanted, str) and isinstance(repeats, bool)):
            raise TypeError("a source has an id")
        if not all(isinstance(value, str | int | float | None) for value in identity.values()):
            raise TypeError("a source is told from others by plain values")
        return cls(wanted, Progress.of(plain["progress"]), identity, repeats)

    def plain(self) -> dict[str, Any]:
        """The inverse of `of`."""
        told = {"wanted": self.wanted, "identity": self.identity, "repeats": self.repeats}
        return {**told, "progress": self.progress.plain()}

    def copy(self) -> Known:
        """One of its own."""
        return replace(self, progress=self.progress.copy())

    @property
    def place(self) -> object:
        """Where it comes from, as `place` has it; None until that is known."""
        return self.identity.get("uri")

    def tells(self, info: SourceInfo) -> None:
        """It is open, or about to be opened."""
        self.identity, self.repeats = identity(info), info.repeats

    def differs(self, info: SourceInfo) -> tuple[str, Any, Any] | None:
        """What is different about a source, if anything is: the name of it, what it was and what it is."""
        for what, value in identity(info).items():
            if self.identity.get(what, value) != value:
                return what, self.identity[what], value
        return None


@dataclass(frozen=True, slots=True)
class Saved:
    """A checkpoint.

    Attributes:
        number: no other checkpoint has it. every: seconds from one to the next.
        clean: whether no frame followed it. complete: whether the run came to its end.
        chain: names of stages and their options. sources: by id. ended: those that are gone, together.
        names: the ids that are taken. line: where the files were, seconds of media time. outputs: paths that sinks
            wrote, and parts: states of stages and sinks, by their names in the metrics.
    """

    number: int
    every: float
    clean: bool
    complete: bool
    chain: list[tuple[str, dict[str, Any]]]
    sources: dict[str, Known]
    ended: Progress
    names: dict[str, Any]
    line: float
    outputs: dict[str, str]
    parts: dict[str, Any]

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Saved:
        """What was saved.

        Raises:
            ValueError, TypeError, KeyError, AttributeError: it is something else.
        """
        number, every, line = int(plain["number"]), float(plain["every"]), float(plain["line"])
        if not (0 < number < 2**63 and 0 < every < 1e9 and 0 <= line < 1e18):
            raise ValueError("it was saved at no time")
        chain = json.loads(json.dumps(plain["chain"]))  # which arrays are not
        return cls(
            number,
            every,
            bool(plain["clean"]),
            bool(plain["complete"]),
            [(str(name), dict(options)) for name, options in chain],
            {str(name): Known.of(told) for name, told in plain["sources"].items()},
            Progress.of(plain["ended"]),
            dict(plain["names"]),
            line,
            {str(name): str(path) for name, path in plain.get("outputs", {}).items()},
            {str(name): told for name, told in dict(plain["parts"]).items()},
        )


def place(uri: str, live: bool) -> str:
    """Where a source comes from, the same for each way to write it."""
    path = local_path(uri)
    return redacted(uri) if path is None or live else str(path.resolve())


def identity(info: SourceInfo) -> dict[str, Any]:
    """What tells a source from others, and a file from one that took its place."""
    where = {"uri": place(info.uri, info.live)}
    if not info.repeats:
        return where
    return {**where, "width": info.width, "height": info.height, "fps": info.fps, "frame_count": info.frame_count}
