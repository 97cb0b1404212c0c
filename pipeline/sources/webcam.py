"""Webcam: a camera of this machine, through OpenCV."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr

from pipeline.address import kind
from pipeline.errors import FramechainError, UsageError
from pipeline.live_source import LiveSource
from pipeline.opencv import silence
from pipeline.source import Moment, SourceInfo, SteppedSource


class Webcam(SteppedSource, LiveSource):
    """A camera by number (`0`) or device (`/dev/video0`). A file of that name is given as `./0`.

    Width, height and rate are wishes; the camera gives the nearest it has. Times are those of arrival.
    """

    name: ClassVar[str] = "webcam"

    width: int | None = Field(None, ge=16, description="pixels to ask the camera for; its own default if empty")
    height: int | None = Field(None, ge=16, description="pixels to ask the camera for; its own default if empty")
    fps: float | None = Field(None, gt=0, description="frames a second to ask the camera for")

    _capture: Any = PrivateAttr(None)
    _next: int = PrivateAttr(0)
    _start: float = PrivateAttr(0.0)

    @classmethod
    def matches(cls, uri: str) -> bool:
        """A number or /dev/video*."""
        return kind(uri) == "webcam"

    def open(self) -> SourceInfo:
        """Open the camera and wait for its first picture.

        Raises:
            UsageError: there is no such camera; the message lists those there are.
            FramechainError: it is there, but gives no pictures.
        """
        import cv2

        self.id = self.id or (f"webcam{self.uri}" if self.uri.isdigit() else Path(self.uri).name)
        if self.uri.startswith("/") and not Path(self.uri).exists():
            raise UsageError(f"there is no camera '{self.uri}'; {_available()}")
        with silence():
            self._capture = self._connect()
            wishes = {
                cv2.CAP_PROP_FRAME_WIDTH: self.width,
                cv2.CAP_PROP_FRAME_HEIGHT: self.height,
                cv2.CAP_PROP_FPS: self.fps,
                cv2.CAP_PROP_BUFFERSIZE: 1,  # the newest picture, not one that waited in the driver
            }
            for wish, value in wishes.items():
                if value is not None:
                    self._capture.set(wish, value)
            if not self._capture.isOpened():
                self.close()
                raise UsageError(f"there is no camera '{self.uri}' that can be opened; {_available()}")
            taken, image = self._capture.read()
            if not taken:
                self.close()
                raise FramechainError(f"camera '{self.uri}' gives no pictures; is another program using it?")
            rate = self._capture.get(cv2.CAP_PROP_FPS)
        self._next = 0
        self._start = time.monotonic()
        height, width = image.shape[:2]
        return self._opened(self.uri, width, height, rate if 0 < rate <= 1000 else None)

    @property
    def waited(self) -> float:
        """For the camera's next picture."""
        return self._waited

    def grab(self) -> Moment:
        """Wait for the next picture.

        Raises:
            FramechainError: none came; the camera was unplugged.
        """
        asked = time.monotonic()
        grabbed = self._capture.grab()
        self._waited += time.monotonic() - asked
        if not grabbed:
            raise FramechainError(f"camera '{self.uri}' stopped giving pictures; check its cable and start again")
        self._next += 1
        return Moment(self._next - 1, time.monotonic() - self._start, time.time())

    def retrieve(self) -> NDArray[np.uint8] | None:
        """Decode it."""
        decoded, image = self._capture.retrieve()
        return np.asarray(image, np.uint8) if decoded else None

    def close(self) -> None:
        """Let go of the camera."""
        if self._capture is not None:
            self._capture.release()
        self._capture = None

    def _connect(self) -> Any:
        import cv2

        return cv2.VideoCapture(int(self.uri) if self.uri.isdigit() else self.uri)


def _available() -> str:
    """What cameras there are, as the end of a message."""
    if sys.platform.startswith("linux"):
        found = [_described(device) for device in sorted(Path("/dev").glob("video*"))]
    else:
        found = [str(number) for number in range(4) if _opens(number)]
    return f"there are: {', '.join(found)}" if found else "no camera was found; plug one in"


def _described(device: Path) -> str:
    try:
        title = Path(f"/sys/class/video4linux/{device.name}/name").read_text().strip()
    except OSError:
        title = ""
    reason = "" if os.access(device, os.R_OK | os.W_OK) else "; not yours to read: join the group 'video'"
    return str(device) + (f" ({title}{reason})" if title or reason else "")


def _opens(number: int) -> bool:
    import cv2

    with silence():
        capture = cv2.VideoCapture(number)
        opened: bool = capture.isOpened()
        capture.release()
    return opened
