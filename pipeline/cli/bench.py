"""`framechain bench`: each part alone, then the chain; efficiency and bottleneck."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from pipeline.bench import BenchResult
from pipeline.bench import bench as measure
from pipeline.cli.chain import (
    Batch,
    ChainFlags,
    Classes,
    Confidence,
    Config,
    Debug,
    Device,
    Embedder,
    ImageSize,
    NoEmbed,
    NoText,
    Tracker,
    Weights,
    Workers,
)
from pipeline.config import Chain
from pipeline.report import latency_line


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
    batch: Batch = None,
    workers: Workers = None,
    no_embed: NoEmbed = False,
    no_text: NoText = False,
    frames: Annotated[int, typer.Option(min=1, help="frames to measure on")] = 100,
    rounds: Annotated[int, typer.Option(min=1, help="how often; medians are reported")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    debug: Debug = False,
) -> None:
    """Measure each part of a chain alone, then the chain, and name the bottleneck."""
    flags = ChainFlags(
        config, weights, embedder, classes, confidence, image_size, tracker, device, batch, workers, no_embed, no_text
    )

    def chain() -> Chain:
        document = flags.document([source])
        document.set_sources({"max_frames": frames})
        return document.build()

    with Console(stderr=True).status("measuring") as status:
        tell = status.update if sys.stderr.isatty() else (lambda text: print(text, file=sys.stderr))
        result = measure(chain, rounds, tell)
    if as_json:
        print(json.dumps(result.to_dict(), indent=2))
    else:
        _show(result)


def _show(result: BenchResult) -> None:
    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("alone")
    table.add_column("FPS", justify="right")
    table.add_column("ms a frame", justify="right")
    for name, fps in result.alone.items():
        table.add_row(name, f"{fps:.1f}", f"{1000 / fps:.2f}", style="bold" if name == result.bottleneck else "")
    console.print(f"{result.frames} frames {result.width}×{result.height} of {result.source}, {result.rounds} rounds")
    console.print(table)
    console.print(
        f"chain {result.chain_fps:.1f} FPS = {result.efficiency:.0%} of its slowest part alone ({result.bottleneck})\n"
        f"{latency_line(result.latency, result.peak_memory)}"
    )
