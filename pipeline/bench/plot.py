"""A bench as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline import charts
from pipeline.bench.chain import BenchResult
from pipeline.bench.compare import Comparison
from pipeline.bench.streams import Load

_BLUE, _ORANGE, _GREY = "#3366aa", "#dd7722", "#999999"


def plot_parts(result: BenchResult, path: Path) -> None:
    """Milliseconds a frame of each part alone and of the chain, and the chain's latency."""
    figure, (left, right) = _figure(2, (11, 0.4 * len(result.alone) + 2.2))
    names = [*result.alone, "chain"]
    times = [1000 / part.fps for part in result.alone.values()] + [1000 / result.chain_fps]
    colours = [_ORANGE if name == result.bottleneck else _BLUE for name in result.alone] + [_GREY]
    bars = left.barh(names, times, color=colours)
    left.bar_label(bars, fmt=" %.1f")
    left.invert_yaxis()
    left.set_xlabel("ms a frame, alone")
    title = (
        f"{result.chain_fps:.1f} FPS, {result.efficiency:.0%} of the slowest part, {result.possible:.0%} of possible"
    )
    left.set_title(title, fontsize=10)
    latency = {"p50": result.latency.p50, "p95": result.latency.p95, "p99": result.latency.p99}
    bars = right.bar(list(latency), [1000 * seconds for seconds in latency.values()], color=_BLUE)
    right.bar_label(bars, fmt="%.0f")
    right.set_ylabel("ms from decoding to the last sink")
    right.set_title("latency", fontsize=10)
    charts.save(figure, path)


def plot_streams(loads: Sequence[Load], latency: float, path: Path) -> None:
    """Latency and processor use against the number of cameras."""
    figure, (left, right) = _figure(2, (11, 4))
    ordered = sorted(loads, key=lambda load: load.streams)
    streams = [load.streams for load in ordered]
    left.plot(streams, [1000 * load.p99 for load in ordered], "o-", color=_BLUE, label="p99")
    left.plot(streams, [1000 * load.p50 for load in ordered], "o-", color=_GREY, label="p50")
    left.axhline(1000 * latency, color=_ORANGE, linestyle="--", label="bound")
    left.set_xlabel(f"cameras of {ordered[0].rate:g} FPS")
    left.set_ylabel("latency, ms")
    left.legend()
    right.plot(streams, [100 * load.shown for load in ordered], "o-", color=_BLUE, label="frames through the chain")
    right.plot(streams, [100 * load.utilisation for load in ordered], "o-", color=_GREY, label="processors busy")
    right.set_xlabel(f"cameras of {ordered[0].rate:g} FPS")
    right.set_ylabel("%")
    right.set_ylim(0, 105)
    right.legend()
    charts.save(figure, path)


def plot_comparison(result: Comparison, path: Path) -> None:
    """FPS of both chains, round by round."""
    figure, (axes,) = _figure(1, (7, 4))
    for side, colour in zip(result.sides, (_GREY, _BLUE), strict=True):
        rounds = range(1, len(side.fps) + 1)
        axes.plot(rounds, side.fps, "o-", color=colour, label=side.name)
    axes.set_xticks(list(range(1, len(result.ratios) + 1)))
    axes.set_xlabel("round")
    axes.set_ylabel("FPS")
    axes.set_ylim(bottom=0)
    axes.set_title(f"{result.ratio:.2f} times as fast", fontsize=10)
    axes.legend()
    charts.save(figure, path)


def _figure(panels: int, size: tuple[float, float]) -> tuple[Any, Sequence[Any]]:
    figure = charts.figure(*size)
    axes = figure.subplots(1, panels, squeeze=False)[0]
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
    return figure, list(axes)
