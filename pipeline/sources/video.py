"""VideoFile: a video in a file, in any container and codec that FFmpeg knows."""

from __future__ import annotations

from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pydantic import PrivateAttr

from pipeline.address import does_not_exist, kind, path_of
from pipeline.decode import Decoder, NoVideo, limits, open_input
from pipeline.decoded_source import DecodedSource
from pipeline.errors import FramechainError, UsageError
from pipeline.hardware import DecoderName, decode_file
from pipeline.recorded_source import RecordedSource
from pipeline.source import SourceInfo

if TYPE_CHECKING:
    from av import FFmpegError
    from av.codec.hwaccel import HWAccel
    from av.container import InputContainer

_MP4_BOXES = frozenset({b"ftyp", b"mdat", b"free", b"wide", b"skip", b"moov", b"pnot"})


class VideoFile(DecodedSource, RecordedSource):
    """A video in a file. Its timing is kept, variable rates too; the rotation that it asks for is applied.

    Damaged pictures are not given; they count in `dropped["corrupt"]` and in the index of those that follow.
    `captured_at` counts from the time at which the file says it was recorded (`creation_time`); else from its
    last change less its duration, which is the same for a recording that was never copied.
    """

    name: ClassVar[str] = "video"

    _recorded_at: float = PrivateAttr(0.0)

    @classmethod
    def matches(cls, uri: str) -> bool:
        """Any path that is neither a folder, a glob nor an image; it need not exist."""
        return kind(uri) == "video"

    def open(self) -> SourceInfo:
        """Open the file and decode its first picture.

        Raises:
            UsageError: no such file, not readable, not a video, or not one for the hardware that is asked for.
        """
        path = path_of(self.uri)
        self.id = self.id or path.stem
        decoder = self._decoder = self._decoding(path, self.decoder)
        return self._opened(str(path), decoder.width, decoder.height, decoder.fps, decoder.frame_count)

    def rewind(self) -> None:
        """Open it again, for what decoded it before: that was found out by trying."""
        before = self.decoder if self._decoder is None else self._decoder.hardware
        self.close()
        self._decoder = self._decoding(path_of(self.uri), before)

    def _decoding(self, path: Path, by: DecoderName) -> Decoder:
        opening = partial(_container, path, limits(self.max_pixels))
        with opening(None) as container:
            self._recorded_at = _recorded_at(container, path)
        try:
            return decode_file(by, opening, self.max_pixels)
        except NoVideo as error:
            raise UsageError(f"'{path}' {error}") from error

    def _captured_at(self, timestamp: float) -> float:
        return self._recorded_at + timestamp

    def _failure(self, error: FFmpegError) -> FramechainError:
        return FramechainError(f"'{self.uri}' cannot be read on ({error.strerror}); check the disk it is on")


def _container(path: Path, options: dict[str, str], hardware: HWAccel | None) -> InputContainer:
    import av

    try:
        with path.open("rb") as file:
            start = file.read(12)
    except FileNotFoundError as error:
        raise UsageError(does_not_exist(path)) from error
    except PermissionError as error:
        raise UsageError(f"'{path}' may not be read; give yourself permission (chmod u+r)") from error
    except OSError as error:
        raise UsageError(f"'{path}' cannot be read: {error.strerror}; check the path") from error
    if not start:
        raise UsageError(f"'{path}' is empty; give a video file")
    try:
        # "file:" because FFmpeg takes the part before a colon in a name for a protocol.
        return open_input(f"file:{path}", options=options, hwaccel=hardware)
    except av.FFmpegError as error:
        if start[4:8] in _MP4_BOXES:
            raise UsageError(
                f"'{path}' is a damaged MP4 or MOV: its index is missing, as if the recording was cut off; repair it "
                f"with untrunc and an intact recording of the same camera, or copy it again"
            ) from error
        raise UsageError(
            f"'{path}' is not a video that FFmpeg can read ({error.strerror}); give a video file"
        ) from error


def _recorded_at(container: InputContainer, path: Path) -> float:
    try:
        when = datetime.fromisoformat(container.metadata["creation_time"].replace("Z", "+00:00"))
        return (when if when.tzinfo else when.replace(tzinfo=timezone.utc)).timestamp()
    except (KeyError, ValueError, OverflowError):
        return path.stat().st_mtime - (container.duration or 0) / 1e6
