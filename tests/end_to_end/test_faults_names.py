"""A resolver of names that hangs: who needs no name is not held up, deadlines hold, and Ctrl-C ends the run."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

from cameras import HttpCamera
from command import FRAMECHAIN
from resolver import Resolver
from site_of_cameras import RECOVERY, until


def rows(path: Path, source: str) -> list[dict[str, object]]:
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [row for row in map(json.loads, lines) if row["source"] == source]


def test_a_resolver_that_hangs(tmp_path: Path) -> None:
    out, report = tmp_path / "out.jsonl", tmp_path / "report.json"
    with Resolver() as resolver, HttpCamera() as steady, HttpCamera() as named:
        sources = [
            {"uri": f"http://127.0.0.1:{steady.port}/mjpeg", "id": "steady"},
            {"uri": f"http://admin:s3cret@gate.example:{named.port}/mjpeg", "id": "named", "open_timeout": 1},
        ]
        (tmp_path / "chain.json").write_text(json.dumps({"sources": sources, "sinks": [{"jsonl": {"path": str(out)}}]}))
        chain = [*FRAMECHAIN, "run", "--config", "chain.json", "--report", str(report), "-q"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "cwd": tmp_path}

        # without --keep-going the run ends, as soon as the deadline is over
        first = subprocess.run(resolver.asked_by(chain, tmp_path), timeout=60, check=False, **pipes)  # type: ignore[call-overload]
        assert first.returncode == 1, first.stdout
        assert "does not answer" in first.stdout
        assert "s3cret" not in first.stdout

        begun = named.asked
        with subprocess.Popen(resolver.asked_by([*chain, "--keep-going"], tmp_path), **pipes) as run:  # type: ignore[call-overload]
            try:
                until(lambda: len(rows(out, "steady")) > 25, "the other camera is not held up")
                asked, since, sent = resolver.asked, len(rows(out, "steady")), steady.sent
                until(lambda: resolver.asked >= asked + 4, "it is asked again and again")
                shown, sent = len(rows(out, "steady")) - since, steady.sent - sent
                assert named.asked == begun
                resolver.answers = True
                back = time.monotonic()
                until(lambda: bool(rows(out, "named")), "the camera comes")
                assert time.monotonic() - back < RECOVERY

                resolver.answers = False
                named.frozen = True
                asked = resolver.asked
                until(lambda: resolver.asked > asked, "its name is asked for again")
                run.send_signal(signal.SIGINT)
                ended = time.monotonic()
                said = run.communicate(timeout=30)[0]
                assert time.monotonic() - ended < 5
            finally:
                run.kill()
        assert run.returncode == 128 + signal.SIGINT, said
    assert "Traceback" not in said
    assert "s3cret" not in said + out.read_text() + report.read_text()
    assert shown > 0.8 * sent - 5
    for source in json.loads(report.read_text())["metrics"]["sources"]:
        assert source["captured"] == source["finished"] + sum(source["dropped"].values())
        assert source["finished"] == len(rows(out, source["id"]))
