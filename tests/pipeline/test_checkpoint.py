"""Checkpoints: a run that is broken off anywhere and gone on with is the run that was not broken off."""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import math
import shutil
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from chains import Call, Keep, Memory
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from peers import until
from pydantic import PrivateAttr

from pipeline import Detections, Frame, Track
from pipeline.checkpoint.file import NAME, load, save
from pipeline.engine import Pipeline
from pipeline.errors import FramechainError, UsageError
from pipeline.live.supervisor import Supervisor
from pipeline.ocr.consensus import Reading
from pipeline.ocr.quality import Quality
from pipeline.sinks.csv import Csv
from pipeline.sinks.jsonl import JsonLines
from pipeline.sinks.sqlite import Sqlite
from pipeline.stage import Stage
from pipeline.stages.gate import Gate
from pipeline.stages.read_text import ReadText, _Carrier, _Memory
from pipeline.stages.recall import Recall
from trackers.tracker import available

SCENE = "test:160x96@25,frames=60"

kinds = st.sampled_from([np.bool_, np.uint8, np.int32, np.int64, np.float16, np.float32, np.float64])
arrays = kinds.flatmap(lambda kind: hnp.arrays(kind, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)))
plain = st.none() | st.booleans() | st.integers(-(2**63), 2**64) | st.floats() | st.text(max_size=8) | arrays
states = st.dictionaries(
    st.text(max_size=5).filter(lambda key: key != "\0array"),
    st.recursive(plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab$", max_size=3), inner)),
    max_size=4,
)
few = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@few
@given(states)
def test_a_state_comes_back_as_it_was(tmp_path: Path, state: dict[str, Any]) -> None:
    save(tmp_path, state)
    np.testing.assert_equal(load(tmp_path), state)


def test_what_is_no_state_is_not_written_and_the_last_checkpoint_stays(tmp_path: Path) -> None:
    save(tmp_path, {"n": 1})
    for wrong in ({"x": object()}, {"x": np.array(["a"])}, {"x": {1: 2}}, {"x": np.array([object()])}):
        with pytest.raises((TypeError, ValueError)):
            save(tmp_path, wrong)
    assert load(tmp_path) == {"n": 1}
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    assert load(tmp_path / "nowhere") is None


@few
@given(st.data())
def test_whatever_is_in_the_file_is_taken_or_refused_in_a_line(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / NAME
    save(tmp_path, {"a": np.arange(5), "b": [1.5, None, {"c": "d"}]})
    sound = path.read_bytes()
    whole = bytearray(sound)
    way = data.draw(st.sampled_from(["flip", "cut", "add", "noise", "within"]))
    place = data.draw(st.integers(0, len(whole) - 1))
    if way == "flip":
        whole[place] ^= 1 << data.draw(st.integers(0, 7))
    elif way == "cut":
        del whole[place:]
    elif way == "add":
        whole += data.draw(st.binary(min_size=1, max_size=40))
    elif way == "noise":
        whole[data.draw(st.sampled_from([0, 23, 39])) :] = data.draw(st.binary(max_size=200))
    else:  # with a sum that is right: made on purpose
        whole[39 + place % (len(whole) - 71)] = data.draw(st.integers(0, 255))
        whole[-32:] = hashlib.sha256(whole[:-32]).digest()
    path.write_bytes(whole)
    said = "taken"
    try:
        assert isinstance(load(tmp_path), dict)
    except UsageError as error:
        said = str(error)
    assert "--fresh" in said or (said == "taken" and (way == "within" or bytes(whole) == sound)), "damage is noticed"
    assert "\n" not in said


@pytest.mark.parametrize(
    "told",
    [
        {"arrays": [["<f8", [2**62]]], "data": {}},
        {"arrays": [["<f8", [0, 2**62, 2**62]]], "data": {}},
        {"arrays": [["|O", [1]]], "data": {}},
        {"arrays": [["<f8", [-1]]], "data": {}},
        {"arrays": [["<f8"]], "data": {}},
        {"arrays": [], "data": {"x": {"\0array": 0}}},
        {"arrays": [], "data": {"x": {"\0array": True}}},
        {"arrays": 3, "data": {}},
        {"data": {}},
        [],
    ],
    ids=str,
)
def test_a_file_made_on_purpose_takes_no_memory_and_runs_nothing(tmp_path: Path, told: Any) -> None:
    _forge(tmp_path, json.dumps(told).encode())
    with pytest.raises(UsageError, match="made by something else"):
        load(tmp_path)
    _forge(tmp_path, b"[" * 100_000)
    with pytest.raises(UsageError, match="made by something else"):
        load(tmp_path)


def _forge(folder: Path, text: bytes) -> None:
    body = b"framechain checkpoint 2\n" + struct.pack("<QQ", len(text), 0) + text
    (folder / NAME).write_bytes(body + hashlib.sha256(body).digest())


class Find(Call):
    """Two things that move, the second one hidden for a while, with looks; by the frame's index alone."""

    name = "find"
    provides = frozenset({"detections", "features"})

    def process(self, frames: Sequence[Frame]) -> None:
        for frame in frames:
            n = frame.index
            boxes = np.array([[2 * n, 10, 2 * n + 20, 60], [100 - n, 20, 125 - n, 80]], np.float32)
            looks = np.eye(2, 8, dtype=np.float32) + 0.01 * (n % 7)
            looks /= np.linalg.norm(looks, axis=1, keepdims=True)
            shown = slice(0, 1 if 20 <= n < 30 else 2)
            scores = np.array([0.9, 0.8], np.float32)
            frame.detections = Detections(boxes, scores, np.array([0, 1]), looks, ("person", "car"))[shown]


class BreakOff(Keep):
    """Ends the run at once, as a kill would, when it is given this frame."""

    name = "break_off"
    at: int = 0

    def write(self, frame: Frame) -> None:
        if frame.index == self.at:
            raise RuntimeError("killed")


def chain(
    folder: Path, *more: Any, tracker: str = "tether", uris: Sequence[str] = (SCENE,), **options: Any
) -> Pipeline:
    sinks = [JsonLines(path=folder / "all.jsonl"), Csv(path=folder / "{source}.csv"), Sqlite(path=folder / "all.db")]
    stages = [Gate(every=2), Find(batch=3), Track(tracker=tracker)]
    return Pipeline(list(uris), stages, [*sinks, *more], **options)


def outputs(folder: Path) -> dict[str, Any]:
    import sqlite3

    found: dict[str, Any] = {
        path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".jsonl", ".csv")
    }
    with sqlite3.connect(folder / "all.db") as base:
        question = (
            "SELECT name, frame.frame, track, x1, lost FROM frames AS frame JOIN sources ON sources.id = frame.source "
            "LEFT JOIN tracks ON tracks.frame = frame.id ORDER BY 1, 2, 5, 3"
        )
        found["tracks"] = base.execute(question).fetchall()
        found["runs"] = base.execute("SELECT count(*) FROM runs").fetchall()
    base.close()
    return found


@pytest.mark.parametrize("tracker", available())
def test_a_run_that_was_broken_off_goes_on_as_if_nothing_had_been(tmp_path: Path, tracker: str) -> None:
    whole, parts, saved = tmp_path / "whole", tmp_path / "parts", tmp_path / "saved"
    expected = chain(whole, tracker=tracker).run()
    for at in (25, 45):
        broken = chain(parts, BreakOff(at=at), tracker=tracker, checkpoint=saved, checkpoint_every=1e-3, resume=at > 25)
        with pytest.raises(FramechainError, match="killed"):
            broken.run()
    assert broken.checkpoints["saved"] > 0
    rest = chain(parts, tracker=tracker, checkpoint=saved, checkpoint_every=1e-3, resume=True)
    final = rest.run()
    assert outputs(parts) == outputs(whole)
    assert [(s.captured, s.finished, s.dropped) for s in final.sources] == [
        (s.captured, s.finished, s.dropped) for s in expected.sources
    ]


def test_several_files_of_different_lengths_go_on_each_where_it_was(tmp_path: Path) -> None:
    whole, parts, saved = tmp_path / "whole", tmp_path / "parts", tmp_path / "saved"
    uris = ["test:160x96@25,frames=60", "test:96x96@10,frames=8,seed=2", "test:64x64@30,frames=50"]
    expected = chain(whole, uris=uris).run()
    with pytest.raises(FramechainError, match="killed"):
        chain(parts, BreakOff(at=45), uris=uris, checkpoint=saved, checkpoint_every=1e-3).run()
    final = chain(parts, uris=uris, checkpoint=saved, checkpoint_every=1e-3, resume=True).run()
    assert outputs(parts) == outputs(whole), "one of them had ended before"
    assert [(s.captured, s.finished) for s in final.sources] == [(s.captured, s.finished) for s in expected.sources]
    again = chain(parts, uris=uris, checkpoint=saved, resume=True).run()
    assert outputs(parts) == outputs(whole), "there is nothing left, and nothing is touched"
    assert again.frames == 0


def test_a_folder_of_images_goes_on_where_it_was_and_is_refused_once_it_holds_others(tmp_path: Path) -> None:
    whole, parts, saved, images = tmp_path / "whole", tmp_path / "parts", tmp_path / "saved", tmp_path / "images"
    images.mkdir()
    for number in range(60):
        cv2.imwrite(str(images / f"{number}.png"), np.full((96, 160, 3), number, np.uint8))
    chain(whole, uris=[str(images)]).run()
    with pytest.raises(FramechainError, match="killed"):
        chain(parts, BreakOff(at=45), uris=[str(images)], checkpoint=saved, checkpoint_every=1e-3).run()
    chain(parts, uris=[str(images)], checkpoint=saved, resume=True).run()
    assert outputs(parts) == outputs(whole)
    (images / "60.png").write_bytes((images / "0.png").read_bytes())
    with pytest.raises(UsageError, match="frame_count of 'images' was 60 then and is 61 now"):
        chain(parts, uris=[str(images)], checkpoint=saved, resume=True).run()


def test_a_stop_saves_at_the_last_frame_and_nothing_comes_twice(tmp_path: Path) -> None:
    saved, seen = tmp_path / "saved", Keep()
    first = chain(tmp_path / "out", seen, checkpoint=saved, checkpoint_every=1000)
    seen.function = lambda frame: first.stop() if frame.index == 20 else None
    first.run()
    told = load(saved)
    assert told is not None
    last = seen.seen[-1][1]
    assert (told["clean"], told["sources"]["test"]["progress"]["index"]) == (True, last)
    assert 20 <= last < 59
    rest = Keep()
    chain(tmp_path / "out", rest, checkpoint=saved, resume=True).run()
    assert [index for _, index in rest.seen] == list(range(last + 1, 60))


def test_a_loop_of_ones_own_goes_on_after_the_last_frame_that_it_had(tmp_path: Path) -> None:
    def indices(stop_at: int, **options: Any) -> list[int]:
        out = []
        for frame in Pipeline([SCENE], [Find(), Track()], checkpoint=tmp_path, checkpoint_every=1e-4, **options):
            out.append(frame.index)
            if frame.index == stop_at:
                break
        return out

    first = indices(40)
    second = indices(-1, resume=True)
    assert second == list(range(second[0], 60))
    assert 0 < second[0] <= len(first)


def test_a_camera_goes_on_with_the_same_ids_and_none_is_given_twice(tmp_path: Path) -> None:
    def run(count: int, **options: Any) -> list[Frame]:
        frames: list[Frame] = []
        source = Memory(id="cam", count=count, period=0.01, is_live=True, gate=lambda: time.sleep(0.002))
        keep = Keep(function=frames.append)
        out = JsonLines(path=tmp_path / "cam.jsonl")
        stages = [Find(), Track()]
        pipeline = Pipeline([source], stages, [out, keep], checkpoint=tmp_path, queue=1000, staleness=60.0, **options)
        if count > 20:
            keep.function = lambda frame: (frames.append(frame), pipeline.stop() if frame.index >= 15 else None)
        pipeline.run()
        return frames

    before, after = run(10_000), run(12, resume=True)
    ids = {int(track) for frame in before for track in frame.tracks.id}
    assert after[0].index == before[-1].index + 1, "it was stopped cleanly"
    assert after[0].timestamp >= before[-1].timestamp
    assert after[0].discontinuity
    assert ids == {1, 2}
    assert {int(track) for frame in after for track in frame.tracks.id} == {1, 2}, "they are still there"
    lines = [json.loads(line) for line in (tmp_path / "cam.jsonl").read_text().splitlines()]
    assert len({line["frame"] for line in lines}) == len(lines) == len(before) + len(after)


def test_after_a_kill_ids_that_may_have_been_given_are_left_out() -> None:
    stage = Track()
    stage.process([_frame(n) for n in range(12)])
    other = Track()
    other.load_state_dict(stage.state_dict())
    other.skip_ids("a", 250)
    other.skip_ids("never seen", 250)
    frames = [_frame(n, newcomer=True) for n in range(12, 30)]
    other.process(frames)
    assert frames[-1].tracks.id.tolist() == [1, 2, 253]


def _frame(n: int, newcomer: bool = False) -> Frame:
    boxes = [[2 * n, 10, 2 * n + 20, 60], [300 - n, 20, 325 - n, 80], [500, 100, 530, 190]][: 2 + newcomer]
    found = Detections(
        np.array(boxes, np.float32), np.full(len(boxes), 0.9, np.float32), np.zeros(len(boxes), np.int64)
    )
    return Frame(np.zeros((8, 8, 3), np.uint8), "a", n, n / 10, detections=found)


def test_gate_and_recall_go_on_as_they_were(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    ground = random.integers(60, 90, (120, 160, 3), np.uint8)

    def frames() -> list[Frame]:
        out = []
        for n in range(16):
            image = ground.copy()
            image[40:60, 5 * n : 5 * n + 12] = 250
            boxes = np.array([[5 * n, 40, 5 * n + 12, 60], [130, 90, 150, 110]], np.float32)[: 1 + (n % 5 == 0)]
            found = Detections(boxes, np.full(len(boxes), 0.9, np.float32), np.zeros(len(boxes), np.int64))
            out.append(Frame(image, "a", n, n / 10, detections=found))
        return out

    def seen(frames: Sequence[Frame]) -> list[Any]:
        return [(frame.skipped, frame.region, frame.detections.xyxy.tolist()) for frame in frames]

    whole, parts = frames(), frames()
    for stage in (Gate(motion=True, every=2), Recall()):
        stage.process(whole)
    for make in (lambda: Gate(motion=True, every=2), Recall):
        first, second = make(), make()
        first.process(parts[:9])
        save(tmp_path, first.state_dict())
        second.load_state_dict(load(tmp_path) or {})
        second.process(parts[9:])
    assert seen(parts) == seen(whole)
    assert any(region for _, region, _ in seen(whole))


def test_readings_come_back(tmp_path: Path) -> None:
    reading = Reading("AB-1", (0.9, 0.8, 0.7, 1.0))
    carrier = _Carrier(3.5, Quality(900.0, 12.5), [reading, Reading("A8-1", (0.5,) * 4)], reading, (0.1, 0.2, 0.8, 0.9))
    stage, other = ReadText(), ReadText()
    stage._sources = {"gate": _Memory({7: carrier, 9: _Carrier(4.0)}), "yard": _Memory()}
    save(tmp_path, stage.state_dict())
    other.load_state_dict(load(tmp_path) or {})
    assert other._sources == stage._sources
    assert other._sources["yard"].read_at == -math.inf


class Count(Stage):
    """Counts frames and fails on one; a plugin that remembers something."""

    name = "count"
    fail_at: int = -1
    _seen: int = PrivateAttr(0)

    def process(self, frames: Sequence[Frame]) -> None:
        for frame in frames:
            if frame.index == self.fail_at:
                raise ValueError("it fails")
            self._seen += 1

    def state_dict(self) -> dict[str, Any]:
        return {"seen": self._seen}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._seen = int(state["seen"])


def test_frames_that_failed_are_counted_on(tmp_path: Path) -> None:
    stop = BreakOff(at=40)
    options = {"keep_going": True, "checkpoint": tmp_path, "checkpoint_every": 1e-3}
    first = Pipeline([SCENE], [Count(fail_at=10)], [keep := Keep()], **options)
    keep.function = lambda frame: first.stop() if frame.index == 30 else None
    assert first.run().sources[0].dropped == {"count failed": 1}
    stage = Count(fail_at=10)
    final = Pipeline([SCENE], [stage], resume=True, **options).run()
    (source,) = final.sources
    assert (source.captured, source.finished, source.dropped) == (60, 59, {"count failed": 1})
    assert stage._seen == 59
    assert stop.at == 40


@pytest.fixture
def broken_off(tmp_path: Path) -> Path:
    """A folder with outputs and a checkpoint of a run that did not come to its end."""
    for _ in range(20):  # until a checkpoint was on disk in time
        with pytest.raises(FramechainError, match="killed"):
            chain(tmp_path, BreakOff(at=40), checkpoint=tmp_path / "saved", checkpoint_every=1e-3, fresh=True).run()
        told = load(tmp_path / "saved")
        if told is not None and told["sources"]["test"]["progress"]["index"] > 10:
            return tmp_path
    raise AssertionError("it takes too long to save")


def test_a_checkpoint_that_does_not_fit_is_refused_in_a_line(broken_off: Path) -> None:
    def refusal(**options: Any) -> str:
        given = {"checkpoint": broken_off / "saved", "resume": True, **options}
        with pytest.raises(UsageError) as refused:
            chain(broken_off, **given).run()
        assert "--fresh" in str(refused.value)
        assert "\n" not in str(refused.value)
        return str(refused.value)

    before = outputs(broken_off)
    del before["tracks"]
    assert "tracker of 'track' was tether then and is sort now" in refusal(tracker="sort")
    assert "of 'test' was test:160x96@25,frames=60 then" in refusal(uris=["test:160x96@25,frames=30"])
    assert "it is not about a source 'test-2'" in refusal(uris=[SCENE, SCENE])
    assert "add --resume" in refusal(resume=False)
    assert "give one of them" in refusal(fresh=True)
    with pytest.raises(UsageError, match="its chain is gate → find → track, not find → track"):
        Pipeline([SCENE], [Find(), Track()], checkpoint=broken_off / "saved", resume=True)
    with pytest.raises(UsageError, match="--checkpoint DIR"):
        Pipeline([SCENE], resume=True)
    after = outputs(broken_off)
    del after["tracks"]
    assert after == before, "nothing was touched"
    (broken_off / "test.csv").write_text("source\n")
    assert "test.csv is shorter than it was" in refusal()


def test_a_state_that_was_tampered_with_is_refused_before_it_is_used(broken_off: Path) -> None:
    good = load(broken_off / "saved")
    assert good is not None
    tracks = good["parts"]["track"]["tracks"]
    spoilt: list[tuple[dict[str, Any], str, Any]] = [
        (tracks["galleries"], "slot", tracks["galleries"]["slot"] + 10**6),
        (tracks["galleries"], "pool", tracks["galleries"]["pool"].astype(np.float64)),
        (tracks["records"], "stream", tracks["records"]["stream"] - 5),
        (tracks["records"], "id", tracks["records"]["id"][:-1]),
        (tracks["motion"], "position", tracks["motion"]["position"][:, :3]),
        (tracks["calibration"], "table", tracks["calibration"]["table"][:, :2]),
        (good["parts"]["track"], "cameras", 5),
        (good["parts"], "sink:jsonl", {"state": {}, "dropped": {}}),
        (good["parts"], "gate", {"test": {"seen": None}}),
        (good["sources"]["test"], "progress", {"index": math.nan}),
        (good, "chain", [[]]),
        (good, "sources", None),
        (good, "parts", "x"),
    ]
    for where, key, wrong in spoilt:
        right, where[key] = where[key], wrong
        save(broken_off / "saved", good)
        where[key] = right
        with pytest.raises(UsageError, match="cannot be used") as refused:
            chain(broken_off, checkpoint=broken_off / "saved", resume=True).run()
        assert "\n" not in str(refused.value), key
    save(broken_off / "saved", good)
    chain(broken_off, checkpoint=broken_off / "saved", resume=True).run()


def test_the_first_start_of_a_service_begins_anew_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "framechain"):
        final = chain(tmp_path, checkpoint=tmp_path / "saved", resume=True).run()
    assert final.frames == 60
    assert "there is no checkpoint in" in caplog.text
    assert chain(tmp_path, checkpoint=tmp_path / "saved").run().frames == 60, "one at its end is no obstacle"


def test_a_folder_that_cannot_be_written_is_told_once_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "saved"
    run = chain(tmp_path / "out", checkpoint=folder, checkpoint_every=1e-3)
    shutil.rmtree(folder)
    folder.write_text("a file now")
    assert run.run().frames == 60
    assert run.checkpoints["failed"] > 1
    assert run.checkpoints["saved"] == 0
    assert caplog.text.count("cannot save a checkpoint in") == 1
    with pytest.raises(UsageError, match=r"cannot write .*; give a path in a directory"):
        chain(tmp_path / "out", checkpoint=folder)


def test_what_cannot_tell_spoils_one_checkpoint_and_neither_the_run_nor_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks = itertools.count()

    class Unsure(Keep):
        """Cannot say at one mark what to wait for, and at another whether that is so."""

        def put_down(self) -> Callable[[], bool]:
            if (mark := next(marks)) == 2:
                raise OSError("no answer")
            return lambda: mark != 4 or bool(1 / 0)

    really, told = Supervisor.dropped.fget, itertools.count()

    def changing(reader: Supervisor) -> Any:
        if next(told) == 5:
            raise RuntimeError("dictionary changed size during iteration")
        return really(reader)

    monkeypatch.setattr(Supervisor, "dropped", property(changing))
    source = Memory(count=10**9, gate=lambda: time.sleep(0.001))
    run = Pipeline([source], [Call()], [Unsure()], checkpoint=tmp_path, checkpoint_every=0.01, on_failure="skip")
    run.start()
    until(lambda: run.checkpoints["failed"] == 3 and run.checkpoints["saved"] > 5)
    assert run.phase == "running"
    run.stop()
    assert run.join(20)
    assert run.failure is None


@pytest.mark.parametrize("workers", [1, 3])
def test_a_mark_keeps_its_place_whatever_the_batches_and_workers(tmp_path: Path, workers: int) -> None:
    options = {"checkpoint": tmp_path, "checkpoint_every": 1e-4}
    stages = [Call(batch=workers, workers=workers), Count(batch=5), Call(workers=workers)]
    states: list[tuple[int, int]] = []
    run = Pipeline(["test:64x64@25,frames=300"], stages, [keep := Keep()], **options)

    def look(frame: Frame) -> None:
        if frame.index % 20 == 0 and (told := load(tmp_path)) is not None:
            states.append((told["sources"]["test"]["progress"]["given"], told["parts"]["count"]["seen"]))

    keep.function = look
    run.run()
    assert states
    assert all(given == seen for given, seen in states)
