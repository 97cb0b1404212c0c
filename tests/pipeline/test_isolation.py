"""Sources in processes of their own: the same frames, a crash that ends one source only, nothing left behind."""

from __future__ import annotations

import ctypes
import hashlib
import itertools
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cameras import HttpCamera
from chains import Call, Keep
from clips import damaged, erase, write_clip
from peers import until
from pydantic import PrivateAttr

from pipeline.engine import Pipeline
from pipeline.errors import AccessDenied, FramechainError, NotThere, StageError, UsageError
from pipeline.frame import Frame
from pipeline.isolation.source import IsolatedSource, Spare
from pipeline.live_source import LiveSource
from pipeline.source import Moment, Source, SourceInfo, SteppedSource, create_source, open_source

pytestmark = pytest.mark.skipif(os.name != "posix", reason="processes inherit memory by descriptor")


class Odd(SteppedSource, LiveSource):
    """Gives pictures of growing size; at the picture of that number it does what its uri says."""

    name = "odd"
    at: int = 5
    secret: Any = None

    _next: int = PrivateAttr(0)

    @classmethod
    def matches(cls, uri: str) -> bool:
        return False

    def open(self) -> SourceInfo:
        logging.getLogger("framechain").warning("opened %s", self.uri)
        return self._opened(self.uri, 8, 8, 25)

    def grab(self) -> Moment | None:
        if self._next == self.at:
            if self.uri == "crash":
                ctypes.string_at(0)
            elif self.uri == "raise":
                raise OSError("http://admin:s3cret@gate: the cable\nis out")
            elif self.uri == "end":
                return None
        self._next += 1
        return Moment(self._next - 1, (self._next - 1) / 25, 0.1 + self._next)

    def retrieve(self) -> Any:
        return np.full((8 + self._next, 8, 3), self._next, np.uint8)


def digests(frames: Iterable[Frame]) -> list[tuple[Any, ...]]:
    """All that a source says of its frames, and their pixels."""
    when = attrgetter("source", "index", "timestamp", "captured_at", "discontinuity", "image.shape")
    return [(when(frame), hashlib.sha256(frame.image.tobytes()).hexdigest()) for frame in frames]


@pytest.fixture(scope="module")
def spare() -> Iterator[Spare]:
    """One process for all tests that leave it alive."""
    kept = Spare()
    yield kept
    kept.close()


def isolated(source: Source | str, spare: Spare | None = None, **options: Any) -> IsolatedSource:
    there = IsolatedSource.of(create_source(source, **options) if isinstance(source, str) else source, spare)
    there.open()
    return there


def is_there(process: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False


@pytest.fixture
def children(spare: Spare) -> Callable[[], list[int]]:
    """Tells the processes of this one that read sources, but for the spare one."""
    before = readers()
    return lambda: [process for process in readers() if process not in before]


def readers() -> list[int]:
    found = subprocess.run(
        ["ps", "--ppid", str(os.getpid()), "-o", "pid=,args="], capture_output=True, text=True, check=False
    ).stdout
    return [int(line.split()[0]) for line in found.splitlines() if "pipeline.isolation.reader" in line]


def test_a_real_file_gives_the_same_bytes(data: Path) -> None:
    path = str(data / "video" / "vtest.avi")
    with open_source(path, max_frames=60) as here, open_source(path, max_frames=60, isolation="process") as there:
        assert isinstance(there, IsolatedSource)
        assert here.open() == there.open()
        frames = list(there)
        assert digests(frames) == digests(here)
    assert all(frame.image.flags.owndata and frame.image.flags.c_contiguous for frame in frames)


@pytest.mark.parametrize("options", [{}, {"every": 3, "max_frames": 9}])
def test_what_is_damaged_skipped_or_missing_is_counted_the_same(
    tmp_path: Path, spare: Spare, options: dict[str, int]
) -> None:
    path = damaged(write_clip(tmp_path / "a.mp4", frames=60), [13, 45], erase)
    with open_source(str(path), **options) as here, isolated(str(path), spare, **options) as there:
        assert digests(there) == digests(here)
        assert there.dropped == here.dropped
        assert here.dropped
        assert there.read() is None


def test_frames_of_an_earlier_run_are_passed_over(tmp_path: Path, spare: Spare) -> None:
    path = write_clip(tmp_path / "a.mp4", frames=30)
    with open_source(str(path), every=2) as here, isolated(str(path), spare, every=2) as there:
        for source in (here, there):
            source.skip(12, 7, lambda: False)
        assert digests(there) == digests(here)
        assert there.dropped == here.dropped
    with isolated(str(path), spare) as there, pytest.raises(UsageError, match=r"has no frame 99, .*--fresh"):
        there.skip(99, 100, lambda: False)
    with isolated(Odd(uri="go on", at=-1)) as there:
        there.skip(10**9, 10**9, lambda: True)  # hours, if nobody asked
        assert there.read() is None


def test_a_file_is_played_as_a_camera(tmp_path: Path, spare: Spare) -> None:
    path = str(write_clip(tmp_path / "a.mp4", frames=6))
    began = time.time()
    with isolated(path, spare, realtime=True, loop=True, rate=100, max_frames=15) as source:
        frames = list(source)
    assert [(frame.index, frame.timestamp) for frame in frames] == [(n, n / 100) for n in range(15)]
    assert [frame.index for frame in frames if frame.discontinuity] == [6, 12]
    assert frames[-1].captured_at - 0.14 > began > frames[0].captured_at - 20


def test_sizes_change_and_the_sources_own_words_come_through(spare: Spare, caplog: pytest.LogCaptureFixture) -> None:
    with isolated(Odd(uri="end"), spare) as source:
        frames = list(source)
        assert source.complete
    assert [frame.image.shape for frame in frames] == [(9 + n, 8, 3) for n in range(5)]
    assert all((frame.image == n + 1).all() for n, frame in enumerate(frames))
    assert "opened end" in caplog.text


def test_errors_are_the_sources_own(tmp_path: Path, spare: Spare) -> None:
    missing = str(tmp_path / "missing.mp4")
    with pytest.raises(UsageError) as here:
        open_source(missing)
    with pytest.raises(UsageError) as there:
        isolated(missing, spare)
    assert str(there.value) == str(here.value)
    with HttpCamera(password="s3cret") as camera:
        where = f"127.0.0.1:{camera.port}"
        with pytest.raises(AccessDenied, match=rf"^'http://{where}/mjpeg' wants another user"):
            isolated(f"http://admin:wr0ng@{where}/mjpeg", spare)
        with pytest.raises(NotThere, match=rf"^'http://{where}/else' is not found"):
            isolated(f"http://admin:s3cret@{where}/else", spare)
    with isolated(Odd(uri="raise"), spare) as source:
        assert [source.read() is not None for _ in range(5)] == [True] * 5
        with pytest.raises(FramechainError, match=r"^OSError: http://gate: the cable is out$"):
            source.read()
    with pytest.raises(UsageError, match="no plain data"):
        isolated(Odd(uri="end", secret=object()), spare)


def test_a_crash_tells_where_and_what_came_before_it_is_given() -> None:
    with isolated(Odd(uri="crash")) as source:
        assert [frame.index for frame in itertools.islice(source, 3)] == [0, 1, 2]
        until(lambda: source.process is not None and not is_there(source.process))
        assert [frame.index for frame in itertools.islice(source, 2)] == [3, 4]
        with pytest.raises(FramechainError, match=r"^the decoder of 'crash' was ended by SIGSEGV$"):
            source.read()
        assert source.read() is None


def test_a_camera_whose_decoder_crashes_is_tried_again(
    children: Callable[[], list[int]], caplog: pytest.LogCaptureFixture
) -> None:
    with HttpCamera(rate=100, password="s3cret") as camera:
        source = create_source(f"http://admin:s3cret@127.0.0.1:{camera.port}/mjpeg", id="gate", isolation="process")
        pipeline = Pipeline([source])
        pipeline.start()

        def now() -> Any:
            return pipeline.metrics.snapshot().sources[0]

        until(lambda: now().finished > 5)
        victims = children()  # on a busy machine a rival, too
        for victim, kept in itertools.product(victims, ("cmdline", "environ")):
            assert b"s3cret" not in Path(f"/proc/{victim}/{kept}").read_bytes()
        for victim in victims:
            os.kill(victim, signal.SIGSEGV)
        until(lambda: now().connections >= 2)
        count = now().finished
        until(lambda: now().finished > count + 5)
        pipeline.stop()
        told = pipeline.wait(20).sources[0]
    assert told.captured == told.finished + sum(told.dropped.values())
    warnings = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert warnings == ["the decoder of 'gate' was ended by SIGSEGV; it is tried again"]
    assert children() == []


def test_a_file_whose_decoder_crashes_ends_and_the_others_go_on(
    tmp_path: Path, children: Callable[[], list[int]]
) -> None:
    first, second = (write_clip(tmp_path / name, frames=40) for name in ("a.mp4", "b.mp4"))

    def crash(frame: Frame) -> None:
        if frame.index == 10 and frame.source == "a":
            os.kill(children()[0], signal.SIGSEGV)

    sources = [create_source(str(first), isolation="process"), create_source(str(second))]
    sink = Keep()
    snapshot = Pipeline(sources, [Call(function=crash)], [sink], keep_going=True).run()
    assert [index for source, index in sink.seen if source == "b"] == list(range(40))
    (told,) = [one for one in snapshot.sources if one.id == "a"]
    assert 11 <= told.finished == told.captured < 40
    again = Pipeline([create_source(str(first), isolation="process")], [Call(function=crash)])
    with pytest.raises(
        StageError,
        match=r"^reading failed on frame \d+ of a: the decoder of 'a' was ended by SIGSEGV after frame \d+$",
    ) as caught:
        again.run()
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("where", ["opening", "reading"])
def test_one_that_hangs_is_gone_once_it_is_abandoned(where: str) -> None:
    with HttpCamera(rate=100) as camera:
        camera.frozen = where == "opening"
        source = IsolatedSource.of(create_source(f"http://127.0.0.1:{camera.port}/mjpeg"))
        ended = threading.Event()

        def work() -> None:
            try:
                source.open()
                while source.read() is not None:
                    pass
            except FramechainError:
                pass
            source.close()
            ended.set()

        threading.Thread(target=work, daemon=True).start()
        until(lambda: source.process is not None and (camera.asked if camera.frozen else source._last > 3))
        process = source.process
        assert process is not None
        os.kill(process, signal.SIGSTOP)  # as if it waited for a dead disk or driver
        source.abandon()
        assert ended.wait(20)
        assert not is_there(process)


def test_a_process_that_was_told_to_end_while_it_closed_is_not_used_again(spare: Spare) -> None:
    source = isolated("test:64x48", spare)
    assert source.read() is not None
    assert source._child is not None
    really = source._child.channel.receive

    def receive() -> Any:
        told = really()
        if "closed" in told[0]:
            source.abandon()
        return told

    source._child.channel.receive = receive  # type: ignore[method-assign]
    source.close()
    after = isolated("test:64x48,frames=3", spare)
    assert sum(1 for _ in after) == 3
    after.close()


def test_what_every_skips_is_a_sign_of_life(spare: Spare) -> None:
    with HttpCamera(rate=100) as camera:
        source = isolated(f"http://127.0.0.1:{camera.port}/mjpeg", spare, every=1000)
        assert source.read() is not None
        reader = threading.Thread(target=source.read, daemon=True)
        reader.start()
        until(lambda: source.dropped["every"] > 10)
        assert reader.is_alive()
        source.abandon()
        reader.join(20)
        source.close()


def test_signals_of_the_run_pass_it_by_and_it_ends_with_the_run(tmp_path: Path) -> None:
    """SIGTERM and SIGINT go to a whole group; kill -9 of the run leaves no process and no memory."""
    path, before = write_clip(tmp_path / "a.mp4", frames=200), set(os.listdir("/dev/shm"))
    script = (
        "import sys, time; from pipeline.source import open_source\n"
        "source = open_source(sys.argv[1], isolation='process')\n"
        "print(source.process, source.read().index, flush=True)\n"
        "sys.stdin.readline()\n"
        "print(sum(1 for _ in source), flush=True)\n"
        "time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdin is not None
        assert run.stdout is not None
        process, index = map(int, run.stdout.readline().split())
        assert index == 0
        for sent in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(process, sent)
        print(file=run.stdin, flush=True)
        assert run.stdout.readline() == "199\n"
        run.kill()
    until(lambda: not is_there(process))
    assert set(os.listdir("/dev/shm")) <= before


def test_what_is_piped_in_is_read_by_the_process(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mkv", frames=20)
    script = "from pipeline.source import open_source\nprint(sum(1 for _ in open_source('-', isolation='process')))"
    with path.open("rb") as file:
        done = subprocess.run(
            [sys.executable, "-c", script], stdin=file, capture_output=True, text=True, timeout=60, check=False
        )
    assert (done.stdout, done.returncode) == ("20\n", 0), done.stderr


def test_fifty_connections_leave_nothing_and_take_one_process(
    tmp_path: Path, children: Callable[[], list[int]]
) -> None:
    path, spare, seen = str(write_clip(tmp_path / "a.mp4", frames=3)), Spare(), set()

    def held() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), threading.active_count()

    before = held()
    for _ in range(50):
        with isolated(path, spare) as source:
            seen.add(source.process)
            assert len(list(source)) == 3
    assert len(seen) == 1
    spare.close()
    with isolated(path) as source:
        assert source.read() is not None
    until(lambda: held() == before)
    assert children() == []


def test_where_there_is_no_memory_without_a_name_a_file_without_one_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)
    with isolated(Odd(uri="end")) as source:
        assert [int(frame.image[0, 0, 0]) for frame in source] == [1, 2, 3, 4, 5]
