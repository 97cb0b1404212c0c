"""Bench: how fast each part of a chain is alone, how fast the chain is, and so what chaining costs."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pipeline.config import Chain
from pipeline.errors import UsageError
from pipeline.frame import Frame
from pipeline.metrics import Percentiles, unique
from pipeline.sink import Sink
from pipeline.source import Source, SourceInfo
from pipeline.stage import Stage

_WARM_UP = 3
_MEMORY = 1 << 30


@dataclass(frozen=True, slots=True)
class BenchResult:
    """What a bench measured.

    Attributes:
        source, width, height: what it ran on.
        frames, rounds: how much of it, and how often.
        alone: FPS of decoding, each stage and each sink by itself, in the order of the chain; medians.
        chain_fps: FPS of the whole chain in the engine; median.
        efficiency: chain FPS / FPS of the slowest part alone; median of the rounds' own ratios, because what
            else the machine does in a round touches both.
        bottleneck: the slowest part alone.
        latency: decoding to last sink in seconds, of the last round.
        peak_memory: most resident bytes of the process; None where the system does not tell.
    """

    source: str
    width: int
    height: int
    frames: int
    rounds: int
    alone: dict[str, float]
    chain_fps: float
    efficiency: float
    bottleneck: str
    latency: Percentiles
    peak_memory: int | None

    def to_dict(self) -> dict[str, Any]:
        """As plain data, ready for JSON."""
        return asdict(self)


def bench(
    make_chain: Callable[[], Chain], rounds: int = 3, progress: Callable[[str], None] = lambda _: None
) -> BenchResult:
    """Measure a chain's parts one by one on frames in memory, then the chain itself, several times over.

    Sinks write into a temporary folder, not where the chain says.

    Args:
        make_chain: gives the chain anew; its first source is used and must give a bounded number of frames.
        rounds: how often everything is measured; medians are reported.
        progress: told what is being measured.

    Raises:
        UsageError: the source gives no frames.
        FramechainError: a part failed.
    """
    alone: defaultdict[str, list[float]] = defaultdict(list)
    chained: list[float] = []
    ratios: list[float] = []
    for round_ in range(1, rounds + 1):
        progress(f"round {round_} of {rounds}: each part alone")
        with _scratch_outputs(make_chain()) as chain:
            info, frames, fps = _measure_alone(chain)
        for name, value in fps.items():
            alone[name].append(value)
        progress(f"round {round_} of {rounds}: the chain")
        with _scratch_outputs(make_chain()) as chain:
            snapshot = chain.pipeline().run()
        chained.append(snapshot.fps)
        ratios.append(snapshot.fps / min(fps.values()))
    medians = {name: statistics.median(values) for name, values in alone.items()}
    return BenchResult(
        source=info.uri,
        width=info.width,
        height=info.height,
        frames=frames,
        rounds=rounds,
        alone=medians,
        chain_fps=statistics.median(chained),
        efficiency=statistics.median(ratios),
        bottleneck=min(medians, key=lambda name: medians[name]),
        latency=snapshot.latency,
        peak_memory=snapshot.peak_memory,
    )


def _measure_alone(chain: Chain) -> tuple[SourceInfo, int, dict[str, float]]:
    """The source as opened, how many frames it gave, and each part's FPS by its metrics name."""
    source = chain.sources[0]
    info = source.open()
    try:
        frames, seconds = _decode(source)
    finally:
        source.close()
    if not frames:
        raise UsageError(f"{info.uri} gives no frames to measure with; name another source")
    fps = {"decode": len(frames) / seconds}
    for stage in chain.stages:
        fps[unique(stage.name, fps)] = len(frames) / _run_stage(stage, frames)
    for sink in chain.sinks:
        fps[unique(f"sink:{sink.name}", fps)] = len(frames) / _run_sink(sink, info, frames)
    return info, len(frames), fps


def _decode(source: Source) -> tuple[list[Frame], float]:
    """Frames in memory, and the seconds that reading them took."""
    frames: list[Frame] = []
    room = _MEMORY
    start = time.perf_counter()
    while room > 0 and (frame := source.read()) is not None:
        frames.append(frame)
        room -= frame.image.nbytes
    return frames, time.perf_counter() - start


def _run_stage(stage: Stage, frames: list[Frame]) -> float:
    batches = [frames[n : n + stage.batch] for n in range(0, len(frames), stage.batch)]
    with stage, ThreadPoolExecutor(stage.workers) as pool:
        for batch in batches[:_WARM_UP]:
            stage.process(batch)
        stage.forget(frames[0].source)
        start = time.perf_counter()
        for _ in pool.map(stage.process, batches):
            pass
        return time.perf_counter() - start


def _run_sink(sink: Sink, info: SourceInfo, frames: list[Frame]) -> float:
    sink.open()
    try:
        start = time.perf_counter()
        sink.begin(info)
        for frame in frames:
            sink.write(frame)
        sink.end(info.id)
        return time.perf_counter() - start
    finally:
        sink.close()


@contextmanager
def _scratch_outputs(chain: Chain) -> Iterator[Chain]:
    with TemporaryDirectory(prefix="framechain-bench-") as folder:
        for n, sink in enumerate(chain.sinks):
            if path := getattr(sink, "path", None):
                sink.path = type(path)(Path(folder) / f"{n}-{Path(path).name}")  # type: ignore[attr-defined]
        yield chain
