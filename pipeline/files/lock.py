"""A file that one process holds, and that is free again the moment that process is gone, however it went."""

from __future__ import annotations

import os
import stat
import sys
from contextlib import suppress
from pathlib import Path

from pipeline.errors import UsageError


def hold(descriptor: int) -> None:
    """Hold an open file for this process until it is closed. Nothing else is locked by it: anybody may read and write.

    On Windows its first byte is locked against everybody.

    Raises:
        BlockingIOError, PermissionError: somebody else holds it.
        OSError: files cannot be held there.
    """
    if sys.platform == "win32":
        import msvcrt

        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def hold_output(descriptor: int, path: Path) -> None:
    """Hold an open file that a run writes, so that no other run writes into it. What is no plain file is for everybody.

    Windows would keep readers out as well; there nothing is held.

    Raises:
        UsageError: another run writes it.
    """
    if sys.platform == "win32" or not stat.S_ISREG(os.fstat(descriptor).st_mode):
        return
    with suppress(OSError):  # of a file system that does not know that
        try:
            hold(descriptor)
        except BlockingIOError as error:
            raise UsageError(f"another run writes {path}; give each run a file of its own") from error


def check_free(path: Path) -> None:
    """See that no other run writes a file.

    Raises:
        UsageError: one does.
    """
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        try:
            hold_output(descriptor, path)
        finally:
            os.close(descriptor)
