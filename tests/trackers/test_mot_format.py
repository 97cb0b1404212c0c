"""MOTChallenge files: read, written, refused; and TrackEval's figures on known cases."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from trackers import mot_format
from trackers.evaluate import evaluate
from trackers.mot_format import MotRows


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,1,0,0,10\n", "line 1: 5 columns"),
        ("1,1,0,0,10,20,1\n1,x,0,0,10,20,1\n", "line 2"),
        ("0,1,0,0,10,20,1\n", "line 1: frame"),
        ("1.5,1,0,0,10,20,1\n", "line 1: frame"),
        ("1,1,nan,0,10,20,1\n", "line 1"),
    ],
)
def test_a_wrong_line_is_named(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "det.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        mot_format.read(tmp_path / "det.txt")


def test_real_files_are_read_whole(data: Path) -> None:
    folder = data / "mot" / "MOT15" / "PETS09-S2L1"
    truth = mot_format.read(folder / "gt" / "gt.txt")
    plain = np.loadtxt(folder / "gt" / "gt.txt", delimiter=",")
    assert len(truth) == len(plain)
    np.testing.assert_array_equal(truth.xyxy[:, :2], plain[:, 2:4])
    np.testing.assert_allclose(truth.xyxy[:, 2:] - truth.xyxy[:, :2], plain[:, 4:6])
    info = mot_format.read_seqinfo(folder / "seqinfo.ini")
    assert (info.length, info.width, info.height) == (795, 768, 576)


def test_the_truth_against_itself_is_perfect_and_a_swap_is_counted(data: Path) -> None:
    truth = mot_format.read(data / "mot" / "MOT15" / "TUD-Campus" / "gt" / "gt.txt")
    perfect, _ = evaluate({"TUD-Campus": (truth, truth)})
    assert (perfect.MOTA, perfect.IDF1, perfect.IDSW) == (1.0, 1.0, 0)
    assert pytest.approx(1.0) == perfect.HOTA
    # from the middle on, everybody has another id: one switch for each who is there before and after
    middle = int(np.median(truth.frame))
    late = truth.frame > middle
    swapped = MotRows(
        truth.frame,
        np.where(late, truth.id + 100, truth.id),
        truth.xyxy,
        truth.confidence,
        truth.class_id,
        truth.visibility,
    )
    both = set(truth.id[late]) & set(truth.id[~late])
    figures, _ = evaluate({"TUD-Campus": (truth, swapped)})
    assert len(both) == figures.IDSW
    assert figures.IDF1 < 1
    nothing, _ = evaluate({"TUD-Campus": (truth, MotRows())})
    assert (0, len(truth), 0.0) == (nothing.TP, nothing.FN, nothing.MOTA)
