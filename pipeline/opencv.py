"""OpenCV kept quiet: it prints warnings on stderr for what is an error message of ours, or none at all."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

# OpenCV's log level belongs to the whole process, and so does this: without the count, of two threads the
# second to leave would put back the silence of the first.
_lock = threading.Lock()
_holders: list[int] = []


@contextmanager
def silence() -> Iterator[None]:
    """Within, OpenCV prints nothing; several threads may be within."""
    from cv2.utils import logging

    with _lock:
        _holders.append(logging.getLogLevel() if not _holders else _holders[0])
        logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        with _lock:
            level = _holders.pop()
            if not _holders:
                logging.setLogLevel(level)
