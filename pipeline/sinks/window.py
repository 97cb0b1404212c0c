"""Window: the annotated frames on the screen, as they come."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import cv2
from pydantic import Field, PrivateAttr

from pipeline.errors import UsageError
from pipeline.frame import Frame
from pipeline.sink import Sink, StopRun

# Windows open at most this large; they can be resized.
_WIDTH, _HEIGHT = 1280, 720

_QUIT_KEYS = (ord("q"), 27)

# Longest that opening a window may take on a working display; a first start of Qt takes 1 s on a slow machine.
_PROBE_SECONDS = 30.0


class Window(Sink):
    """Shows `frame.canvas`, or the bare image where nothing drew one, in a window for each source.

    q, Esc or closing a window ends the run cleanly. Frames that come faster than `rate` are not all shown, so
    that a window never holds up the chain.
    """

    name = "window"

    rate: float = Field(30.0, gt=0, description="most pictures shown a second, for each source")

    _due: dict[str, float] = PrivateAttr(default_factory=dict)
    _appeared: set[str] = PrivateAttr(default_factory=set)
    _stopped: bool = PrivateAttr(False)

    def open(self) -> None:
        """Check that a window can be shown.

        Raises:
            UsageError: there is no display, or this OpenCV cannot use it.
        """
        if sys.platform == "darwin":
            raise UsageError("macOS shows windows from its main thread only; drop --show and write a video")
        if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise UsageError("no display; drop --show or set DISPLAY")
        # tried in a process of its own, because Qt ends the whole process where it cannot reach the display
        code = "import cv2; cv2.namedWindow('framechain'); cv2.waitKey(1)"
        try:
            trial = subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, timeout=_PROBE_SECONDS, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise UsageError("the display does not answer; drop --show or set DISPLAY") from error
        if "not implemented" in trial.stderr:
            raise UsageError(
                "this OpenCV has no windows; drop --show, or install opencv-python in place of opencv-python-headless"
            )
        if trial.returncode:
            display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
            raise UsageError(f"the display {display} cannot be used; drop --show or set DISPLAY")
        # Qt would tell of missing fonts, and on leaving of timers in other threads; neither means anything here
        os.environ.setdefault("QT_LOGGING_RULES", "default.warning=false")
        self._stopped = False

    def write(self, frame: Frame) -> None:
        """Show the frame if the next picture is due.

        Raises:
            StopRun: the person wants to end the run.
        """
        now = time.monotonic()
        if self._stopped or now < self._due.get(frame.source, 0.0):
            return
        image = frame.image if frame.canvas is None else frame.canvas
        if frame.source not in self._due:
            self._make_window(frame.source, *image.shape[:2])
        self._due[frame.source] = now + 1 / self.rate
        cv2.imshow(frame.source, image)
        key = cv2.waitKey(1) & 0xFF
        visible = cv2.getWindowProperty(frame.source, cv2.WND_PROP_VISIBLE) >= 1
        # on a busy display a new window takes a moment to appear: only one that was there can have been closed
        closed = not visible and frame.source in self._appeared
        if visible:
            self._appeared.add(frame.source)
        if key in _QUIT_KEYS or closed:
            self._stopped = True
            raise StopRun

    def end(self, source: str) -> None:
        """Close the source's window."""
        self._appeared.discard(source)
        if self._due.pop(source, None) is not None and not self._stopped:
            cv2.destroyWindow(source)
            cv2.waitKey(1)

    def close(self) -> None:
        """Close all windows."""
        for source in list(self._due):
            self.end(source)

    def _make_window(self, title: str, height: int, width: int) -> None:
        scale = min(1.0, _WIDTH / width, _HEIGHT / height)
        cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
        cv2.resizeWindow(title, round(width * scale), round(height * scale))
