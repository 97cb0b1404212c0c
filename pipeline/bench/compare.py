"""Two chains in turns, so that whatever else the machine does touches both."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.bench.chain import run_once
from pipeline.config import Chain
from pipeline.metrics import Percentiles


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two: FPS of each round, and latency and processor use of the last."""

    name: str
    fps: list[float]
    latency: Percentiles
    utilisation: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """What came of it. ratios: FPS of the second over the first, round by round."""

    sides: tuple[Side, Side]
    ratios: list[float]

    @property
    def ratio(self) -> float:
        """Their median."""
        return statistics.median(self.ratios)

    def to_dict(self) -> dict[str, Any]:
        """As plain data, ready for JSON."""
        return {**asdict(self), "ratio": self.ratio}


def compare(
    names: tuple[str, str],
    chains: tuple[Callable[[], Chain], Callable[[], Chain]],
    rounds: int = 3,
    progress: Callable[[str], None] = lambda _: None,
) -> Comparison:
    """Run one and the other, then the other and the one, and so on.

    Args:
        names, chains: what they are called, and what gives each anew.
        rounds: how often; one more before is not counted.
    """
    fps: tuple[list[float], list[float]] = ([], [])
    sides: dict[int, Side] = {}
    for round_ in range(rounds + 1):
        for which in (0, 1) if round_ % 2 else (1, 0):
            progress(f"round {round_} of {rounds}: {names[which]}" if round_ else f"warming up: {names[which]}")
            snapshot, usage = run_once(chains[which])
            if round_:
                fps[which].append(snapshot.fps)
            sides[which] = Side(names[which], fps[which], snapshot.latency, usage.utilisation)
    return Comparison((sides[0], sides[1]), [b / a for a, b in zip(*fps, strict=True)])
