"""Roster: who is in a run: its sources, from when they are read until all ends of the chain are done with them."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pipeline.live.supervisor import Supervisor
from pipeline.metrics import ENDED

Part = Literal["reader", "chain"]

_NAMES = 4096
"""Ids that are remembered, each for all that were made from it. From then on a new one ends in a number of its own."""


class Names:
    """Gives ids that do not repeat within a run, however many it gives, and over restarts. Any thread may ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._given = {ENDED: 1}  # how many were made from each: "gate", "gate-2", "gate-3" are three from "gate"
        self._count = 0

    @property
    def used(self) -> bool:
        """Whether one was ever given."""
        return self._count > 0

    def new(self, wanted: str) -> str:
        """An id that no source of the run has or had: the wanted one, with a number where it is taken."""
        with self._lock:
            self._count += 1
            if wanted not in self._given and len(self._given) >= _NAMES:
                while self._taken(name := f"{wanted}-{_NAMES + self._count}"):
                    self._count += 1
                return name
            number = self._given.get(wanted, 0) + 1
            while self._taken(name := wanted if number == 1 else f"{wanted}-{number}"):
                number += 1
            self._given[wanted] = number
            return name

    def _taken(self, name: str) -> bool:
        stem, _, number = name.rpartition("-")
        made = self._given.get(stem, 0) if number.isascii() and number.isdecimal() and len(number) < 10 else 0
        return name in self._given or 2 <= int(number if made else 0) <= made

    def state_dict(self) -> dict[str, Any]:
        """What is taken."""
        with self._lock:
            return {"given": dict(self._given), "count": self._count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Give none of what was taken then.

        Raises:
            ValueError: these are no ids.
        """
        given = {str(stem): int(number) for stem, number in state["given"].items()}
        if not all(0 < number < 2**53 for number in (*given.values(), int(state["count"]) + 1)):
            raise ValueError("ids are numbered from 1")
        with self._lock:
            self._given = {**given, ENDED: max(1, given.get(ENDED, 0))}
            self._count = int(state["count"])


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

    def __len__(self) -> int:
        return len(self._members)

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
