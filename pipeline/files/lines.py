"""Sinks that write text, some lines a frame."""

from __future__ import annotations

import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, PrivateAttr, model_validator
from typing_extensions import Self

from pipeline.files.disk_full import DiskFull
from pipeline.files.lock import hold_output
from pipeline.files.output import PartedSink, cannot_write
from pipeline.files.parts import PART, Series
from pipeline.frame import Frame
from pipeline.source import SourceInfo

_BLOCK = 1 << 16


class LineSink(PartedSink, ABC):
    """Writes `lines(frame)` for every frame, and `header` first.

    Nothing is buffered: a frame's lines are one write to the system, so a run that is killed, or a disk that is
    full, leaves whole lines, and a reader that follows the file is never behind. (A write takes about 8 µs, putting a
    frame with ten tracks into JSON about 150.)
    """

    append: bool = Field(False, description="add to a file that exists; half a line that a power cut left is cut off")

    header: ClassVar[str] = ""

    _files: dict[Path, _LineFile] = PrivateAttr(default_factory=dict)
    _ends: dict[str, _End] | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _appends_or_rotates(self) -> Self:
        if self.append and self.rotate is not None:
            raise ValueError("append is for one file, and rotate for many; leave one of them out")
        return self

    @abstractmethod
    def lines(self, frame: Frame) -> str:
        """The lines for one frame, each with its line end; may be empty."""

    def begin(self, source: SourceInfo) -> None:
        """Start the file of this source, or of all sources."""
        super().begin(source)
        if self._claimed[source.id] not in self._files:
            try:
                self._start_part(source.id)
            except DiskFull as error:
                self.await_room(source.id, error)

    def record(self, frame: Frame) -> None:
        """Add the frame's lines, to a new part if one is due."""
        block = self.lines(frame).encode("utf-8", "replace")
        path = self._claimed[frame.source]
        file = self._files.get(path)
        if file is not None and self.series(frame.source).due(frame.timestamp, file.size + len(block)) and file.used:
            self._end_part(path, frame.source)
            file = None
        (file or self._start_part(frame.source, frame.timestamp)).write(block)

    def state_dict(self) -> dict[str, Any]:
        """Put all lines on disk, and tell how long the files are."""
        ends = {path: asdict(end) for path, end in (self._ends or {}).items()}  # of sources that are not back yet
        for path, file in self._files.items():
            file.sync()
            ends[str(path)] = asdict(_End(file.size, file.used, file.regular, path in self._once))
        return {**super().state_dict(), "ends": ends}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on at the end of those lines; what came after them is cut off, unless a camera's lines are among it.

        Raises:
            ValueError: they are not there any more.
        """
        super().load_state_dict(state)
        ends = {str(path): _End(**end) for path, end in state["ends"].items()}
        self._ends = {path: end for path, end in ends.items() if self.is_mine(path)}
        for path, end in self._ends.items():
            if type(end.size) is not int or end.size < 0:
                raise ValueError(f"no file has {end.size!r:.20} bytes")
            if not all(isinstance(told, bool) for told in (end.used, end.regular, end.once)):
                raise TypeError("what is known of a file is true or false")
            if end.regular and not end.once and path in self._before:
                series = Series(Path(path), self.rotate, live=False)
                series.load_state_dict(self._before[path])
                part = series.current
                if not part.exists() or part.stat().st_size < end.size:
                    raise ValueError(f"{part} is shorter than it was")

    def end(self, source: str) -> None:
        """Close the source's own file."""
        path = self._claimed.get(source)
        if path is not None and self.own_files and path in self._files:
            self._end_part(path, source)
        super().end(source)

    def close(self) -> None:
        """Close all files."""
        for file in self._files.values():
            file.close()
        self._files.clear()
        self._ends = None
        super().close()

    def _start_part(self, source: str, timestamp: float | None = None) -> _LineFile:
        path = self._claimed[source]
        file = self._reopened(source)
        if file is None:
            file = self.next_part(source, timestamp, lambda path: _LineFile(path, self.header.encode(), self.append))
        self._files[path] = file
        return file

    def _reopened(self, source: str) -> _LineFile | None:
        """The file that an earlier run left, to go on in; None if there is none."""
        if self._ends is None:
            return None
        path = self._claimed[source]
        end = self._ends.pop(str(path), None)
        if path in self._once or (
            end is not None and end.once
        ):  # what a camera showed since is in it, and comes never again
            if self.rotate is not None or PART in str(self.path):
                return None
            self.series(source).load_state_dict({"number": 1, "since": None})
            return _LineFile(path, self.header.encode(), append=True)
        if end is None or not self.series(source).begun:
            return None
        file = _LineFile(self.series(source).current, self.header.encode(), append=True, end=end.size)
        file.used = end.used
        return file

    def _end_part(self, path: Path, source: str) -> None:
        file = self._files.pop(path)
        file.close()
        self.finished(source, file.path)()


@dataclass(frozen=True, slots=True)
class _End:
    """Where a file ended.

    Attributes:
        size: bytes. used: whether it held more than the header. regular: whether it is no pipe.
        once: whether lines of a source that cannot be read again were in it.
    """

    size: int
    used: bool
    regular: bool
    once: bool


class _LineFile:
    """A text file, UTF-8, that only ever holds whole blocks.

    Args:
        path: is overwritten, or with `append` added to. header: stands at its beginning.
        end: with `append`: bytes of it to keep at most, whole lines.

    Attributes:
        size: bytes that it holds. used: whether this run wrote more than the header. regular: whether it is no pipe.

    Raises:
        FramechainError: it cannot be opened or written, half a block is taken back; or another run writes it.
    """

    def __init__(self, path: Path, header: bytes, append: bool, end: int | None = None) -> None:
        self.path = path
        self.size = 0
        self.used = False
        flags = (os.O_RDWR if append else os.O_WRONLY) | os.O_CREAT | getattr(os, "O_BINARY", 0)
        try:
            self._file = os.open(path, flags, 0o666)
        except OSError as error:
            raise cannot_write(path, error) from error
        # a pipe or a terminal takes nothing back
        self.regular = stat.S_ISREG(os.fstat(self._file).st_mode)
        try:
            hold_output(self._file, path)
        except BaseException:
            os.close(self._file)
            raise
        try:
            if self.regular:
                self.size = _end_of_last_line(self._file, end) if append else 0
                os.ftruncate(self._file, self.size)
                os.lseek(self._file, self.size, os.SEEK_SET)
            if not self.size:
                self._write(header)
        except BaseException:
            os.close(self._file)
            if self.regular and not append:
                path.unlink(missing_ok=True)  # no file is better than one without its header
            raise

    def write(self, block: bytes) -> None:
        self._write(block)
        self.used = self.used or bool(block)

    def sync(self) -> None:
        if self.regular:
            os.fsync(self._file)

    def close(self) -> None:
        os.close(self._file)

    def _write(self, block: bytes) -> None:
        data = memoryview(block)
        done = 0
        try:
            while done < len(data):
                done += os.write(self._file, data[done:])
        except OSError as error:
            if self.regular:
                os.ftruncate(self._file, self.size)
                # the position is beyond the end now, and the next write would leave zeros between
                os.lseek(self._file, self.size, os.SEEK_SET)
            raise cannot_write(self.path, error) from error
        self.size += done


def _end_of_last_line(file: int, most: int | None) -> int:
    """Where the last whole line within the first `most` bytes of a file ends; 0 if there is none."""
    end = os.lseek(file, 0, os.SEEK_END)
    end = end if most is None else min(end, most)
    while end:
        start = max(0, end - _BLOCK)
        os.lseek(file, start, os.SEEK_SET)
        block = os.read(file, end - start)
        if (found := block.rfind(b"\n")) >= 0:
            return start + found + 1
        end = start
    return 0
