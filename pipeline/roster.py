"""Roster: who is in a run: its sources, from when they are read until all ends of the chain are done with them."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Literal

from pipeline.live.supervisor import Supervisor
from pipeline.metrics import ENDED, unique

Part = Literal["reader", "chain"]

_NAMES = 4096
"""Ids that are remembered one by one. From then on each new one ends in a number that no other has."""


@dataclass(slots=True, eq=False)
class Member:
    """A source of the run.

    Attributes:
        begun: whether it is in the line.
        passing: it came or leaves while the run goes on, so that its account does not stay for ever.
        held: by whom it is not let go of yet.
        out: set once it has left, or the run is over.
    """

    name: str
    supervisor: Supervisor
    begun: bool
    passing: bool = False
    thread: threading.Thread = field(default_factory=threading.Thread)
    held: set[Part] = field(default_factory=lambda: {"reader", "chain"})
    out: threading.Event = field(default_factory=threading.Event)


class Roster:
    """The sources of a run by their ids. Any thread may ask and tell."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._members: dict[str, Member] = {}
        self._used = {ENDED}
        self._count = 0

    def __len__(self) -> int:
        return len(self._members)

    @property
    def used(self) -> bool:
        """Whether there ever was a source."""
        return self._count > 0

    def name(self, wanted: str) -> str:
        """An id that no source of the run has or had: the wanted one, with a number where it is taken."""
        with self._lock:
            self._count += 1
            if len(self._used) < _NAMES:
                name = unique(wanted, self._used)
                self._used.add(name)
                return name
            while (name := f"{wanted}-{_NAMES + self._count}") in self._used:
                self._count += 1
            return name

    def enter(self, member: Member) -> None:
        """A source is in the run."""
        with self._lock:
            self._members[member.name] = member

    def get(self, name: str) -> Member | None:
        """The source of that id, as long as it is in the run."""
        with self._lock:
            return self._members.get(name)

    def members(self) -> list[Member]:
        """All that are in the run."""
        with self._lock:
            return list(self._members.values())

    def names(self) -> list[str]:
        """Their ids."""
        return [member.name for member in self.members()]

    def released(self, member: Member, part: Part) -> bool:
        """Somebody lets go of a source. Returns whether it leaves with that."""
        with self._lock:
            member.held.discard(part)
            if not member.begun:  # nothing of it is in the chain, or will be
                member.held.discard("chain")
            return not member.held and self._members.pop(member.name, None) is not None
