"""Reports: a snapshot of the metrics as a table, as JSON and for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group
from rich.table import Table
from rich.text import Text as Line

from pipeline.address import in_a_line
from pipeline.metrics import CAMERA, Percentiles, Snapshot, SourceSnapshot, StageSnapshot


def tables(snapshot: Snapshot) -> Group:
    """What a person wants to know at the end of a run, for a rich console."""
    outputs = [Line(line) for stage in snapshot.stages if (line := _not_out(stage))]
    return Group(_stage_table(snapshot), "", _source_table(snapshot.sources), *outputs, _summary(snapshot))


def _not_out(sink: StageSnapshot) -> str:
    """What did not get out of a sink, or went wrong in a stage, in words; empty where nothing did."""
    lost = ", ".join(f"{reason} {count:,}" for reason, count in sorted(sink.dropped.items()) if count)
    parts = [f"{sum(sink.dropped.values()):,} frames are not in its output ({lost})"] if lost else []
    parts += [f"{sink.pending:,} wait for the next run"] if sink.pending else []
    parts += [f"{kind} {count:,}" for kind, count in sorted(sink.faults.items()) if count]
    return f"{sink.name}: {', '.join(parts)}" if parts else ""


def _stage_table(snapshot: Snapshot) -> Table:
    """Narrow enough for a terminal of 80 columns; a column for failures appears when there are any."""
    failures = any(stage.failed for stage in snapshot.stages)
    table = _table("alone: FPS if it never waited; service: ms of the call; wait: ms in its queue")
    for heading in (
        "frames",
        *(["failed"] if failures else []),
        "alone",
        "busy",
        "service",
        "p95",
        "p99",
        "wait",
        "p95",
    ):
        table.add_column(heading, justify="right")
    table.add_column("batch", justify="right")
    table.add_column("queue", justify="right")
    for stage in snapshot.stages:
        times = (stage.service.p50, stage.service.p95, stage.service.p99, stage.waiting.p50, stage.waiting.p95)
        table.add_row(
            stage.name + (f" ×{stage.workers}" if stage.workers > 1 else ""),
            str(stage.frames),
            *([str(stage.failed)] if failures else []),
            f"{stage.fps_alone:.0f}" if stage.fps_alone >= 100 else f"{stage.fps_alone:.1f}",
            f"{stage.busy:.0%}",
            *(f"{1000 * seconds:.1f}" for seconds in times),
            f"{stage.batch_mean:.1f}",
            str(stage.queue_max),
            style="bold" if stage.name == snapshot.slowest else "",
        )
    return table


def _table(title: str) -> Table:
    table = Table(title=title or None, title_justify="left", title_style="dim", box=None, padding=(0, 1, 0, 0))
    table.header_style = "bold"
    table.add_column("", no_wrap=True)
    return table


def _source_table(sources: list[SourceSnapshot]) -> Table:
    table = _table("")
    for heading in ("in", "out", "dropped"):
        table.add_column(heading, justify="right")
    table.add_column("why")
    tended = any(source.connections > 1 for source in sources)
    if tended:
        table.add_column("connected", justify="right")
    for source in sources:
        why = ", ".join(f"{reason} {count}" for reason, count in sorted(source.dropped.items()) if count)
        counts = f"{source.captured:,}", f"{source.finished:,}", str(sum(source.dropped.values()))
        table.add_row(in_a_line(source.id), *counts, why, *([f"{source.connections}×"] if tended else []))
    return table


def _summary(snapshot: Snapshot) -> Line:
    slowest, share = snapshot.slowest, f"{snapshot.efficiency:.0%}"
    bound = f"efficiency {share}" + (f" (bottleneck: {slowest})" if slowest else "")
    if snapshot.bottleneck == CAMERA:
        bound = f"the camera's own rate (the slowest part, {slowest}, is busy {share} of the time)"
    return Line(
        f"\n{snapshot.frames:,} frames in {snapshot.elapsed:.1f} s: {snapshot.fps:.1f} FPS, {bound}\n"
        f"{latency_line(snapshot.latency, snapshot.peak_memory)}"
    )


def latency_line(latency: Percentiles, peak_memory: int | None) -> str:
    """Percentiles of the latency, and the peak memory in bytes where it is known, in words."""
    memory = f", peak memory {peak_memory / 2**20:,.0f} MiB" if peak_memory else ""
    return (
        f"latency ms p50 {1000 * latency.p50:.0f}, p95 {1000 * latency.p95:.0f}, p99 {1000 * latency.p99:.0f}{memory}"
    )


def prometheus(snapshot: Snapshot) -> str:
    """The snapshot in Prometheus' text exposition format."""
    return "".join(f"{line}\n" for line in _exposition(snapshot))


def _exposition(snapshot: Snapshot) -> Iterator[str]:
    def family(name: str, kind: str, help_text: str, samples: list[tuple[str, float]]) -> Iterator[str]:
        yield f"# HELP framechain_{name} {help_text}"
        yield f"# TYPE framechain_{name} {kind}"
        for labels, value in samples:
            yield f"framechain_{name}{labels} {value:.10g}"

    def each(value_of: str) -> list[tuple[str, float]]:
        return [(_labels(stage=stage.name, kind=stage.kind), float(getattr(stage, value_of))) for stage in stages]

    stages, sources = snapshot.stages, snapshot.sources
    yield from family("frames_total", "counter", "Frames through the whole chain.", [("", snapshot.frames)])
    yield from family("fps", "gauge", "Frames per second through the whole chain.", [("", snapshot.fps)])
    yield from family("efficiency", "gauge", "Chain FPS over its slowest part's FPS.", [("", snapshot.efficiency)])
    yield from family("latency_seconds", "gauge", "Decoding to last sink.", list(_quantiles(snapshot.latency)))
    within = [("_bucket" + _labels(le=f"{limit:.3g}"), float(count)) for limit, count in snapshot.latency_within]
    within += [("_bucket" + _labels(le="+Inf"), snapshot.frames), ("_sum", snapshot.latency_total)]
    within += [("_count", snapshot.frames)]
    yield from family("frame_latency_seconds", "histogram", "Decoding to last sink, of every frame.", within)
    if snapshot.peak_memory is not None:
        peak = [("", float(snapshot.peak_memory))]
        yield from family("peak_memory_bytes", "gauge", "Most resident memory of the process.", peak)
    yield from family("stage_frames_total", "counter", "Frames a stage finished.", each("frames"))
    yield from family("stage_failures_total", "counter", "Frames a stage failed on.", each("failed"))
    yield from family("stage_busy_ratio", "gauge", "Share of the run a stage worked.", each("busy"))
    yield from family("stage_queue_frames", "gauge", "Frames waiting for a stage.", each("queue_now"))
    lost = [
        (_labels(sink=stage.name, reason=reason), float(count))
        for stage in stages
        for reason, count in stage.dropped.items()
    ]
    yield from family("sink_dropped_total", "counter", "Frames a sink took that are not in its output.", lost)
    faults = [
        (_labels(stage=stage.name, kind=stage.kind, fault=fault), float(count))
        for stage in stages
        for fault, count in stage.faults.items()
    ]
    yield from family("stage_faults_total", "counter", "What went wrong in a stage or sink besides frames.", faults)
    pending = [(_labels(sink=stage.name), float(stage.pending)) for stage in stages if stage.kind == "sink"]
    yield from family("sink_pending_frames", "gauge", "Frames that wait for a sink's peer.", pending)
    for name, help_text in (("service", "Duration of the call that carried a frame."), ("waiting", "Time in queue.")):
        samples = [sample for stage in stages for sample in _stage_quantiles(stage, name)]
        yield from family(f"stage_{name}_seconds", "gauge", help_text, samples)
    captured = [(_labels(source=source.id), float(source.captured)) for source in sources]
    yield from family("source_captured_total", "counter", "Frames a source captured.", captured)
    finished = [(_labels(source=source.id), float(source.finished)) for source in sources]
    yield from family("source_finished_total", "counter", "Frames of a source through the chain.", finished)
    dropped = [
        (_labels(source=source.id, reason=reason), float(count))
        for source in sources
        for reason, count in source.dropped.items()
    ]
    states = [(_labels(source=source.id, state=source.state), 1.0) for source in sources]
    yield from family("source_state", "gauge", "State that a source is in.", states)
    opened = [(_labels(source=source.id), float(source.connections)) for source in sources]
    yield from family("source_connections_total", "counter", "Times a source was opened and gave a frame.", opened)
    yield from family("source_dropped_total", "counter", "Frames of a source not processed, by reason.", dropped)


def _stage_quantiles(stage: StageSnapshot, which: str) -> Iterator[tuple[str, float]]:
    yield from _quantiles(getattr(stage, which), stage=stage.name, kind=stage.kind)


def _quantiles(times: Percentiles, **labels: str) -> Iterator[tuple[str, float]]:
    for quantile, value in (("0.5", times.p50), ("0.95", times.p95), ("0.99", times.p99)):
        yield _labels(**labels, quantile=quantile), value


def _labels(**labels: str) -> str:
    def escaped(value: str) -> str:
        return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

    return "{" + ",".join(f'{name}="{escaped(value)}"' for name, value in labels.items()) + "}"
