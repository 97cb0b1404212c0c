"""Metrics against exact quantiles, and their three forms."""

from __future__ import annotations

import json
import math
import re
import time
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from chains import Call, Keep, Memory
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from pipeline import reasons
from pipeline.engine import Pipeline
from pipeline.frame import Frame
from pipeline.metrics import Histogram, Snapshot, StageMetrics
from pipeline.report import prometheus, tables


@given(st.lists(st.floats(2e-6, 100.0), min_size=1, max_size=300), st.sampled_from([0.5, 0.95, 0.99]))
def test_quantiles_are_within_a_bucket_of_the_exact_ones(times: list[float], q: float) -> None:
    histogram = Histogram()
    for value in times:
        histogram.add(value)
    exact = float(np.quantile(times, q, method="inverted_cdf"))
    assert histogram.quantile(q) == pytest.approx(exact, rel=0.045)
    assert histogram.summary().mean == pytest.approx(float(np.mean(times)))
    assert histogram.max == max(times)


@given(st.lists(st.floats(1e-4, 100.0), max_size=100))
def test_cumulative_counts_are_exact(times: list[float]) -> None:
    histogram = Histogram()
    for value in times:
        histogram.add(value)
    for limit, count in histogram.cumulative():
        assert sum(value < 0.999 * limit for value in times) <= count <= sum(value < 1.001 * limit for value in times)


def test_a_histogram_takes_anything() -> None:
    histogram = Histogram()
    for value in (0.0, -1e-9, 1e-12, 1e9):
        histogram.add(value)
    assert histogram.count == 4
    assert math.isfinite(histogram.quantile(0.99))
    assert Histogram().quantile(0.5) == 0.0


def test_stage_figures_follow_from_the_calls() -> None:
    stage = StageMetrics("detect", "stage", workers=2)
    stage.waited([0.1, 0.2], depth=3)
    stage.served(0.4, frames=4)
    stage.served(0.4, frames=3, failed=1)
    figures = stage.snapshot(elapsed=1.0)
    assert (figures.frames, figures.failed, figures.batch_max, figures.batch_mean) == (7, 1, 4, 4.0)
    assert figures.busy == pytest.approx(0.4), "0.8 s of work by two workers in 1 s"
    assert figures.fps_alone == pytest.approx(17.5)
    assert (figures.queue_now, figures.queue_max) == (3, 5)


def printed(snapshot: Snapshot) -> str:
    console = Console(width=160, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(tables(snapshot))
    return console.export_text()


def test_a_snapshot_is_json_a_table_and_prometheus_text() -> None:
    snapshot = Pipeline([Memory(uri='a"b\\', count=30)], [Call(batch=4)], [Keep()]).run()
    figures = json.loads(json.dumps(snapshot.to_dict()))
    assert figures["frames"] == 30
    assert [stage["name"] for stage in figures["stages"]] == ["decode", "call", "sink:keep"]
    assert 0 < figures["efficiency"] <= 1

    text = printed(snapshot)
    assert "call" in text
    assert "30 frames in" in text

    sample = re.compile(r'^[a-z_]+(\{([a-z]+="(\\.|[^"\\])*",?)+\})? [-+.0-9e]+$')
    lines = prometheus(snapshot).splitlines()
    assert 'framechain_frame_latency_seconds_bucket{le="+Inf"} 30' in lines
    assert "framechain_frame_latency_seconds_count 30" in lines
    assert all(line.startswith("# ") or sample.match(line) for line in lines)
    assert 'framechain_source_finished_total{source="a\\"b\\\\"} 30' in lines
    names = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(names) == len(set(names)), "each family is announced once"


class Slow(Memory):
    """A camera that is waited for 20 ms a frame; reading one is next to no work."""

    live: ClassVar[bool] = True
    tells: bool = True

    def read(self) -> Frame | None:
        asked = time.perf_counter()
        time.sleep(0.02)
        self._waited += time.perf_counter() - asked
        return super().read()

    @property
    def waited(self) -> float | None:
        return self._waited if self.tells else None


@pytest.mark.parametrize("tells", [True, False])
def test_waiting_for_a_camera_is_no_work_and_the_slowest_part_is_named(tells: bool) -> None:
    def run(work: float) -> Snapshot:
        camera = Slow(count=10, is_live=True, tells=tells)
        return Pipeline([camera], [Call(function=lambda frame: time.sleep(work))], staleness=60).run()

    idle = run(0.005)
    assert (idle.slowest, idle.bottleneck) == ("call", "camera")
    assert "the camera's own rate (the slowest part, call, is busy" in printed(idle)
    slow = run(0.06)
    assert (slow.slowest, slow.bottleneck) == ("call", "call")
    assert "(bottleneck: call)" in printed(slow)


def test_every_reason_is_in_the_docs() -> None:
    page = (Path(__file__).parents[2] / "docs/metrics.md").read_text()
    for reason in (*reasons.OF_SOURCES, *reasons.OF_SINKS, reasons.failed("NAME")):
        assert f"| `{reason}` |" in page


def test_what_a_sink_could_not_write_is_in_all_forms() -> None:
    sink = Keep()
    sink.dropped.update({"disk full": 3})
    snapshot = Pipeline([Memory(count=5)], [], [sink]).run()
    (figures,) = (stage for stage in snapshot.stages if stage.kind == "sink")
    assert (figures.dropped, figures.pending) == ({"disk full": 3}, 0)
    assert "sink:keep: 3 frames are not in its output (disk full 3)" in printed(snapshot)
    assert 'framechain_sink_dropped_total{sink="sink:keep",reason="disk full"} 3' in prometheus(snapshot)
    assert 'framechain_sink_pending_frames{sink="sink:keep"} 0' in prometheus(snapshot)
