"""Spool: messages that wait on disk for a peer, in order, bounded, through crashes and restarts."""

from __future__ import annotations

import logging
import os
import struct
import threading
import zlib
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pipeline.errors import UsageError
from pipeline.files.lock import hold

logger = logging.getLogger("framechain")

_HEADER = struct.Struct("<II")  # length of the message; CRC-32 of the length and the message
_CURSOR = struct.Struct("<QI")  # number of the next message to deliver; its CRC-32

# A spool is so many files when it is full: what overflows goes a file at a time.
_SEGMENTS = 16

# A file whose messages are all delivered is given up at this size: small enough that with a peer that is there most
# never reach the disk itself, large enough that files are made a few times a minute.
_TURNOVER = 1 << 20


class SpoolTaken(UsageError):
    """Another process uses the folder."""


@dataclass(slots=True)
class _Segment:
    path: Path
    first: int
    count: int
    size: int

    @property
    def end(self) -> int:
        return self.first + self.count


class Spool:
    """A queue of messages in a folder. One thread takes, any thread appends; both return at once.

    Every message is on disk before it is delivered, so a process that is killed loses none; one that was being
    delivered then may be delivered twice. What a power cut leaves half-written is recognised by length and checksum
    and left out. Appending a message of 1 kB takes about 2 µs.

    Args:
        folder: made if it is not there; one process at a time uses it.
        limit: bytes on disk; when they are used up, the oldest messages go.

    Attributes:
        damaged: messages found unreadable so far.

    Raises:
        SpoolTaken: another process uses the folder.
        UsageError: it cannot be written.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        self.damaged = 0
        self._limit = limit
        self._lock = threading.RLock()
        self._segments: deque[_Segment] = deque()
        self._held = 0  # messages given out by `take` and not settled by `done`
        self._taken = 0  # number of the next message to give out
        self._writing: BinaryIO | None = None
        self._reading: tuple[_Segment, BinaryIO] | None = None
        self._unsynced: set[Path] = set()
        self._closed = False
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._owned = (folder / "lock").open("ab")
            try:
                hold(self._owned.fileno())
            except OSError as error:
                self._owned.close()
                raise SpoolTaken(
                    f"another run keeps its messages in {folder}; give this sink a folder of its own: spool"
                ) from error
            self._cursor = (folder / "delivered").open("r+b" if (folder / "delivered").exists() else "w+b", 0)
            self._recover()
        except OSError as error:
            raise UsageError(
                f"cannot keep messages in {folder}: {error.strerror}; give the sink a folder that you can write: spool"
            ) from error

    def __len__(self) -> int:
        """Messages that are not delivered yet."""
        with self._lock:
            return self._held + sum(max(0, one.end - max(one.first, self._taken)) for one in self._segments)

    def append(self, message: bytes) -> int:
        """Add a message at the end.

        Returns:
            how many of the oldest were given up to make room.

        Raises:
            OSError: there is no room on the disk; nothing was added.
        """
        head = struct.pack("<I", len(message))
        record = head + struct.pack("<I", zlib.crc32(message, zlib.crc32(head))) + message
        with self._lock:
            if self._closed:
                raise ValueError("the spool is closed")
            lost = 0
            if self._writing is None or self._segments[-1].size >= self._limit // _SEGMENTS:
                self._new_segment()
            while len(self._segments) > 1 and sum(one.size for one in self._segments) + len(record) > self._limit:
                lost += self._give_up_oldest()
            segment, file = self._segments[-1], self._writing
            assert file is not None
            try:
                done = 0
                while done < len(record):
                    done += file.write(record[done:])
            except OSError:
                file.truncate(segment.size)
                file.seek(segment.size)
                raise
            segment.count += 1
            segment.size += len(record)
            self._unsynced.add(segment.path)
            return lost

    def take(self, count: int, size: int) -> list[bytes]:
        """The next messages, at most `count` and, after the first, `size` bytes; they stay until `done`.

        Raises:
            OSError: they cannot be read now; nothing is given out, and they can be asked for again.
        """
        messages: list[bytes] = []
        with self._lock:
            try:
                while len(messages) < count and size > 0 and (message := self._next()) is not None:
                    messages.append(message)
                    size -= len(message)
            except OSError:
                if not messages:
                    raise
            self._held += len(messages)
        return messages

    def done(self, count: int) -> None:
        """So many of the messages given out, the oldest, need not be kept any more."""
        with self._lock:
            if self._closed or not count:
                return
            self._held -= count
            self._keep_cursor()
            delivered = self._taken - self._held
            while self._segments and self._segments[0].end <= delivered:
                oldest = self._segments[0]
                if oldest is self._segments[-1] and self._writing is not None and oldest.size < _TURNOVER:
                    break
                self._remove_oldest()

    def sync(self) -> None:
        """See that what is in the spool survives a power cut. Takes as long as the disk does."""
        with self._lock:
            paths, self._unsynced = self._unsynced, set()
        for path in paths:
            with suppress(OSError), path.open("r+b") as file:  # delivered and gone meanwhile
                os.fsync(file)

    def close(self) -> int:
        """Keep what was not delivered for the next run.

        Returns:
            how many messages given out were not delivered and are not on disk any more either.
        """
        with self._lock:
            if self._closed:
                return 0
            first = self._segments[0].first if self._segments else self._taken
            lost = min(self._held, max(0, first - (self._taken - self._held)))
            self._held -= lost
            empty = not len(self)
            while empty and self._segments:
                self._remove_oldest()
            self._closed = True
            for file in (self._writing, self._reading and self._reading[1], self._cursor, self._owned):
                if file:
                    file.close()
            return lost

    def _recover(self) -> None:
        """Find what an earlier run left."""
        packed = self._cursor.read(_CURSOR.size)
        delivered = 0
        if len(packed) == _CURSOR.size:
            number, check = _CURSOR.unpack(packed)
            delivered = number if zlib.crc32(packed[:8]) == check else 0
        found = sorted((int(path.stem, 16), path) for path in self.folder.glob("*.spool") if _is_number(path.stem))
        expected, whole = found[0][0] if found else delivered, True
        for first, path in found:
            self.damaged += max(0, first - max(expected, delivered))
            segment, whole = _scan(path, first)
            expected = segment.end
            if segment.count:
                self._segments.append(segment)
            else:
                path.unlink()
        self.damaged += not whole  # the message that was being written; of what may follow, nobody knows the number
        self._taken = max(delivered, self._segments[0].first if self._segments else 0)
        self._keep_cursor()
        while self._segments and self._segments[0].end <= delivered:
            self._remove_oldest()
        if self.damaged:
            logger.warning("%d messages kept in %s are damaged and left out", self.damaged, self.folder)

    def _keep_cursor(self) -> None:
        number = self._taken - self._held
        self._cursor.seek(0)
        # on a file system that needs room to overwrite this may fail; then messages are delivered twice
        with suppress(OSError):
            self._cursor.write(_CURSOR.pack(number, zlib.crc32(struct.pack("<Q", number))))

    def _next(self) -> bytes | None:
        while True:
            segment = next((one for one in self._segments if one.end > self._taken), None)
            if segment is None:
                return None
            self._taken = max(self._taken, segment.first)
            if self._reading is None or self._reading[0] is not segment:
                if self._reading is not None:
                    self._reading[1].close()
                    self._reading = None
                self._reading = segment, _opened_at(segment, self._taken)
            try:
                message = _read(self._reading[1])
            except OSError:  # it may be in the midst of one
                self._reading[1].close()
                self._reading = None
                raise
            if message is not None:
                self._taken += 1
                return message
            lost = segment.end - self._taken
            self.damaged += lost
            logger.warning("%d messages kept in %s are damaged and left out", lost, self.folder)
            self._taken = segment.end
            if (
                segment is self._segments[-1] and self._writing is not None
            ):  # where its next message is nobody could find
                self._writing.close()
                self._writing = None

    def _new_segment(self) -> None:
        if self._writing is not None:
            self._writing.close()
            self._writing = None
        first = max(self._taken, self._segments[-1].end if self._segments else 0)
        path = self.folder / f"{first:016x}.spool"
        self._writing = path.open("wb", 0)
        self._segments.append(_Segment(path, first, 0, 0))

    def _give_up_oldest(self) -> int:
        oldest = self._segments[0]
        lost = max(0, oldest.end - max(oldest.first, self._taken))
        self._taken = max(self._taken, oldest.end)
        self._remove_oldest()
        return lost

    def _remove_oldest(self) -> None:
        oldest = self._segments.popleft()
        if self._reading is not None and self._reading[0] is oldest:
            self._reading[1].close()
            self._reading = None
        if not self._segments and self._writing is not None:
            self._writing.close()
            self._writing = None
        self._unsynced.discard(oldest.path)
        oldest.path.unlink(missing_ok=True)


def _opened_at(segment: _Segment, number: int) -> BinaryIO:
    """A file of messages, at the one of that number."""
    file = segment.path.open("rb")
    try:
        for _ in range(number - segment.first):
            file.seek(_HEADER.unpack(file.read(_HEADER.size))[0], os.SEEK_CUR)
    except BaseException:
        file.close()
        raise
    return file


def _scan(path: Path, first: int) -> tuple[_Segment, bool]:
    """What a file holds up to its end or the first damage; and whether that is all of it."""
    segment = _Segment(path, first, 0, 0)
    with path.open("rb") as file:
        while (message := _read(file)) is not None:
            segment.count += 1
            segment.size += _HEADER.size + len(message)
        return segment, segment.size == file.seek(0, os.SEEK_END)


def _read(file: BinaryIO) -> bytes | None:
    """The next message; None at the end of the file or where it is damaged."""
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size:
        return None
    length, check = _HEADER.unpack(header)
    if length > os.fstat(file.fileno()).st_size:
        return None
    message = file.read(length)
    return message if zlib.crc32(message, zlib.crc32(header[:4])) == check and len(message) == length else None


def _is_number(word: str) -> bool:
    return len(word) == 16 and all(letter in "0123456789abcdef" for letter in word)
