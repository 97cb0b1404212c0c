"""The track stage: one tracker a source, options checked early."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from pipeline import Detections, Frame, Track
from pipeline.sinks.jsonl import JsonLines

IMAGE = np.zeros((480, 640, 3), np.uint8)


def frame(source: str, index: int, x: float) -> Frame:
    boxes = np.array([[x, 100, x + 40, 220]], np.float32)
    found = Detections(boxes, np.array([0.9], np.float32), np.array([0]), names=("person",))
    return Frame(IMAGE, source, index, index / 10, detections=found)


def test_ids_of_two_sources_are_their_own_whatever_the_batch() -> None:
    def run(batch: int) -> list[tuple[str, int, list[int]]]:
        stage, out = Track(), []
        frames = [frame(source, n, 5.0 * n) for n in range(12) for source in ("a", "b")]
        for start in range(0, len(frames), batch):
            part = frames[start : start + batch]
            stage.process(part)
            out += [(one.source, one.index, one.tracks.id.tolist()) for one in part]
        return out

    alone = run(1)
    assert {ids[0] for _, _, ids in alone if ids} == {1}, "both begin at 1"
    assert run(7) == alone


def test_a_source_that_ended_starts_anew_and_leaves_the_others_alone() -> None:
    stage = Track()
    for n in range(5):
        stage.process([frame("a", n, 5.0 * n), frame("b", n, 5.0 * n)])
    stage.forget("a")
    again, other = frame("a", 0, 300.0), frame("b", 5, 25.0)
    stage.process([again, other])
    assert again.tracks.id.tolist() == [1]
    assert other.tracks.id.tolist() == [1]
    stage.forget("never seen")


def test_features_reach_the_tracker() -> None:
    stage = Track()
    for n in range(5):
        one = frame("a", n, 5.0 * n)
        one.detections = one.detections.with_features(np.eye(4, dtype=np.float32)[:1])
        stage.process([one])
    assert one.tracks.id.tolist() == [1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tracker": "deepsrt"}, "did you mean 'deepsort'"),
        ({"options": {"max_cost": 1}}, "no option 'max_cost'"),
        ({"tracker": "sort", "options": {"min_hits": -1}}, "min_hits"),
    ],
)
def test_wrong_options_are_refused_when_the_stage_is_made(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Track(**options)  # type: ignore[arg-type]


def test_what_is_learnt_later_is_in_the_lines_of_json(tmp_path: Path) -> None:
    """A walker who is not detected for three frames; two cameras, only one of them sees him."""
    stage, sink = Track(options={"revise": True}), JsonLines(path=tmp_path / "out.jsonl")
    told: dict[str, dict[int, dict[str, list[dict[str, float]]]]] = {"a": {}, "b": {}}
    for n in range(40):
        frames = [frame(source, n, 3.0 * n) for source in "ab"]
        for one in frames:
            if one.source == "b" or 20 <= n < 23:
                one.detections = one.detections[:0]
        stage.process(frames)
        for one in frames:
            row = json.loads(sink.lines(one))
            if "revisions" in row:
                told[one.source][n] = row["revisions"]
    assert [round(box["time"] * 10) for box in told["a"][23]["boxes"]] == [20, 21, 22]
    for box in told["a"][23]["boxes"]:
        assert (box["id"], box["xyxy"][0]) == (1, pytest.approx(30 * box["time"], abs=3))
    assert not told["b"]


@pytest.mark.parametrize("tracker", ["tether", "sort", "botsort"])
def test_a_camera_that_comes_back_with_another_size_gives_nobody_the_id_of_another(tracker: str) -> None:
    """The box lies where it lay, and is another place of the scene now."""
    stage, ids = Track(tracker=tracker), []
    for n in range(40):
        one = frame("gate", n, 100)
        if n >= 20:
            one.image = np.zeros((720, 1280, 3), np.uint8)
            one.discontinuity = n == 20
        stage.process([one])
        ids.append(set(one.tracks.id.tolist()))
    before, after = set.union(*ids[:20]), set.union(*ids[20:])
    assert before == {1}
    assert after
    assert min(after) > 1


@pytest.mark.parametrize("tracker", ["tether", "sort"])
def test_nor_after_a_restart(tracker: str) -> None:
    """Whoever was there has gone by then, and some ids were left out after a kill."""
    before = Track(tracker=tracker)
    for n in range(20):
        before.process([frame("gate", n, 100)])
    stage, ids = Track(tracker=tracker), set()
    stage.load_state_dict(before.state_dict())
    stage.skip_ids("gate", 50)
    for n in range(20, 300):
        one = frame("gate", n, 100)
        one.image = np.zeros((720, 1280, 3), np.uint8)
        one.discontinuity = n == 200
        if n < 200:
            one.image, one.detections = np.zeros((480, 640, 3), np.uint8), Detections()
        stage.process([one])
        ids |= set(one.tracks.id.tolist())
    assert ids
    assert min(ids) > 51


def test_images_of_several_sizes_are_followed() -> None:
    """A folder of pictures says nothing about a gap."""
    stage, ids = Track(), set()
    for n in range(20):
        one = frame("folder", n, 100)
        one.image = np.zeros((480 + n % 2, 640, 3), np.uint8)
        stage.process([one])
        ids |= set(one.tracks.id.tolist())
    assert ids == {1}
