"""Restart without forgetting, as a user has it: kill -9 and Ctrl-C in the middle of real runs, then --resume."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

from command import FRAMECHAIN, complaint, framechain

from pipeline.checkpoint.file import load

FRAMES = 80


def run(video: Path, *more: str) -> list[str]:
    outputs = ("--jsonl", "all.jsonl", "--mot", "all.txt", "--csv", "all.csv", "--report", "report.json")
    limits = ("--max-frames", str(FRAMES), "--no-text", "--no-embed", "--detect-every", "2")
    return [str(video), *outputs, *limits, *more]


def read_to(folder: Path) -> int:
    """Index of the last frame before the checkpoint."""
    told = load(folder / "saved")
    return -1 if told is None else int(told["sources"]["vtest"]["progress"]["index"])


def end(folder: Path, video: Path, how: signal.Signals) -> int:
    """Start a run that saves as often as it can, and end it once it has saved some frames more than there were."""
    folder.mkdir(exist_ok=True)
    before = read_to(folder)
    saving = ("--checkpoint", "saved", "--checkpoint-every", "0.05", "--resume", "-q")
    process = subprocess.Popen([*FRAMECHAIN, "run", *run(video, *saving)], cwd=folder)
    try:
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            if read_to(folder) >= before + 10:
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
    assert end(parts, vtest, signal.SIGKILL) == -signal.SIGKILL
    assert end(parts, vtest, signal.SIGINT) == 128 + signal.SIGINT
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


def test_what_cannot_be_gone_on_with_is_one_line_with_the_cure(tmp_path: Path) -> None:
    chain = tmp_path / "chain.yaml"
    chain.write_text("sources: ['test:64x64@25,frames=8']\nstages: [{gate: {every: 2}}]\ncheckpoint: saved\n")

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        return framechain("run", "--config", chain, *more, cwd=tmp_path)

    first = run("--resume")
    assert first.returncode == 0, first.stderr
    assert "there is no checkpoint in saved yet; the run begins anew" in first.stderr
    again = run("--resume")
    assert again.returncode == 0, "a service that has nothing left to do is no failure"
    file = tmp_path / "saved" / "checkpoint"
    whole = file.read_bytes()
    file.write_bytes(whole[:-7])
    assert "cut short; begin anew with --fresh" in complaint(run("--resume"), 2)
    assert file.read_bytes() == whole[:-7]
    assert run("--fresh").returncode == 0
    chain.write_text(chain.read_text().replace("every: 2", "every: 3"))
    assert "every of 'gate' was 2 then and is 3 now" in complaint(run("--resume"), 2)
    assert "--checkpoint DIR" in complaint(framechain("run", "test:", "--resume", cwd=tmp_path), 2)
