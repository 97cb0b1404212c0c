"""What the engine and its metrics cost: no-op stages chained, microseconds per frame and stage.

    python -m benchmarks.engine [--frames 5000] [--json]

The same frames go through chains of 1, 2, 4 and 8 stages that do nothing; the slope of time over length is the cost
of one more stage. A plain loop that calls the same stages is timed beside it in the same run, and so is what metrics
do for a frame and stage; they cannot be turned off, and are part of the engine's figure.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence

import numpy as np
from pydantic import PrivateAttr

from pipeline import Frame, Pipeline, Source, SourceInfo, Stage
from pipeline.metrics import StageMetrics

LENGTHS = (1, 2, 4, 8)
IMAGE = np.zeros((64, 64, 3), np.uint8)


class Frames(Source):
    """Frames out of thin air."""

    name = "frames"
    count: int
    _next: int = PrivateAttr(0)

    @classmethod
    def matches(cls, uri: str) -> bool:
        """Never asked for by uri."""
        return False

    def open(self) -> SourceInfo:
        """Nothing to open."""
        return SourceInfo("frames", "frames", 64, 64, 25.0, self.count)

    def read(self) -> Frame | None:
        """The next frame."""
        if self._next >= self.count:
            return None
        self._next += 1
        return Frame(IMAGE, index=self._next - 1, timestamp=self._next / 25)


class Noop(Stage):
    """Does nothing."""

    name = "noop"

    def process(self, frames: Sequence[Frame]) -> None:
        """Nothing."""


def engine_seconds(length: int, count: int) -> float:
    """Seconds the engine takes for `count` frames through `length` stages."""
    return Pipeline([Frames(uri="frames", count=count)], [Noop() for _ in range(length)]).run().elapsed


def loop_seconds(length: int, count: int) -> float:
    """Seconds a plain loop takes for the same."""
    source, stages = Frames(uri="frames", count=count), [Noop() for _ in range(length)]
    start = time.perf_counter()
    while (frame := source.read()) is not None:
        for stage in stages:
            stage.process([frame])
    return time.perf_counter() - start


def metrics_seconds(count: int) -> float:
    """Seconds that a stage's metrics take for `count` frames, as a worker calls them."""
    metrics = StageMetrics("noop", "stage", 1)
    start = time.perf_counter()
    for _ in range(count):
        metrics.waited([time.perf_counter() - start], 0)
        with metrics.timing(1):
            pass
    return time.perf_counter() - start


def measure(count: int, rounds: int) -> dict[str, float]:
    """Median microseconds per frame and stage, engine and loop taking turns."""
    slopes: dict[str, list[float]] = {"engine": [], "loop": [], "metrics": []}
    for _ in range(rounds):
        for name, seconds in (("engine", engine_seconds), ("loop", loop_seconds)):
            times = [seconds(length, count) for length in LENGTHS]
            slope, _ = np.polyfit(LENGTHS, times, 1)
            slopes[name].append(1e6 * float(slope) / count)
        slopes["metrics"].append(1e6 * metrics_seconds(count) / count)
    return {name: round(statistics.median(values), 1) for name, values in slopes.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--frames", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    result = measure(arguments.frames, arguments.rounds)
    if arguments.json:
        print(json.dumps(result))
    else:
        print(
            f"engine: {result['engine']} µs per frame and stage, {result['metrics']} of them metrics "
            f"(a plain loop: {result['loop']} µs)"
        )


if __name__ == "__main__":
    main()
