"""Disks that are full and power that is cut while a camera is recorded and checkpoints are saved."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from peers import fill, small_disk
from recording import RATE, RECOVERY, in_database, lines_of, probed, rows, running

from pipeline.checkpoint.file import load

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")


def saved_at(folder: Path) -> float:
    """When the checkpoint was saved, which must be whole; 0 before the first one."""
    told = load(folder)
    return 0.0 if told is None else float(told["saved_at"])


def test_a_disk_that_is_full_under_checkpoint_lines_and_database_at_once(camera: str, tmp_path: Path) -> None:
    """There is room again and it goes on; it is full again, the run is killed, and what was saved is gone on from."""
    with small_disk(tmp_path / "disk", 4) as disk:
        lines, saved = disk / "out.jsonl", disk / "saved"
        sinks = {"jsonl": {"path": str(lines), "append": True}, "sqlite": {"path": str(disk / "out.db")}}
        saving = ("--checkpoint", str(saved), "--checkpoint-every", "0.5", "--resume")
        full, again = ("there is no room left in", "cannot save a checkpoint"), ("there is room in", "are saved in")

        def said(words: tuple[str, str], times: int) -> bool:
            return [run.log().count(word) for word in words] == [2 * times, times]

        with running(tmp_path, camera, sinks, *saving) as run:
            run.until(lambda: lines_of(lines) > RATE and saved_at(saved) > 0)
            hog = fill(disk)
            run.until(lambda: fill(disk) and said(full, 1))
            before = saved_at(saved)
            assert before > 0, "the checkpoint from before is whole"
            hog.unlink()
            freed = time.monotonic()
            run.until(lambda: said(again, 1))
            assert time.monotonic() - freed <= RECOVERY
            run.until(lambda: saved_at(saved) > before)

            hog = fill(disk)
            written = lines_of(lines)
            since = time.monotonic()
            run.until(lambda: fill(disk) and time.monotonic() - since > 1.5)  # what is told once a minute tells nothing
            run.process.kill()
            run.process.wait()
        assert [run.log().count(word) for word in full] == [2, 1], (
            "a disk that is full again at once is told of once a minute"
        )
        last = load(saved)
        assert last is not None
        recorded, stored = rows(lines), in_database(disk / "out.db")
        assert len(recorded) >= written - 1
        assert recorded == sorted(set(recorded))
        assert stored == sorted(set(stored))

        with running(tmp_path, camera, sinks, *saving, "--report", "report.json") as run:
            run.until(lambda: fill(disk) and said(full, 1))
            hog.unlink()
            run.until(lambda: lines_of(lines) > len(recorded) + RATE)
            run.until(lambda: saved_at(saved) > float(last["saved_at"]))
            assert "cam goes on after" in run.stop()
        assert rows(lines)[: len(recorded)] == recorded
        assert rows(lines) == sorted(set(rows(lines))), "indices never repeat"
        assert in_database(disk / "out.db")[: len(stored)] == stored
        (source,) = json.loads((tmp_path / "report.json").read_text())["metrics"]["sources"]
        assert source["captured"] == source["finished"] + sum(source["dropped"].values())


def test_a_power_cut_at_any_moment_leaves_every_output_valid(camera: str, tmp_path: Path) -> None:
    """The run stands still while its files are copied, three times: that is what a cut leaves, or less of it."""
    folder = tmp_path / "run"
    folder.mkdir()
    sinks: dict[str, Any] = {
        "video": {"path": "v/{source}.mp4", "rotate": {"seconds": 2}},
        "jsonl": {"path": "out.jsonl", "append": True},
        "sqlite": {"path": "out.db"},
    }
    saving = ("--checkpoint", "saved", "--checkpoint-every", "0.3")
    lines = folder / "out.jsonl"
    copies = [tmp_path / f"copy{number}" for number in range(3)]
    with running(folder, camera, sinks, *saving) as run:
        for number, copy in enumerate(copies):
            run.until(lambda least=(1.3 * number + 1.2) * RATE: lines_of(lines) > least and saved_at(folder / "saved"))
            os.kill(run.process.pid, signal.SIGSTOP)
            shutil.copytree(folder, copy)
            os.kill(run.process.pid, signal.SIGCONT)
        run.stop()

    for copy in copies:
        recorded, stored = rows(copy / "out.jsonl"), in_database(copy / "out.db")
        assert stored == recorded[: len(stored)]
        assert saved_at(copy / "saved") > 0
        videos = [part for part in sorted((copy / "v").glob("*.mp4")) if part.stat().st_size > 5000]
        assert sum(map(probed, videos)) > len(recorded) - 3 * RATE

    # what the system had not put on disk yet is missing, at any byte
    cut = copies[-1]
    recorded, stored = rows(cut / "out.jsonl"), in_database(cut / "out.db")
    base, log = (cut / "out.db").read_bytes(), cut / "out.db-wal"
    whole = log.read_bytes() if log.exists() else b""
    for share in (0.9, 0.5, 0.1):
        (cut / "out.db").write_bytes(base)
        log.write_bytes(whole[: int(share * len(whole))])
        (cut / "out.db-shm").unlink(missing_ok=True)
        found = in_database(cut / "out.db")
        assert found == stored[: len(found)]
    text = (cut / "out.jsonl").read_bytes()
    (cut / "out.jsonl").write_bytes(text[:-20])

    # and it goes on from there
    with running(cut, camera, sinks, *saving, "--resume") as run:
        run.until(lambda: lines_of(cut / "out.jsonl") > len(recorded) + RATE)
        run.stop()
    again = rows(cut / "out.jsonl")
    assert again[: len(recorded) - 1] == recorded[:-1]
    assert again == sorted(set(again))
