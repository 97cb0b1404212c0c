"""Sequences are read whole, and trackers run over them as if frame by frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import trackers
from trackers import mot_format
from trackers.sequences import Found, TrackedSequence, parse, read_sequence, run, sequence_folders


def test_every_detection_is_in_its_frame(data: Path) -> None:
    folder = data / "mot" / "MOT17" / "MOT17-09-FRCNN"
    sequence = read_sequence(folder)
    rows = mot_format.read(folder / "det" / "det.txt")
    assert (sequence.name, sequence.rate, len(sequence.frames)) == ("MOT17-09-FRCNN", 30.0, 525)
    for number in (1, 100, 525):
        np.testing.assert_array_equal(sequence.frames[number - 1].xyxy, rows.xyxy[rows.frame == number])
        np.testing.assert_array_equal(sequence.frames[number - 1].scores, rows.confidence[rows.frame == number])
    assert sum(len(found.xyxy) for found in sequence.frames) == len(rows)


def test_folders_of_sequences_are_found(data: Path, tmp_path: Path) -> None:
    assert [path.name for path in sequence_folders(data / "mot" / "MOT15")] == [
        "PETS09-S2L1",
        "TUD-Campus",
        "TUD-Stadtmitte",
    ]
    with pytest.raises(ValueError, match="is no MOTChallenge sequence"):
        sequence_folders(tmp_path)


def test_a_run_is_the_loop_one_would_write(data: Path) -> None:
    sequence = read_sequence(data / "mot" / "MOT15" / "TUD-Campus")
    tracker, rows = trackers.create("bytetrack"), []
    for number, found in enumerate(sequence.frames):
        tracks = tracker.update(found.xyxy, found.scores, timestamp=number / sequence.rate)
        rows += list(zip([number + 1] * len(tracks), tracks.id.tolist(), tracks.xyxy.tolist(), strict=True))
    for _ in range(2):  # a run resets the tracker
        result = run(tracker, sequence, hidden=False)
        assert list(zip(result.frame.tolist(), result.id.tolist(), result.xyxy.tolist(), strict=True)) == rows


def test_hidden_boxes_come_on_top() -> None:
    boxes = [np.array([[100.0 + 4 * n, 100, 140 + 4 * n, 220]] if n != 20 else []).reshape(-1, 4) for n in range(40)]
    sequence = TrackedSequence("made", 20.0, [Found(b, np.full(len(b), 0.9)) for b in boxes], mot_format.MotRows())
    shown, believed = (run(trackers.create("tether"), sequence, hidden=hidden) for hidden in (False, True))
    assert 21 not in shown.frame
    assert believed.frame.tolist() == sorted([*shown.frame.tolist(), 21])
    assert set(believed.id.tolist()) == {1}
    empty = TrackedSequence("empty", 20.0, [], mot_format.MotRows())
    assert len(run(trackers.create("tether"), empty, hidden=True)) == 0


def test_options_are_parsed() -> None:
    assert parse("tether") == ("tether", {})
    assert parse("botsort:camera=none,max_coast=2") == ("botsort", {"camera": "none", "max_coast": 2})
    assert parse("tether:mutual=false") == ("tether", {"mutual": False})
    with pytest.raises(ValueError, match="is no option=value"):
        parse("sort:fast")
