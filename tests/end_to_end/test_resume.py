"""Restart without forgetting, as a user has it: kill -9 and Ctrl-C in the middle of real runs, then --resume."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

from command import FRAMECHAIN, complaint, framechain

from pipeline.checkpoint_file import load

FRAMES = 90


def run(video: Path, *more: str) -> list[str]:
    outputs = ("--jsonl", "all.jsonl", "--mot", "all.txt", "--csv", "all.csv", "--report", "report.json")
    limits = ("--max-frames", str(FRAMES), "--no-text", "--detect-every", "2")
    return [str(video), *outputs, *limits, *more]


def end(folder: Path, video: Path, how: signal.Signals, after: int) -> int:
    """Start a run that saves as often as it can, and end it once a checkpoint says that it came so far."""
    folder.mkdir(exist_ok=True)
    saving = ("--checkpoint", "saved", "--checkpoint-every", "0.05", "--resume", "-q")
    process = subprocess.Popen([*FRAMECHAIN, "run", *run(video, *saving)], cwd=folder)
    try:
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            told = load(folder / "saved")
            if told is not None and all(one["progress"]["index"] >= after for one in told["sources"].values()):
                break
            time.sleep(0.02)
        process.send_signal(how)
        return process.wait(60)
    finally:
        process.kill()


def test_a_run_that_was_killed_and_interrupted_gives_the_same_bytes(tmp_path: Path, data: Path) -> None:
    vtest = (data / "video" / "vtest.avi").resolve()
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    assert framechain("run", *run(vtest, "-q"), cwd=whole).returncode == 0
    assert end(parts, vtest, signal.SIGKILL, 20) == -signal.SIGKILL
    assert end(parts, vtest, signal.SIGINT, 45) == 128 + signal.SIGINT
    done = framechain("run", *run(vtest, "--checkpoint", "saved", "--resume"), cwd=parts)
    assert done.returncode == 0, done.stderr
    assert "framechain: vtest goes on after frame" in done.stderr
    for name in ("all.jsonl", "all.txt", "all.csv"):
        assert (parts / name).read_bytes() == (whole / name).read_bytes(), name
    said, expected = (json.loads((folder / "report.json").read_text()) for folder in (parts, whole))
    assert said["objects"] == expected["objects"]
    for report in (said, expected):
        (source,) = report["metrics"]["sources"]
        assert (source["captured"], source["finished"], source["in_flight"]) == (FRAMES, FRAMES, 0)

    again = framechain("run", *run(vtest, "--checkpoint", "saved", "--resume"), cwd=parts)
    assert again.returncode == 0, "a service that has nothing left to do is no failure"
    assert (parts / "all.txt").read_bytes() == (whole / "all.txt").read_bytes()


def test_what_cannot_be_gone_on_with_is_one_line_with_the_cure(tmp_path: Path) -> None:
    saving = ("--checkpoint", "saved", "--no-text", "--no-embed")
    scene = "test:160x120@25,frames=8"
    first = framechain("run", scene, "--resume", *saving, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "there is no checkpoint in saved yet; the run begins anew" in first.stderr
    assert "tracker of 'track' was tether then and is sort now" in complaint(
        framechain("run", scene, "--resume", "--tracker", "sort", *saving, cwd=tmp_path), 2
    )
    file = tmp_path / "saved" / "checkpoint"
    whole = file.read_bytes()
    file.write_bytes(whole[:-7])
    assert "cut short" in complaint(framechain("run", scene, "--resume", *saving, cwd=tmp_path), 2)
    assert file.read_bytes() == whole[:-7]
    assert framechain("run", scene, "--fresh", *saving, cwd=tmp_path).returncode == 0
    assert load(tmp_path / "saved") is not None
