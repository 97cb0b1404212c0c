"""Checkpoints where things go wrong: a full disk, a hostile file, a stage that is restarted; what is drawn after."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chains import Call, Keep, Memory
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peers import fill, small_disk, until
from pydantic import PrivateAttr
from test_checkpoint import SCENE, BreakOff, Count, Find

from pipeline import Track
from pipeline.adaptive_size import AdaptiveSize
from pipeline.checkpoint.claim import Claim
from pipeline.checkpoint.file import NAME, load, save
from pipeline.cli.progress import Tally
from pipeline.detections import Detections
from pipeline.engine import Pipeline
from pipeline.errors import FramechainError, UsageError
from pipeline.frame import Frame
from pipeline.sinks.jsonl import JsonLines
from pipeline.sinks.sqlite import Sqlite
from pipeline.sinks.video import Video
from pipeline.stages.annotate import Annotate
from pipeline.stages.gate import Gate
from pipeline.stages.recall import Recall

# A full disk.


def test_a_full_disk_holds_up_checkpoints_and_nothing_else(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with small_disk(tmp_path / "disk") as disk:
        source = Memory(id="gate", count=10**9, is_live=True, gate=lambda: time.sleep(0.002))
        keep = Keep()
        run = Pipeline([source], [Count()], [keep], checkpoint=disk / "saved", checkpoint_every=0.02)
        run.start()
        until(lambda: run.checkpoints["saved"] > 2)
        hog = fill(disk)
        until(lambda: fill(disk) and run.checkpoints["failed"] > 2)
        whole = load(disk / "saved")
        assert whole is not None, "the last one stays"
        before, saved = len(keep.seen), run.checkpoints["saved"]
        until(lambda: len(keep.seen) > before + 20)
        assert run.checkpoints["saved"] == saved
        with pytest.raises(UsageError, match="another run"):
            Claim(disk / "saved")
        record = (disk / "saved" / "lock").read_bytes()
        assert int.from_bytes(record[8:16], "little") == whole["number"], "that the run goes on is known all the same"
        hog.unlink()
        until(lambda: run.checkpoints["saved"] > saved)
        run.stop()
        run.wait(20)
        assert sorted(path.name for path in (disk / "saved").iterdir()) == [NAME, "lock"]
        assert caplog.text.count("cannot save a checkpoint in") == 1
        assert "No space left on device" in caplog.text
        assert caplog.text.count("are saved in") == 1


# Files that were made to hurt, each with a sum that is right.

words = [None, True, -1, 0, 3, 2**62, 2**70, -(2**70), 1.5, float("nan"), float("inf"), "", "x", [], {}, [1], {"x": 1}]
odd = st.sampled_from([*words, np.zeros(3), np.zeros((2, 4), np.float32), np.array(3), [[1, 2]], [None] * 3])


def chain(folder: Path, *more: Any, **options: Any) -> Pipeline:
    sinks = [JsonLines(path=folder / "all.jsonl"), Sqlite(path=folder / "all.db"), Tally()]
    stages = [Gate(motion=True), Find(batch=3), Recall(), Track(), Annotate()]
    saving = {"checkpoint": folder / "saved", "checkpoint_every": 1e-3}
    return Pipeline(["test:96x64@25,frames=30"], stages, [*sinks, *more], **saving, **options)


def places(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The ways to everything that is inside, one list item of each being enough."""
    inner = (
        list(value.items())
        if isinstance(value, dict)
        else list(enumerate(value[:1]))
        if isinstance(value, list)
        else []
    )
    return [here, *(place for key, part in inner for place in places(part, (*here, key)))]


def spoilt(data: st.DataObject, array: np.ndarray) -> np.ndarray:
    """The array with another type or shape, or a value that none of its own would be."""
    other = array.copy()
    way = data.draw(st.sampled_from(["value", "cut", "type", "axis"]))
    if way == "value" and array.size:
        far = (
            [np.nan, np.inf, -np.inf, 1e30] if array.dtype.kind == "f" else [True] if array.dtype.kind == "b" else [120]
        )
        far += [np.iinfo(array.dtype).max, np.iinfo(array.dtype).min] if array.dtype.kind in "iu" else []
        other.flat[data.draw(st.integers(0, array.size - 1))] = data.draw(st.sampled_from(far))
    elif way == "cut" and array.ndim:
        other = other[:-1]
    elif way == "type":
        with np.errstate(invalid="ignore"):
            other = other.astype(data.draw(st.sampled_from([np.float64, np.float32, np.int64, np.uint8, np.bool_])))
    else:
        other = other[None]
    return other


@pytest.fixture(scope="module")
def broken_off(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("broken") / "off"
    for _ in range(20):  # until a checkpoint was on disk in time
        with pytest.raises(FramechainError, match="killed"):
            chain(folder, Keep(function=lambda frame: time.sleep(0.01)), BreakOff(at=25), fresh=True).run()
        told = load(folder / "saved")
        if told is not None and told["sources"]["test"]["progress"]["index"] > 3:
            return folder
    raise AssertionError("it takes too long to save")


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_whatever_a_checkpoint_says_is_gone_on_from_or_refused_in_a_line(
    broken_off: Path, tmp_path: Path, data: st.DataObject
) -> None:
    folder = tmp_path / "run"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(broken_off, folder)
    told = moved(load(folder / "saved"), str(broken_off), str(folder))  # paths of outputs are part of it
    place = data.draw(st.sampled_from(places(told)[1:]))
    at = told
    for key in place[:-1]:
        at = at[key]
    old = at[place[-1]]
    at[place[-1]] = spoilt(data, old) if isinstance(old, np.ndarray) and data.draw(st.booleans()) else data.draw(odd)
    try:
        save(folder / "saved", told)
    except (TypeError, ValueError):
        return  # nothing that can be in a file
    said = ""
    try:
        run = chain(folder, resume=True)
        run.start()
        run.wait(30)
    except FramechainError as error:
        said = str(error)
    assert "\n" not in said
    assert len(said) < 2000


def moved(value: Any, old: str, new: str) -> Any:
    if isinstance(value, dict):
        return {key.replace(old, new): moved(part, old, new) for key, part in value.items()}
    return [moved(part, old, new) for part in value] if isinstance(value, list) else value


def test_an_array_that_stands_in_many_places_is_refused(tmp_path: Path) -> None:
    """Each stage would copy it as often: a file of a gigabyte would take a terabyte."""
    array = np.zeros(4)
    save(tmp_path, {"a": array, "b": {"c": array}})
    whole = (tmp_path / NAME).read_bytes()
    twice = whole.replace(b'{"\\u0000array": 1}', b'{"\\u0000array": 0}')
    assert twice != whole
    (tmp_path / NAME).write_bytes(twice[:-32] + sha256(twice[:-32]).digest())
    with pytest.raises(UsageError, match="made by something else"):
        load(tmp_path)


def test_lengths_that_are_not_there_take_no_memory(tmp_path: Path) -> None:
    head = b"framechain checkpoint 2\n"
    for text, arrays in ((2**63, 0), (10, 2**63), (2**40, 2**40), (40 << 20, 0)):
        with (tmp_path / NAME).open("wb") as file:
            file.write(head + text.to_bytes(8, "little") + arrays.to_bytes(8, "little"))
            file.truncate(min(len(head) + 16 + text + arrays + 32, 48 << 20))
        with pytest.raises(UsageError, match=r"damaged|cut short"):
            load(tmp_path)


# What stages go on with.


def test_a_video_that_is_gone_on_with_has_the_same_pictures(tmp_path: Path) -> None:
    def run(folder: Path, *more: Any, **options: Any) -> list[bytes]:
        seen: list[bytes] = []
        keep = Keep(function=lambda frame: seen.append(sha256(frame.canvas).digest()))
        stages = [Find(batch=3), Track(), Annotate(trail=1.0)]
        Pipeline([SCENE], stages, [*more, keep, Video(path=folder / "out.mp4")], **options).run()
        return seen

    whole = run(tmp_path / "whole")
    saving = {"checkpoint": tmp_path / "saved", "checkpoint_every": 1e-3}
    with pytest.raises(FramechainError, match="killed"):
        run(tmp_path / "parts", BreakOff(at=40), **saving)
    rest = run(tmp_path / "parts", resume=True, **saving)
    assert 15 < len(rest) < 60
    assert rest == whole[-len(rest) :]


def test_sizes_go_by_what_was_seen_before(tmp_path: Path) -> None:
    def frame(n: int) -> Frame:
        return Frame(np.zeros((8, 8, 3), np.uint8), "a", n, n / 10)

    def shares(sizes: AdaptiveSize, numbers: Sequence[int]) -> list[float]:
        out = []
        for n in numbers:
            found = Detections(
                np.array([[0, 0, 50, 100 + 40 * (n > 12)]], np.float32), np.ones(1, np.float32), np.zeros(1, int)
            )
            for together in sizes.rounds([frame(n)]):
                out += [share for _, share in together]
                sizes.learn(together[-1][0], found, 1.0)
        return out

    whole = shares(AdaptiveSize(0.5), range(30))
    first, second = AdaptiveSize(0.5), AdaptiveSize(0.5)
    before = shares(first, range(17))
    save(tmp_path, first.state_dict())
    second.load_state_dict(load(tmp_path) or {})
    assert before + shares(second, range(17, 30)) == whole
    assert len(set(whole)) > 1
    state = first.state_dict()
    for wrong in ({"share": 0.01}, {"looked_at": float("nan")}, {"asked": [0.5, 7.0]}):
        with pytest.raises(ValueError, match="never looked at"):
            second.load_state_dict({"a": {**state["a"], **wrong}})


class Prepared(Call):
    """Needs to be told of every size, each time it was opened."""

    name = "prepared"
    stateless = False

    _sizes: set[tuple[int, int]] = PrivateAttr(default_factory=set)
    _told: list[list[tuple[int, int]]] = PrivateAttr(default_factory=list)

    def open(self) -> None:
        self._sizes = set()

    def expect(self, width: int, height: int) -> None:
        self._sizes.add((width, height))

    def process(self, frames: Sequence[Frame]) -> None:
        for frame in frames:
            assert self._sizes == {(160, 96), (64, 48)}, "it compiles in the middle of a run"
            if frame.index == 5 and not self._told:
                self._told.append(sorted(self._sizes))
                raise ValueError("it needs a restart")


def test_a_stage_that_is_restarted_is_told_again_which_sizes_will_come() -> None:
    stage = Prepared()
    run = Pipeline(["test:160x96@25,frames=12", "test:64x48@25,frames=12"], [stage], on_failure="restart")
    run.start()
    final = run.wait(20)
    assert stage._told
    assert final.frames == 23
    assert next(one for one in final.stages if one.name == "prepared").faults["restarts"] == 1


# Two runs that write one output.


def test_a_second_run_that_would_write_the_same_file_is_refused(tmp_path: Path) -> None:
    source = Memory(id="gate", count=10**9, is_live=True, gate=lambda: time.sleep(0.002))
    paths = [tmp_path / "all.jsonl", tmp_path / "{source}.jsonl"]
    first = Pipeline([source], [], [JsonLines(path=path) for path in paths])
    first.start()
    until(lambda: first.metrics.snapshot().frames > 3)
    for path in paths:
        for append in (False, True):
            with pytest.raises(FramechainError, match=r"another run writes .*\.jsonl; give each run a file of its own"):
                Pipeline([Memory(id="gate")], [], [JsonLines(path=path, append=append)]).run()
    first.stop()
    final = first.wait(20)
    lines = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text().splitlines()]
    assert len(lines) == final.frames, "nothing was cut off the first one's"
    Pipeline([Memory(id="gate", count=4)], [], [JsonLines(path=paths[0], append=True)]).run()
    assert len((tmp_path / "all.jsonl").read_text().splitlines()) == final.frames + 4


def test_a_second_run_does_not_take_a_video_away(tmp_path: Path) -> None:
    first = Pipeline(["test:64x64@50"], [], [Video(path=tmp_path / "out.mp4")])
    first.start()
    until(lambda: (tmp_path / "out.mp4").exists() and (tmp_path / "out.mp4").stat().st_size > 1000)
    with pytest.raises(UsageError, match="another run writes"):
        Pipeline(["test:64x64@50,frames=3"], [], [Video(path=tmp_path / "out.mp4")]).run()
    assert (tmp_path / "out.mp4").stat().st_size > 1000
    first.abort()
    assert first.join(20)


def test_a_video_that_is_killed_holds_every_frame_before_the_checkpoint(tmp_path: Path) -> None:
    """Of a process that is gone, what the encoder held is lost; here it is what is on disk when the mark has passed."""
    import av

    def frames(path: Path) -> int:
        with av.open(str(path)) as video:
            return sum(1 for _ in video.decode(video=0))

    out, saved = tmp_path / "out.mp4", tmp_path / "saved"
    checked: list[tuple[int, int]] = []

    def look(frame: Frame) -> None:
        told = load(saved) if frame.index % 10 == 0 else None
        given = 0 if told is None else told["sources"]["test"]["progress"]["given"]
        if given:
            copy = shutil.copy(out, tmp_path / "copy.mp4")  # as a kill leaves it
            checked.append((given, frames(Path(copy))))

    stages = [Call(function=look, workers=1)]
    run = Pipeline(["test:160x96@25,frames=400"], stages, [Video(path=out)], checkpoint=saved, checkpoint_every=0.05)
    assert run.run().frames == 400
    assert len({given for given, _ in checked}) > 2
    assert all(held >= given for given, held in checked)
    assert load(saved)["complete"]  # type: ignore[index]
    assert frames(out) == 400
