"""Supervision: watchdog, restarts, health over HTTP, and what the service manager is told."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from chains import Call, Keep, Memory, Stateful
from peers import until
from pydantic import PrivateAttr

from pipeline.channel import Sequencer
from pipeline.engine import Pipeline
from pipeline.errors import FramechainError, StageError, UsageError
from pipeline.frame import Frame
from pipeline.report import prometheus
from pipeline.supervision.health import examine
from pipeline.supervision.health_server import HealthServer
from pipeline.supervision.heartbeat import Heartbeat
from pipeline.supervision.systemd import Systemd

wait_for = partial(until, seconds=10)


class Held:
    """A stage's function that hangs, from a frame on, until it is let go."""

    def __init__(self, index: int) -> None:
        self.index, self.entered, self.release = index, threading.Event(), threading.Event()

    def __call__(self, frame: Frame) -> None:
        if frame.index >= self.index:
            self.entered.set()
            self.release.wait(20)


def live() -> Memory:
    """A camera, unplugged never."""
    return Memory(count=10**9, is_live=True, gate=lambda: time.sleep(0.001))


@pytest.fixture
def stuck() -> Iterator[tuple[Pipeline, Held]]:
    """A running pipeline that can be made to hang, with a watchdog that notices within a tenth of a second."""
    held = Held(5)
    pipeline = Pipeline([live()], [Call(function=held)], watchdog=0.1)
    pipeline.start()
    yield pipeline, held
    held.release.set()
    pipeline.stop()
    assert pipeline.join(10)


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


class Waiting(Keep):
    """A sink whose peer is away."""

    name = "waiting"

    @property
    def trouble(self) -> str:
        return "nobody answers"


def test_a_sink_that_waits_makes_a_run_degraded_and_healthy() -> None:
    pipeline = Pipeline([live()], [], [Waiting(), Keep()])
    pipeline.start()
    wait_for(lambda: examine(pipeline).sources[0].state == "live")
    health = examine(pipeline)
    assert (health.state, health.reasons, health.healthy) == ("degraded", ["sink 'waiting': nobody answers"], True)
    pipeline.stop()
    assert pipeline.join(10)


def test_a_call_that_takes_too_long_is_told_once_with_its_line_and_counted(
    stuck: tuple[Pipeline, Held], caplog: pytest.LogCaptureFixture
) -> None:
    pipeline, held = stuck
    assert held.entered.wait(10)
    wait_for(lambda: "call has been at one call for" in caplog.text)
    assert examine(pipeline).state == "stuck"
    assert not examine(pipeline).alive
    assert "in wait (threading.py line" in caplog.text
    held.release.set()
    wait_for(lambda: examine(pipeline).healthy)
    call = next(stage for stage in pipeline.metrics.snapshot().stages if stage.name == "call")
    assert call.faults == {"overdue": 1}
    assert 'framechain_stage_faults_total{stage="call",kind="stage",fault="overdue"} 1' in prometheus(
        pipeline.metrics.snapshot()
    )
    assert caplog.text.count("has been at one call") == 1


def test_a_worker_that_is_gone_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No call goes on that could take too long: the thread hangs between two, as by a mistake of ours."""
    hangs, release = threading.Event(), threading.Event()
    emit = Sequencer.emit

    def stand(self: Sequencer[Any], ticket: int, batch: list[Any]) -> None:
        if hangs.is_set():
            release.wait(20)
        emit(self, ticket, batch)

    monkeypatch.setattr(Sequencer, "emit", stand)
    pipeline = Pipeline([live()], [Call()], [Keep()], watchdog=0.2)
    pipeline.start()
    wait_for(lambda: examine(pipeline).frames > 10)
    assert examine(pipeline).state == "running"
    hangs.set()
    wait_for(lambda: examine(pipeline).state == "stuck")
    assert "no stage or sink has taken one" in examine(pipeline).reasons[0]
    release.set()
    wait_for(lambda: examine(pipeline).state == "running")
    pipeline.stop()
    assert pipeline.join(10)


def test_what_has_not_begun_or_is_over_does_not_stand_still() -> None:
    pipeline = Pipeline([live()], [Call()], watchdog=0.02)
    time.sleep(0.1)  # five times what the watchdog allows, as models that take long to load
    assert examine(pipeline).state == "starting"
    pipeline.start()
    wait_for(lambda: examine(pipeline).frames > 10)
    pipeline.stop()
    assert pipeline.join(10)
    time.sleep(0.1)
    assert examine(pipeline).state == "ended"


def test_a_chain_that_fails_on_every_frame_is_degraded() -> None:
    fails = threading.Event()

    def judge(frame: Frame) -> None:
        if fails.is_set():
            raise ValueError("cannot")

    pipeline = Pipeline([live()], [Call(function=judge)], watchdog=0.2, on_failure="skip")
    pipeline.start()
    wait_for(lambda: examine(pipeline).frames > 10)
    assert examine(pipeline).reasons == []
    fails.set()
    wait_for(lambda: examine(pipeline).state == "degraded")
    assert examine(pipeline).reasons[0].startswith("no frame of a live source has come through the chain for")
    fails.clear()
    wait_for(lambda: examine(pipeline).state == "running")
    pipeline.stop()
    assert pipeline.join(10)


def test_a_camera_that_is_silent_is_no_chain_that_stands_still() -> None:
    silent, release = threading.Event(), threading.Event()
    gate = Memory(count=10**9, is_live=True, gate=lambda: release.wait(20) if silent.is_set() else time.sleep(0.001))
    pipeline = Pipeline([gate], [Call()], watchdog=0.1)
    pipeline.start()
    wait_for(lambda: examine(pipeline).frames > 10)
    silent.set()
    for _ in range(10):  # a second, ten times what the watchdog allows
        time.sleep(0.1)
        assert pipeline.overdue == pipeline.troubles == []
    release.set()
    pipeline.stop()
    assert pipeline.join(10)


def test_health_is_served_before_while_stuck_and_after(stuck: tuple[Pipeline, Held]) -> None:
    pipeline, held = stuck
    server = HealthServer("127.0.0.1:0", pipeline)
    assert held.entered.wait(10)
    wait_for(lambda: get(f"{server.url}/healthz")[0] == 503)
    told = json.loads(get(f"{server.url}/healthz")[1])
    assert (told["healthy"], told["state"]) == (False, "stuck")
    assert told["reasons"][0].startswith("call has been at one call for")
    assert [source["id"] for source in told["sources"]] == ["memory"]
    held.release.set()
    wait_for(lambda: get(f"{server.url}/healthz")[0] == 200)
    assert "framechain_source_captured_total" in get(f"{server.url}/metrics")[1]
    assert get(f"{server.url}/else")[0] == 404
    server.close()
    with pytest.raises(urllib.error.URLError):
        get(f"{server.url}/healthz")
    fresh = HealthServer("0", Pipeline([Memory()]))
    assert get(f"{fresh.url}/healthz")[0] == 503, "nothing runs yet"
    fresh.close()


def test_nobody_holds_up_the_health_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.supervision.health_server._SECONDS", 60)
    server = HealthServer("0", Pipeline([], service=True))
    address = ("127.0.0.1", int(server.url.rsplit(":", 1)[1]))
    with contextlib.ExitStack() as idle:
        for _ in range(30):
            idle.enter_context(socket.create_connection(address, 10))
        began = time.monotonic()
        assert get(f"{server.url}/healthz")[0] == 503, "who asks is answered, while many only connect"
        assert time.monotonic() - began < 10, "and need not wait until they are hung up on"
    monkeypatch.setattr("pipeline.supervision.health_server._SECONDS", 0.5)
    with socket.create_connection(address, 10) as slow, socket.create_connection(address, 10) as large:
        slow.sendall(b"GET /heal")
        large.sendall(b"GET /healthz HTTP/1.0\r\n" + b"x: " + b"y" * 12_000 + b"\r\n" + b"z: " + b"y" * 12_000)
        assert get(f"{server.url}/healthz")[0] == 503
        assert large.recv(1 << 16) is not None
        assert slow.recv(100) == b"", "hung up on"
    many = [socket.create_connection(address, 10) for _ in range(20)]
    assert sum(one.recv(1) == b"" for one in many) == 20
    for one in many:
        one.close()
    wait_for(lambda: get(f"{server.url}/healthz")[0] == 503)
    server.close()


def test_a_time_without_threads_does_not_silence_the_health_server(monkeypatch: pytest.MonkeyPatch) -> None:
    server, really = HealthServer("0", Pipeline([], service=True)), threading.Thread.start

    def begin(thread: threading.Thread) -> None:
        if "process_request" in thread.name:
            raise RuntimeError("can't start new thread")
        really(thread)

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", begin)
        for _ in range(20):
            with pytest.raises((OSError, http.client.HTTPException)):
                get(f"{server.url}/healthz")
    assert get(f"{server.url}/healthz")[0] == 503
    server.close()


def test_addresses_that_cannot_be_had_are_told() -> None:
    pipeline = Pipeline([], service=True)
    for wrong in ("here", "1.2.3.4:99999", "", "localhost:"):
        with pytest.raises(UsageError, match="give HOST:PORT"):
            HealthServer(wrong, pipeline)
    server = HealthServer("0", pipeline)
    with pytest.raises(FramechainError, match="Address already in use; give another host or port") as taken:
        HealthServer(server.url.removeprefix("http://"), pipeline)
    assert taken.value.exit_code == 1, "it may be free at the next attempt, which a service manager makes"
    server.close()


class Manager:
    """A service manager's socket."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._socket.settimeout(10)

    def next(self) -> str:
        return self._socket.recv(4096).decode()

    def until(self, wanted: str) -> list[str]:
        told = [self.next()]
        while told[-1] != wanted:
            told.append(self.next())
        return told

    def close(self) -> None:
        self._socket.close()


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="systemd is a thing of Linux")
@pytest.mark.parametrize("abstract", [False, True])
def test_the_service_manager_is_told_all(abstract: bool, tmp_path: Path) -> None:
    name = f"framechain-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    manager = Manager("\0" + name if abstract else name)
    socket_name = "@" + name if abstract else name
    systemd = Systemd({"NOTIFY_SOCKET": socket_name, "WATCHDOG_USEC": "60000", "WATCHDOG_PID": str(os.getpid())})
    held = Held(5)
    camera = Memory(count=10**9, is_live=True, gate=lambda: time.sleep(0.002))
    pipeline = Pipeline([camera], [Call(function=held)], watchdog=0.05)
    heartbeat = Heartbeat(pipeline, systemd)
    heartbeat.start()
    assert "READY=1" not in [manager.next() for _ in range(3)], "before it runs"
    pipeline.start()
    assert manager.until("READY=1")
    assert manager.until("WATCHDOG=1")
    assert held.entered.wait(10)
    while not manager.next().startswith("STATUS=stuck"):
        pass
    told = manager.next()
    assert told.startswith("STATUS=stuck: 1 of 1 sources"), "its time goes on, and there is no sign of life"
    held.release.set()
    assert manager.until("WATCHDOG=1")
    pipeline.stop()
    assert manager.until("STOPPING=1")
    pipeline.wait(10)
    heartbeat.close()
    manager.close()


def test_without_a_service_manager_nothing_is_sent_and_a_dead_one_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert not Systemd({}).asked
    Systemd({}).ready()
    assert Systemd({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}).watchdog is None
    dead = Systemd({"NOTIFY_SOCKET": str(tmp_path / "gone")})
    dead.ready()
    dead.alive()
    assert caplog.text.count("cannot tell the service manager") == 1


class Frail(Stateful):
    """Counts frames by source, fails on some, and is broken from then on until it is opened again."""

    name = "frail"
    remembers: bool = True

    _counts: dict[str, int] = PrivateAttr(default_factory=dict)
    _broken: bool = PrivateAttr(False)

    def open(self) -> None:
        super().open()
        self._broken = False

    def process(self, frames: Any) -> None:
        for frame in frames:
            if self._broken or frame.index in (7, 13):
                self._broken = True
                raise ValueError("the driver is gone")
            frame.captured_at = self._counts[frame.source] = self._counts.get(frame.source, 0) + 1

    def state_dict(self) -> dict[str, Any]:
        return dict(self._counts) if self.remembers else {}

    def load_state_dict(self, state: Any) -> None:
        self._counts = dict(state)

    def close(self) -> None:
        super().close()
        self._counts = {}


@pytest.mark.parametrize("remembers", [True, False])
def test_a_stage_that_fails_is_restarted_with_what_it_remembers(
    remembers: bool, caplog: pytest.LogCaptureFixture
) -> None:
    counts: list[float] = []
    stage, sink = Frail(remembers=remembers), Keep(function=lambda frame: counts.append(frame.captured_at))
    snapshot = Pipeline([Memory(count=20)], [stage], [sink], on_failure="restart").run()
    assert [index for _, index in sink.seen] == [n for n in range(20) if n not in (7, 13)]
    assert snapshot.sources[0].dropped == {"frail failed": 2}
    assert (stage._opened, stage._closed) == (3, 3)
    assert next(part for part in snapshot.stages if part.name == "frail").faults == {"restarts": 2}
    assert caplog.text.count("with what it remembered" if remembers else "tracks begin anew") == 2
    assert max(counts) == (18 if remembers else 7)


def test_a_stage_that_restarting_does_not_help_ends_the_run() -> None:
    def fail(frame: Frame) -> None:
        raise ValueError("always")

    stage = Call(function=fail, workers=2)
    pipeline = Pipeline([Memory(count=10**9)], [stage], on_failure="restart")
    with pytest.raises(StageError, match=r"call failed on frame [567]"):
        pipeline.run()
    assert stage._opened == 6
    assert all(
        source.captured == source.finished + sum(source.dropped.values())
        for source in pipeline.metrics.snapshot().sources
    )


def test_on_failure_is_apart_from_sources_that_cannot_be_opened() -> None:
    def fail(frame: Frame) -> None:
        if frame.index == 3:
            raise ValueError("no")

    sink = Keep()
    Pipeline([Memory(count=6)], [Call(function=fail)], [sink], on_failure="skip").run()
    assert [index for _, index in sink.seen] == [0, 1, 2, 4, 5]
    with pytest.raises(UsageError):
        Pipeline(["no-such.mp4", Memory()], on_failure="skip").run()
    with pytest.raises(StageError):
        Pipeline([Memory(count=6)], [Call(function=fail)], keep_going=True, on_failure="end").run()


def test_a_stage_that_cannot_forget_a_source_fails_like_any_other() -> None:
    class Clinging(Stateful):
        name = "clinging"

        def forget(self, source: str) -> None:
            raise ValueError("it is mine")

    with pytest.raises(StageError, match="clinging failed on memory: ValueError: it is mine"):
        Pipeline([Memory(count=3)], [Clinging()]).run()
    sink = Keep()
    assert Pipeline([Memory(count=3)], [Clinging()], [sink], on_failure="skip").run().frames == 3
    assert "end memory" in sink.events


@pytest.mark.skipif(sys.platform != "linux", reason="the C library of other systems gives memory back by itself")
def test_freed_memory_goes_back_to_the_system() -> None:
    program = """
import threading, time
from pathlib import Path
from pipeline.supervision import memory

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

memory._EVERY = 0.05
gone = threading.Event()

class Own:
    def __init__(self):
        self.itself = self
    def __del__(self):
        gone.set()

Own()
assert not gone.is_set(), "what refers to itself stays"
blocks = [b"x" * 100_000 for _ in range(2000)]
full = resident()
del blocks[::2]
assert resident() > full - 20e6, "the C library keeps the holes"
trimmer = memory.Trimmer()
trimmer.start()
deadline = time.monotonic() + 20
while resident() > full - 80e6:
    assert time.monotonic() < deadline, "they stay"
    time.sleep(0.01)
assert gone.wait(20)
trimmer.close()
assert threading.active_count() == 1
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
