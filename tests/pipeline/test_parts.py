"""Parts of an output: names, seams, what is kept, a full disk."""

import logging
import os
import re
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeVar

import av
import numpy as np
import pytest
from peers import fill, small_disk
from pydantic import ValidationError
from test_sinks_lines import frame as found

from pipeline.config import Document
from pipeline.errors import FramechainError, UsageError
from pipeline.files.output import FileSink, file_safe
from pipeline.files.parts import Rotation, Series
from pipeline.frame import Frame
from pipeline.sinks.csv import Csv
from pipeline.sinks.jsonl import JsonLines
from pipeline.sinks.sqlite import Sqlite
from pipeline.sinks.video import Video
from pipeline.source import SourceInfo

Sunk = TypeVar("Sunk", bound=FileSink)

IMAGE = np.zeros((48, 64, 3), np.uint8)
LIVE_NAME = r"\d{8}T\d{6}\.\d{3}Z"


def info(source: str = "street", live: bool = False) -> SourceInfo:
    return SourceInfo(source, source, 64, 48, 10.0, live=live)


def frames(count: int, source: str = "street", noise: bool = False) -> Iterator[Frame]:
    random = np.random.default_rng(0)
    for index in range(count):
        image = random.integers(0, 255, IMAGE.shape, np.uint8) if noise else IMAGE
        yield Frame(image, source, index, index / 10)


def written(sink: FileSink, given: Iterator[Frame], live: bool = False) -> None:
    sink.open()
    sink.begin(info(live=live))
    for frame in given:
        sink.write(frame)
    sink.end("street")
    sink.close()


def begun(sink: Sunk, state: dict[str, Any] | None, *sources: SourceInfo) -> Sunk:
    sink.open()
    if state is not None:
        sink.load_state_dict(state)
    for source in sources:
        sink.begin(source)
    return sink


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def times(path: Path) -> list[float]:
    with av.open(str(path)) as file:
        packets = [packet for packet in file.demux(video=0) if packet.size]
        assert packets[0].is_keyframe
    with av.open(str(path)) as file:
        return [float(frame.time) for frame in file.decode(video=0)]


def test_lines_go_on_in_parts_by_media_time_and_none_is_lost(tmp_path: Path) -> None:
    parted = tmp_path / "parts"
    written(JsonLines(path=tmp_path / "plain.jsonl"), frames(95))
    written(JsonLines(path=parted / "out.jsonl", rotate={"seconds": 3}), frames(95))
    assert names(parted) == [f"out-{n:06d}.jsonl" for n in (1, 2, 3, 4)]
    parts = [(parted / name).read_text() for name in names(parted)]
    assert [part.count("\n") for part in parts] == [30, 30, 30, 5]
    assert "".join(parts) == (tmp_path / "plain.jsonl").read_text()
    rows = (found(index=index) for index in range(95))  # 30 a second
    written(Csv(path=tmp_path / "{part}" / "out.csv", rotate={"seconds": 1}), rows)
    tables = [path.read_text() for path in sorted(tmp_path.glob("0*/out.csv"))]
    assert [table.count("\n") - table.count(Csv.header) for table in tables] == [30, 30, 30, 5]


def test_lines_go_on_in_parts_by_size(tmp_path: Path) -> None:
    written(JsonLines(path=tmp_path / "out.jsonl", rotate={"bytes": 1000}), frames(95))
    sizes = [(tmp_path / name).stat().st_size for name in names(tmp_path)]
    assert all(900 < size <= 1000 for size in sizes[:-1])
    assert sum((tmp_path / name).read_text().count("\n") for name in names(tmp_path)) == 95
    written(JsonLines(path=tmp_path / "b" / "out.jsonl", rotate={"bytes": 1}), frames(3))
    assert len(names(tmp_path / "b")) == 3, "a part holds one frame at least"


def test_every_part_of_a_video_plays_by_itself_and_none_lacks_a_frame(tmp_path: Path) -> None:
    written(Video(path=tmp_path / "out.mp4", rotate={"seconds": 2}), frames(95))
    assert names(tmp_path) == [f"out-{n:06d}.mp4" for n in (1, 2, 3, 4, 5)]
    for name, count in zip(names(tmp_path), (20, 20, 20, 20, 15), strict=True):
        assert times(tmp_path / name) == pytest.approx([n / 10 for n in range(count)], abs=1e-3)
        assert (tmp_path / name).read_bytes()[:64].count(b"moof") == 0


def test_video_goes_on_in_parts_by_size(tmp_path: Path) -> None:
    written(Video(path=tmp_path / "out.mp4", rotate={"bytes": 30_000}), frames(200, noise=True))
    sizes = [(tmp_path / name).stat().st_size for name in names(tmp_path)]
    assert all(30_000 < size < 60_000 for size in sizes[:-1]), "what the encoder holds comes on top"
    assert sum(len(times(tmp_path / name)) for name in names(tmp_path)) == 200


def test_live_parts_are_named_by_the_clock_and_overwrite_nothing(tmp_path: Path) -> None:
    for _ in range(2):
        written(JsonLines(path=tmp_path / "out.jsonl", rotate={"bytes": 1}), frames(20), live=True)
    found = names(tmp_path)
    assert len(found) == 40
    assert all(re.fullmatch(rf"out-{LIVE_NAME}\.jsonl", name) for name in found)
    lines = [(tmp_path / name).read_text() for name in found]
    assert [int(re.findall(r'"frame":(\d+)', line)[0]) for line in lines] == [*range(20), *range(20)]


def test_live_names_stay_in_order_when_the_clock_is_set_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    series = Series(tmp_path / "out.mp4", Rotation(seconds=1), live=True)
    given = []
    for now in (1000.0, 1000.0, 400.0, 1000.5):
        monkeypatch.setattr("time.time", lambda now=now: now)
        given.append(series.next().name)
    assert given == sorted(set(given))


@pytest.mark.parametrize(
    ("rotation", "left"), [({"keep_bytes": 2500}, 2), ({"keep_seconds": 4.0}, 4)], ids=["bytes", "seconds"]
)
def test_the_oldest_parts_of_the_run_go_and_no_other_file(rotation: dict[str, Any], left: int, tmp_path: Path) -> None:
    (tmp_path / "out-000000.jsonl").write_text("another run's")
    written(JsonLines(path=tmp_path / "out.jsonl", rotate={"bytes": 1000, **rotation}), frames(200))
    found = names(tmp_path)
    assert found[0] == "out-000000.jsonl"
    numbers = [int(name[4:10]) for name in found[1:]]
    assert numbers == list(range(numbers[-1] - left, numbers[-1] + 1))


def test_video_parts_are_deleted_too(tmp_path: Path) -> None:
    written(Video(path=tmp_path / "out.mp4", rotate={"seconds": 1, "keep_seconds": 2.5}), frames(95))
    assert names(tmp_path) == [f"out-{n:06d}.mp4" for n in (7, 8, 9, 10)]


@pytest.mark.parametrize("kind", [JsonLines, Video])
def test_the_last_parts_of_sources_that_ended_are_deleted_too(kind: Any, tmp_path: Path) -> None:
    suffix = ".mp4" if kind is Video else ".jsonl"
    most = 2500 if kind is JsonLines else 12_000
    sink = kind(path=tmp_path / f"{{source}}-{{part}}{suffix}", rotate={"bytes": 10**9, "keep_bytes": most})
    sink.open()
    for number in range(20):
        sink.begin(info(f"gate{number}", live=True))
        for one in frames(10, f"gate{number}"):
            sink.write(one)
        sink.end(f"gate{number}")
    sink.close()
    left = sorted(int(name.split("-")[0].removeprefix("gate")) for name in names(tmp_path))
    assert 0 < len(left) < 10
    assert left == list(range(20 - len(left), 20)), "the newest"
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= most


@pytest.mark.parametrize("rotation", [{"keep_bytes": 1000}, {"keep_seconds": 3600}], ids=["bytes", "seconds"])
def test_parts_of_the_run_that_is_gone_on_from_are_deleted_in_their_turn(
    rotation: dict[str, Any], tmp_path: Path
) -> None:
    def sink() -> JsonLines:
        made = JsonLines(path=tmp_path / "{source}.jsonl", rotate={"bytes": 500, **rotation})
        made.open()
        return made

    def record(one: JsonLines, *sources: str) -> None:
        for name in sources:
            one.begin(info(name, live=True))
            for each in frames(25, name):
                one.write(each)

    first = sink()
    record(first, "gate", "yard")
    first.end("yard")
    state = first.state_dict()
    first.close()
    before = sorted(tmp_path.iterdir(), key=lambda path: path.name[5:])
    for age, path in enumerate(reversed(before)):
        os.utime(path, (time.time() - 4000 - age,) * 2)
    others = [tmp_path / name for name in ("hall-20200101T000000.000Z.jsonl", "gate-20200101.jsonl", "gate.jsonl")]
    others.append(tmp_path / "gate-20200101T000000.000Z.jsonl")  # of a run that left no checkpoint
    for other in others:
        other.write_text("somebody else's\n")

    second = sink()
    forged = {str(tmp_path / name): "0" for name in ("../x.jsonl", "hall", "gate-20200101.jsonl")}
    second.load_state_dict(state | {"firsts": state["firsts"] | forged})
    record(second, "gate")
    second.end("gate")
    again = second.state_dict()
    second.close()
    assert all(other.exists() for other in others)
    assert not any(path.exists() for path in before)
    if "keep_bytes" in rotation:
        assert sum(path.stat().st_size for path in set(tmp_path.iterdir()) - set(others)) <= 1000
    assert list(again["firsts"]) == [str(tmp_path / "gate.jsonl")], "no part of yard's is left"


@pytest.mark.parametrize("name", ["20260101T000000.000Z/gate.jsonl", "{part}/gate.jsonl", "{source}/{part}.jsonl"])
def test_parts_of_the_run_before_are_found_wherever_they_are(name: str, tmp_path: Path) -> None:
    state: dict[str, Any] = {}
    for number in range(3):
        sink = JsonLines(path=tmp_path / name, rotate={"bytes": 10**6, "keep_bytes": 10**6})
        begun(sink, state or None, info("gate", live=True))
        for one in frames(5, "gate"):
            sink.write(one)
        state = sink.state_dict()
        parts = [path for path in tmp_path.rglob("*.jsonl") if path.is_file()]
        assert len(parts) == number + 1
        assert sink.kept.outputs == ({str(sink._claimed["gate"]): number} if number else {})
        sink.close()


def test_a_clock_that_was_never_set_is_no_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    series = Series(tmp_path / "out.mp4", Rotation(seconds=1), live=True)
    for now, first in ((1000.0, None), (1.8e9, "20270115T080000.000Z"), (1.9e9, "20270115T080000.000Z")):
        monkeypatch.setattr("time.time", lambda now=now: now)
        series.next()
        assert series.first == first


def test_the_newest_part_stays_however_large_it_is(tmp_path: Path) -> None:
    written(JsonLines(path=tmp_path / "out.jsonl", rotate={"seconds": 3600, "keep_bytes": 10}), frames(20))
    written(Video(path=tmp_path / "{source}.mp4", rotate={"seconds": 3600, "keep_bytes": 10}), frames(20))
    assert names(tmp_path) == ["out-000001.jsonl", "street-000001.mp4"]


def test_files_and_cameras_are_not_measured_by_one_clock(tmp_path: Path) -> None:
    sink = JsonLines(path=tmp_path / "{source}.jsonl", rotate={"bytes": 500, "keep_seconds": 60})
    sink.open()
    for name, live in (("clip", False), ("gate", True)):
        sink.begin(info(name, live))
        for one in frames(20, name):
            sink.write(one)
        sink.end(name)
    sink.close()
    counts = [sum(path.read_text().count("\n") for path in tmp_path.glob(f"{name}*")) for name in ("clip", "gate")]
    assert counts == [20, 20]


@pytest.mark.parametrize("uri", ["-", "rtsp://gate"])
def test_what_comes_never_again_stays_where_a_file_shares_the_output(uri: str, tmp_path: Path) -> None:
    def all_of(state: dict[str, Any] | None) -> JsonLines:
        gate = SourceInfo("gate", uri, 64, 48, 10.0, live=uri != "-")
        return begun(JsonLines(path=tmp_path / "all.jsonl", rotate={"bytes": 500}), state, info("clip"), gate)

    killed = all_of(None)
    for one in frames(3, "gate"):
        killed.write(one)
    state = killed.state_dict()
    for one in list(frames(30, "gate"))[3:]:
        killed.write(one)
    killed.close()
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    again = all_of(state)
    for one in list(frames(130, "gate"))[100:]:
        again.write(one)
    again.close()
    assert {path: path.read_bytes() for path in before} == before
    assert len(names(tmp_path)) > len(before) > 3


def test_outputs_are_gone_on_with_by_what_they_are(tmp_path: Path) -> None:
    """Beside a camera; with ids that are one name when made safe, of which one is gone; and none of another path."""

    def sink(path: str) -> JsonLines:
        made = JsonLines(path=tmp_path / path, rotate={"bytes": 10**6})
        made.forget("a_b")
        return made

    def indices(name: str) -> list[int]:
        return [int(index) for index in re.findall(r'"frame":(\d+)', (tmp_path / name).read_text())]

    first = begun(sink("{source}.jsonl"), None, info("gate", True), info("a b"), info("a_b"))
    for name in ("gate", "a b", "a_b"):
        for one in frames(5, name):
            first.write(one)
    state = first.state_dict()
    first.close()
    for count in (6, 7):
        second = begun(sink("{source}.jsonl"), state, info("a b"), info("gate", True))
        second.write(list(frames(count, "a b"))[-1])
        state = second.state_dict()
        second.close()
        assert indices("a_b-000001.jsonl") == list(range(count))
        assert indices("a_b-2-000001.jsonl") == list(range(5)), "another's, which is gone"

    other = begun(sink("b-{source}.jsonl"), state, info("a b"))
    state = other.state_dict()
    other.close()
    (tmp_path / "a_b-000001.jsonl").unlink()
    begun(sink("b-{source}.jsonl"), state, info("a b")).close()


@pytest.mark.parametrize("kind", [JsonLines, Video])
def test_parts_of_a_pipe_that_a_checkpoint_does_not_know_stay(kind: Any, tmp_path: Path) -> None:
    """What came through a pipe comes never again."""
    suffix = ".mp4" if kind is Video else ".jsonl"
    rotated = {"path": tmp_path / f"out{suffix}", "rotate": {"seconds": 1}}

    pipe = SourceInfo("stdin", "-", 64, 48, 10.0)
    killed = begun(kind(**rotated), None, pipe)
    for one in frames(15, "stdin"):
        killed.write(one)
    state = killed.state_dict()
    for one in list(frames(40, "stdin"))[15:]:
        killed.write(one)
    killed.close()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert len(before) == 4
    again = begun(kind(**rotated), state, pipe)
    for one in frames(15, "stdin"):
        again.write(one)
    again.close()
    assert names(tmp_path) == [f"out-{n:06d}{suffix}" for n in range(1, 7)]
    assert {name: (tmp_path / name).read_bytes() for name in before} == before


def test_a_file_that_parts_do_not_overwrite_stays(tmp_path: Path) -> None:
    (tmp_path / "out.mp4").write_text("another run's")
    written(Video(path=tmp_path / "out.mp4", rotate={"seconds": 10}), frames(3))
    assert names(tmp_path) == ["out-000001.mp4", "out.mp4"]
    assert (tmp_path / "out.mp4").read_text() == "another run's"


def test_a_source_that_begins_again_overwrites_nothing(tmp_path: Path) -> None:
    for sink in (Video(path=tmp_path / "{source}.mp4"), JsonLines(path=tmp_path / "out.jsonl")):
        sink.open()
        for _ in range(2):
            sink.begin(info())
            for frame in frames(3):
                sink.write(frame)
            sink.end("street")
        sink.close()
    assert names(tmp_path) == ["out.jsonl", "street-2.mp4", "street.mp4"]
    assert (tmp_path / "out.jsonl").read_text().count("\n") == 6
    sink = Video(path=tmp_path / "one.mp4")
    sink.open()
    sink.begin(info())
    sink.end("street")
    with pytest.raises(UsageError, match=r"one\.mp4 is only one; put \{source\} into its path"):
        sink.begin(info())
    sink.close()


def test_rotation_is_checked() -> None:
    for wrong in ({}, {"seconds": 0}, {"keep_bytes": 5}, {"hours": 1}):
        with pytest.raises(ValidationError):
            JsonLines(path=Path("a"), rotate=wrong)
    with pytest.raises(ValidationError, match="leave one of them out"):
        JsonLines(path=Path("a"), rotate={"seconds": 1}, append=True)


def test_a_misspelt_key_of_a_rotation_is_told_by_its_own_names() -> None:
    sink = {"jsonl": {"path": "a.jsonl", "rotate": {"second": 5}}}
    with pytest.raises(UsageError, match=r"rotate\.second: there is no such option; did you mean 'seconds'\?"):
        Document({"sources": ["test:"], "sinks": [sink]}).build()


def test_appending_cuts_half_a_line_off(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_bytes(b'{"a":1}\n{"b":"' + b"x" * 200_000)
    written(JsonLines(path=path, append=True), frames(2))
    assert [line[:8] for line in path.read_text().splitlines()] == ['{"a":1}', '{"source', '{"source']
    table = tmp_path / "out.csv"
    for _ in range(2):
        written(Csv(path=table, append=True), frames(2))
    assert table.read_text() == Csv.header


def test_a_link_does_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "out"
    outside.mkdir()
    folder.mkdir()
    (outside / "precious").write_text("precious")
    (folder / "gate.csv").symlink_to(outside / "precious")
    (folder / "yard").symlink_to(outside)
    (folder / "part-000001.jsonl").symlink_to(outside / "precious")
    for sink, source in (
        (Csv(path=folder / "{source}.csv"), "gate"),
        (Csv(path=folder / "{source}" / "new.csv"), "yard"),
        (JsonLines(path=folder / "part.jsonl", rotate={"seconds": 1}), "gate"),
        (Video(path=folder / "{source}" / "new.mp4"), "yard"),
        (Sqlite(path=folder / "{source}" / "new.db"), "yard"),
    ):
        sink.open()
        with pytest.raises(FramechainError, match="a link leads out of"):
            sink.begin(info(source))
        sink.close()
    assert names(outside) == ["precious"]
    assert (outside / "precious").read_text() == "precious"


@pytest.mark.parametrize("source", ["..", "../../x", "/etc/passwd", "a\0b", "a\nb", "京" * 300, "x" * 5000, "", "-rf"])
def test_any_id_is_a_name_in_the_folder(source: str, tmp_path: Path) -> None:
    name = file_safe(source)
    assert len(name.encode()) <= 100
    written_to = tmp_path / "out"
    sink = JsonLines(path=written_to / "{source}.jsonl", rotate={"seconds": 1})
    sink.open()
    sink.begin(info(source))
    sink.close()
    assert [path.parent for path in tmp_path.rglob("*.jsonl")] == [written_to]


def test_a_source_is_never_overwritten(tmp_path: Path) -> None:
    source = tmp_path / "street.mp4"
    source.write_bytes(b"precious")
    for sink in (
        {"video": {"path": str(tmp_path / "{source}.mp4")}},
        {"jsonl": {"path": f"{tmp_path}/{{source}}.mp4"}},
    ):
        with pytest.raises(UsageError, match=r"would overwrite the source .*street\.mp4"):
            Document({"sources": [str(source)], "sinks": [sink]}).build()
    parted = {"video": {"path": str(tmp_path / "street.mp4"), "rotate": {"seconds": 5}}}
    Document({"sources": [str(tmp_path / "a.mp4")], "sinks": [parted]}).build()
    with pytest.raises(UsageError, match="would overwrite"):
        Document({"sources": [str(tmp_path / "street-000002.mp4")], "sinks": [parted]}).build()
    sink = Video(path=tmp_path / "{source}.mp4")
    with pytest.raises(UsageError, match="would overwrite"):
        sink.begin(SourceInfo("street", str(source), 64, 48))
    assert source.read_bytes() == b"precious"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk") as folder:
        yield folder


KINDS: dict[str, type[FileSink]] = {"jsonl": JsonLines, "mp4": Video, "db": Sqlite}


def held(folder: Path, kind: str) -> list[int]:
    """Frames in each file of a kind, each file judged by a reader that knows it."""
    counts = []
    for path in sorted(folder.glob(f"*.{kind}")):
        if kind == "mp4":
            counts.append(len(times(path)))
        elif kind == "jsonl":
            assert path.read_text().endswith("\n")
            counts.append(path.read_text().count("\n"))
        else:
            import sqlite3

            base = sqlite3.connect(path)
            assert base.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            counts.append(base.execute("SELECT count(*) FROM frames").fetchone()[0])
            base.close()
    return counts


@pytest.mark.parametrize("kind", ["jsonl", "mp4", "db"])
def test_a_full_disk_pauses_a_live_recording_and_every_frame_is_counted(
    kind: str, disk: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("pipeline.files.disk_full._RETRY", 0.0)
    caplog.set_level(logging.WARNING)
    options: dict[str, Any] = {"commit": 0.01} if kind == "db" else {}
    sink = KINDS[kind](path=disk / f"out.{kind}", **options)
    sink.open()
    sink.begin(info(live=True))
    given = 0
    random = np.random.default_rng(0)

    def write() -> None:
        nonlocal given
        coarse = random.integers(0, 255, (30, 40, 3), np.uint8).repeat(8, 0).repeat(8, 1)
        sink.write(Frame(coarse, "street", given, given / 10))
        given += 1

    for _ in range(80):
        write()
    blocker = fill(disk)
    while not sink.dropped["disk full"]:
        write()
        if isinstance(sink, Sqlite):  # what a source leaves is written when it ends
            sink.end("street")
            sink.begin(info(live=True))
        assert given < 20_000
    for _ in range(20):
        write()
    assert sink.trouble == f"there is no room left in {disk}"
    blocker.unlink()
    for _ in range(20):
        write()
    assert not sink.trouble
    sink.end("street")
    lost = sink.dropped["disk full"]
    sink.close()
    counts = held(disk, kind)
    assert sum(counts) + lost == given
    assert len(counts) == (2 if kind == "mp4" else 1), "a video goes on in a new part"
    assert counts[-1] >= 20
    assert [record.message.split(":")[0] for record in caplog.records] == [
        f"there is no room left in {disk}",
        f"there is room in {disk}",
    ]
    assert str(lost) in caplog.records[1].message


@pytest.mark.parametrize("kind", ["jsonl", "mp4", "db", "csv"])
def test_a_disk_that_is_full_at_the_start_is_waited_for(kind: str, disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.files.disk_full._RETRY", 0.0)
    blocker = fill(disk)
    sink = (KINDS | {"csv": Csv})[kind](path=disk / f"out.{kind}")
    sink.open()
    sink.begin(info(live=True))
    for index in range(60):
        sink.write(found(index=index))
    blocker.unlink()
    for index in range(60, 100):
        sink.write(found(index=index))
    sink.end("street")
    sink.close()
    if kind == "csv":
        (table,) = disk.glob("*.csv")
        assert table.name == "out.csv", "what could not be begun is no part"
        rows = table.read_text().splitlines()
        assert (rows[0] + "\n", len(rows) - 1) == (Csv.header, 100 - sink.dropped["disk full"])
    else:
        assert sum(held(disk, kind)) == 100 - sink.dropped["disk full"] >= 40


@pytest.mark.parametrize(
    ("live", "on_full", "fails"), [(False, "auto", True), (True, "fail", True), (False, "pause", False)]
)
def test_what_a_full_disk_does_can_be_chosen(live: bool, on_full: Any, fails: bool, disk: Path) -> None:
    sink = JsonLines(path=disk / "out.jsonl", on_full=on_full)
    sink.open()
    sink.begin(info(live=live))
    fill(disk)
    refused = f"cannot write {disk}/out.jsonl: No space left on device; "
    with pytest.raises(FramechainError, match=re.escape(refused)) if fails else nullcontext():
        for frame in frames(200):
            sink.write(frame)
    assert (sink.dropped["disk full"] > 100) is not fails
    sink.close()
