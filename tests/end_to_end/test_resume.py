"""Restart without forgetting, as a user has it: kill -9 and Ctrl-C in the middle of real runs, then --resume."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from command import FRAMECHAIN, complaint, framechain
from peers import Server
from recording import lines_of

from pipeline.checkpoint.file import load

FRAMES = 80


def run(video: Path, *more: str) -> list[str]:
    outputs = ("--jsonl", "all.jsonl", "--mot", "all.txt", "--csv", "all.csv", "--report", "report.json")
    limits = ("--max-frames", str(FRAMES), "--no-text", "--no-embed", "--detect-every", "2")
    return [str(video), *outputs, *limits, *more]


def read_to(folder: Path, source: str = "vtest") -> int:
    """Index of the last frame before the checkpoint."""
    told = load(folder / "saved")
    return -1 if told is None else int(told["sources"][source]["progress"]["index"])


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
    for path, told in (("a.jsonl", "was not there before"), ("b.jsonl", f"wrote {tmp_path}/a.jsonl before")):
        assert told in run("--resume", "--jsonl", path).stderr, path
    file = tmp_path / "saved" / "checkpoint"
    whole = file.read_bytes()
    file.write_bytes(whole[:-7])
    assert "cut short; begin anew with --fresh" in complaint(run("--resume"), 2)
    assert file.read_bytes() == whole[:-7]
    assert run("--fresh").returncode == 0
    chain.write_text(chain.read_text().replace("every: 2", "every: 3"))
    assert "every of 'gate' was 2 then and is 3 now" in complaint(run("--resume"), 2)
    assert "--checkpoint DIR" in complaint(framechain("run", "test:", "--resume", cwd=tmp_path), 2)
    assert "a folder of its own" in complaint(run("--checkpoint", ""), 2)


def killed(arguments: list[str], folder: Path, condition: Callable[[], object], pipe: bytes = b"") -> None:
    """Start a run, with something in its standard input, and kill it once a condition holds."""
    process = subprocess.Popen([*FRAMECHAIN, "run", *arguments], cwd=folder, stdin=subprocess.PIPE)
    try:
        assert process.stdin is not None
        process.stdin.write(pipe)
        process.stdin.flush()
        deadline = time.monotonic() + 60
        while not condition() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        assert process.poll() is None
    finally:
        process.kill()
        process.communicate()


def lines(path: Path) -> list[int]:
    return [json.loads(line)["frame"] for line in path.read_text().splitlines()] if path.exists() else []


SAVING = ["--checkpoint", "saved", "--checkpoint-every", "0.3", "--resume", "-q"]


def test_what_is_piped_in_goes_on_like_a_camera_and_nothing_is_cut_off(tmp_path: Path) -> None:
    (tmp_path / "chain.yaml").write_text("sources: [{uri: '-', width: 32, height: 32}]\n")
    arguments = ["--config", "chain.yaml", "--jsonl", "all.jsonl", *SAVING]
    out, picture = tmp_path / "all.jsonl", bytes(32 * 32 * 3)
    killed(
        arguments,
        tmp_path,
        lambda: lines_of(out) >= 12 and (tmp_path / "saved" / "checkpoint").exists(),
        picture * 12,
    )
    before = lines(out)
    assert before == list(range(12))
    command = [*FRAMECHAIN, "run", *arguments]
    subprocess.run(command, cwd=tmp_path, input=picture * 5, check=True, timeout=60)
    after = lines(out)
    assert after[:12] == before, "what was piped in after the checkpoint comes never again"
    assert len(after) == 17
    assert after == sorted(set(after))


def test_messages_reach_their_peer_over_a_kill_and_repeats_have_the_same_number(tmp_path: Path) -> None:
    server = Server()
    hook = ["--config", "chain.yaml", "--jsonl", "all.jsonl", *SAVING]
    url = f"http://127.0.0.1:{server.port}/"
    (tmp_path / "chain.yaml").write_text(
        f"sources: ['test:64x48@25,frames=2000']\nsinks: [{{webhook: {{url: '{url}', spool: spool}}}}]\n"
    )
    # nobody takes messages; they wait, those of frames after the checkpoint, too
    killed(hook, tmp_path, lambda: lines_of(tmp_path / "all.jsonl") > 100 and read_to(tmp_path, "test") > 10)
    server.start()
    try:
        done = framechain("run", *hook, cwd=tmp_path)
    finally:
        server.stop()
    assert done.returncode == 0, done.stderr
    numbers = [line["frame"] for line in server.seen]
    assert list(dict.fromkeys(numbers)) == list(range(2000)), "all of them, the first time in order"
    assert {line["source"] for line in server.seen} == {"test"}
    again = [number for before, number in pairwise(numbers) if number <= before]
    assert len(again) <= 1, "it steps back once, to the checkpoint; (source, frame) tells a repeat"
    assert lines(tmp_path / "all.jsonl") == list(range(2000))
