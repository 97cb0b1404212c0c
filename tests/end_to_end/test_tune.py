"""`framechain tune tracker`: options that suit the scenes are found, kept, and said for what they are worth."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import yaml

from pipeline.cli import main
from trackers.sequences import parse

pytest.importorskip("optuna")
pytest.importorskip("trackeval")


def blinking(folder: Path, seed: int = 0, frames: int = 40) -> Path:
    """A MOTChallenge sequence at 10 frames a second: six walkers whom the detector loses for half a second at a time,
    five times longer than SORT's defaults wait."""
    rng = np.random.default_rng(seed)
    truth, found = [], []
    velocity, phase = rng.uniform(-4, 4, 6), rng.integers(0, 15, 6)
    for frame in range(1, frames + 1):
        for person in range(6):
            left, top = 100 * person + velocity[person] * frame, 50.0 + 10 * person
            truth.append(f"{frame},{person + 1},{left:.1f},{top:.1f},40,110,1,1,1")
            if (frame + phase[person]) % 15 >= 5:
                left, top = rng.normal((left, top), 0.5)
                found.append(f"{frame},-1,{left:.1f},{top:.1f},40,110,0.9")
    for part, lines in (("gt", truth), ("det", found)):
        (folder / part).mkdir(parents=True)
        (folder / part / f"{part}.txt").write_text("\n".join(lines) + "\n")
    (folder / "seqinfo.ini").write_text(
        f"[Sequence]\nname={folder.name}\nframeRate=10\nseqLength={frames}\nimWidth=640\nimHeight=480\n"
    )
    return folder


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return blinking(tmp_path / "gate")


def ended(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as done:
        main(list(map(str, arguments)))
    return int(done.value.code or 0)


def complaint(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    assert ended("tune", "tracker", *arguments) == 2
    (line,) = [line for line in capsys.readouterr().err.strip().splitlines() if "fastest" not in line]
    return line


SORT = ("--tracker", "sort", "--option", "max_coast=0.05..4", "--option", "min_hits=0..4", "--trials", 12)


def test_sort_learns_to_wait(scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = blinking(tmp_path / "other" / "yard", seed=1)
    out, figures = tmp_path / "tuned.yaml", tmp_path / "figures.json"
    assert (
        ended("tune", "tracker", scene, "--report", other, *SORT, "--trials", 24, "--out", out, "--json", figures) == 0
    )
    said = capsys.readouterr()
    found = json.loads(figures.read_text())
    for part, name in (("tuned_on", "gate"), ("not_tuned_on", "yard")):
        assert found[part]["sequences"] == [name]
        assert found[part]["after"]["HOTA"] > found[part]["before"]["HOTA"] + 0.05
        assert found[part]["after"]["IDF1"] > found[part]["before"]["IDF1"]
    assert found["options"]["max_coast"] > 0.5
    assert set(found["options"]) == set(found["changed"]) <= {"max_coast", "min_hits"}
    assert found["changed"]["max_coast"]["before"] == 0.1
    assert "trial 1: hota" in said.err
    assert "not tuned on" in said.out
    assert "what mattered most: " in said.out

    configured = yaml.safe_load(out.read_text())["stages"][-1]["track"]
    assert configured == {"tracker": "sort", "options": found["options"]}
    assert ended("config", "check", out) == 0
    assert parse(found["tracker"]) == ("sort", found["options"])
    assert found["tracker"] in said.out
    assert ended("eval", "tracker", other, "--tracker", found["tracker"], "--json", tmp_path / "again.json") == 0
    again = json.loads((tmp_path / "again.json").read_text())[found["tracker"]]["yard"]
    assert again == found["not_tuned_on"]["after"], "figures are of the rounded values that were written"


def test_the_same_seed_finds_the_same_with_more_processes(scene: Path, tmp_path: Path) -> None:
    runs = (("a", 0, 1), ("b", 0, 2), ("c", 1, 1))
    for name, seed, jobs in runs:
        files = ("--out", tmp_path / "out.yaml", "--json", tmp_path / f"{name}.json")
        assert ended("tune", "tracker", scene, *SORT, "--trials", 6, "--seed", seed, "--jobs", jobs, "-q", *files) == 0
    first, second, third = ((tmp_path / f"{name}.json").read_text() for name, *_ in runs)
    assert first == second
    assert first != third.replace('"seed": 1', '"seed": 0')


def test_a_run_takes_the_file(scene: Path, tmp_path: Path) -> None:
    out = tmp_path / "tuned.yaml"
    assert ended("tune", "tracker", scene, *SORT, "--trials", 5, "--no-embed", "-q", "--out", out) == 0
    assert ended("run", "test:320x240", "--max-frames", 5, "--config", out, "--mot", tmp_path / "o.txt", "-q") == 0


def test_what_is_given_is_kept_and_one_trial_is_the_start(
    scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "tuned.yaml"
    start = "sort:min_hits=1,max_coast=1.0"
    assert ended("tune", "tracker", scene, "--tracker", start, "--trials", 1, "--metric", "mean", "--out", out) == 0
    assert yaml.safe_load(out.read_text())["stages"][-1]["track"]["options"] == {"min_hits": 1, "max_coast": 1.0}
    said = " ".join(capsys.readouterr().out.split())
    assert "these figures are of the data that was tuned on" in said
    assert "nothing better was found" in said
    assert ended("tune", "tracker", scene, "--tracker", start, "--trials", 8, "--timeout", 0, "--out", out) == 0


def test_ctrl_c_keeps_the_best_so_far(scene: Path, tmp_path: Path) -> None:
    out = tmp_path / "tuned.yaml"
    command = [sys.executable, "-m", "pipeline", "tune", "tracker", scene, *SORT, "--trials", "100000", "--out", out]
    # where the tests run in the background nobody hears an interrupt, and children inherit that
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(
        list(map(str, command)),
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=heard,  # noqa: PLW1509
    ) as going:
        assert going.stderr is not None
        assert going.stderr.readline().startswith("trial 1:")
        going.send_signal(signal.SIGINT)
        rest = going.stderr.read()
    assert going.returncode == 130, rest
    assert rest.splitlines()[-1].startswith("framechain: interrupted after ")
    assert ended("config", "check", out) == 0


def test_what_cannot_be_is_told_in_one_line(
    scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = ("--out", tmp_path / "tuned.yaml")
    sort = (scene, *out, "--tracker", "sort")
    assert "did you mean 'max_coast'" in complaint(capsys, *sort, "--option", "max_cost")
    assert "must be in 0..1" in complaint(capsys, *sort, "--option", "iou_threshold=0.5..1.5")
    assert "no range of whole numbers; write min_hits=LOW..HIGH" in complaint(
        capsys, *sort, "--option", "min_hits=a..b"
    )
    assert "write the lower end first" in complaint(capsys, *sort, "--option", "min_hits=5..2")
    assert "without end" in complaint(capsys, *sort, "--option", "max_coast=1..inf")
    assert "is no number" in complaint(capsys, *sort, "--option", "number_at_birth=0..1")
    assert "more than once" in complaint(capsys, *sort, "--option", "min_hits", "--option", "min_hits=1..2")
    assert "did you mean 'sort'" in complaint(capsys, scene, *out, "--tracker", "sorts")
    assert "must be at least 0" in complaint(capsys, scene, *out, "--tracker", "sort:max_coast=-1")
    assert "is no MOTChallenge sequence" in complaint(capsys, tmp_path / "none", *out)
    assert "gate is tuned on as well" in complaint(capsys, *sort, "--report", scene)
    truth = (scene / "gt" / "gt.txt").read_text()
    assert "would overwrite the input" in complaint(capsys, scene, "--out", scene / "gt" / "gt.txt")
    assert "would overwrite the input" in complaint(capsys, scene, "--out", scene)
    assert "both write" in complaint(capsys, scene, *out, "--json", out[1])
    (tmp_path / "file").touch()
    assert "cannot write" in complaint(capsys, scene, "--out", tmp_path / "file" / "tuned.yaml")
    assert (scene / "gt" / "gt.txt").read_text() == truth
    (scene / "det" / "det.txt").write_text("1,-1,a,b\n")
    assert "det.txt, line 1" in complaint(capsys, *sort)
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert "pip install 'framechain[tune]'" in complaint(capsys, *sort)
    assert not out[1].exists()
