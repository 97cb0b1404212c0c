"""Progress: how far a source was followed, and where it is gone on with."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from pipeline.frame import Frame


@dataclass(slots=True)
class Progress:
    """How far a source was followed.

    Attributes:
        index, timestamp: of the last frame that the chain was given; index -1 if there was none.
        seen_at: wall clock then, seconds since the epoch.
        given: frames that the chain was given. finished: those that reached its end.
        lost: frames that it was given and that did not. unread: frames that the reader could not give.
        ended: whether there is nothing more of it.
        joined: of a file that joined others in their midst: where those were then, seconds of media time.
    """

    index: int = -1
    timestamp: float = 0.0
    seen_at: float = 0.0
    given: int = 0
    finished: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    unread: Counter[str] = field(default_factory=Counter)
    ended: bool = False
    joined: float = 0.0

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Progress:
        """What was saved.

        Raises:
            ValueError, TypeError, KeyError: it is something else.
        """
        lost, unread = ({str(k): _count(n) for k, n in plain[part].items()} for part in ("lost", "unread"))
        timestamp, seen_at, joined = (float(plain[time]) for time in ("timestamp", "seen_at", "joined"))
        if not all(map(math.isfinite, (timestamp, seen_at, joined))):
            raise ValueError("no frame has such a time")
        counts = _count(plain["given"]), _count(plain["finished"])
        index, ended = _count(plain["index"] + 1) - 1, bool(plain["ended"])
        return cls(index, timestamp, seen_at, *counts, Counter(lost), Counter(unread), ended, joined)

    def copy(self) -> Progress:
        """One of its own."""
        return replace(self, lost=self.lost.copy(), unread=self.unread.copy())

    def add(self, other: Progress) -> None:
        """Sum up what was counted."""
        self.given += other.given
        self.finished += other.finished
        self.lost.update(other.lost)
        self.unread.update(other.unread)

    def plain(self) -> dict[str, Any]:
        """The inverse of `of`."""
        # asdict makes something else of a Counter, up to Python 3.11
        told = {column.name: getattr(self, column.name) for column in fields(self)}
        return {**told, "lost": dict(self.lost), "unread": dict(self.unread)}


@dataclass(frozen=True, slots=True)
class Onward:
    """Where a source is gone on with.

    Attributes:
        index, timestamp: of the last frame before, index -1 if none is known. given: frames before.
        lead, later: of one that cannot be read from its beginning again: what is added to its indices (above 0) and
            timestamps; 0 where frames are to be passed over instead.
    """

    index: int
    timestamp: float
    given: int
    lead: int = 0
    later: float = 0.0

    def shift(self, frame: Frame) -> None:
        """Number a frame of a camera, and time it, as if the camera had never been away."""
        frame.index += self.lead
        frame.timestamp += self.later
        frame.discontinuity |= frame.index == self.lead


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**53:
        raise ValueError(f"{value!r:.40} is no count")
    return value
