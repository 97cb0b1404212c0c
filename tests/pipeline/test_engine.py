"""The engine: order, determinism, shutdown, failures, accounts."""

from __future__ import annotations

import itertools
import random
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

import pytest
from chains import Call, Keep, Memory, Stateful
from peers import until

from pipeline.engine import Pipeline
from pipeline.errors import FramechainError, StageError, UsageError
from pipeline.frame import Frame
from pipeline.metrics import Snapshot
from pipeline.sink import StopRun
from pipeline.source import SourceInfo, open_source
from pipeline.stage import Dispatch


def balanced(snapshot: Snapshot) -> bool:
    """Every captured frame is accounted for."""
    return all(s.captured == s.finished + s.in_flight + sum(s.dropped.values()) for s in snapshot.sources)


def no_threads_left() -> bool:
    names = {thread.name for thread in threading.enumerate()}
    return not any(name.startswith(("read-", "sink:", "call", "stateful")) for name in names)


def test_every_frame_reaches_every_sink_in_order() -> None:
    first, second = Keep(), Keep()
    snapshot = Pipeline([Memory(count=50)], [Call(), Stateful()], [first, second]).run()
    assert first.seen == second.seen == [("memory", n) for n in range(50)]
    assert first.events == ["open", "begin memory", "end memory", "close"]
    assert snapshot.frames == 50
    assert snapshot.sources[0].finished == 50
    assert no_threads_left()


@pytest.mark.parametrize(("workers", "batch"), [(1, 1), (1, 8), (4, 1), (4, 8)])
def test_files_are_merged_by_media_time_the_same_way_every_time(workers: int, batch: int) -> None:
    def uneven(frame: Frame) -> None:
        time.sleep(random.random() * 0.001)

    sources = [Memory(uri="a", count=40, period=0.1), Memory(uri="b", count=30, period=0.13)]
    sink = Keep()
    Pipeline(sources, [Call(workers=workers, batch=batch, function=uneven), Stateful(batch=batch)], [sink]).run()
    expected = sorted(
        [(n * 0.1, 0, "a", n) for n in range(40)] + [(n * 0.13, 1, "b", n) for n in range(30)],
    )
    assert sink.seen == [(source, n) for _, _, source, n in expected]


def test_a_stage_is_opened_and_closed_once_and_forgets_each_source() -> None:
    stage = Call(workers=3)
    Pipeline([Memory(uri="a"), Memory(uri="b")], [stage]).run()
    assert (stage._opened, stage._closed, sorted(stage._forgotten)) == (1, 1, ["a", "b"])


def test_a_stage_is_told_the_sizes_that_come_before_it_is_given_a_frame() -> None:
    told: list[tuple[int, int] | str] = []

    class Watched(Call):
        def expect(self, width: int, height: int) -> None:
            told.append((width, height))

    stage = Watched(function=lambda frame: told.append(f"{frame.source} {frame.index}"))
    Pipeline(["test:64x48,frames=1", "test:64x48,frames=1", "test:80x64,frames=1"], [stage]).run()
    assert told[:2] == [(64, 48), (80, 64)]
    assert sorted(told[2:]) == ["test 0", "test-2 0", "test-3 0"]


def test_equal_ids_are_made_unique() -> None:
    sink = Keep()
    pipeline = Pipeline([Memory(uri="cam"), Memory(uri="cam")], sinks=[sink])
    pipeline.run()
    assert [info.id for info in pipeline.infos] == ["cam", "cam-2"]
    assert {source for source, _ in sink.seen} == {"cam", "cam-2"}


def test_a_failing_stage_ends_the_run_with_one_line_and_what_came_before_is_kept() -> None:
    def fail(frame: Frame) -> None:
        if frame.index == 7:
            raise ValueError("bad\npixel")

    for workers, batch in ((1, 1), (1, 4), (3, 4)):
        sink = Keep()
        pipeline = Pipeline([Memory(count=1000)], [Call(function=fail, workers=workers, batch=batch)], [sink])
        with pytest.raises(StageError, match=r"^call failed on frame 7 of memory: ValueError: bad pixel$") as caught:
            pipeline.run()
        assert (caught.value.stage, caught.value.source, caught.value.index) == ("call", "memory", 7)
        assert sink.seen == [("memory", n) for n in range(7)]
        assert sink.events[-2:] == ["end memory", "close"] or sink.events[-1] == "close"
        assert balanced(pipeline.metrics.snapshot())
        assert no_threads_left()


def test_a_failing_sink_ends_the_run_and_the_others_are_closed() -> None:
    def fail(frame: Frame) -> None:
        if frame.index == 5:
            raise OSError("disk full")

    broken, sound = Keep(function=fail), Keep()
    with pytest.raises(StageError, match="sink:keep failed on frame 5 of memory: OSError: disk full"):
        Pipeline([Memory(count=1000)], [Call()], [broken, sound]).run()
    assert broken.events[-1] == sound.events[-1] == "close"
    assert sound.seen[:6] == [("memory", n) for n in range(6)]


def test_keep_going_counts_and_skips(caplog: pytest.LogCaptureFixture) -> None:
    def fail(frame: Frame) -> None:
        if frame.index % 10 == 3:
            raise ValueError("no")

    sink = Keep()
    snapshot = Pipeline([Memory(count=100)], [Call(function=fail, batch=8)], [sink], keep_going=True).run()
    assert [index for _, index in sink.seen] == [n for n in range(100) if n % 10 != 3]
    assert snapshot.sources[0].dropped == {"call failed": 10}
    assert balanced(snapshot)
    assert len(caplog.records) == 1, "the first failure is logged, the rest are counted"


def test_a_source_that_does_not_open_is_left_out_with_keep_going(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    missing, sink = str(tmp_path / "missing.mp4"), Keep()
    with pytest.raises(UsageError, match=r"missing\.mp4"):
        Pipeline([missing, Memory(count=5)], sinks=[Keep()]).run()
    Pipeline([missing, Memory(count=5), missing], sinks=[sink], keep_going=True).run()
    assert len(sink.seen) == 5
    assert caplog.text.count("the other sources go on") == 2
    with pytest.raises(UsageError, match=r"missing\.mp4"):
        Pipeline([missing, missing], sinks=[Keep()], keep_going=True).run()


@pytest.mark.parametrize("end", [SystemExit, KeyboardInterrupt, BaseException])
def test_a_stage_or_sink_that_would_end_its_thread_ends_the_run_or_is_counted(end: type[BaseException]) -> None:
    def leave(frame: Frame) -> None:
        if frame.index == 10:
            raise end("no more")

    for stages, sinks in (([Call(function=leave)], [Keep()]), ([Call()], [Keep(function=leave)])):
        with pytest.raises(StageError, match=f"failed on frame 10 of .*: {end.__name__}: no more"):
            Pipeline([Memory(count=100)], stages, sinks).run()
    skipped = Pipeline([Memory(count=100)], [Call(function=leave)], [Keep()], on_failure="skip").run()
    assert (skipped.frames, skipped.sources[0].dropped) == (99, {"call failed": 1})


def test_a_source_that_breaks_ends_the_run_but_not_with_keep_going() -> None:
    with pytest.raises(StageError, match="reading failed on frame 4 of b: OSError: the cable is out"):
        Pipeline([Memory(uri="a", count=1000), Memory(uri="b", fail_at=4)]).run()
    sink = Keep()
    snapshot = Pipeline([Memory(uri="a", count=30), Memory(uri="b", fail_at=4)], sinks=[sink], keep_going=True).run()
    assert [source.changes[-1].why for source in snapshot.sources] == ["", "the cable is out"], "the report tells why"
    assert [n for source, n in sink.seen if source == "a"] == list(range(30))
    assert [n for source, n in sink.seen if source == "b"] == list(range(4))


def test_stop_finishes_the_frames_inside() -> None:
    sink = Keep()
    pipeline = Pipeline([Memory(count=10**9)], [Call()], [sink])
    pipeline.start()
    while pipeline.metrics.snapshot().frames < 20:
        time.sleep(0.001)
    pipeline.stop()
    snapshot = pipeline.wait(timeout=10)
    assert snapshot.sources[0].in_flight == 0
    assert not snapshot.sources[0].dropped
    assert sink.seen == [("memory", n) for n in range(snapshot.frames)]
    assert sink.events[-1] == "close"


def test_abort_drops_and_counts_what_is_inside() -> None:
    entered, release = threading.Event(), threading.Event()
    pipeline = Pipeline([Memory(count=10**9)], [Call(function=lambda frame: (entered.set(), release.wait(10)))])
    pipeline.start()
    assert entered.wait(5)
    pipeline.abort()
    release.set()
    snapshot = pipeline.wait(timeout=10)
    assert snapshot.sources[0].dropped["aborted"] >= 1
    assert balanced(snapshot)
    assert no_threads_left()


def test_a_sink_may_end_the_run() -> None:
    def quit_at_five(frame: Frame) -> None:
        if frame.index == 5:
            raise StopRun

    pipeline = Pipeline([Memory(count=10**9)], [Call()], [Keep(function=quit_at_five)])
    pipeline.start()
    pipeline.wait(timeout=10)


def test_iterating_gives_the_finished_frames_and_may_be_left_early() -> None:
    assert [frame.index for frame in Pipeline([Memory(count=20)], [Call()])] == list(range(20))
    for frame in Pipeline([Memory(count=10**9)], [Call()]):
        if frame.index == 10:
            break
    deadline = time.monotonic() + 10
    while not no_threads_left() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert no_threads_left()


def test_a_loop_that_comes_to_its_end_leaves_sinks_what_they_still_have(tmp_path: Path) -> None:
    sink = Keep(function=lambda _: time.sleep(0.02))
    pipeline = Pipeline([Memory()], [Call()], [sink], queue=8, checkpoint=tmp_path)
    assert [frame.index for frame in pipeline] == list(range(10))
    assert [index for _, index in sink.seen] == list(range(10))
    assert sink.events[-2:] == ["end memory", "close"]
    assert not pipeline.metrics.snapshot().sources[0].dropped
    assert Pipeline([Memory()], [Call()], checkpoint=tmp_path).run().frames == 10, "the checkpoint is one of its end"


def test_iterating_raises_what_failed() -> None:
    def fail(frame: Frame) -> None:
        if frame.index == 3:
            raise ValueError("no")

    frames = iter(Pipeline([Memory(count=20)], [Call(function=fail)]))
    assert [next(frames).index for _ in range(3)] == [0, 1, 2]
    with pytest.raises(StageError):
        next(frames)


def test_a_live_source_drops_old_frames_and_counts_them_while_the_stage_is_slow() -> None:
    release = threading.Event()
    sink = Keep()
    pipeline = Pipeline(
        [Memory(count=200, is_live=True)], [Call(function=lambda frame: release.wait(10))], [sink], staleness=60
    )
    pipeline.start()
    while pipeline.metrics.snapshot().sources[0].captured < 200:
        time.sleep(0.001)
    release.set()
    snapshot = pipeline.wait(timeout=10)
    dropped = snapshot.sources[0].dropped["queue full"]
    assert dropped > 150
    assert snapshot.sources[0].finished == 200 - dropped
    assert [index for _, index in sink.seen][-2:] == [198, 199], "the newest frames win"
    assert balanced(snapshot)


def test_a_slow_live_source_does_not_hold_up_another() -> None:
    gate = threading.Event()
    sink = Keep()
    pipeline = Pipeline(
        [Memory(uri="dead", is_live=True, gate=lambda: gate.wait(20)), Memory(uri="file", count=50)], [Call()], [sink]
    )
    pipeline.start()
    deadline = time.monotonic() + 10
    while sum(source == "file" for source, _ in sink.seen) < 50 and time.monotonic() < deadline:
        time.sleep(0.005)
    assert sum(source == "file" for source, _ in sink.seen) == 50
    pipeline.stop()
    gate.set()
    pipeline.wait(timeout=10)


def test_what_can_be_refused_is_refused_before_anything_is_opened() -> None:
    class Picky(Call):
        def check(self) -> None:
            raise UsageError("there is no device 'abacus'")

    opened: list[str] = []
    first, sink = Call(), Keep()
    with pytest.raises(UsageError, match="abacus"):
        Pipeline([Memory(gate=lambda: opened.append("read"))], [first, Picky()], [sink]).run()
    assert (opened, sink.events, first._opened) == ([], [], 0)


def test_what_cannot_be_opened_is_told_and_the_rest_is_closed() -> None:
    class Absent(Memory):
        def open(self) -> SourceInfo:
            raise UsageError("there is no such camera")

    class Heavy(Call):
        def open(self) -> None:
            raise AssertionError("sources are tried before models are loaded")

    closed: list[str] = []

    class Open(Memory):
        def close(self) -> None:
            closed.append(self.uri)

    with pytest.raises(UsageError, match="no such camera"):
        Pipeline([Open(uri="a"), Absent(uri="b")], [Heavy()]).run()
    assert closed == ["a"]


def test_metrics_can_be_read_while_running() -> None:
    pipeline = Pipeline([Memory(count=10**9)], [Call(), Stateful()])
    pipeline.start()
    snapshots = []
    while not snapshots or snapshots[-1].frames < 200:
        snapshots.append(pipeline.metrics.snapshot())
    pipeline.stop()
    last = pipeline.wait(timeout=10)
    assert all(balanced(snapshot) for snapshot in [*snapshots, last])
    assert [stage.name for stage in last.stages] == ["decode", "call", "stateful"]
    assert all(stage.frames == last.frames for stage in last.stages[1:])
    assert last.latency.p50 > 0


def test_a_pipeline_runs_once_and_needs_a_source() -> None:
    pipeline = Pipeline([Memory()])
    pipeline.run()
    with pytest.raises(RuntimeError, match="runs once"):
        pipeline.run()
    with pytest.raises(ValueError, match="at least one source"):
        Pipeline([])


def test_what_is_no_part_is_refused_before_anything_is_opened() -> None:
    wrong: list[tuple[Any, ...]] = [
        ("clip.mp4",),
        ([None],),
        ([Memory()], [Call]),
        ([Memory()], Call()),
        ([Memory()], [], ["jsonl"]),
    ]
    for parts in wrong:
        with pytest.raises(TypeError, match=r"(sources|stages|sinks) (are a list|that a pipeline takes)"):
            Pipeline(*parts)
    for options in ({"queue": 0}, {"queue": "2"}, {"on_failure": "restrat"}, {"staleness": -1}, {"watchdog": 0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            Pipeline([Memory()], **options)
    one, stage = Memory(), Call()
    for twice in (([one, one],), ([one], [stage, stage])):
        with pytest.raises(ValueError, match="one object is given twice among the"):
            Pipeline(*twice)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="call start"):
        Pipeline([Memory()]).wait()
    with pytest.raises(UsageError, match="'' is no source; give"):
        open_source("")


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="about signals of POSIX")
@pytest.mark.parametrize("waits", ["wait", "iterates"])
def test_a_signal_that_the_system_gives_to_another_thread_is_heeded(waits: str) -> None:
    """Its handler runs in the main thread, which the system does not wake for it."""
    hold = threading.Event()

    def main_waits() -> bool:
        stack = traceback.extract_stack(sys._current_frames()[threading.main_thread().ident or 0])
        names = [one.name for one in stack]
        return names[-1] == "wait" and not {"join", "take"}.isdisjoint(names)

    def gate() -> None:
        if source._next == 3:  # nothing comes from here on that would wake anybody
            until(lambda: pipeline.metrics.snapshot().frames == 3 and main_waits())
            signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
            hold.wait(20)

    def stop(*_: object) -> None:
        pipeline.stop()
        hold.set()

    before = signal.signal(signal.SIGUSR1, stop)
    source = Memory(count=10**9, gate=gate)
    pipeline = Pipeline([source], [Call()])
    too_late = threading.Timer(10, lambda: (hold.set(), pipeline.abort()))
    too_late.start()
    try:
        if waits == "wait":
            pipeline.run()
        else:
            assert [frame.index for frame in pipeline][:3] == [0, 1, 2]
        assert too_late.is_alive()
    finally:
        too_late.cancel()
        hold.set()
        signal.signal(signal.SIGUSR1, before)


def test_a_file_that_hangs_does_not_hold_up_the_end(caplog: pytest.LogCaptureFixture) -> None:
    hangs, release, asked = threading.Event(), threading.Event(), itertools.count()

    def hang() -> None:
        if next(asked) == 5:
            hangs.set()
            release.wait(60)

    pipeline = Pipeline([Memory(gate=hang)], [Call()], [Keep()])
    pipeline.start()
    assert hangs.wait(20)
    pipeline.stop()
    assert pipeline.join(20)
    assert pipeline.wait().sources[0].finished == 5
    assert "read-memory does not answer and is left behind" in caplog.text
    release.set()
    until(no_threads_left)
    assert pipeline.metrics.snapshot().sources[0].captured == 5, "what it then gives is not wanted"


def test_ctrl_c_in_a_run_closes_outputs() -> None:
    sink = Keep(function=lambda frame: frame.index == 20 and signal.raise_signal(signal.SIGINT))
    source = Memory(count=20_000, gate=lambda: time.sleep(0.001))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # workers of pytest ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            Pipeline([source], [Call()], [sink]).run()
    finally:
        signal.signal(signal.SIGINT, before)
    assert sink.events[-1] == "close"


def test_without_a_thread_for_it_a_run_ends_in_one_line_and_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("checkpoint", "finish", "sink:keep"):
        really, sink = threading.Thread.start, Keep()

        def begin(thread: threading.Thread, name: str = name, really: Any = really) -> None:
            if thread.name == name:
                raise RuntimeError("can't start new thread")
            really(thread)

        pipeline = Pipeline([Memory(count=10**9)], [Call()], [sink], checkpoint=tmp_path / name)
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", begin)
            with pytest.raises(FramechainError, match=f"no thread for {name}"):
                pipeline.start()
        assert pipeline.phase == "ended"
        assert sink.events[-1] == "close"
    until(no_threads_left)


def test_one_frame_that_spoils_a_batch_is_the_one_that_failed() -> None:
    class Batches(Call):
        """Takes eight at once."""

        def suits(self) -> Dispatch:
            return Dispatch(8, 1)

    def fail(frame: Frame) -> None:
        time.sleep(0.002)
        if frame.index == 50:
            raise ValueError("no")

    last = Pipeline([Memory(count=100)], [Batches(function=fail)], on_failure="skip", queue=8).run()
    assert (last.stages[1].frames, last.stages[1].failed) == (99, 1)
    assert last.sources[0].dropped == {"call failed": 1}


def test_wait_times_out_without_ending_the_run() -> None:
    gate = threading.Event()
    pipeline = Pipeline([Memory(count=2, gate=lambda: gate.wait(10))])
    pipeline.start()
    with pytest.raises(TimeoutError):
        pipeline.wait(0.01)
    gate.set()
    assert pipeline.wait(10).frames == 2


def test_errors_are_framechain_errors_with_exit_codes() -> None:
    assert issubclass(StageError, FramechainError)
    assert StageError("detect", "cam", 3, ValueError("x")).exit_code == 1
    assert StageError("detect", "cam", 3, UsageError("x")).exit_code == 2
    assert str(StageError("detect", "cam", 3, MemoryError())) == "detect failed on frame 3 of cam: MemoryError"


def test_stopping_while_models_load_begins_no_output() -> None:
    class Slow(Call):
        def open(self) -> None:
            super().open()
            pipeline.stop()

    sink = Keep()
    pipeline = Pipeline([Memory()], [Slow()], [sink])
    assert pipeline.run().frames == 0
    assert sink.events == ["open", "close"]
