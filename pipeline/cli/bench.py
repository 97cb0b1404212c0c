"""`framechain bench`: each part alone, then the chain; how many cameras it holds; one chain beside another."""

from __future__ import annotations

import json
import logging
import statistics
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from pipeline import charts
from pipeline.bench import plot as plots
from pipeline.bench.chain import BenchResult
from pipeline.bench.chain import bench as measure
from pipeline.bench.compare import Comparison
from pipeline.bench.compare import compare as in_turns
from pipeline.bench.streams import Load, hold, most
from pipeline.cli.chain import (
    AdaptiveSize,
    Batch,
    ChainFlags,
    Classes,
    Confidence,
    Config,
    Debug,
    Decoding,
    DetectEvery,
    Device,
    Embedder,
    ImageSize,
    IsolateDecode,
    Loop,
    Motion,
    NoEmbed,
    NoText,
    Precision,
    Realtime,
    Runtime,
    TraceFile,
    Tracker,
    Weights,
    Workers,
    played,
)
from pipeline.config import Chain
from pipeline.errors import UsageError
from pipeline.files.output import check_reports
from pipeline.report import latency_line
from pipeline.trace import Trace
from pipeline.usage import Usage

Tell = Callable[[str], None]

_NOISE, _MUCH_NOISE = 0.05, 0.15  # share of the processors' time that others take, from which on it is told


def bench(
    source: Annotated[str, typer.Argument(help="what to measure on")] = "test:1280x720",
    config: Config = None,
    weights: Weights = None,
    embedder: Embedder = None,
    classes: Classes = None,
    confidence: Confidence = None,
    image_size: ImageSize = None,
    tracker: Tracker = None,
    device: Device = None,
    precision: Precision = None,
    runtime: Runtime = None,
    batch: Batch = None,
    workers: Workers = None,
    no_embed: NoEmbed = False,
    no_text: NoText = False,
    detect_every: DetectEvery = None,
    motion: Motion = False,
    decoder: Decoding = None,
    adaptive_size: AdaptiveSize = False,
    isolate_decode: IsolateDecode = False,
    frames: Annotated[int, typer.Option(min=1, help="frames to measure on")] = 100,
    rounds: Annotated[int, typer.Option(min=1, help="how often; medians are reported")] = 3,
    streams: Annotated[
        str | None,
        typer.Option(metavar="N|max", help="run N copies of the source as cameras; max: find how many there may be"),
    ] = None,
    rate: Annotated[
        float | None, typer.Option(min=0.1, help="with --streams: frames a second; if not given: the source's own")
    ] = None,
    latency: Annotated[float, typer.Option(min=0.001, help="with --streams: seconds that p99 must be within")] = 0.5,
    seconds: Annotated[float, typer.Option(min=1, help="with --streams: how long each number is tried")] = 10.0,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(metavar="A.yaml B.yaml", help="run two chains in turns; the other flags are for both"),
    ] = None,
    realtime: Realtime = False,
    loop: Loop = False,
    trace: TraceFile = None,
    plot: Annotated[Path | None, typer.Option(help="draw the figures here: .png, .svg or .pdf")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    debug: Debug = False,
) -> None:
    """Measure each part of a chain alone, then the chain, and name the bottleneck."""
    flags = ChainFlags(
        config,
        weights,
        embedder,
        classes,
        confidence,
        image_size,
        tracker,
        device,
        batch,
        workers,
        no_embed,
        no_text,
        precision,
        runtime,
        detect_every,
        motion,
        decoder,
        adaptive_size,
        isolate_decode,
    )
    check_reports({"--plot": plot, "--trace": trace}, [source])
    charts.check(plot)
    count = _streams(streams)
    if (count is not None) + (compare is not None) + (trace is not None) > 1:
        raise UsageError("--streams, --compare and --trace are three different measurements; give one of them")
    if compare is not None and config is not None:
        raise UsageError("--compare names two chains and --config a third; leave --config out")

    def made(flags: ChainFlags) -> Callable[[], Chain]:
        def chain() -> Chain:
            document = flags.document([source])
            document.set_sources({"max_frames": frames, **played(realtime, loop)})
            for option in ("checkpoint", "resume", "fresh"):
                document.data.pop(option, None)
            return document.build()

        chain()  # mistakes are told before anything is measured
        return chain

    if compare is not None:
        first, second = compare
        chains = made(replace(flags, config=first)), made(replace(flags, config=second))
        with _telling() as tell:
            comparison = in_turns((str(first), str(second)), chains, rounds, tell)
        _give(as_json, comparison.to_dict(), lambda: _show_comparison(comparison))
        if plot is not None:
            plots.plot_comparison(comparison, plot)
    elif count is not None:
        loads = _loads(made(flags), count, rate, latency, seconds)
        held = max((load.streams for load in loads if load.held), default=0)
        plain = {"held": held, "latency_bound": latency, "tried": [load.to_dict() for load in loads]}
        _give(as_json, plain, lambda: _show_loads(loads, held, latency, count))
        if plot is not None:
            plots.plot_streams(loads, latency, plot)
    else:
        traced = Trace() if trace is not None else None
        chain = made(flags)
        with _telling() as tell:
            result = measure(chain, rounds, tell, traced)
        _give(as_json, result.to_dict(), lambda: _show(result))
        if trace is not None and traced is not None:
            traced.write(trace)
        if plot is not None:
            plots.plot_parts(result, plot)


def _streams(text: str | None) -> int | None:
    """How many; 0: as many as it holds."""
    if text is None:
        return None
    if text == "max":
        return 0
    if not text.isdecimal() or not 1 <= int(text) <= 1024:
        raise UsageError(f"--streams {text} is no number of cameras; give 1 to 1024, or max")
    return int(text)


class _Once(logging.Filter):
    """Lets each message pass once: models are loaded for every round."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it is new."""
        message = record.getMessage()
        new = message not in self._seen
        self._seen.add(message)
        return new


@contextmanager
def _telling() -> Iterator[Tell]:
    once, logger = _Once(), logging.getLogger("framechain")
    logger.addFilter(once)
    try:
        with Console(stderr=True).status("measuring") as status:
            yield status.update if sys.stderr.isatty() else (lambda text: print(text, file=sys.stderr))
    finally:
        logger.removeFilter(once)


def _give(as_json: bool, plain: dict[str, Any], show: Callable[[], None]) -> None:
    if as_json:
        print(json.dumps(plain, indent=2))
    else:
        show()


def _loads(chain: Callable[[], Chain], count: int, rate: float | None, latency: float, seconds: float) -> list[Load]:
    with _telling() as tell:
        if count:
            tell(f"{count} cameras")
            return [hold(chain, count, rate, latency, seconds)]
        tell("1 camera")
        return most(chain, rate, latency, seconds, told=lambda load: tell(_about(load)))


def _about(load: Load) -> str:
    cameras = f"{load.streams} camera{'s' * (load.streams > 1)}"
    return f"{cameras}: {'held' if load.held else load.reason}"


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for n, heading in enumerate(headings):
        table.add_column(heading, justify="right" if n else "left")
    return table


def _show(result: BenchResult) -> None:
    console = Console(highlight=False)
    table = _table("alone", "FPS", "ms a frame", "CPU ms")
    for name, part in result.alone.items():
        figures = f"{part.fps:.1f}", f"{1000 / part.fps:.2f}", f"{1000 * part.cpu:.2f}"
        table.add_row(name, *figures, style="bold" if name == result.bottleneck else "")
    console.print(f"{result.frames} frames {result.width}×{result.height} of {result.source}, {result.rounds} rounds")
    console.print(table)
    slowest = min(result.alone, key=lambda name: result.alone[name].fps)
    cores = result.usage.cores
    console.print(
        f"chain {result.chain_fps:.1f} FPS = {result.efficiency:.0%} of its slowest part alone ({slowest})\n"
        f"{cores} cores doing nothing but the parts' work: {result.cores_fps:.1f} FPS; "
        f"the chain reaches {result.possible:.0%} of what is possible\n"
        f"{latency_line(result.latency, result.peak_memory)}\n"
        f"{_busy(result.usage)}",
        soft_wrap=True,
    )
    for sentence in result.advice:
        console.print(f"  {sentence}", markup=False, soft_wrap=True)


def _busy(usage: Usage) -> str:
    gpus = "".join(f", GPU {gpu.index} {gpu.utilisation:.0%} ({gpu.memory >> 20} MiB)" for gpu in usage.gpus)
    others = f", other programs {usage.others:.0%}" if usage.others >= _NOISE else ""
    noise = "; the figures say little, measure on a quiet machine" if usage.others >= _MUCH_NOISE else ""
    return f"processors busy {usage.utilisation:.0%} of {usage.cores} cores{gpus}{others}{noise}"


def _show_loads(loads: list[Load], held: int, latency: float, asked: int) -> None:
    console = Console(highlight=False)
    table = _table("cameras", "FPS each", "FPS together", "p50 ms", "p99 ms", "busy", "")
    table.columns[-1].justify = "left"
    for load in loads:
        times = f"{1000 * load.p50:.0f}", f"{1000 * load.p99:.0f}", f"{load.utilisation:.0%}"
        row = f"{load.streams}", f"{load.rate:g}", f"{load.fps:.1f}", *times, "held" if load.held else load.reason
        table.add_row(*row, style="bold" if load.streams == held else "")
    console.print(table)
    if max(load.others for load in loads) >= _MUCH_NOISE:
        console.print("other programs took much of the processors meanwhile: on a quiet machine it may be more")
    if not asked:
        console.print(
            f"this machine holds {held} such cameras with p99 latency within {1000 * latency:.0f} ms"
            if held
            else "this machine does not hold one such camera; leave out parts of the chain, or give a lower --rate"
        )


def _show_comparison(result: Comparison) -> None:
    console = Console(highlight=False)
    table = _table("chain", "FPS", "lowest", "highest", "p99 ms", "busy")
    for side in result.sides:
        middle = statistics.median(side.fps)
        figures = f"{middle:.1f}", f"{min(side.fps):.1f}", f"{max(side.fps):.1f}"
        table.add_row(side.name, *figures, f"{1000 * side.latency.p99:.0f}", f"{side.utilisation:.0%}")
    console.print(table)
    first, second = (side.name for side in result.sides)
    console.print(
        f"{second} is {result.ratio:.2f} times as fast as {first} "
        f"({min(result.ratios):.2f} to {max(result.ratios):.2f} in {len(result.ratios)} rounds)",
        markup=False,
        soft_wrap=True,
    )
    if min(result.ratios) < 1 < max(result.ratios):
        console.print("the rounds do not agree which is faster; measure more --rounds, or on a quieter machine")
