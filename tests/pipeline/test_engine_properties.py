"""Whatever sources and stages do, and whoever comes and goes: order, accounts, no deadlock, a prompt end."""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from chains import Call, Keep, Memory, Stateful
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from peers import until

from pipeline.checkpoint.file import load
from pipeline.checkpoint.saved import Saved
from pipeline.engine import Pipeline
from pipeline.errors import FramechainError
from pipeline.frame import Frame
from pipeline.metrics import ENDED
from pipeline.source import SourceInfo

MILLISECOND = 1e-3
LONGEST = 4  # milliseconds of work on a frame, in any part


@dataclass(frozen=True)
class Camera:
    """How a source behaves: milliseconds a frame, frames that it has, the one it fails on."""

    pace: int
    count: int
    live: bool
    fails_at: int | None
    opens: bool


@dataclass(frozen=True)
class Part:
    """How a stage or sink behaves: milliseconds a frame, one of how many frames it fails on, threads, frames a call."""

    pace: int
    fails: int | None
    workers: int = 1
    batch: int = 1


@dataclass(frozen=True)
class Act:
    """What happens after some milliseconds: a source is added, or one of those there were is removed."""

    after: int
    added: Camera | None
    removed: int


@dataclass(frozen=True)
class Run:
    """A whole run."""

    cameras: list[Camera]
    stages: list[Part]
    sinks: list[Part]
    acts: list[Act]
    policy: str
    queue: int
    end: str
    saved: bool


cameras = st.builds(
    Camera,
    pace=st.integers(0, LONGEST),
    count=st.integers(0, 40),
    live=st.booleans(),
    fails_at=st.none() | st.none() | st.integers(0, 20),
    opens=st.sampled_from([True, True, True, False]),
)
parts = st.builds(
    Part,
    pace=st.integers(0, LONGEST),
    fails=st.none() | st.integers(2, 9),
    workers=st.sampled_from([1, 1, 3]),
    batch=st.sampled_from([1, 1, 4]),
)
runs = st.builds(
    Run,
    cameras=st.lists(cameras, max_size=4),
    stages=st.lists(parts, max_size=3),
    sinks=st.lists(parts, max_size=2),
    acts=st.lists(
        st.builds(Act, after=st.integers(0, 6), added=st.none() | cameras, removed=st.integers(0, 5)), max_size=8
    ),
    policy=st.sampled_from(["end", "skip", "skip", "restart"]),
    queue=st.integers(1, 4),
    end=st.sampled_from(["stop", "stop", "abort", "wait"]),
    saved=st.booleans(),
)


class Unwilling(Memory):
    """Cannot be opened."""

    def open(self) -> SourceInfo:
        raise FramechainError("the camera refuses")


def source(camera: Camera, name: str) -> Memory:
    kind = Memory if camera.opens else Unwilling
    return kind(
        uri=name,
        count=camera.count,
        period=0.04,
        is_live=camera.live,
        fail_at=camera.fails_at,
        gate=lambda: time.sleep(camera.pace * MILLISECOND),
    )


def work(part: Part) -> Callable[[Frame], Any]:
    def at_work(frame: Frame) -> None:
        time.sleep(part.pace * MILLISECOND)
        if part.fails is not None and frame.index % part.fails == part.fails - 1:
            raise ValueError("no")

    return at_work


def stage(part: Part) -> Call:
    if part.workers > 1:
        return Call(function=work(part), workers=part.workers, batch=part.batch)
    return Stateful(function=work(part), batch=part.batch)


def names() -> list[str]:
    """Of all threads."""
    return [thread.name for thread in threading.enumerate()]


wait_for = partial(until, seconds=10)


def perform(pipeline: Pipeline, acts: list[Act], stop: threading.Event) -> None:
    """Add and remove; whatever is refused, is refused with a line."""
    known = [info.id for info in pipeline.infos]
    for number, act in enumerate(acts):
        if stop.wait(act.after * MILLISECOND):
            return
        with contextlib.suppress(FramechainError):
            if act.added is not None:
                known.append(pipeline.add(source(act.added, f"added-{number}")).id)
            elif known:
                pipeline.remove(known[act.removed % len(known)], 0 if act.removed % 2 else 5)
    assert len(set(known)) == len(known)


def made(run: Run, folder: Path, sinks: list[Keep], **options: Any) -> Pipeline:
    """With a checkpoint at every chance, or none at all."""
    saving = {"checkpoint": folder, "checkpoint_every": 1e-3} if run.saved else {}
    return Pipeline(
        [source(camera, f"cam-{number}") for number, camera in enumerate(run.cameras)],
        [stage(part) for part in run.stages],
        sinks,
        keep_going=True,
        on_failure=run.policy,
        queue=run.queue,
        staleness=0.05,
        service=True,
        **saving,
        **options,
    )


@given(runs)
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
def test_order_accounts_no_deadlock_and_a_prompt_end(tmp_path: Path, run: Run) -> None:
    folder = tmp_path / secrets.token_hex(8)
    sinks = [Keep(function=work(part)) for part in run.sinks]
    pipeline = made(run, folder, sinks)
    pipeline.start()
    event(f"{run.policy}, {run.end}")
    done, problems = threading.Event(), []

    def act() -> None:
        try:
            perform(pipeline, run.acts, done)
        except BaseException as error:
            problems.append(error)

    actor = threading.Thread(target=act)
    actor.start()
    if run.end == "wait":  # until nobody is left
        actor.join(10)
        wait_for(lambda: pipeline.stopping or all(one.state == "ended" for one in pipeline.metrics.snapshot().sources))
        pipeline.stop()
    else:
        done.wait(sum(act.after for act in run.acts) * MILLISECOND / 2)
        pipeline.stop() if run.end == "stop" else pipeline.abort()
    asked = time.monotonic()
    done.set()
    assert pipeline.join(10), "deadlock"
    took = time.monotonic() - asked
    actor.join(10)
    assert not actor.is_alive()
    assert not problems

    frames = 4 * (run.queue + 4) * (1 + len(run.stages)) + 40  # that may be inside, each with its work
    work_left = frames * sum(part.pace for part in (*run.stages, *run.sinks)) * MILLISECOND
    assert took <= 1.0 + work_left

    snapshot = pipeline.metrics.snapshot()
    for one in snapshot.sources:
        assert one.in_flight == 0
        assert one.captured == one.finished + sum(one.dropped.values()), one
        assert one.id == ENDED or one.captured <= 40
    assert snapshot.frames == sum(one.finished for one in snapshot.sources)
    for sink in sinks:
        for name in {source for source, _ in sink.seen}:
            indices = [index for source, index in sink.seen if source == name]
            assert indices == sorted(set(indices)), "out of order, or twice"
            assert sink.events.index(f"begin {name}") >= 0
        assert sink.events[-1] == "close"
        began, ended = ({e.split()[1] for e in sink.events if e.startswith(word)} for word in ("begin", "end"))
        assert ended <= began
        if run.end != "abort" and pipeline.failure is None:
            assert ended == began
    wait_for(lambda: not [name for name in names() if name.startswith(("read-", "call-", "stateful-", "sink:"))])
    if run.saved:
        goes_on(run, folder, pipeline, sinks)


def goes_on(run: Run, folder: Path, before: Pipeline, sinks: list[Keep]) -> None:
    """What was saved is about all frames, unless they were dropped at the end; and no frame is given twice."""
    told = load(folder)
    if told is None:
        assert run.end == "abort" or before.failure is not None
        return
    saved = Saved.of(told)
    finished = saved.ended.finished + sum(known.progress.finished for known in saved.sources.values())
    if saved.clean:
        assert finished == before.metrics.snapshot().frames
    assert len(saved.sources) <= len(run.cameras) + len(run.acts)
    assert before.checkpoints["failed"] == 0
    again = Keep()
    pipeline = made(run, folder, [again], resume=True)
    pipeline.start()
    time.sleep(10 * MILLISECOND)
    pipeline.abort()
    assert pipeline.join(10), "deadlock"
    for sink in sinks:
        highest = dict(sorted(sink.seen, key=lambda seen: seen[1]))
        for name, index in again.seen:
            live = name not in saved.sources or not saved.sources[name].repeats
            if name in highest and (saved.clean or live):
                assert index > highest[name]
