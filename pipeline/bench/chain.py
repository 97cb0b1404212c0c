"""How fast each part of a chain is alone, how fast the chain is, and so what chaining costs."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pipeline.bench.advice import advice
from pipeline.config import Chain
from pipeline.errors import UsageError
from pipeline.frame import Frame
from pipeline.inference.choice import available_cores
from pipeline.metrics import Percentiles, Snapshot, unique
from pipeline.sink import Sink
from pipeline.source import Source, SourceInfo
from pipeline.stage import Stage
from pipeline.trace import Trace
from pipeline.usage import Usage, UsageMeter

_WARM_UP = 3
_MEMORY = 1 << 30


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the chain by itself. fps: frames a second. cpu: seconds of processor time a frame, all threads."""

    fps: float
    cpu: float


@dataclass(frozen=True, slots=True)
class BenchResult:
    """What a bench measured; figures are medians of the rounds.

    Attributes:
        source, width, height: what it ran on.
        frames, rounds: how much of it, and how often.
        alone: decoding, each stage and each sink by itself, in the order of the chain.
        chain_fps: FPS of the whole chain in the engine.
        efficiency: chain FPS / FPS of the slowest part alone; median of the rounds' own ratios, because what
            else the machine does in a round touches both.
        cores_fps: FPS at which all cores would do nothing but the parts' own work: cores / processor time a frame.
        possible: chain FPS / the lesser of the slowest part's FPS and `cores_fps`: what the machine allows.
        bottleneck: the slowest part alone, or "cores".
        advice: what would make it faster.
        latency: decoding to last sink in seconds, of the last round.
        usage: of processors and GPUs, of the chain in the last round.
        peak_memory: most resident bytes of the process; None where the system does not tell.
    """

    source: str
    width: int
    height: int
    frames: int
    rounds: int
    alone: dict[str, Part]
    chain_fps: float
    efficiency: float
    cores_fps: float
    possible: float
    bottleneck: str
    advice: list[str]
    latency: Percentiles
    usage: Usage
    peak_memory: int | None

    def to_dict(self) -> dict[str, Any]:
        """As plain data, ready for JSON."""
        return {**asdict(self), "utilisation": self.usage.utilisation}


def bench(
    make_chain: Callable[[], Chain],
    rounds: int = 3,
    progress: Callable[[str], None] = lambda _: None,
    trace: Trace | None = None,
) -> BenchResult:
    """Measure a chain's parts one by one on frames in memory, then the chain itself, several times over.

    Sinks write into a temporary folder, not where the chain says.

    Args:
        make_chain: gives the chain anew; its first source is used and must give a bounded number of frames.
        rounds: how often everything is measured; medians are reported.
        progress: told what is being measured.
        trace: collects the last round of the chain.

    Raises:
        UsageError: the source gives no frames.
        FramechainError: a part failed.
    """
    alone: defaultdict[str, list[Part]] = defaultdict(list)
    chained: list[float] = []
    ratios: list[float] = []
    possible: list[float] = []
    for round_ in range(1, rounds + 1):
        progress(f"round {round_} of {rounds}: each part alone")
        with scratch_outputs(make_chain()) as chain:
            info, frames, parts = _measure_alone(chain)
        for name, part in parts.items():
            alone[name].append(part)
        progress(f"round {round_} of {rounds}: the chain")
        snapshot, usage = run_once(make_chain, trace if round_ == rounds else None)
        chained.append(snapshot.fps)
        slowest = min(part.fps for part in parts.values())
        ratios.append(snapshot.fps / slowest)
        possible.append(snapshot.fps / min(slowest, _cores_fps(parts)))
    medians = {
        name: Part(statistics.median(one.fps for one in found), statistics.median(one.cpu for one in found))
        for name, found in alone.items()
    }
    cores_fps = _cores_fps(medians)
    slowest_name = min(medians, key=lambda name: medians[name].fps)
    bottleneck = slowest_name if medians[slowest_name].fps <= cores_fps else "cores"
    return BenchResult(
        source=info.uri,
        width=info.width,
        height=info.height,
        frames=frames,
        rounds=rounds,
        alone=medians,
        chain_fps=statistics.median(chained),
        efficiency=statistics.median(ratios),
        cores_fps=cores_fps,
        possible=statistics.median(possible),
        bottleneck=bottleneck,
        advice=advice(bottleneck, {name: part.cpu for name, part in medians.items()}, make_chain().stages),
        latency=snapshot.latency,
        usage=usage,
        peak_memory=snapshot.peak_memory,
    )


def run_once(make_chain: Callable[[], Chain], trace: Trace | None = None) -> tuple[Snapshot, Usage]:
    """Run a chain once, its outputs thrown away."""
    with scratch_outputs(make_chain()) as chain:
        pipeline = chain.pipeline(trace=trace)
        pipeline.start()
        with UsageMeter() as meter:
            snapshot = pipeline.wait()
    return snapshot, meter.usage


def _cores_fps(parts: dict[str, Part]) -> float:
    return available_cores() / max(sum(part.cpu for part in parts.values()), 1e-9)


def _measure_alone(chain: Chain) -> tuple[SourceInfo, int, dict[str, Part]]:
    """The source as opened, how many frames it gave, and each part's figures by its metrics name."""
    source = chain.sources[0]
    info = source.open()
    try:
        with UsageMeter() as meter:
            frames = _decode(source)
    finally:
        source.close()
    if not frames:
        raise UsageError(f"{info.uri} gives no frames to measure with; name another source")
    decoding = meter.usage if info.live or info.uri == "-" else _decoding(source, len(frames))
    parts = {"decode": _part(len(frames), decoding)}
    for stage in chain.stages:
        parts[unique(stage.name, parts)] = _part(len(frames), _run_stage(stage, frames))
    for sink in chain.sinks:
        parts[unique(f"sink:{sink.name}", parts)] = _part(len(frames), _run_sink(sink, info, frames))
    return info, len(frames), parts


def _part(frames: int, usage: Usage) -> Part:
    return Part(frames / usage.seconds, usage.cpu / frames)


def _decode(source: Source) -> list[Frame]:
    frames: list[Frame] = []
    room = _MEMORY
    while room > 0 and (frame := source.read()) is not None:
        frames.append(frame)
        room -= frame.image.nbytes
    return frames


def _decoding(source: Source, count: int) -> Usage:
    """Of so many frames that nobody keeps: memory that is touched for the first time may take longer than a frame."""
    source.open()
    try:
        with UsageMeter() as meter:
            for _ in range(count):
                source.read()
    finally:
        source.close()
    return meter.usage


def _run_stage(stage: Stage, frames: list[Frame]) -> Usage:
    with stage:
        batch, workers = stage.dispatch()
        batches = [frames[n : n + batch] for n in range(0, len(frames), batch)]
        with ThreadPoolExecutor(workers) as pool:
            for part in batches[:_WARM_UP]:
                stage.process(part)
            stage.forget(frames[0].source)
            with UsageMeter() as meter:
                for _ in pool.map(stage.process, batches):
                    pass
    return meter.usage


def _run_sink(sink: Sink, info: SourceInfo, frames: list[Frame]) -> Usage:
    sink.open()
    try:
        with UsageMeter() as meter:
            sink.begin(info)
            for frame in frames:
                sink.write(frame)
            sink.end(info.id)
    finally:
        sink.close()
    return meter.usage


@contextmanager
def scratch_outputs(chain: Chain) -> Iterator[Chain]:
    """The chain with its sinks writing into a temporary folder that goes afterwards."""
    with TemporaryDirectory(prefix="framechain-bench-") as folder:
        for n, sink in enumerate(chain.sinks):
            if path := getattr(sink, "path", None):
                sink.path = type(path)(Path(folder) / f"{n}-{Path(path).name}")  # type: ignore[attr-defined]
        yield chain
