"""Sinks that write text, some lines a frame."""

from __future__ import annotations

import os
import stat
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from pydantic import PrivateAttr

from pipeline.frame import Frame
from pipeline.output import PLACEHOLDER, FileSink, cannot_write
from pipeline.source import SourceInfo


class LineSink(FileSink, ABC):
    """Writes `lines(frame)` for every frame, and `header` first.

    Nothing is buffered: a frame's lines are one write to the system, so a run that is killed, or a disk that is
    full, leaves whole lines, and a reader that follows the file is never behind. (A write takes about 8 µs, putting a
    frame with ten tracks into JSON about 150.)
    """

    header: ClassVar[str] = ""

    _files: dict[Path, _LineFile] = PrivateAttr(default_factory=dict)

    @abstractmethod
    def lines(self, frame: Frame) -> str:
        """The lines for one frame, each with its line end; may be empty."""

    def begin(self, source: SourceInfo) -> None:
        """Start the file of this source, or of all sources."""
        path = self.claim(source.id)
        if path not in self._files:
            self._files[path] = _LineFile(path)
            self._files[path].write(self.header)

    def write(self, frame: Frame) -> None:
        """Add the frame's lines."""
        self._files[self._claimed[frame.source]].write(self.lines(frame))

    def end(self, source: str) -> None:
        """Close the source's own file."""
        if PLACEHOLDER in str(self.path):
            self._files.pop(self._claimed[source]).close()

    def close(self) -> None:
        """Close all files."""
        for file in self._files.values():
            file.close()
        self._files.clear()
        super().close()


class _LineFile:
    """A text file, UTF-8, that only ever holds whole blocks.

    Raises:
        FramechainError: it cannot be opened or written; half a block is taken back.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o666)
        except OSError as error:
            raise cannot_write(path, error) from error
        # a pipe or a terminal takes nothing back
        self._regular = stat.S_ISREG(os.fstat(self._file).st_mode)
        self._size = 0

    def write(self, block: str) -> None:
        data = memoryview(block.encode("utf-8", "replace"))
        done = 0
        try:
            while done < len(data):
                done += os.write(self._file, data[done:])
        except OSError as error:
            if self._regular:
                os.ftruncate(self._file, self._size)
            raise cannot_write(self._path, error) from error
        self._size += done

    def close(self) -> None:
        os.close(self._file)
