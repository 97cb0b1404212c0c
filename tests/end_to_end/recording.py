"""A camera recorded by `framechain run` as a user starts it, and what other programs find in the outputs."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from command import FRAMECHAIN
from peers import until

RATE = 25.0
"""Frames a second of the camera."""

RECOVERY = 2.0
"""Longest from when a peer or the disk is back to when what was held up gets through."""


class Run:
    """`framechain run` over the camera into the given sinks."""

    def __init__(self, folder: Path, camera: str, sinks: dict[str, Any], *options: str) -> None:
        source = {"uri": camera, "id": "cam"}
        config = {"sources": [source], "sinks": [{name: options} for name, options in sinks.items()]}
        (folder / "chain.json").write_text(json.dumps(config))  # JSON is YAML
        self._log = folder / "log"
        with self._log.open("w") as log:
            command = [*FRAMECHAIN, "run", "--config", "chain.json", *options]
            self.process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)

    def log(self) -> str:
        return self._log.read_text()

    def until(self, condition: Callable[[], Any]) -> None:
        """Wait for a condition as long as the run goes on."""

        def met() -> Any:
            assert self.process.poll() is None, self.log()
            return condition()

        until(met, 60)

    def stop(self) -> str:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(30) == 128 + signal.SIGTERM, self.log()
        text = self.log()
        assert "Traceback" not in text
        return text


@contextmanager
def running(folder: Path, camera: str, sinks: dict[str, Any], *options: str) -> Iterator[Run]:
    run = Run(folder, camera, sinks, *options)
    try:
        yield run
    finally:
        run.process.kill()
        run.process.wait()


def rows(*paths: Path) -> list[int]:
    """Indices of the frames in files of JSON lines, which must be whole."""
    text = "".join(path.read_text() for path in paths)
    assert not text or text.endswith("\n")
    return [json.loads(line)["frame"] for line in text.splitlines()]


def lines_of(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def probed(path: Path) -> int:
    """Frames that FFmpeg decodes from a video, which begins with a key frame; it may complain of nothing."""
    if shutil.which("ffprobe") is None:
        pytest.skip("no ffprobe; apt-get install ffmpeg")
    wanted = "stream=nb_read_frames:packet=flags"
    command = [
        "ffprobe",
        "-v",
        "error",
        "-count_frames",
        "-select_streams",
        "v",
        "-show_entries",
        wanted,
        "-of",
        "json",
    ]
    done = subprocess.run([*command, str(path)], capture_output=True, check=True)
    assert done.stderr == b"", path
    found = json.loads(done.stdout)
    assert found["packets"][0]["flags"].startswith("K")
    return int(found["streams"][0]["nb_read_frames"])


def in_database(path: Path) -> list[int]:
    base = sqlite3.connect(path)
    try:
        assert base.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return [index for (index,) in base.execute("SELECT frame FROM frames ORDER BY id")]
    finally:
        base.close()
