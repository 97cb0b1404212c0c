"""The window in which frames of several cameras are gathered into one batch."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import pytest
from chains import IMAGE, Call, Keep, Memory
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import PrivateAttr

from pipeline.engine import Pipeline
from pipeline.frame import Frame
from pipeline.intake import Begin, End, Intake, Item
from pipeline.line import Line
from pipeline.source import SourceInfo
from pipeline.stage import Dispatch
from pipeline.window import Window


def camera(name: str, fps: float | None = 10.0, live: bool = True) -> SourceInfo:
    return SourceInfo(name, name, 8, 8, fps, None, live)


def window(*sources: SourceInfo, most: float = 100.0) -> Window:
    made = Window(most)
    for source in sources:
        made.begin(source)
    return made


def item(source: str, entered: float | None = None) -> Item:
    now = time.perf_counter() if entered is None else entered
    return Item(Frame(IMAGE, source), now, now)


def test_a_frame_waits_for_a_camera_that_is_due_and_for_no_other() -> None:
    gathering = window(camera("a"), camera("b"), camera("slow", 1.0), camera("untimed", None))
    for source in ("a", "b", "slow", "untimed"):
        gathering.arrived(source, 0.0)
    gathering.arrived("a", 0.1)
    assert gathering.pause([("a", 0.1)], 16, 0.1) == pytest.approx(0.05), "half of a tenth of a second"
    assert gathering.pause([("a", 0.1)], 16, 0.12) == pytest.approx(0.03)
    assert gathering.pause([("a", 0.1), ("b", 0.12)], 16, 0.12) == 0, "the others are not due"
    gathering.arrived("b", 0.06)
    assert gathering.pause([("a", 0.1)], 16, 0.1) == 0, "the next of b comes later than the window"


def test_a_stalled_camera_is_not_waited_for_and_neither_is_one_that_ended() -> None:
    gathering = window(camera("a"), camera("b"))
    gathering.arrived("b", 0.0)
    assert gathering.pause([("a", 0.19)], 16, 0.19) > 0
    assert gathering.pause([("a", 0.2)], 16, 0.2) == 0
    gathering.end("b")
    assert gathering.pause([("a", 0.1)], 16, 0.1) == 0


def test_files_are_not_waited_for_and_do_not_wait() -> None:
    gathering = window(camera("a"), camera("b"), camera("file", live=False))
    gathering.arrived("b", 0.0)
    gathering.arrived("file", 0.0)
    assert gathering.pause([("a", 0.1)], 16, 0.1) > 0
    assert gathering.pause([("a", 0.1), ("file", 0.1)], 16, 0.1) == 0
    assert window(camera("x", live=False), camera("y", live=False)).pause([("x", 0.0)], 16, 0.0) == 0


arrivals = st.lists(st.tuples(st.sampled_from("abcd"), st.floats(0, 2)), min_size=1, max_size=40)


@settings(max_examples=200, deadline=None)
@given(arrivals, st.lists(st.floats(1, 100), min_size=4, max_size=4), st.floats(0.001, 1), st.integers(2, 16))
def test_whatever_comes_no_frame_waits_longer_than_the_window(
    events: list[tuple[str, float]], rates: list[float], most: float, limit: int
) -> None:
    gathering = window(*(camera(name, fps) for name, fps in zip("abcd", rates, strict=True)), most=most)
    waiting: list[tuple[str, float]] = []
    longest = min(0.5 / max(rates), most)
    for source, when in sorted(events, key=lambda event: event[1]):
        gathering.arrived(source, when)
        waiting.append((source, when))
        pause = gathering.pause(waiting, limit, when)
        assert 0 <= pause <= longest + 1e-9
        if pause:
            oldest = min(entered for _, entered in waiting)
            assert when + pause == pytest.approx(oldest + longest)
            assert gathering.pause(waiting, limit, when + pause + 1e-9) == 0
            assert len(waiting) < limit
            assert {name for name, _ in waiting} != set("abcd")
        else:
            waiting = []


class Taken:
    """A thread that takes one batch."""

    def __init__(self, take: Callable[[int], tuple[int, Sequence[object]]]) -> None:
        self.frames: list[str] = []
        self._thread = threading.Thread(target=self._run, args=(take,), daemon=True)
        self._thread.start()

    def _run(self, take: Callable[[int], tuple[int, Sequence[object]]]) -> None:
        self.frames = [entry.frame.source for entry in take(16)[1] if isinstance(entry, Item)]

    @property
    def waits(self) -> bool:
        return self._thread.is_alive()

    def wait(self) -> list[str]:
        self._thread.join(20)
        assert not self.waits
        return self.frames


def intake(*sources: SourceInfo) -> Intake:
    made = Intake(4, 60.0, lambda source, reason: None, Window(30.0))
    for source in sources:
        made.begin(source)
    made.take(len(sources))
    return made


def channel(*sources: SourceInfo) -> Line:
    made = Line(32, window=Window(30.0))
    for source in sources:
        made.put(Begin(source))
    made.take(len(sources))
    return made


def entered_before(inbox: Intake | Line, source: str, ago: float) -> None:
    """A frame that came so many seconds ago and is taken at once."""
    inbox.put(item(source, time.perf_counter() - ago))
    assert Taken(inbox.take).wait() == [source]


@pytest.mark.parametrize("inbox", [intake, channel])
def test_a_batch_is_held_open_until_the_other_camera_delivers(inbox: Callable[..., Intake | Line]) -> None:
    slow = 1 / 40  # a window of 20 s, so that nothing but the other frame can end it here
    held = inbox(camera("a", slow), camera("b", slow))
    entered_before(held, "b", 35.0)
    held.put(item("a"))
    taken = Taken(held.take)
    assert taken.waits
    held.put(item("b"))
    assert taken.wait() == ["a", "b"]


@pytest.mark.parametrize("inbox", [intake, channel])
def test_a_camera_that_stalls_or_ends_lets_the_batch_go(inbox: Callable[..., Intake | Line]) -> None:
    held = inbox(camera("a", 5.0), camera("b", 5.0))
    entered_before(held, "b", 0.15)
    held.put(item("a"))
    assert Taken(held.take).wait() == ["a"]
    slow = 1 / 40
    held = inbox(camera("a", slow), camera("b", slow))
    entered_before(held, "b", 35.0)
    held.put(item("a"))
    taken = Taken(held.take)
    held.end("b") if isinstance(held, Intake) else held.put(End("b"))
    assert taken.wait() == ["a"]


def test_who_takes_one_frame_at_a_time_never_waits() -> None:
    held = intake(camera("a", 1 / 40), camera("b", 1 / 40))
    entered_before(held, "b", 35.0)
    held.put(item("a"))
    assert len(held.take(1)[1]) == 1


class Batched(Call):
    """Notes which sources came in each call."""

    name = "batched"
    _calls: list[list[str]] = PrivateAttr(default_factory=list)

    def suits(self) -> Dispatch:
        return Dispatch(16, 1)

    def process(self, frames: Sequence[Frame]) -> None:
        self._calls.append([frame.source for frame in frames])


@pytest.mark.parametrize("before", [0, 1])
def test_cameras_meet_in_the_first_stage_that_takes_batches(before: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether that is the first stage or not: with a window that is open until both are there, both always are."""

    def until_both(self: Window, waiting: Iterable[tuple[str, float]], limit: int, now: float) -> float:
        return 20.0 if len({source for source, _ in waiting}) == 1 else 0.0

    monkeypatch.setattr(Window, "pause", until_both)
    rounds = {name: threading.Semaphore(1) for name in ("left", "right")}
    sources = [
        Memory(uri=name, count=5, is_live=True, gate=partial(allowed.acquire, timeout=20))
        for name, allowed in rounds.items()
    ]
    stage = Batched()
    after = Batched()
    finished: list[str] = []

    def finish(frame: Frame) -> None:
        finished.append(frame.source)
        if len(finished) % 2 == 0:
            for allowed in rounds.values():
                allowed.release()

    Pipeline(sources, [*[Call()] * before, stage, after], [Keep(function=finish)], staleness=60, queue=16).run()
    assert sorted(finished) == ["left"] * 5 + ["right"] * 5
    assert all({"left", "right"} == set(sources) for sources in stage._calls)
    assert sum(map(len, after._calls)) == 10, "what comes after takes what is there"
