"""A run of months, as the service manager starts it, in seconds."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from command import FRAMECHAIN, complaint, framechain
from peers import until
from recording import lines_of

from pipeline.checkpoint.file import load

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="services are for systems with signals")

ONE = "  - {uri: 'test:64x48@20', realtime: true, id: one}\n"
TWO = "  - {uri: 'test:32x32@20', realtime: true, id: two}\n"


def chain(*sources: str, rest: str = "") -> str:
    return f"{rest}sources:\n{''.join(sources) or '  []'}\nsinks:\n  - jsonl: {{path: '{{source}}.jsonl'}}\n"


wait_for = partial(until, seconds=60)


def test_a_service_follows_its_file_and_tells_how_it_is(tmp_path: Path) -> None:
    config, log = tmp_path / "chain.yaml", tmp_path / "log"
    config.write_text(chain(ONE))
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(tmp_path / "notify"))
    manager.settimeout(60)
    environment = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "3000000"}
    command = [*FRAMECHAIN, "run", "--config", "chain.yaml", "--watch", "--health", ":0", "--report", "report.json"]
    with (
        manager,
        log.open("w") as errors,
        subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=errors, stdout=subprocess.DEVNULL) as run,
    ):
        try:
            while manager.recv(4096) != b"READY=1":
                pass
            while manager.recv(4096) != b"WATCHDOG=1":
                pass
            manager.close()
            found = re.search(r"health is at (\S+)", log.read_text())
            assert found is not None

            def states() -> dict[str, str]:
                with urllib.request.urlopen(found[1], timeout=10) as answer:
                    return {source["id"]: source["state"] for source in json.load(answer)["sources"]}

            wait_for(lambda: states() == {"one": "live"})
            config.write_text(chain(ONE, TWO))
            wait_for(lambda: states() == {"one": "live", "two": "live"})
            config.write_text("sources: {")
            run.send_signal(signal.SIGHUP)
            wait_for(lambda: "correct the YAML; nothing is changed" in log.read_text())
            config.write_text(chain(TWO, rest="queue: 7\n"))
            run.send_signal(signal.SIGHUP)
            wait_for(lambda: states() == {"one": "ended", "two": "live"})
            assert "restart it for the rest" in log.read_text()
            run.send_signal(signal.SIGTERM)
            assert run.wait(60) == 128 + signal.SIGTERM
        finally:
            run.kill()
    report = json.loads((tmp_path / "report.json").read_text())
    for source in report["metrics"]["sources"]:
        assert source["captured"] == source["finished"] + sum(source["dropped"].values())
        lines = (tmp_path / f"{source['id']}.jsonl").read_text().splitlines()
        assert len(lines) == source["finished"] > 0


def test_what_does_not_fit_is_told(tmp_path: Path) -> None:
    (tmp_path / "chain.yaml").write_text(chain(ONE))
    assert "give --config" in complaint(framechain("run", "test:", "--watch", cwd=tmp_path), 2)
    again = framechain("run", "test:", "--config", "chain.yaml", "--watch", cwd=tmp_path)
    assert "name no SOURCE besides" in complaint(again, 2)
    nowhere = framechain("run", "--config", "chain.yaml", "--health", "nowhere", cwd=tmp_path)
    assert "give HOST:PORT" in complaint(nowhere, 2)


def test_a_service_that_was_killed_goes_on_with_the_cameras_there_are_now(tmp_path: Path) -> None:
    config, log = tmp_path / "chain.yaml", tmp_path / "log"
    command = [*FRAMECHAIN, "run", "--config", "chain.yaml", "--watch", "--checkpoint", "saved", "--resume"]
    command += ["--checkpoint-every", "0.2", "--report", "report.json"]

    def frames(name: str) -> list[int]:
        path = tmp_path / f"{name}.jsonl"
        return [json.loads(line)["frame"] for line in path.read_text().splitlines()] if path.exists() else []

    def known() -> set[str]:
        told = load(tmp_path / "saved")
        return set() if told is None else {name for name, one in told["sources"].items() if one["progress"]["given"]}

    def until_killed(condition: Callable[[], object]) -> None:
        with log.open("w") as errors, subprocess.Popen(command, cwd=tmp_path, stderr=errors) as run:
            try:
                wait_for(lambda: condition() or run.poll() is not None)
                assert run.poll() is None, log.read_text()
                if TWO in config.read_text() and ONE in config.read_text():
                    second = complaint(framechain(*command[len(FRAMECHAIN) :], cwd=tmp_path), 2)
                    assert f"another run (process {run.pid}) saves its checkpoints in saved" in second
            finally:
                run.kill()

    def follow() -> bool:
        """Two leaves and comes again while the run goes on."""
        if known() == {"one", "two"} and TWO in config.read_text():
            config.write_text(chain(ONE))
        elif known() == {"one"} and lines_of(tmp_path / "two.jsonl") and TWO not in config.read_text():
            config.write_text(chain(ONE, TWO))
        return known() == {"one", "two-2"}

    config.write_text(chain(ONE, TWO))
    until_killed(follow)
    before = {name: frames(name) for name in ("one", "two", "two-2")}
    three = TWO.replace("two", "three")
    config.write_text(chain(TWO, three))
    until_killed(lambda: known() == {"two-2", "three"})
    assert "one: not among the sources any more, and forgotten" in log.read_text()
    assert "three: not known from the checkpoint, and begun anew" in log.read_text()
    assert frames("one") == before["one"]
    assert frames("two") == before["two"]
    after = frames("two-2")
    assert after[: len(before["two-2"])] == before["two-2"]
    assert after == sorted(set(after))
    assert len(after) > len(before["two-2"])
    assert frames("three") == sorted(set(frames("three")))
