"""Claim: a folder of checkpoints belongs to one run at a time, which leaves word there when it cannot save."""

from __future__ import annotations

import os
import struct
import weakref
import zlib
from contextlib import suppress
from pathlib import Path

from pipeline.errors import UsageError
from pipeline.files.lock import hold

LOCK = "lock"

_RECORD = struct.Struct("<QQd")  # process; number of a checkpoint; seconds
_CHECK = struct.Struct("<I")
_SIZE = _RECORD.size + _CHECK.size


class Claim:
    """Holds a folder from when it can, until it is closed or the process is gone.

    Its file keeps a few bytes, which are written in their place: that needs no room, so a full disk takes them, too.

    Args:
        folder: made if it is not there.

    Attributes:
        found: number of a checkpoint, and for how many seconds a run went on after it, as was told last; (0, 0.0) if
            nothing was.

    Raises:
        UsageError: another run holds it.
    """

    def __init__(self, folder: Path) -> None:
        self.found = 0, 0.0
        self._folder = folder
        self._file = -1
        self._closing: weakref.finalize[[int], Claim] | None = None
        with suppress(OSError):
            self.take()

    @property
    def held(self) -> bool:
        """Whether this process holds the folder."""
        return self._closing is not None

    def take(self) -> None:
        """Hold the folder, if that is not done yet.

        Raises:
            UsageError: another run does.
            OSError: it cannot be written.
        """
        if self.held:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        file = os.open(self._folder / LOCK, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        try:
            hold(file)
        except (BlockingIOError, PermissionError) as error:
            process = _read(file)[0]
            os.close(file)
            who = f"another run (process {process})" if process else "another run"
            raise UsageError(
                f"{who} saves its checkpoints in {self._folder}; give each run a folder of its own: --checkpoint"
            ) from error
        except OSError:  # of a file system that does not know that
            pass
        self._file = file
        self._closing = weakref.finalize(self, os.close, file)
        self.found = _read(file)[1:]
        with suppress(OSError):
            self.tell(*self.found)

    def tell(self, number: int, seconds: float) -> None:
        """Leave word, safe from a power cut, that the run has gone on for so long since that checkpoint.

        Raises:
            OSError: it cannot be written.
        """
        record = _RECORD.pack(os.getpid(), number, seconds)
        os.lseek(self._file, 0, os.SEEK_SET)
        os.write(self._file, record + _CHECK.pack(zlib.crc32(record)))
        os.fsync(self._file)

    def close(self) -> None:
        """Let go of it."""
        if self._closing is not None:
            self._closing()
            self._closing = None


def _read(file: int) -> tuple[int, int, float]:
    with suppress(OSError, struct.error):  # nothing was told yet; or, on Windows, somebody else holds it
        os.lseek(file, 0, os.SEEK_SET)
        record = os.read(file, _SIZE)
        if _CHECK.unpack(record[_RECORD.size :])[0] == zlib.crc32(record[: _RECORD.size]):
            process, number, seconds = _RECORD.unpack(record[: _RECORD.size])
            return process, number, seconds if 0 <= seconds < 1e9 else 0.0
    return 0, 0, 0.0
