"""What a machine holds: chains whose speed is known are measured as what they are."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest
from chains import Call, Memory

from pipeline.bench.advice import advice
from pipeline.bench.chain import bench
from pipeline.bench.compare import compare
from pipeline.bench.streams import hold, most
from pipeline.config import Chain
from pipeline.errors import UsageError
from pipeline.stages.detect import Detect
from pipeline.usage import UsageMeter


def sleeping(seconds: float, uri: str = "test:64x64@20") -> Chain:
    """One worker that is free again after so many seconds; the processor has nothing to do."""
    chain = Chain([Memory(count=30)], [Call(function=lambda _: time.sleep(seconds))], [])
    if uri:
        chain.sources[0].uri = uri
    return chain


def test_a_part_that_waits_needs_no_processor_and_bounds_the_chain() -> None:
    result = bench(lambda: sleeping(0.02, ""), rounds=1)
    assert result.bottleneck == "call"
    assert result.alone["call"].fps <= 50
    assert result.cores_fps > result.alone["call"].fps
    assert 0 < result.efficiency <= 1.2
    assert result.possible == pytest.approx(result.efficiency)
    assert result.to_dict()["utilisation"] < 0.9


def test_the_processors_bound_what_they_compute() -> None:
    with UsageMeter() as busy:
        deadline = time.process_time() + 0.3
        while time.process_time() < deadline:
            sum(range(1000))
    assert busy.usage.cpu == pytest.approx(0.3, abs=0.1)
    with UsageMeter() as idle:
        threading.Event().wait(0.2)
    assert idle.usage.utilisation < busy.usage.utilisation


def test_what_others_take_of_the_processors_is_told_apart() -> None:
    hog = "import time\nend = time.monotonic() + 0.5\nwhile time.monotonic() < end: pass"
    with UsageMeter() as meter:
        subprocess.run([sys.executable, "-c", hog], check=True)
    assert meter.usage.others > 0.5 * 0.5 / (meter.usage.seconds * (os.cpu_count() or 1))
    assert meter.usage.cpu < 0.3


def test_one_chain_beside_another() -> None:
    result = compare(("slow", "fast"), (lambda: sleeping(0.02, ""), lambda: sleeping(0.005, "")), rounds=2)
    assert result.ratio > 1
    assert len(result.ratios) == len(result.sides[0].fps) == 2
    assert [side.name for side in result.sides] == ["slow", "fast"]


def test_cameras_that_are_too_many_lose_frames_and_it_is_said() -> None:
    few = hold(lambda: sleeping(0.01), 1, None, latency=0.5, seconds=1)
    assert few.held
    assert few.rate == 20
    assert few.fps <= 21
    many = hold(lambda: sleeping(0.01), 12, None, latency=0.5, seconds=1)
    assert not many.held
    assert "of the frames were lost" in many.reason
    assert sum(many.lost.values()) > 0


def test_latency_counts_as_well() -> None:
    late = hold(lambda: sleeping(0.03), 1, 20, latency=0.01, seconds=1)
    assert not late.held
    assert "p99 latency" in late.reason


def test_the_most_is_found_between_what_is_held_and_what_is_not() -> None:
    """A worker that takes 20 ms a frame serves 50 a second: no more than five cameras of 10."""
    loads = most(lambda: sleeping(0.02), 10, latency=0.5, seconds=1)
    held = {load.streams for load in loads if load.held}
    assert 1 <= max(held) <= 5
    assert min({load.streams for load in loads} - held) == max(held) + 1
    assert most(lambda: sleeping(0.2), None, latency=0.5, seconds=1)[-1].streams == 1


def test_a_source_without_a_rate_needs_one() -> None:
    chain = sleeping(0.001, "tests/nothing.xyz")
    with pytest.raises(UsageError):
        hold(lambda: chain, 1, None, latency=1, seconds=1)


def test_advice_names_what_bounds_the_chain() -> None:
    told = advice("cores", {"detect": 0.03, "track": 0.001}, [Detect()])
    assert "detect 97%" in told[0]
    assert any("--detect-every" in line for line in advice("detect", {"detect": 1.0}, [Detect()]))
    assert "track" in advice("track", {"track": 1.0}, [])[0]
