"""`framechain refine` as a user runs it: better figures on real sequences, and one line for every mistake."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from command import complaint, framechain

from trackers import create, mot_format
from trackers.evaluate import evaluate
from trackers.sequences import read_sequence, run

LINE = "1,1,10,10,20,40,0.9,-1,-1,-1\n"
HOLED = LINE + "5,1,14,10,20,40,0.9,-1,-1,-1\n"


@pytest.mark.parametrize(("sequence", "tracker"), [("MOT17-09-FRCNN", "sort"), ("MOT17-05-FRCNN", "tether")])
@pytest.mark.parametrize("smooth", ["--smooth", "--no-smooth"])
def test_figures_rise_on_sequences_that_the_defaults_were_not_chosen_on(
    sequence: str, tracker: str, smooth: str, data: Path, tmp_path: Path
) -> None:
    pytest.importorskip("trackeval")
    if smooth == "--smooth":
        pytest.importorskip("filterpy")
    folder = data / "mot" / "MOT17" / sequence
    found = read_sequence(folder)
    (tmp_path / "in.txt").write_text(mot_format.text(run(create(tracker), found, hidden=True)))
    before = (tmp_path / "in.txt").read_bytes()
    done = framechain("refine", "in.txt", "--out", "out.txt", "--seqinfo", folder, smooth, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "joined" in done.stderr
    assert (tmp_path / "in.txt").read_bytes() == before
    results = {name: (found.truth, mot_format.read(tmp_path / f"{name}.txt")) for name in ("in", "out")}
    _, each = evaluate(results)
    assert each["out"].HOTA > each["in"].HOTA + 0.005
    assert each["out"].IDF1 > each["in"].IDF1 + 0.005
    assert each["out"].MOTA > each["in"].MOTA


def test_it_says_what_it_did_and_filled_boxes_have_no_confidence(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text(HOLED + "6,9,15,10,20,40,0.8,-1,-1,-1\n")
    done = framechain("refine", "in.txt", "--out", "new/out.txt", "--rate", "10", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1 of 2 tracks joined to an earlier one, 3 boxes added to 3" in done.stderr
    found = mot_format.read(tmp_path / "new" / "out.txt")
    assert found.frame.tolist() == [1, 2, 3, 4, 5, 6]
    assert set(found.id) == {1}
    assert found.confidence.tolist() == [0.9, 0, 0, 0, 0.9, 0.8]
    np.testing.assert_allclose(found.xyxy[:, 0], np.arange(10, 16))
    again = framechain("refine", "new/out.txt", "--out", "twice.txt", "--rate", "10", cwd=tmp_path)
    assert "3 boxes of new/out.txt had confidence 0 already" in again.stderr
    assert (tmp_path / "twice.txt").read_bytes() == (tmp_path / "new" / "out.txt").read_bytes()


def test_each_step_can_be_left_out(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text(HOLED + "6,9,15,10,20,40,0.8,-1,-1,-1\n")
    arguments = ("refine", "in.txt", "--out", "out.txt", "--rate", "10", "--link", "0", "--fill", "0")
    assert "0 of 2 tracks joined to an earlier one, 0 boxes added" in framechain(*arguments, cwd=tmp_path).stderr
    np.testing.assert_array_equal(mot_format.read(tmp_path / "out.txt").xyxy, mot_format.read(tmp_path / "in.txt").xyxy)


def test_an_empty_result_stays_empty(tmp_path: Path) -> None:
    (tmp_path / "in.txt").touch()
    done = framechain("refine", "in.txt", "--out", "out.txt", "--rate", "25", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.txt").read_bytes() == b""


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"1,1,a,b,c,d,1\n", "line 1: not comma-separated numbers"),
        (b"1,1,10,10\n", "line 1: 4 columns"),
        (b"1,1,10,10,20,nan,1\n", "line 1: frame"),
        (b"1e300,1,10,10,20,40,1\n", "line 1: frame"),
        (b"\xff\xfe\x00\x80", "is not a text file"),
        (b"1,-1,10,10,20,40,0.5\n", "these may be detections"),
        (LINE.encode() * 2, "frame 1, id 1: the id is there twice"),
        (b"1,1,10,10,-20,40,1\n", "negative side"),
        (b"1,1,10,10,20,40,1,1,0.5\n", "ground truth"),
    ],
)
def test_a_file_that_is_no_result_is_one_line_and_writes_nothing(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_bytes(content)
    (tmp_path / "out.txt").write_text("precious")
    line = complaint(framechain("refine", "in.txt", "--out", "out.txt", "--rate", "25", cwd=tmp_path), 2)
    assert said in line
    assert "in.txt" in line
    assert (tmp_path / "out.txt").read_text() == "precious"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("in.txt", "--out", "out.txt"), "either --rate or --seqinfo"),
        (("in.txt", "--out", "out.txt", "--rate", "25", "--seqinfo", "."), "either --rate or --seqinfo"),
        (("in.txt", "--out", "out.txt", "--rate", "0"), "--rate"),
        (("in.txt", "--out", "out.txt", "--rate", "nan"), "rate"),
        (("in.txt", "--out", "out.txt", "--rate", "25", "--link", "-1"), "--link"),
        (("in.txt", "--out", "out.txt", "--rate", "25", "--fill", "nan"), "fill"),
        (("in.txt", "--out", "out.txt", "--seqinfo", "."), "seqinfo.ini: No such file"),
        (("in.txt", "--out", "out.txt", "--seqinfo", "in.txt"), "no [Sequence] section"),
        (("in.txt", "--out", "out.txt", "--seqinfo", "zero.ini"), "frameRate is 0.0"),
        (("in.txt", "--out", "in.txt", "--rate", "25"), "would overwrite the input in.txt"),
        (("in.txt", "--out", "./a/../in.txt", "--rate", "25"), "would overwrite the input in.txt"),
        (("in.txt", "--out", "zero.ini", "--seqinfo", "zero.ini"), "would overwrite the input zero.ini"),
        (("absent.txt", "--out", "out.txt", "--rate", "25"), "cannot read absent.txt: No such file"),
        ((".", "--out", "out.txt", "--rate", "25"), "Is a directory"),
        (("in.txt", "--out", "/proc/no/out.txt", "--rate", "25"), "cannot write"),
        (("in.txt", "--out", ".", "--rate", "25"), "cannot write"),
        (("in.txt", "--rate", "25"), "--out"),
    ],
)
def test_a_command_that_makes_no_sense(arguments: tuple[str, ...], said: str, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text(LINE)
    (tmp_path / "a").mkdir()
    zero = "[Sequence]\nname=x\nframeRate=0\nseqLength=1\nimWidth=9\nimHeight=9\n"
    (tmp_path / "zero.ini").write_text(zero)
    assert said in complaint(framechain("refine", *arguments, cwd=tmp_path), 2)
    assert (tmp_path / "in.txt").read_text() == LINE
    assert (tmp_path / "zero.ini").read_text() == zero
    assert not (tmp_path / "out.txt").exists()


def test_without_filterpy_smoothing_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hidden" / "filterpy").mkdir(parents=True)
    (tmp_path / "hidden" / "filterpy" / "__init__.py").write_text("raise ImportError('not here')\n")
    path = str(tmp_path / "hidden")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (path, os.environ.get("PYTHONPATH", "")))))
    (tmp_path / "in.txt").write_text(LINE)
    arguments = ("refine", "in.txt", "--out", "out.txt", "--rate", "25")
    line = complaint(framechain(*arguments, "--smooth", cwd=tmp_path), 2)
    assert "pip install 'framechain[offline]'" in line
    assert framechain(*arguments, cwd=tmp_path).returncode == 0


def test_the_help_says_that_it_looks_into_the_future(tmp_path: Path) -> None:
    shown = " ".join(framechain("refine", "--help", cwd=tmp_path).stdout.split())
    assert "Offline" in shown
    assert "future" in shown
