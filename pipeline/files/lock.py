"""A file that one process holds, and that is free again the moment that process is gone, however it went."""

from __future__ import annotations

import sys


def hold(descriptor: int) -> None:
    """Hold an open file for this process until it is closed. Nothing else is locked by it: anybody may read and write.

    On Windows its first byte is locked against everybody.

    Raises:
        BlockingIOError, PermissionError: somebody else holds it.
        OSError: files cannot be held there.
    """
    if sys.platform == "win32":
        import msvcrt
        import os

        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
