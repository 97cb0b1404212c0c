"""Looking at less: every n-th frame, or what moved; what is left out is predicted or recalled."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.detections import Detections
from pipeline.errors import UsageError
from pipeline.frame import NOWHERE, Frame
from pipeline.sinks.jsonl import JsonLines
from pipeline.source import open_source
from pipeline.stage import check_chain
from pipeline.stages.annotate import Annotate
from pipeline.stages.detect import Detect
from pipeline.stages.gate import Gate
from pipeline.stages.recall import Recall
from pipeline.stages.track import Track

HEIGHT, WIDTH = 240, 480


def frame(n: int, *spots: tuple[int, int], noise: int = 0, source: str = "cam") -> Frame:
    """Grey, with bright spots of 24 pixels at these places; `noise` is the seed of a sensor's."""
    image = np.full((HEIGHT, WIDTH, 3), 90, np.int16)
    for x, y in spots:
        image[y : y + 24, x : x + 24] = 220
    if noise:
        image += np.random.default_rng(noise).normal(0, 6, image.shape).astype(np.int16)
    return Frame(np.clip(image, 0, 255).astype(np.uint8), source, n, n / 10)


def boxes(*places: tuple[float, float]) -> Detections:
    n = len(places)
    xyxy = np.array([(x, y, x + 24, y + 24) for x, y in places], np.float32).reshape(n, 4)
    return Detections(xyxy, np.ones(n, np.float32), np.zeros(n, np.int64), names=("spot",))


def test_every_third_frame_of_each_source() -> None:
    gate = Gate(every=3)
    frames = [frame(n // 2, source=f"cam{n % 2}") for n in range(12)]
    gate.process(frames)
    for source in ("cam0", "cam1"):
        assert [f.skipped for f in frames if f.source == source] == [False, True, True, False, True, True]
    gate.forget("cam0")
    again = frame(6, source="cam0")
    gate.process([again])
    assert not again.skipped


def test_nothing_moves_and_nothing_is_looked_at_until_the_interval_is_over() -> None:
    gate = Gate(motion=True, interval=0.5)
    frames = [frame(n, (100, 100), noise=n + 1) for n in range(11)]
    gate.process(frames)
    assert [f.region for f in frames] == [None, *[NOWHERE] * 4, None, *[NOWHERE] * 4, None]


def test_the_region_holds_what_moved_where_it_was_and_is() -> None:
    gate = Gate(motion=True, interval=100)
    frames = [frame(n, (20, 20), (300 + 6 * n, 150), noise=n + 1) for n in range(8)]
    gate.process(frames)
    for n, later in enumerate(frames[1:], 1):
        x1, y1, x2, y2 = later.region or (0, 0, WIDTH, HEIGHT)
        assert x1 <= 300 + 6 * (n - 1)
        assert 300 + 6 * n + 24 <= x2
        assert y1 <= 150
        assert 174 <= y2
        assert (x2 - x1) * (y2 - y1) < 0.6 * WIDTH * HEIGHT
        assert x1 > 44, "the one that stands still is left out"


def test_slow_motion_adds_up() -> None:
    gate = Gate(motion=True, interval=100)
    frames = [frame(n, (100 + n // 4, 100)) for n in range(40)]
    gate.process(frames)
    assert any(f.region not in (None, NOWHERE) for f in frames)


def test_when_all_changes_all_is_looked_at() -> None:
    gate = Gate(motion=True, interval=100)
    dark, light = frame(0), frame(1)
    light.image += 40
    gate.process([dark, light])
    assert light.region is None


def test_a_source_that_changes_its_size_starts_anew() -> None:
    gate = Gate(motion=True, interval=100)
    small = Frame(np.zeros((100, 100, 3), np.uint8), "cam", 1, 0.1)
    gate.process([frame(0), small])
    assert small.region is None


def test_what_was_seen_elsewhere_still_holds() -> None:
    recall = Recall()
    first, part, nothing = frame(0), frame(1), frame(2)
    first.detections = boxes((20, 20), (300, 150))
    part.region, part.detections = (240, 80, 480, 240), boxes((310, 150))
    nothing.region = NOWHERE
    recall.process([first, part, nothing])
    assert part.detections.xyxy[:, 0].tolist() == [310, 20]
    assert nothing.detections.xyxy[:, 0].tolist() == [310, 20]
    assert nothing.detections.names == ("spot",)


def test_who_left_the_region_is_gone_and_who_is_cut_by_its_edge_counts_once() -> None:
    recall = Recall()
    first, part = frame(0), frame(1)
    first.detections = boxes((300, 150), (225, 100))
    part.region = (240, 80, 480, 240)
    part.detections = Detections(
        np.array([[240, 100, 249, 124]], np.float32), np.ones(1, np.float32), np.zeros(1, np.int64), names=("spot",)
    )
    recall.process([first, part])
    assert part.detections.xyxy.tolist() == [[225, 100, 249, 124]]


def test_motion_without_recall_is_refused() -> None:
    with pytest.raises(UsageError, match="'gate' as it is set needs a stage 'recall' after it"):
        check_chain([Gate(motion=True), Detect()])
    check_chain([Gate(motion=True), Detect(), Recall()])
    check_chain([Gate(every=2), Detect()])
    with pytest.raises(UsageError, match="put 'gate' before it"):
        check_chain([Detect(), Recall()])


@pytest.mark.parametrize("tracker", ["sort", "tether", "botsort"])
def test_frames_that_are_skipped_show_where_the_tracker_expects_things(tracker: str) -> None:
    gate, track = Gate(every=2), Track(tracker=tracker)
    frames = [frame(n) for n in range(21)]
    gate.process(frames)
    for n, one in enumerate(frames):
        one.detections = Detections(names=("spot",)) if one.skipped else boxes((50 + 4 * n, 100), (400, 20))
    track.process(frames)
    for n, one in enumerate(frames[11:], 11):
        assert sorted(one.tracks.id.tolist()) == [1, 2]
        assert (one.tracks.det_index == -1).all() == one.skipped
        where = dict(zip(one.tracks.id.tolist(), one.tracks.xyxy[:, 0].tolist(), strict=True))
        assert min(where.values()) == pytest.approx(50 + 4 * n, abs=3)


def test_a_part_of_a_frame_is_detected_as_it_is_in_the_whole(data: Path) -> None:
    """At the same scale: the same people, as far as the network sees them whole."""
    with open_source(str(data / "video" / "vtest.avi")) as source:
        image = next(iter(source)).image
    with Detect(weights="nanodet-g", runtime="native", confidence=0.5) as stage:
        whole, part = Frame(image), Frame(image)
        part.region = (256, 0, 768, 576)
        stage.process([whole, part, skipped := Frame(image, skipped=True), still := Frame(image, region=NOWHERE)])
    assert not len(skipped.detections)
    assert not len(still.detections)
    assert skipped.detections.names == whole.detections.names
    inside = whole.detections.xyxy[whole.detections.xyxy[:, 0] > 280]
    assert len(inside)
    for box in inside:
        assert np.abs(part.detections.xyxy - box).max(axis=1).min() < 12


def test_a_skipped_frame_is_told_as_such(tmp_path: Path) -> None:
    """In JSON; and drawn like the others: a picture that changes its style with every frame is no use."""
    gate, track, annotate = Gate(every=2), Track(tracker="sort"), Annotate(hud=False, trail=0)
    frames = [frame(n) for n in range(12)]
    gate.process(frames)
    for one in frames:
        one.detections = Detections(names=("spot",)) if one.skipped else boxes((200, 100))
    track.process(frames)
    annotate.process(frames)
    lines = [json.loads(JsonLines(path=tmp_path / "out.jsonl").lines(one)) for one in frames[10:]]
    assert [line.get("skipped", False) for line in lines] == [False, True]
    assert lines[0]["tracks"][0]["id"] == lines[1]["tracks"][0]["id"]
    changed = np.abs(frames[10].canvas.astype(int) - frames[11].canvas).max(axis=2) > 60  # type: ignore[union-attr]
    assert changed.mean() < 0.002
