"""StandardInput (`-`): video piped into the process."""

from __future__ import annotations

import os
import select
import sys
import threading
import time
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, PrivateAttr, model_validator
from typing_extensions import Self

from pipeline.address import kind
from pipeline.decode import NoVideo, limits, open_input
from pipeline.decoded_source import DecodedSource
from pipeline.errors import FramechainError, UsageError
from pipeline.hardware import decode_once
from pipeline.source import SourceInfo

if TYPE_CHECKING:
    from av import FFmpegError


_POLL = 0.25  # seconds between looks whether anybody still wants what comes


class StandardInput(DecodedSource):
    """`-`: any container, MJPEG, or raw pictures piped in.

    `ffmpeg -i in.mp4 -f rawvideo -pix_fmt bgr24 - | framechain run -` needs `width` and `height`, which say that the
    pictures are raw. A pipe waits, so no frame is dropped. `captured_at` is the time of arrival.
    """

    name: ClassVar[str] = "stdin"

    format: str = Field("", description="FFmpeg's name of the format, such as mjpeg or mpegts; found out if empty")
    width: int | None = Field(None, ge=1, description="pixels of raw pictures")
    height: int | None = Field(None, ge=1, description="pixels of raw pictures")
    pixel_format: str = Field("bgr24", description="of raw pictures: bgr24, rgb24, gray, yuv420p, nv12 ...")
    fps: float | None = Field(None, gt=0, le=1000, description="pictures a second, where the format does not say (25)")
    read_timeout: float = Field(60.0, gt=0, description="seconds without data after which the pipe counts as stuck")

    _arrived: float = PrivateAttr(0.0)

    @model_validator(mode="after")
    def _raw_has_a_size(self) -> Self:
        if (self.width is None) != (self.height is None):
            raise ValueError("raw pictures need both width and height")
        return self

    @classmethod
    def matches(cls, uri: str) -> bool:
        """Only `-`."""
        return kind(uri) == "stdin"

    def open(self) -> SourceInfo:
        """Wait for the first picture.

        Raises:
            UsageError: nothing is piped in, or no video.
        """
        import av

        if sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
            raise UsageError("nothing is piped into standard input; use: SOME_PROGRAM | framechain run -")
        pipe = _Pipe(sys.stdin.fileno(), self.read_timeout, self._abandoned)
        raw = self.width is not None
        options = {
            "protocol_whitelist": "pipe",
            **limits(self.max_pixels),
        }  # a playlist that is piped in opens nothing else
        if raw:
            options |= {"video_size": f"{self.width}x{self.height}", "pixel_format": self.pixel_format}
        if self.fps is not None:
            options["framerate"] = str(self.fps)
        self.id = self.id or "stdin"
        try:
            layout = "rawvideo" if raw else self.format or None
            self._decoder = decoder = decode_once(
                self.decoder,
                lambda hardware: open_input(pipe, format=layout, options=options, hwaccel=hardware),
                self.max_pixels,
            )
        except ValueError as error:
            if isinstance(error, av.FFmpegError):
                raise UsageError(self._nothing_found(pipe, error.strerror)) from error
            raise UsageError(f"FFmpeg knows no format '{self.format}'; give one such as mjpeg or mpegts") from error
        except av.FFmpegError as error:
            raise UsageError(self._nothing_found(pipe, error.strerror)) from error
        except NoVideo as error:
            raise UsageError(self._nothing_found(pipe, str(error))) from error
        return self._opened("-", decoder.width, decoder.height, decoder.fps)

    def _nothing_found(self, pipe: _Pipe, reason: str | None) -> str:
        if pipe.empty:
            return "standard input is empty; does the program that should write into it work?"
        return (
            f"standard input cannot be read as video ({reason}); pipe MPEG-TS, Matroska or MJPEG, or raw pictures "
            "with width and height given (the index of an MP4 comes last, too late for a pipe)"
        )

    @property
    def waited(self) -> float | None:
        """For the program that writes into the pipe."""
        return None if self._decoder is None else self._decoder.waited

    def _captured_at(self, timestamp: float) -> float:
        return time.time()

    def _failure(self, error: FFmpegError) -> FramechainError:
        return FramechainError(f"standard input cannot be read on ({error.strerror})")


class _Pipe:
    """A pipe as FFmpeg wants it: gives what is there, without waiting for a full buffer, and not for ever."""

    def __init__(self, descriptor: int, timeout: float, abandoned: threading.Event) -> None:
        self._descriptor = descriptor
        self._timeout = timeout
        self._abandoned = abandoned
        self.empty = False
        self._received = 0

    def read(self, size: int) -> bytes:
        """Up to `size` bytes, b"" at the end, and once nobody waits for it any more.

        Raises:
            FramechainError: nothing came for too long.
        """
        # Windows cannot wait for a pipe with select; there the read itself waits.
        deadline = time.monotonic() + self._timeout
        while os.name == "posix" and not select.select([self._descriptor], [], [], min(_POLL, self._timeout))[0]:
            if self._abandoned.is_set():
                return b""
            if time.monotonic() >= deadline:
                raise FramechainError(f"standard input gave nothing for {self._timeout:g} s; is its writer stuck?")
        data = os.read(self._descriptor, size)
        self._received += len(data)
        self.empty = not self._received
        return data
