"""Supervised live sources: what hangs is left behind, what breaks off is opened again, every frame is counted."""

from __future__ import annotations

import gc
import itertools
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
from chains import IMAGE, Call, Keep, Memory
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peers import until
from pydantic import PrivateAttr

from pipeline.engine import Pipeline
from pipeline.errors import AccessDenied, FramechainError, StageError
from pipeline.frame import Frame
from pipeline.live import supervisor
from pipeline.live_source import LiveSource
from pipeline.metrics import Snapshot
from pipeline.source import Moment, SourceInfo, SteppedSource, open_source


@dataclass(frozen=True)
class Connection:
    """What a camera does once it is asked: refuse, or give frames and then break off, end, or hang."""

    frames: int = 0
    then: str = "break"  # or "end", "hang", "refuse", "hang at opening", "deny"
    damaged: int = 0  # of the frames


@dataclass
class Site:
    """The camera behind all connections; when all that is planned has happened it ends."""

    plan: list[Connection]
    made: int = 0  # frames that it captured
    asked: int = 0
    connected: list[weakref.ref[Camera]] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)
    lock: Any = field(default_factory=threading.Lock)

    def connect(self) -> Connection:
        with self.lock:
            self.asked += 1
            return self.plan.pop(0) if self.plan else Connection(1, "end")

    def capture(self) -> None:
        with self.lock:
            self.made += 1


class Camera(SteppedSource, LiveSource):
    """Reads a site."""

    name = "camera"
    uri: str = "camera"
    site: Any

    _plan: Connection = PrivateAttr(Connection())
    _next: int = PrivateAttr(0)
    _ended: bool = PrivateAttr(False)

    @classmethod
    def matches(cls, uri: str) -> bool:
        return False

    def open(self) -> SourceInfo:
        self.id = self.id or "gate"
        self._plan = self.site.connect()
        self.site.connected.append(weakref.ref(self))
        if self._plan.then == "refuse":
            raise FramechainError("'rtsp://root:s3cret@gate' refuses the connection")
        if self._plan.then == "deny":
            raise AccessDenied("'rtsp://root:s3cret@gate' wants another password")
        if self._plan.then == "hang at opening":
            self.site.released.wait(60)
        self._next = 0
        return self._opened(self.uri, 8, 8, 25)

    @property
    def complete(self) -> bool:
        return self._ended

    def grab(self) -> Moment | None:
        if self._next == self._plan.frames:
            if self._plan.then == "end":
                self._ended = True
                return None
            if self._plan.then == "hang":
                self.site.released.wait(60)
            raise OSError("rtsp://root:s3cret@gate: the cable is out")
        self._next += 1
        self.site.capture()
        return Moment(self._next - 1, (self._next - 1) / 25, time.time())

    def retrieve(self) -> Any:
        return None if self._next <= self._plan.damaged else IMAGE


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds become hundredths."""
    for name in ("_GRACE", "_FIRST_PAUSE", "_RIVAL", "_POLL", "_ACCESS_PAUSE"):
        monkeypatch.setattr(supervisor, name, getattr(supervisor, name) / 100)


@pytest.fixture
def site() -> Iterator[Callable[..., Site]]:
    sites: list[Site] = []

    def made(*plan: Connection) -> Site:
        sites.append(Site(list(plan)))
        return sites[-1]

    yield made
    for one in sites:
        one.released.set()


def camera(site: Site, **options: Any) -> Camera:
    return Camera(**{"site": site, "open_timeout": 0.1, "read_timeout": 0.1, "max_wait": 0.01, **options})


def balanced(snapshot: Snapshot) -> bool:
    return all(one.captured == one.finished + one.in_flight + sum(one.dropped.values()) for one in snapshot.sources)


def kept(frames: list[Frame]) -> Keep:
    return Keep(function=frames.append)


def test_what_breaks_off_is_opened_again(site: Callable[..., Site], caplog: pytest.LogCaptureFixture) -> None:
    where, frames = site(Connection(3), Connection(then="refuse"), Connection(2), Connection(2, "end")), []
    snapshot = Pipeline([camera(where)], sinks=[kept(frames)]).run()
    source = snapshot.sources[0]
    assert [frame.index for frame in frames] == sorted({frame.index for frame in frames})
    times = [frame.timestamp for frame in frames]
    assert times == sorted(times)
    assert source.captured == where.made == 7
    assert source.connections == 3
    states = [change.state for change in source.changes]
    assert states[-1] == "ended"
    assert states.count("live") == 3
    assert any("the cable is out" in change.why for change in source.changes if change.state == "backing off")
    assert "s3cret" not in str(source) + caplog.text
    assert "is tried again" in caplog.text


def test_the_first_frame_after_a_gap_is_marked_even_if_it_is_dropped(site: Callable[..., Site]) -> None:
    """The frame that came first is thrown out of a full queue; the next one that is handed on bears the mark."""
    where, frames, slow = site(Connection(1), Connection(50, "end")), [], threading.Event()
    pipeline = Pipeline(
        [camera(where)], [Call(function=lambda frame: slow.wait(20))], [kept(frames)], queue=1, staleness=60
    )
    pipeline.start()
    until(lambda: where.made == 51)
    slow.set()
    pipeline.wait(20)
    assert frames[-1].index == 50
    assert [frame.discontinuity for frame in frames].count(True) == 1
    assert next(frame for frame in frames if frame.discontinuity).index > 0


def test_what_broke_off_is_let_go_of_at_once(site: Callable[..., Site]) -> None:
    """Not when Python looks for circles: sockets and pictures of many outages would wait for that together."""
    faults = Connection(2), Connection(then="refuse"), Connection(2), Connection(then="deny")
    where = site(*faults, Connection(1, "hang"))
    pipeline = Pipeline([camera(where, read_timeout=20)])
    gc.collect()
    gc.disable()
    try:
        pipeline.start()
        until(lambda: where.asked == 5 and sum(one() is not None for one in where.connected) == 1)
    finally:
        gc.enable()
        where.released.set()
        pipeline.stop()
        pipeline.wait(20)


@pytest.mark.parametrize("then", ["hang", "hang at opening"])
def test_a_reader_that_hangs_is_left_behind_and_replaced(site: Callable[..., Site], then: str) -> None:
    where, frames = site(Connection(2), Connection(2, then), Connection(3, "end")), []
    pipeline = Pipeline([camera(where)], sinks=[kept(frames)])
    snapshot = pipeline.run()
    assert len(frames) + sum(snapshot.sources[0].dropped.values()) == where.made
    assert not where.released.is_set(), "nobody waited for it"
    assert snapshot.sources[0].captured == where.made
    where.released.set()
    until(lambda: not any(thread.name == "read-gate" for thread in threading.enumerate()))


def test_a_silent_connection_is_stalled_and_gives_way_to_a_rival(site: Callable[..., Site]) -> None:
    """The connection hangs, its timeout is far: a second one is tried, and found to be alive."""
    where = site(Connection(2, "hang"), Connection(2, "end"))
    snapshot = Pipeline([camera(where, read_timeout=0.5)]).run()
    assert "stalled" in [change.state for change in snapshot.sources[0].changes]
    assert snapshot.sources[0].connections == 2


def test_readers_left_behind_are_bounded(site: Callable[..., Site]) -> None:
    where = site(Connection(1), *[Connection(then="hang at opening")] * 30)
    pipeline = Pipeline([camera(where, open_timeout=0.01)])
    pipeline.start()
    until(lambda: where.asked == supervisor._MOST_READERS + 1)
    threading.Event().wait(0.3)  # thirty times what a further attempt would take
    assert where.asked == supervisor._MOST_READERS + 1
    assert pipeline.metrics.snapshot().sources[0].state != "live"
    pipeline.stop()
    pipeline.wait(10)


def test_a_first_failure_is_told_at_once(site: Callable[..., Site]) -> None:
    for connection, told in (
        (Connection(then="deny"), "wants another password"),
        (Connection(then="refuse"), "refuses the connection"),
        (Connection(then="hang at opening"), "does not answer"),
    ):
        where = site(connection)
        with pytest.raises(FramechainError, match=told):
            Pipeline([camera(where, id="gate")]).run()
        assert where.asked == 1


def test_with_keep_going_it_joins_when_it_is_there(site: Callable[..., Site]) -> None:
    where, sink = site(*[Connection(then="refuse")] * 3, Connection(4, "end")), Keep()
    pipeline = Pipeline([Memory(count=5), camera(where)], [Call()], [sink], keep_going=True)
    pipeline.run()
    assert [index for source, index in sink.seen if source == "memory"] == list(range(5))
    assert [index for source, index in sink.seen if source == "gate"] == sorted(
        {index for source, index in sink.seen if source == "gate"}
    )
    assert {"begin gate", "end gate"} <= set(sink.events)
    assert [(info.id, info.width) for info in pipeline.infos] == [("memory", 8), ("gate", 8)]


def test_with_keep_going_a_run_does_not_wait_for_one_that_takes_its_time(
    site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.engine._SOON", 0.02)
    where, sink = site(*[Connection(4, "hang at opening")] * 1000), Keep()
    pipeline = Pipeline([camera(where, id="gate", open_timeout=60.0)], [Call()], [sink], keep_going=True)
    pipeline.start()  # which comes back while it is still being opened
    assert pipeline.infos == []
    where.released.set()
    until(lambda: sink.seen)
    assert "begin gate" in sink.events
    pipeline.stop()
    pipeline.wait(10)


def test_one_that_never_came_is_no_output(site: Callable[..., Site]) -> None:
    where, sink = site(*[Connection(then="refuse")] * 1000), Keep()
    pipeline = Pipeline([camera(where, id="gate"), Memory(count=5)], sinks=[sink], keep_going=True)
    pipeline.start()
    until(lambda: len(sink.seen) == 5 and where.asked > 3)
    assert pipeline.metrics.snapshot().sources[-1].finished == 5
    pipeline.stop()
    pipeline.wait(10)
    assert "begin gate" not in sink.events
    assert "end gate" not in sink.events


def test_without_a_thread_for_it_a_camera_is_tried_again(
    site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The system gives none for a while: when it breaks off, and so twice more."""
    where, denied, really = site(Connection(2), Connection(3, "end")), [3], threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if isinstance(thread, supervisor.Reader) and where.asked and denied[0]:
            denied[0] -= 1
            raise RuntimeError("can't start new thread")
        really(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    snapshot = Pipeline([camera(where)]).run()
    assert snapshot.sources[0].captured == where.made == 5
    assert denied == [0]
    assert "the system gives no thread for read-gate (can't start new thread); let" in caplog.text


def test_a_stage_that_cannot_get_ready_for_a_late_camera_does_not_keep_it_away(
    site: Callable[..., Site], caplog: pytest.LogCaptureFixture
) -> None:
    class Unready(Call):
        """Computes, though it cannot prepare for it."""

        def expect(self, width: int, height: int) -> None:
            raise RuntimeError("cannot compile")

    where = site(Connection(then="refuse"), Connection(5, "end"))
    last = Pipeline([camera(where)], [Unready()], service=False, keep_going=True).run()
    assert last.sources[0].captured == where.made == 5
    assert "getting ready for frames of 8 × 8 failed: cannot compile" in caplog.text


def test_a_second_attempt_at_what_is_a_file_is_closed_as_well() -> None:
    opened, closed, both = [], [], threading.Barrier(2)

    class Download(LiveSource):
        """A file on a server; two attempts at it are there at the same time."""

        name: ClassVar[str] = "download"
        uri: str = "download"
        _read: int = PrivateAttr(0)

        @classmethod
        def matches(cls, uri: str) -> bool:
            return False

        def open(self) -> SourceInfo:
            opened.append(self)
            both.wait(20)
            return SourceInfo("download", "download", 8, 8, 25.0, 3, live=False)

        def read(self) -> Frame | None:
            self._read += 1
            return Frame(IMAGE, index=self._read - 1) if self._read <= 3 else None

        def close(self) -> None:
            closed.append(self)

    last = Pipeline([Download()], keep_going=True).run()
    assert last.sources[0].finished == 3
    assert len(opened) == 2
    until(lambda: set(map(id, opened)) == set(map(id, closed)))


def test_one_that_never_comes_ends_after_the_attempts_that_it_was_given(site: Callable[..., Site]) -> None:
    """Else a run with keep_going goes on for ever, as a service shall."""
    where, sink = site(*[Connection(then="refuse")] * 100), Keep()
    pipeline = Pipeline([camera(where, max_attempts=3), Memory(count=3)], [], [sink], keep_going=True)
    snapshot = pipeline.run()
    assert snapshot.sources[-1].finished == 3
    assert [one.state for one in snapshot.sources] == ["ended", "ended"]


def test_it_may_be_told_to_end_instead(site: Callable[..., Site]) -> None:
    with pytest.raises(
        StageError, match=r"^reading failed on frame \d of gate: OSError: rtsp://gate: the cable is out$"
    ):
        Pipeline([camera(site(Connection(3)), reconnect=False)]).run()
    where = site(Connection(2), *[Connection(then="refuse")] * 9)
    with pytest.raises(StageError, match="refuses the connection") as caught:
        Pipeline([camera(where, max_attempts=4)]).run()
    assert "s3cret" not in str(caught.value)
    assert where.asked == 5


def test_max_frames_and_every_hold_over_all_connections(site: Callable[..., Site]) -> None:
    where, frames = site(*[Connection(5)] * 9), []
    snapshot = Pipeline([camera(where, every=2, max_frames=7)], sinks=[kept(frames)], queue=50).run()
    source = snapshot.sources[0]
    assert source.finished + source.dropped.get("queue full", 0) + source.dropped.get("stale", 0) == 7
    assert source.dropped["every"] > 0
    assert [frame.index for frame in frames] == sorted({frame.index for frame in frames})
    assert source.captured == where.made
    with pytest.raises(OSError, match="cable"):
        list(Camera(site=site(Connection(0))))  # by hand it is not opened again


def test_nobody_waits_for_a_reader_at_the_end(site: Callable[..., Site], caplog: pytest.LogCaptureFixture) -> None:
    where = site(Connection(2, "hang"))
    pipeline = Pipeline([camera(where, read_timeout=60)])
    pipeline.start()
    until(lambda: where.made == 2)
    pipeline.stop()
    pipeline.wait(10)
    assert "left behind" in caplog.text
    before = pipeline.metrics.snapshot().sources[0]
    assert before.captured == where.made == 2
    assert balanced(pipeline.metrics.snapshot())


connections = st.builds(
    Connection,
    frames=st.integers(0, 6),
    then=st.sampled_from(["break", "hang", "refuse", "hang at opening"]),
    damaged=st.integers(0, 3),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    plans=st.lists(st.lists(connections, max_size=4), min_size=1, max_size=3),
    every=st.integers(1, 3),
    queue=st.integers(1, 3),
    pauses=st.lists(st.sampled_from([0.0, 0.001, 0.02]), min_size=1, max_size=4),
    failing=st.booleans(),
    cut=st.sampled_from(["", "", "stop", "abort"]),
)
def test_captured_is_processed_plus_dropped(
    plans: list[list[Connection]],
    every: int,
    queue: int,
    pauses: Sequence[float],
    failing: bool,
    cut: str,
) -> None:
    """Whatever cameras and stages do: what the cameras know they captured is what the accounts add up to."""
    sites = [Site([Connection(2), *plan]) for plan in plans]
    pause = itertools.cycle(pauses)

    def work(frame: Frame) -> None:
        time.sleep(next(pause))
        if failing and frame.index % 4 == 3:
            raise ValueError("no")

    sources = [camera(site, id=f"gate{n}", every=every) for n, site in enumerate(sites)]
    done: Counter[str] = Counter()
    sink = Keep(function=lambda frame: done.update([frame.source]))
    pipeline = Pipeline(sources, [Call(function=work, batch=2)], [sink], keep_going=True, queue=queue, staleness=0.01)
    pipeline.start()
    if cut:
        until(lambda: pipeline.metrics.snapshot().frames > 0 or pipeline.join(0))
        pipeline.stop() if cut == "stop" else pipeline.abort()
    while not pipeline.join(0.005):
        assert balanced(pipeline.metrics.snapshot())
    for site in sites:
        site.released.set()
    until(lambda: not any(thread.name.startswith("read-gate") for thread in threading.enumerate()))
    snapshot = pipeline.metrics.snapshot()
    assert balanced(snapshot)
    for source, site in zip(snapshot.sources, sites, strict=True):
        assert source.in_flight == 0
        assert source.captured == site.made
        assert source.finished == done[source.id]


# --- recordings played as cameras ----------------------------------------------------------------------------


def test_a_recording_comes_by_the_clock_and_begins_again_at_the_end() -> None:
    start = time.perf_counter()
    with open_source("test:64x64@25,frames=7", realtime=True, loop=True, rate=40, max_frames=20) as source:
        frames = list(source)
    assert time.perf_counter() - start >= 19 / 40
    assert [frame.index for frame in frames] == list(range(20))
    assert [frame.timestamp for frame in frames] == pytest.approx([n / 40 for n in range(20)])
    assert [frame.index for frame in frames if frame.discontinuity] == [7, 14]
    assert (frames[7].image == frames[0].image).all()
    assert abs(frames[-1].captured_at - time.time()) < 1


def test_a_recording_in_a_pipeline_is_live_and_late_frames_are_counted() -> None:
    release = threading.Event()
    source = "test:64x64@200,frames=60"
    pipeline = Pipeline(
        [open_source(source, realtime=True)], [Call(function=lambda frame: release.wait(20))], staleness=60
    )
    pipeline.start()
    until(lambda: pipeline.metrics.snapshot().sources[0].captured == 60)
    release.set()
    snapshot = pipeline.wait(20)
    assert pipeline.infos[0].live
    assert snapshot.sources[0].dropped["queue full"] > 50
    assert snapshot.sources[0].captured == 60
    assert balanced(snapshot)
