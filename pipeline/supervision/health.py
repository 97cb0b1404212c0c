"""Health: how a run is, in one place: for probes, for the service manager and for people."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pipeline.engine import Pipeline
from pipeline.metrics import Snapshot, SourceSnapshot

HERE = ("live", "reading", "ended")
"""States of sources that nobody has to look after."""


@dataclass(frozen=True, slots=True)
class SourceHealth:
    """A source: its state, since how many seconds, why, and seconds since a frame of it was last finished."""

    id: str
    state: str
    seconds: float
    why: str
    age: float | None


@dataclass(frozen=True, slots=True)
class PartHealth:
    """A stage or sink; see StageSnapshot."""

    name: str
    kind: str
    frames: int
    failed: int
    queue: int
    age: float | None
    present: float | None
    faults: dict[str, int]


@dataclass(frozen=True, slots=True)
class Health:
    """A run at one moment.

    A camera or peer that is away, or a full disk, makes it "degraded", and still healthy: it is tried again, and a
    restart would not help.

    Attributes:
        state: "stuck": a call takes longer than the watchdog allows, or frames wait for so long and nobody takes any.
            "failed": a part ended the run.
        reasons: what is wrong, one line each.
    """

    state: Literal["starting", "running", "degraded", "stuck", "stopping", "ended", "failed"]
    reasons: list[str]
    frames: int
    fps: float
    sources: list[SourceHealth]
    parts: list[PartHealth]

    @property
    def healthy(self) -> bool:
        """Whether it does its work."""
        return self.state in ("running", "degraded")

    @property
    def alive(self) -> bool:
        """Whether it is to be left alone: it works, or begins or ends and is not stuck in that."""
        return self.state not in ("stuck", "failed")

    @property
    def status(self) -> str:
        """One line for `systemctl status`."""
        there = [source for source in self.sources if source.state != "ended"]
        here = sum(source.state in HERE for source in there)
        words = f"{self.state}: {here} of {len(there)} sources, {self.frames} frames, {self.fps:.1f} FPS"
        return "; ".join([words, *self.reasons[:3]])

    def to_dict(self) -> dict[str, Any]:
        """As plain data, ready for JSON."""
        return {"healthy": self.healthy, **asdict(self)}


def examine(pipeline: Pipeline) -> Health:
    """How a pipeline is now. Any thread may ask, also before the run and after it."""
    snapshot, failure, overdue = pipeline.metrics.snapshot(), pipeline.failure, pipeline.overdue
    away = [_away(source) for source in snapshot.sources if source.state not in HERE] + pipeline.troubles
    phase = pipeline.phase
    if failure is not None:
        return _health("failed", [str(failure), *overdue], snapshot)
    if overdue:
        return _health("stuck", [*overdue, *away], snapshot)
    if phase != "running":
        return _health(phase, away, snapshot)
    return _health("degraded" if away else "running", away, snapshot)


def _health(state: Any, reasons: list[str], snapshot: Snapshot) -> Health:
    now = time.time()
    sources = [
        SourceHealth(
            source.id,
            source.state,
            max(0.0, now - source.changes[-1].at),
            source.changes[-1].why,
            source.age,
        )
        for source in snapshot.sources
    ]
    parts = [
        PartHealth(
            *(part.name, part.kind, part.frames, part.failed),
            *(part.queue_now, part.age, part.present, part.faults),
        )
        for part in snapshot.stages
    ]
    return Health(state, reasons, snapshot.frames, snapshot.fps, sources, parts)


def _away(source: SourceSnapshot) -> str:
    why = source.changes[-1].why
    return f"{source.id} is {source.state}" + (f" ({why})" if why else "")
