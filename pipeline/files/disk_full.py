"""A full disk: which sinks wait for room instead of failing, and for how long."""

from __future__ import annotations

import errno
import logging
import shutil
import threading
import time
from pathlib import Path

from pipeline.errors import FramechainError

logger = logging.getLogger("framechain")

FULL = frozenset({errno.ENOSPC, errno.EFBIG} | ({errno.EDQUOT} if hasattr(errno, "EDQUOT") else set()))
"""What a system answers to a write for which there is no room: on the disk, in one file, in a user's quota."""

# Seconds between two tries: what is recorded again within 2 s of there being room.
_RETRY = 1.0

# It goes on once so much is free (of a small disk, a sixteenth), else every file that is deleted elsewhere would give
# a recording of a few frames.
_ROOM = 16 * 2**20

# A disk that is full again at once is told of once in so many seconds.
_TOLD_EVERY = 60.0


class DiskFull(FramechainError):
    """There is no room for a frame.

    Attributes:
        frames: how many are not in the file because of it: this one, and those an encoder still held.
    """

    def __init__(self, message: str, frames: int = 1) -> None:
        super().__init__(message)
        self.frames = frames


class Pause:
    """Whether a sink waits for room on its disk. Any thread may ask.

    Args:
        name: the sink's, for messages.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._folder: Path | None = None
        self._try_at = 0.0
        self._missed = 0
        self._told_at: float | None = None
        self._telling = False

    @property
    def active(self) -> bool:
        """Whether there was no room, and nothing was written since."""
        return self._folder is not None

    @property
    def trouble(self) -> str:
        """What it waits for, in words; "" if it does not."""
        folder = self._folder
        return "" if folder is None else f"there is no room left in {folder}"

    def begin(self, path: Path, frames: int) -> None:
        """There was no room in `path` for so many frames."""
        now = time.monotonic()
        with self._lock:
            self._try_at = now + _RETRY
            self._missed += frames
            if self._folder is not None:
                return
            self._folder = path.expanduser().absolute().parent
            self._telling = self._told_at is None or now - self._told_at > _TOLD_EVERY
            if self._telling:
                self._told_at = now
                logger.warning(
                    "there is no room left in %s: %s pauses, frames go on being analysed; make room and it resumes",
                    self._folder,
                    self._name,
                )

    def holds(self, frames: int = 1) -> bool:
        """Whether so many frames are to be left out; once a second, if there is room, one is let through to try."""
        with self._lock:
            if self._folder is None:
                return False
            now = time.monotonic()
            if now >= self._try_at:
                self._try_at = now + _RETRY
                if _has_room(self._folder):
                    return False
            self._missed += frames
            return True

    def end(self) -> None:
        """A frame was written."""
        with self._lock:
            if self._folder is None:
                return
            if self._telling:
                logger.warning(
                    "there is room in %s: %s goes on; it lacks %d frames", self._folder, self._name, self._missed
                )
            self._folder, self._missed = None, 0


def _has_room(folder: Path) -> bool:
    try:
        space = shutil.disk_usage(folder)
    except OSError:
        return False
    return space.free >= min(_ROOM, space.total // 16)
