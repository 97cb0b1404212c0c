"""OpenCV as it is used here: quiet, as what it prints is an error message of ours, or none at all."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UsageError
from pipeline.picture_size import refusal

# OpenCV's log level belongs to the whole process, and so does this: without the count, of two threads the
# second to leave would put back the silence of the first.
_lock = threading.Lock()
_holders: list[int] = []

_JPEG, _JPEG_SCAN, _JPEG_END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"


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


def _declared_size(raw: bytes) -> tuple[int, int]:
    """Width and height as the header says; 0 × 0 where it is none that is known. OpenCV tells only once it decoded."""
    from PIL import Image

    Image.init()
    for kind in Image.ID:
        # not Image.open, which warns of large pictures, or refuses them, by a limit that belongs to the whole process
        opened, accepts = Image.OPEN[kind]
        with suppress(Exception):  # whatever a reader of headers makes of damage
            if accepts is not None and accepts(raw[:16]) is True:
                size: tuple[int, int] = opened(io.BytesIO(raw), "").size
                return size
    return 0, 0


def read_image(path: Path, max_pixels: int | None = None) -> NDArray[np.uint8] | None:
    """An image file as (H, W, 3) uint8 BGR; None where it cannot be read, or is cut off.

    Of a JPEG that is cut off OpenCV makes a picture with a grey rest, and says so to nobody who listens.

    Raises:
        UsageError: it has more than `max_pixels`.
    """
    import cv2

    try:
        raw = path.read_bytes()
        if raw.startswith(_JPEG) and raw.rfind(_JPEG_END) < raw.rfind(_JPEG_SCAN):
            return None
        if max_pixels is not None and (why := refusal(*_declared_size(raw), max_pixels)):
            raise UsageError(f"'{path}' {why}")
        with silence():
            # not cv2.imread, which on Windows cannot open names outside the code page
            image = cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_COLOR) if raw else None
    except (OSError, cv2.error):
        return None
    return None if image is None else np.asarray(image, np.uint8)
