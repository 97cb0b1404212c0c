"""Sources that come and go while the engine runs."""

from __future__ import annotations

import contextlib
import gc
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from chains import Call, Keep, Memory, Stateful
from peers import until

from pipeline.engine import Pipeline
from pipeline.errors import FramechainError, UsageError
from pipeline.frame import Frame
from pipeline.live.supervisor import Reader
from pipeline.metrics import ENDED
from pipeline.sinks.jsonl import JsonLines
from pipeline.source import SourceInfo

wait_for = partial(until, seconds=10)


def resident() -> int:
    """Bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def endless(uri: str, **options: object) -> Memory:
    return Memory(uri=uri, count=10**9, gate=lambda: time.sleep(0.001), **options)


@contextmanager
def running(pipeline: Pipeline) -> Iterator[Pipeline]:
    pipeline.start()
    try:
        yield pipeline
    finally:
        pipeline.abort()
        assert pipeline.join(10)


def test_a_source_joins_and_leaves_and_the_others_go_on() -> None:
    stage, sink = Stateful(), Keep()
    with running(Pipeline([endless("a")], [Call(workers=2), stage], [sink])) as pipeline:
        info = pipeline.add(endless("b", is_live=True))
        assert (info.id, [known.id for known in pipeline.infos]) == ("b", ["a", "b"])
        wait_for(lambda: sum(source == "b" for source, _ in sink.seen) > 5)
        assert pipeline.remove("b", 10)
        assert (stage._forgotten, sink.events[-1]) == (["b"], "end b"), "all are done with it before it counts as out"
        assert [known.id for known in pipeline.infos] == ["a"]
        account = next(one for one in pipeline.metrics.snapshot().sources if one.id == "b")
        assert account.captured == account.finished + sum(account.dropped.values())
        before = len(sink.seen)
        wait_for(lambda: len(sink.seen) > before + 5)


def test_frames_inside_are_finished_when_a_file_is_removed() -> None:
    sink = Keep()
    with running(Pipeline([endless("a")], [Call(batch=4), Stateful(batch=4)], [sink], queue=8)) as pipeline:
        pipeline.add(endless("b"))
        wait_for(lambda: ("b", 3) in sink.seen)
        assert pipeline.remove("b", 10)
        account = next(one for one in pipeline.metrics.snapshot().sources if one.id == "b")
        assert account.finished == account.captured
        assert [index for source, index in sink.seen if source == "b"] == list(range(account.finished))


def test_what_is_inside_is_dropped_and_counted_when_it_is_not_wanted() -> None:
    """The call that goes on ends, and is the last."""
    released, entered = threading.Event(), threading.Event()

    def work(frame: Frame) -> None:
        entered.set()
        released.wait(20)

    sink = Keep()
    with running(Pipeline([endless("a")], [Call(), Call(function=work)], [sink], service=True)) as pipeline:
        wait_for(lambda: entered.is_set() and pipeline.metrics.snapshot().sources[0].in_flight >= 5)
        assert not pipeline.remove("a", timeout=0.05, drop=True), "a call goes on"
        released.set()
        wait_for(lambda: all(one.id != "a" for one in pipeline.infos))
        assert sink.seen == []
        account = next(one for one in pipeline.metrics.snapshot().sources if one.id == "a")
        assert (account.finished, account.in_flight) == (0, 0)
        assert account.dropped["removed"] == account.captured - account.dropped.get("abandoned", 0)
        assert "end a" in sink.events


def test_more_sources_than_are_meant_are_refused() -> None:
    with pytest.raises(UsageError, match="3 sources are more than max_sources, 2; raise it in the configuration"):
        Pipeline([Memory(), Memory(), Memory()], max_sources=2)
    with running(Pipeline([endless("a"), endless("b")], max_sources=2)) as pipeline:
        with pytest.raises(UsageError, match="3 sources are more than max_sources, 2"):
            pipeline.add(endless("c"))
        pipeline.remove("a")
        pipeline.add(endless("c"))


def test_a_file_that_joins_others_in_their_midst_does_not_hold_them_up() -> None:
    sink = Keep()
    with running(Pipeline([endless("a")], [Call()], [sink])) as pipeline:
        wait_for(lambda: ("a", 50) in sink.seen)
        pipeline.add(endless("b"))
        wait_for(lambda: ("b", 10) in sink.seen)
        between = sink.seen[sink.seen.index(("b", 1)) : sink.seen.index(("b", 10))]
        assert 7 <= sum(source == "a" for source, _ in between) <= 11, "frame by frame, as both have the same rate"


def test_what_cannot_be_opened_is_told_and_the_others_go_on() -> None:
    class Absent(Memory):
        def open(self) -> SourceInfo:
            raise FramechainError("the camera refuses")

    sink = Keep()
    with running(Pipeline([endless("a")], sinks=[sink])) as pipeline:
        with pytest.raises(FramechainError, match="the camera refuses"):
            pipeline.add(Absent(uri="b"))
        with pytest.raises(UsageError, match=r"no-such\.mp4"):
            pipeline.add("no-such.mp4")
        with pytest.raises(UsageError, match="no source of this run is called 'aa'; did you mean 'a'"):
            pipeline.remove("aa")
        before = len(sink.seen)
        wait_for(lambda: len(sink.seen) > before + 5)
        assert [source.id for source in pipeline.metrics.snapshot().sources] == ["a"]


def test_a_run_that_is_over_or_has_not_begun_takes_no_source() -> None:
    pipeline = Pipeline([Memory()])
    with pytest.raises(FramechainError, match="does not take sources"):
        pipeline.add(Memory())
    with pytest.raises(TypeError, match="by its id, a text, not by None"):
        pipeline.remove(None)  # type: ignore[arg-type]
    pipeline.run()
    with pytest.raises(FramechainError, match="does not take sources"):
        pipeline.add(Memory())


def test_a_camera_that_there_is_no_thread_for_is_refused_and_the_run_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    really = threading.Thread.start

    def begin(thread: threading.Thread) -> None:
        if thread.name == "read-127.0.0.1-1" and not isinstance(thread, Reader):
            raise RuntimeError("can't start new thread")
        really(thread)

    with running(Pipeline([endless("a")], [Call()], service=True, keep_going=True)) as pipeline:
        monkeypatch.setattr(threading.Thread, "start", begin)
        with pytest.raises(FramechainError, match=r"no thread for read-127.0.0.1-1"):
            pipeline.add("rtsp://127.0.0.1:1/live")
        assert [info.id for info in pipeline.infos] == ["a"]


def test_a_run_ends_with_its_last_source_and_a_service_when_it_is_stopped() -> None:
    with running(Pipeline([endless("a")])) as pipeline:
        assert pipeline.remove("a", 10)
        assert pipeline.join(10)
    with running(Pipeline([], service=True)) as pipeline:
        pipeline.add(Memory(uri="a", count=3))
        wait_for(lambda: pipeline.metrics.snapshot().frames == 3)
        assert pipeline.add(Memory(uri="a", count=2)).id == "a-2", "ids do not repeat"
        wait_for(lambda: pipeline.metrics.snapshot().frames == 5)
        assert not pipeline.join(0)
        pipeline.stop()
        assert pipeline.wait(10).frames == 5


def test_a_sink_that_has_one_file_for_one_source_refuses_another(tmp_path: Path) -> None:
    class Own(JsonLines):
        name = "own"
        per_source = True

    with running(Pipeline([endless("a")], sinks=[Own(path=tmp_path / "one.jsonl")])) as pipeline:
        with pytest.raises(UsageError, match=r"put \{source\} into its path"):
            pipeline.add(Memory(uri="b"))
        assert not pipeline.join(0)


def test_a_reader_that_hangs_is_left_behind_when_its_source_is_removed(caplog: pytest.LogCaptureFixture) -> None:
    release = threading.Event()
    with running(Pipeline([endless("a")], [Call()])) as pipeline:
        pipeline.add(Memory(uri="hung", gate=lambda: release.wait(20)))
        assert pipeline.remove("hung", 10)
        assert "read-hung does not answer and is left behind" in caplog.text
        release.set()
        before = pipeline.metrics.snapshot().frames
        wait_for(lambda: pipeline.metrics.snapshot().frames > before + 5)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files are counted in /proc")
def test_a_thousand_cameras_that_come_and_go_leave_nothing_behind(tmp_path: Path) -> None:
    sink, jsonl = Keep(), JsonLines(path=tmp_path / "{source}.jsonl")
    pipeline = Pipeline([], [Call(workers=2), Stateful()], [sink, jsonl], service=True)

    def cycle(times: int) -> None:
        for _ in range(times):
            info = pipeline.add(Memory(uri="cam", count=2, is_live=True))
            try:
                assert pipeline.remove(info.id, 10)
            except UsageError:  # it had ended by itself
                wait_for(lambda: not pipeline.infos)
        sink._seen.clear()
        sink._events.clear()
        gc.collect()

    with running(pipeline):
        cycle(50)
        before = threading.active_count(), len(os.listdir("/proc/self/fd")), resident()
        cycle(1000)
        assert threading.active_count() == before[0]
        assert len(os.listdir("/proc/self/fd")) == before[1]
        assert resident() - before[2] < 4 * 2**20
        snapshot = pipeline.metrics.snapshot()
        assert len(snapshot.sources) <= 17
        assert snapshot.sources[0].id == ENDED or any(source.id == ENDED for source in snapshot.sources)
        for source in snapshot.sources:
            assert source.captured == source.finished + sum(source.dropped.values())
        assert snapshot.frames == sum(source.finished for source in snapshot.sources)


def test_sources_that_are_added_while_the_run_ends_are_taken_or_refused() -> None:
    for number in range(40):
        pipeline = Pipeline([endless("a")], [Call()], service=True)
        pipeline.start()

        def add(pipeline: Pipeline = pipeline) -> None:
            with contextlib.suppress(FramechainError):
                while True:
                    pipeline.add(Memory(uri="b", count=3))

        adding = [threading.Thread(target=add) for _ in range(2)]
        for thread in adding:
            thread.start()
        wait_for(lambda pipeline=pipeline: len(pipeline.metrics.snapshot().sources) > 3)
        pipeline.abort() if number % 2 else pipeline.stop()
        assert pipeline.join(10)
        for thread in adding:
            thread.join()
        for one in pipeline.metrics.snapshot().sources:
            assert one.captured == one.finished + sum(one.dropped.values())
