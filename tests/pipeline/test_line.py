"""The queue between two parts: live frames in it stay fresh, files lose none, and every drop is counted."""

from __future__ import annotations

import threading
import time
from collections import Counter

import pytest
from chains import IMAGE, Call, Keep, Memory, Stateful
from peers import until

from pipeline.checkpoint.mark import Mark
from pipeline.checkpoint.progress import Progress
from pipeline.checkpoint.saved import Known
from pipeline.engine import Pipeline
from pipeline.frame import Frame
from pipeline.intake import Begin, Entry, Intake, Item
from pipeline.line import Freshness, Line
from pipeline.source import SourceInfo
from pipeline.window import Window


def item(index: int, ago: float = 0.0, waited: float = 0.0, source: str = "cam", live: bool = True) -> Item:
    """A frame that has waited here since so many seconds ago, and elsewhere before."""
    now = time.perf_counter()
    return Item(Frame(IMAGE, source, index), now - ago - waited, now - ago, live=live, waited=waited)


def indices(entries: list[Entry]) -> list[int]:
    return [entry.frame.index for entry in entries if isinstance(entry, Item)]


@pytest.fixture
def dropped() -> Counter[tuple[str, str]]:
    return Counter()


@pytest.fixture
def line(dropped: Counter[tuple[str, str]]) -> Line:
    return Line(64, Freshness(60.0, lambda source, reason: dropped.update([(source, reason)]), marks=True))


def test_a_live_frame_that_waited_too_long_in_all_queues_together_is_dropped(
    line: Line, dropped: Counter[tuple[str, str]]
) -> None:
    line.put(item(0, ago=61.0, source="a"))
    line.put(item(1, ago=20.0, waited=41.0, source="b"))
    line.put(item(2, ago=20.0, waited=20.0, source="c"))
    line.put(item(3, ago=600.0, source="file", live=False))
    assert indices(line.take(16)[1]) == [2, 3]
    assert dropped == {("a", "stale"): 1, ("b", "stale"): 1}


def test_who_takes_waits_on_where_all_that_is_there_is_dropped(line: Line) -> None:
    line.put(item(0, ago=61.0))
    taken: list[int] = []
    taker = threading.Thread(target=lambda: taken.extend(indices(line.take(16)[1])))
    taker.start()
    until(lambda: line.depth == 0)
    line.put(item(1))
    taker.join(20)
    assert taken == [1]
    line.put(item(2, ago=61.0))
    line.close()
    assert line.take(16)[1] == [], "the end is the end"


def test_the_mark_of_a_gap_goes_on_to_the_next_frame_and_a_checkpoint_knows_what_was_dropped(line: Line) -> None:
    first = item(0, ago=61.0)
    first.frame.discontinuity = True
    known = {"cam": Known("cam", Progress(given=3), {})}
    mark = Mark(known, Progress(), 0.0, False, lambda _: None)
    for entry in (first, item(1, source="other"), mark):
        line.put(entry)
    before = line.take(16)[1]
    line.put(item(2))
    line.put(item(3, source="other"))
    frames = [entry.frame for entry in (*before, *line.take(16)[1]) if isinstance(entry, Item)]
    assert [(frame.index, frame.discontinuity) for frame in frames] == [(1, False), (2, True), (3, False)]
    assert mark.sources["cam"].progress.lost == {"stale": 1}


def test_one_live_frame_of_each_source_waits_and_of_files_as_many_as_there_is_room_for(line: Line) -> None:
    for index in range(40):
        line.put(item(index, source="file", live=False))
    assert line.depth == 40
    line.take(64)
    line.put(item(0, source="a"))
    line.put(item(0, source="b"))
    done = threading.Event()
    writer = threading.Thread(target=lambda: (line.put(item(1, source="a")), done.set()))
    writer.start()
    assert not done.wait(0.05)
    assert indices(line.take(1)[1]) == [0]
    assert done.wait(20)
    writer.join()


def test_frames_of_a_camera_that_come_at_once_end_the_window() -> None:
    """Its second one would wait for room, and nobody behind it could come."""
    line = Line(32, window=Window(30.0))
    for name in "ab":
        line.put(Begin(SourceInfo(name, name, 8, 8, 1 / 40, live=True)))
    line.take(2)
    line.put(item(0, ago=35.0, source="b"))
    line.take(1)
    line.put(item(0, source="a"))
    taken: list[int] = []
    taker = threading.Thread(target=lambda: taken.extend(indices(line.take(16)[1])))
    taker.start()
    line.put(item(1, source="a"))
    taker.join(20)
    assert taken == [0]


def test_cameras_take_turns_whatever_came_first() -> None:
    intake = Intake(2, 60.0, lambda source, reason: None, Window(0.1))
    for name in "abc":
        intake.begin(SourceInfo(name, name, 8, 8, 25.0, live=True))
    intake.take(3)
    for name in "aabbc":
        intake.put(item(0, source=name))
    order = [entry.frame.source for _ in range(5) for entry in intake.take(1)[1] if isinstance(entry, Item)]
    assert order == ["a", "b", "c", "a", "b"]


@pytest.mark.parametrize("slow", ["stage", "sink"])
def test_behind_a_fast_stage_a_slow_part_gets_frames_that_are_fresh(slow: str) -> None:
    """What waited anywhere in the chain while the slow part was at work is not started on any more."""
    allowed, released, entered = threading.Semaphore(0), threading.Event(), threading.Event()

    def work(frame: Frame) -> None:
        entered.set()
        released.wait(20)

    fast, sink = Call(), Keep(function=work if slow == "sink" else lambda frame: None)
    stages = [fast, Stateful(function=work)] if slow == "stage" else [fast]
    over = threading.Event()
    camera = Memory(count=10**6, is_live=True, gate=lambda: over.is_set() or allowed.acquire(timeout=20))
    pipeline = Pipeline([camera], stages, [sink], staleness=0.2, queue=1)
    pipeline.start()
    for count in range(1, 4):  # one at work, one in its queue, one that the fast stage cannot hand on
        allowed.release()
        until(lambda count=count: pipeline.metrics.snapshot().stages[1].frames == count and entered.is_set())
    allowed.release(2)
    until(lambda: pipeline.metrics.snapshot().sources[0].captured == 5)
    threading.Event().wait(0.3)  # what waits is late by now
    released.set()

    def another() -> bool:
        allowed.release()
        return len(sink.seen) >= 3

    until(another)
    pipeline.stop()
    over.set()
    allowed.release()
    source = pipeline.wait(20).sources[0]
    order = [index for _, index in sink.seen]
    assert order == sorted(order)
    # what waits before a sink has been handed to all sinks by then
    assert [index for index in order if index < 5] == ([0] if slow == "stage" else [0, 1])
    assert source.captured == source.finished + sum(source.dropped.values())
    assert source.dropped["stale"] >= (2 if slow == "stage" else 1)


def test_a_loop_that_is_left_while_frames_wait_for_it_ends_the_run() -> None:
    pipeline = Pipeline([Memory(count=10**9)], [Call()])
    for _ in pipeline:
        until(lambda: pipeline.metrics.snapshot().stages[1].frames > 3)
        break
    assert pipeline.phase == "ended"
