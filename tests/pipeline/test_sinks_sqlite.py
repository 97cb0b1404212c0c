"""SQLite: what the tables hold, read by another connection while it is written, after kills, beside others."""

import sqlite3
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from test_sinks_lines import IMAGE, frame, info

from pipeline.errors import FramechainError, UsageError
from pipeline.frame import Frame
from pipeline.sinks.sqlite import Sqlite


def written(sink: Sqlite, *frames: Frame) -> None:
    sink.open()
    for source in dict.fromkeys(one.source for one in frames):
        sink.begin(info(source))
    for one in frames:
        sink.write(one)
    sink.close()


def ask(path: Path, question: str) -> list[tuple[object, ...]]:
    base = sqlite3.connect(path)
    try:
        return base.execute(question).fetchall()
    finally:
        base.close()


def test_the_tables_hold_what_was_found(tmp_path: Path) -> None:
    path = tmp_path / "out.db"
    written(Sqlite(path=path), frame(), Frame(IMAGE, "gate", 0), frame(index=5))
    assert ask(path, "SELECT name, uri, width, height, fps, live FROM sources") == [
        ("street", "street", 8, 8, 30.0, 0),
        ("gate", "gate", 8, 8, 30.0, 0),
    ]
    assert ask(
        path, "SELECT f.id, s.name, frame, time, captured_at, skipped FROM frames f, sources s ON s.id = source"
    ) == [
        (1, "street", 4, 0.133333, 1.7e9, 0),
        (2, "gate", 0, 0.0, 0.0, 0),
        (3, "street", 5, 0.166667, 1.7e9, 0),
    ]
    assert ask(path, "SELECT * FROM tracks WHERE frame = 3") == [
        (3, 3, "car", 1, 0.9123, 10.0, 20.0, 30.13, 60.0, 0, 0.0),
        (3, 2, "car", 1, 0.9123, 100.0, 100.0, 120.5, 140.0, 1, 0.4),
    ]
    assert ask(path, "SELECT * FROM texts WHERE frame = 1") == [
        (1, 3, "né 京A-1", 0.8765, 4, 11.0, 21.0, 29.0, 30.5),
        (1, None, 'a "b", c', 0.5, 1, 0.0, 0.0, 4.0, 4.0),
    ]
    assert ask(path, "PRAGMA integrity_check") == [("ok",)]
    assert not list(tmp_path.glob("*-wal"))


def test_a_database_is_added_to_and_each_run_is_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "out.db"
    for _ in range(2):
        written(Sqlite(path=path), frame())
    rows = ask(
        path,
        "SELECT run, f.id, count(track) FROM tracks t JOIN frames f ON t.frame = f.id "
        "JOIN sources s ON s.id = f.source GROUP BY f.id",
    )
    assert rows == [(1, 1, 2), (2, 2, 2)]


def test_two_runs_may_write_into_one_database(tmp_path: Path) -> None:
    path = tmp_path / "out.db"
    one, other = Sqlite(path=path, commit=0.01), Sqlite(path=path, commit=0.01)
    for sink, source in ((one, "a"), (other, "b")):
        sink.open()
        sink.begin(info(source))
    for index in range(200):
        one.write(frame("a", index))
        other.write(frame("b", index))
    one.close()
    other.close()
    rows = ask(
        path, "SELECT name, count(*), min(frame), max(frame) FROM frames f, sources s WHERE s.id = source GROUP BY name"
    )
    assert rows == [("a", 200, 0, 199), ("b", 200, 0, 199)]
    assert ask(path, "SELECT count(*) FROM tracks") == [(800,)]


def test_rows_can_be_read_soon_after_they_came(tmp_path: Path) -> None:
    path = tmp_path / "out.db"
    sink = Sqlite(path=path, commit=0.05)
    sink.open()
    sink.begin(info("street"))
    sink.write(frame())
    deadline = time.monotonic() + 20
    while not ask(path, "SELECT 1 FROM frames") and time.monotonic() < deadline:
        time.sleep(0.01)
    assert ask(path, "SELECT count(*) FROM tracks") == [(2,)], "although no other frame came"
    sink.close()


def test_while_another_program_holds_it_rows_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.sinks.sqlite._BUSY", 0.05)
    path = tmp_path / "out.db"
    sink = Sqlite(path=path, commit=60)
    sink.open()
    sink.begin(info("street"))
    holder = sqlite3.connect(path)
    holder.execute("BEGIN IMMEDIATE")
    sink.write(frame())
    sink.end("street")
    assert ask(path, "SELECT count(*) FROM frames") == [(0,)]
    holder.rollback()
    sink.end("street")
    assert ask(path, "SELECT count(*) FROM frames") == [(1,)]
    sink.begin(info("lane"))
    holder.execute("BEGIN IMMEDIATE")
    sink.write(frame("lane"))
    sink.close()
    assert sink.dropped == {"database locked": 1}, "at the end it waits no longer"
    holder.close()


def test_a_camera_that_joins_while_another_program_holds_it_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.sinks.sqlite._BUSY", 0.05)
    path = tmp_path / "out.db"
    written(Sqlite(path=path), frame())
    holder = sqlite3.connect(path)
    holder.execute("BEGIN IMMEDIATE")
    sink = Sqlite(path=path, commit=60)
    sink.open()
    for name in ("street", "lane"):
        sink.begin(info(name))
        sink.write(frame(name))
    with pytest.raises(FramechainError, match="locked by another program"):
        sink.state_dict()
    holder.rollback()
    run = sink.state_dict()["runs"][str(path)]
    assert (run["run"], run["last"]) == (2, {"street": 4, "lane": 4})
    sink.close()
    held = "SELECT run, name, frame FROM frames f, sources s ON s.id = source"
    assert ask(path, held) == [(1, "street", 4), (2, "street", 4), (2, "lane", 4)]
    assert not sink.dropped
    holder.close()


def test_old_frames_go_with_all_that_is_theirs(tmp_path: Path) -> None:
    path = tmp_path / "out.db"
    sink = Sqlite(path=path, commit=0.02, keep_seconds=3600)
    sink.open()
    sink.begin(info("street"))
    old, new = frame(index=1), frame(index=2)
    new.captured_at = time.time()
    sink.write(old)
    sink.write(new)
    deadline = time.monotonic() + 20
    while ask(path, "SELECT frame FROM frames") != [(2,)] and time.monotonic() < deadline:
        time.sleep(0.01)
    sink.close()
    assert ask(path, "SELECT frame FROM frames") == [(2,)]
    assert ask(path, "SELECT count(*) FROM tracks") == [(2,)]


def test_what_a_source_is_called_keeps_no_other_source_out(tmp_path: Path) -> None:
    path = tmp_path / "out.db"
    sink = Sqlite(path=path, commit=60)
    sink.open()
    sink.begin(info("street"))
    sink.write(frame())
    state = sink.state_dict()
    sink.close()
    again = Sqlite(path=path, commit=60)
    again.open()
    again.load_state_dict(state)
    again.begin(replace(info("street"), uri="/by/another/path/street"))
    strange = ("caf\udce9", "caf\udcea")  # file names that are no UTF-8
    for name in strange:
        again.begin(replace(info(name), uri=f"/films/{name}.mp4"))
    again.begin(info("lane"))
    for name in ("street", *strange, "lane"):
        again.write(frame(name, index=5))
    again.close()
    assert not again.dropped
    held = "SELECT run, name, frame FROM frames f, sources s ON s.id = source"
    assert ask(path, held) == [
        (1, "street", 4),
        (1, "street", 5),
        *((1, f"caf\\udc{n}", 5) for n in ("e9", "ea")),
        (1, "lane", 5),
    ]


def test_old_frames_go_as_fast_as_they_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.sinks.sqlite._SWEPT", 10)
    path = tmp_path / "out.db"
    sink = Sqlite(path=path, commit=0.5, keep_seconds=3600)
    sink.open()
    sink.begin(info("street"))
    for index in range(1000):
        sink.write(frame(index=index))
    last = frame(index=1000)
    last.captured_at = time.time()
    sink.write(last)
    deadline = time.monotonic() + 20
    while ask(path, "SELECT frame FROM frames") != [(1000,)] and time.monotonic() < deadline:
        time.sleep(0.01)
    assert ask(path, "SELECT frame FROM frames") == [(1000,)]
    sink.close()


def test_a_spoilt_database_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "out.db"
    written(Sqlite(path=path), frame())
    content = bytearray(path.read_bytes())
    content[100:4096] = b"?" * 3996
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"cannot write .*out\.db: .*malformed.*; give another path"):
        Sqlite(path=path).open()


def test_other_files_are_not_touched(tmp_path: Path) -> None:
    text, foreign = tmp_path / "notes.txt", tmp_path / "foreign.db"
    text.write_text("precious notes, " * 100)
    base = sqlite3.connect(foreign)
    base.execute("CREATE TABLE precious (a)")
    base.commit()
    base.close()
    before = text.read_bytes(), foreign.read_bytes()
    for path in (text, foreign):
        with pytest.raises(UsageError, match="is not touched; give another path"):
            Sqlite(path=path).open()
        templated = Sqlite(path=path.with_name("{source}" + path.suffix))
        templated.open()
        with pytest.raises(UsageError, match="is not touched"):
            templated.begin(info(path.stem))
        templated.close()
    assert (text.read_bytes(), foreign.read_bytes()) == before


@pytest.mark.skipif(sys.platform == "win32", reason="a file cannot be removed there while it is open")
def test_what_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "out.db").mkdir()
    with pytest.raises(UsageError, match=r"cannot write .*out\.db"):
        Sqlite(path=tmp_path / "out.db").open()
