"""SQLite: everything that was found, as tables to ask questions of."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import Field, PrivateAttr

from pipeline import reasons
from pipeline.errors import FramechainError, UsageError
from pipeline.files.disk_full import DiskFull
from pipeline.files.output import PLACEHOLDER, FileSink
from pipeline.frame import Frame
from pipeline.source import SourceInfo
from trackers.tracks import Tracks

logger = logging.getLogger("framechain")

# "fram", in the header of the file: what tells our databases from others (PRAGMA application_id).
_APPLICATION = 0x6672616D
_VERSION = 1

_SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (id INTEGER PRIMARY KEY, started_at REAL NOT NULL, framechain TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS sources (
    id INTEGER PRIMARY KEY, run INTEGER NOT NULL REFERENCES runs, name TEXT NOT NULL, uri TEXT NOT NULL,
    width INTEGER, height INTEGER, fps REAL, live INTEGER NOT NULL, UNIQUE (run, name)
);
CREATE TABLE IF NOT EXISTS frames (
    id INTEGER PRIMARY KEY, source INTEGER NOT NULL REFERENCES sources, frame INTEGER NOT NULL, time REAL NOT NULL,
    captured_at REAL NOT NULL, skipped INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS frames_of_source ON frames (source, frame);
CREATE INDEX IF NOT EXISTS frames_by_clock ON frames (captured_at);
CREATE TABLE IF NOT EXISTS tracks (
    frame INTEGER NOT NULL REFERENCES frames ON DELETE CASCADE, track INTEGER NOT NULL, class TEXT NOT NULL,
    class_id INTEGER NOT NULL, score REAL NOT NULL, x1 REAL NOT NULL, y1 REAL NOT NULL, x2 REAL NOT NULL,
    y2 REAL NOT NULL, lost INTEGER NOT NULL, since_seen REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS tracks_of_frame ON tracks (frame);
CREATE INDEX IF NOT EXISTS tracks_by_number ON tracks (track);
CREATE TABLE IF NOT EXISTS texts (
    frame INTEGER NOT NULL REFERENCES frames ON DELETE CASCADE, track INTEGER, text TEXT NOT NULL,
    confidence REAL NOT NULL, readings INTEGER NOT NULL, x1 REAL NOT NULL, y1 REAL NOT NULL, x2 REAL NOT NULL,
    y2 REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS texts_of_frame ON texts (frame);
CREATE INDEX IF NOT EXISTS texts_by_text ON texts (text);
"""

# Frames that may wait to be written; a disk that does not keep up then holds the chain up, as it does with files.
_WAITING = 5000

# Seconds that another process may hold a database before it counts as held; then rows wait a while longer.
_BUSY = 1.0
_PATIENCE = 5  # times so many seconds, at the end of a run

# Old rows go so many at a time, so that no transaction takes long, with so many seconds for frames in between.
_SWEPT = 2000
_ASIDE = 0.01


@dataclass(slots=True)
class _Database:
    """An open file and what is to be written into it: rows of `tracks` and `texts` begin with the place in `frames`.

    Attributes:
        run: its row of `runs`; None until that is there. started_at: the clock. sources: rows of `sources`.
        last: index of the last frame of each source that is in it.
        frames: (place, id of the source, index, time, captured_at, skipped).
    """

    path: Path
    connection: sqlite3.Connection
    run: int | None
    started_at: float
    sources: dict[str, int] = field(default_factory=dict)
    last: dict[str, int] = field(default_factory=dict)
    frames: list[tuple[Any, ...]] = field(default_factory=list)
    tracks: list[tuple[Any, ...]] = field(default_factory=list)
    texts: list[tuple[Any, ...]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Run:
    """One run in a database: its row, and the index of the last frame of each source."""

    run: int
    started_at: float
    last: dict[str, int]


class _Locked(FramechainError):
    """Another program holds the database."""


class Sqlite(FileSink):
    """Adds frames, tracks and texts to a SQLite database; docs/outputs.md describes the tables.

    A database is added to, never overwritten: each run has a row in `runs`. It is in WAL mode and can be read while
    it is written. Rows are written every `commit` seconds in one transaction that is on disk when it ends, so a kill
    or a power cut loses the frames of so many seconds and leaves the database whole.
    """

    name = "sqlite"

    commit: float = Field(
        1.0, gt=0, le=86_400, description="seconds between transactions: what a kill or a power cut may lose"
    )
    keep_seconds: float | None = Field(None, gt=0, description="delete frames that were captured longer ago")

    _infos: dict[str, SourceInfo] = PrivateAttr(default_factory=dict)
    _databases: dict[Path, _Database] = PrivateAttr(default_factory=dict)
    _lock: threading.RLock = PrivateAttr(default_factory=threading.RLock)
    _before: dict[str, _Run] = PrivateAttr(default_factory=dict)
    _failure: FramechainError | None = PrivateAttr(None)
    _ending: threading.Event = PrivateAttr(default_factory=threading.Event)
    _writer: threading.Thread | None = PrivateAttr(None)

    def open(self) -> None:
        """Check that the file can be written, and that a file that exists is a database of ours.

        Raises:
            UsageError: it cannot, or it is not.
        """
        super().open()
        path = self.path.expanduser()
        if PLACEHOLDER not in str(path) and path.exists() and path.stat().st_size:
            try:
                _connect(path).close()
            except sqlite3.Error as error:
                raise UsageError(f"cannot write {path}: {error}; give another path") from error

    def begin(self, source: SourceInfo) -> None:
        """Open the database of this source, or of all sources, and write down what the source is."""
        super().begin(source)
        if self._writer is None:
            self._ending.clear()
            self._writer = threading.Thread(target=self._write_now_and_then, name="sqlite", daemon=True)
            self._writer.start()
        with self._lock:
            self._infos[source.id] = source
            try:
                self._flush(self._base(source.id))
            except DiskFull as error:
                self.await_room(source.id, error)

    def recorded(self, frame: Frame) -> None:
        """It waits to be written; after a full disk it is written at once, to tell whether there is room."""
        if self.pause.active:
            with self._lock:
                self._flush(self._base(frame.source))

    def record(self, frame: Frame) -> None:
        """Add one frame to those that are written next.

        Raises:
            FramechainError: those before it could not be written.
        """
        with self._lock:
            base = self._base(frame.source)
            failure, self._failure = self._failure, None
            if failure is not None:
                raise failure
            number = len(base.frames)
            times = (round(frame.timestamp, 6), round(frame.captured_at, 6))
            base.frames.append((number, frame.source, frame.index, *times, frame.skipped))
            for tracks, lost in ((frame.tracks, False), (frame.tracks.lost(), True)):
                base.tracks += _track_rows(number, frame, tracks, lost)
            base.texts += [
                (number, text.track_id, text.text, round(text.confidence, 4), text.readings, *_rounded(text.xyxy))
                for text in frame.texts
            ]
            if len(base.frames) >= _WAITING:
                self._flush(base)

    def state_dict(self) -> dict[str, Any]:
        """Write everything, and tell which run of the databases this is, and with which frames its sources end.

        Raises:
            FramechainError: it cannot be written now.
        """
        with self._lock:
            runs = dict(self._before)  # of sources that are not back yet
            for base in self._databases.values():
                try:
                    self._flush(base)
                except FramechainError as error:
                    self._failure = self._failure or error  # raised by whoever writes next
                    raise
                if base.frames or self._joining(base):
                    raise FramechainError(self.trouble or f"{base.path} is locked by another program")
                if base.run is not None:  # else nothing was written
                    runs[str(base.path)] = _Run(base.run, base.started_at, dict(base.last))
            return {**super().state_dict(), "runs": {path: asdict(run) for path, run in runs.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Add to those runs; of sources that are not live, what came after those frames is deleted."""
        super().load_state_dict(state)
        self._before = {
            str(path): _Run(int(one["run"]), float(one["started_at"]), {str(k): int(n) for k, n in one["last"].items()})
            for path, one in state["runs"].items()
            if self.is_mine(str(path))
        }

    def end(self, source: str) -> None:
        """Write what is there of a source, and close its own database; one that is locked waits for the end."""
        with self._lock:
            path = self._claimed.get(source)
            base = None if path is None else self._databases.get(path)
            if path is not None and base is not None:
                self._flush(base)
                if base.frames:
                    return
                base.sources.pop(source, None)
                base.last.pop(source, None)
                if self.own_files:
                    del self._databases[path]
                    _close(base)
            self._infos.pop(source, None)
        super().end(source)

    def close(self) -> None:
        """Write everything and close all databases.

        Raises:
            FramechainError: it cannot be written; what was written before is there.
        """
        self._ending.set()
        if self._writer is not None:
            self._writer.join()
            self._writer = None
        with self._lock:
            failure, self._failure = self._failure, None
            for base in self._databases.values():
                try:
                    for _ in range(_PATIENCE):
                        self._flush(base)
                except FramechainError as error:
                    failure = failure or error
                if base.frames:
                    self.dropped[reasons.DATABASE_LOCKED] += len(base.frames)
                    logger.warning(
                        "%s is locked by another program: %d frames are not in it", base.path, len(base.frames)
                    )
                _close(base)
            self._databases.clear()
            self._before.clear()
            self._infos.clear()
        super().close()
        if failure is not None:
            raise failure

    def _base(self, source: str) -> _Database:
        """The open database for a source."""
        path = self._claimed[source]
        if (base := self._databases.get(path)) is None:
            try:
                base = self._databases[path] = _opened(path, self._before.get(str(path)))
            except sqlite3.Error as error:
                raise _cannot_write(path, error) from error
            self._before.pop(str(path), None)
        return base

    def _write_now_and_then(self) -> None:
        old = False
        while not self._ending.wait(_ASIDE if old else self.commit):
            with self._lock:
                bases = list(self._databases.values())
            old = sum(map(self._write_one, bases)) > 0

    def _write_one(self, base: _Database) -> bool:
        """Write what waits for a database; tells whether there may be more to delete in it."""
        with self._lock:
            if self._databases.get(base.path) is not base:  # its source ended
                return False
            try:
                self._flush(base)
                return self._sweep(base)
            except FramechainError as error:
                self._failure = self._failure or error  # raised by whoever writes next
                return False

    def _joining(self, base: _Database) -> list[SourceInfo]:
        """The sources that are not in a database yet."""
        return [
            info
            for name, info in self._infos.items()
            if name not in base.sources and self._claimed.get(name) == base.path
        ]

    def _flush(self, base: _Database) -> None:
        """Write what waits in one transaction; where there is no room for it, count it or fail.

        What another program's lock keeps out waits on, new sources too.
        """
        frames, tracks, texts = base.frames, base.tracks, base.texts
        joining = self._joining(base)
        if not (frames or joining):
            return
        base.frames, base.tracks, base.texts = [], [], []
        try:
            with base.connection:
                base.connection.execute("BEGIN IMMEDIATE")  # another run may write into the same database
                run = base.run or _inserted(
                    base.connection, "INSERT INTO runs VALUES (NULL, ?, ?)", (base.started_at, version("framechain"))
                )
                sources = base.sources | {info.id: _entered(base, run, info) for info in joining}
                rows = [(number, sources[name], *rest) for number, name, *rest in frames]
                (free,) = base.connection.execute("SELECT coalesce(max(id), 0) + 1 FROM frames").fetchone()
                for table, columns, part in (("frames", 6, rows), ("tracks", 11, tracks), ("texts", 9, texts)):
                    values = ", ".join("?" * columns)
                    numbered = ((free + row[0], *row[1:]) for row in part)
                    base.connection.executemany(f"INSERT INTO {table} VALUES ({values})", numbered)
        except Exception as error:  # whatever it is, the frames are counted
            failure = _cannot_write(base.path, error)
            full, locked = isinstance(failure, DiskFull), isinstance(failure, _Locked)
            if locked and len(frames) < _WAITING:
                base.frames, base.tracks, base.texts = frames, tracks, texts
                return
            reason = reasons.DISK_FULL if full else reasons.DATABASE_LOCKED if locked else reasons.NOT_WRITTEN
            self.dropped[reason] += len(frames)
            if not full or not self.pauses:
                raise failure from error
            self.pause.begin(base.path, len(frames))
        else:
            base.run, base.sources = run, sources
            base.last.update((name, index) for _, name, index, *_ in frames)
            if frames:
                self.pause.end()

    def _sweep(self, base: _Database) -> bool:
        """Delete some of what is too old, whose room is used again; tells whether there may be more."""
        if self.keep_seconds is None:
            return False
        oldest = "SELECT id FROM frames WHERE captured_at < ? ORDER BY captured_at LIMIT ?"
        try:
            with base.connection:
                swept = base.connection.execute(
                    f"DELETE FROM frames WHERE id IN ({oldest})", (time.time() - self.keep_seconds, _SWEPT)
                )
                return swept.rowcount == _SWEPT
        except Exception as error:
            failure = _cannot_write(base.path, error)
            if not isinstance(failure, DiskFull | _Locked):
                raise failure from error
            return False


def _close(base: _Database) -> None:
    try:
        base.connection.close()
    except sqlite3.Error as error:  # the log stays beside the file, and who opens it next puts it in
        logger.warning("%s is left with its log beside it: %s", base.path, error)


def _opened(path: Path, before: _Run | None = None) -> _Database:
    """Open a database, to go on with an earlier run where it holds that, else with a new one."""
    connection = _connect(path)
    try:
        if before is not None:
            known = "SELECT 1 FROM runs WHERE id = ? AND started_at = ?"
            if connection.execute(known, (before.run, before.started_at)).fetchone() is not None:
                return _Database(path, connection, before.run, before.started_at, last=before.last)
    except sqlite3.Error:
        connection.close()
        raise
    return _Database(path, connection, None, time.time())


def _entered(base: _Database, run: int, info: SourceInfo) -> int:
    """The row of a source; of one that is gone on with, what is written again is deleted."""
    # names of files need not be UTF-8
    name, uri = (text.encode("utf-8", "backslashreplace").decode() for text in (info.id, info.uri))
    known = "SELECT id FROM sources WHERE run = ? AND name = ?"
    found = base.connection.execute(known, (run, name)).fetchone()
    if found is None:
        row = (run, name, uri, info.width, info.height, info.fps, info.live)
        return _inserted(base.connection, "INSERT INTO sources VALUES (NULL, ?, ?, ?, ?, ?, ?, ?)", row)
    if info.repeats:
        again = "DELETE FROM frames WHERE source = ? AND frame > ?"
        base.connection.execute(again, (found[0], base.last.get(info.id, -1)))
    return int(found[0])


def _connect(path: Path) -> sqlite3.Connection:
    """Open a database of ours, or make one.

    Raises:
        UsageError: the file is something else, or a newer Framechain's.
        sqlite3.Error: it cannot be read or written.
    """
    # used by one thread at a time, not always the same
    connection = sqlite3.connect(path, timeout=_BUSY, check_same_thread=False)
    try:
        (application,), (number,) = (
            connection.execute(f"PRAGMA {name}").fetchone() for name in ("application_id", "user_version")
        )
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables and (application, number) != (_APPLICATION, _VERSION):
            raise UsageError(f"{path} is a database of something else and is not touched; give another path")
        for setting in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
            connection.execute(f"PRAGMA {setting}")
        if not tables:
            identity = f"PRAGMA application_id = {_APPLICATION}; PRAGMA user_version = {_VERSION};"
            connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} {identity} COMMIT;")
    except BaseException as error:
        connection.close()
        if isinstance(error, sqlite3.DatabaseError) and "not a database" in str(error):
            raise UsageError(f"{path} is no SQLite database and is not touched; give another path") from error
        raise
    return connection


def _inserted(connection: sqlite3.Connection, statement: str, row: tuple[Any, ...]) -> int:
    number = connection.execute(statement, row).lastrowid
    assert number is not None
    return number


def _track_rows(number: int, frame: Frame, tracks: Tracks, lost: bool) -> list[tuple[Any, ...]]:
    columns = (tracks.id, tracks.class_id, tracks.score, tracks.xyxy, tracks.since_seen)
    return [
        (
            *(number, track, frame.detections.class_name(class_id), class_id, round(score, 4), *_rounded(xyxy)),
            *(lost, round(since, 3)),
        )
        for track, class_id, score, xyxy, since in zip(*(column.tolist() for column in columns), strict=True)
    ]


def _rounded(xyxy: Any) -> tuple[float, ...]:
    return tuple(round(float(edge), 2) for edge in xyxy)


def _cannot_write(path: Path, error: Exception) -> FramechainError:
    known = isinstance(error, sqlite3.Error)
    if known and "locked" in str(error):
        return _Locked(f"cannot write {path}: it is locked by another program; close that or write elsewhere")
    # where it cannot even begin its log it says "disk I/O error"; Python 3.10 tells no more
    full = (known and "full" in str(error)) or getattr(error, "sqlite_errorname", "") == "SQLITE_IOERR_SHMSIZE"
    kind = DiskFull if full else FramechainError
    return kind(f"cannot write {path}: {error}; what it holds so far is valid, make room or write elsewhere")
