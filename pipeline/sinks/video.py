"""Video: the annotated frames as an MP4 that plays everywhere."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Literal

from pydantic import Field, PrivateAttr, field_validator

from pipeline.encode import Recording
from pipeline.frame import Frame
from pipeline.output import FileSink
from pipeline.source import SourceInfo

# For sources that do not tell their rate. It only spaces key frames and gives the last frame its duration.
_DEFAULT_FPS = 25.0


class Video(FileSink):
    """H.264 in MP4 with the timing of the source. Holds `frame.canvas`, or the bare image where nothing drew one."""

    name = "video"
    per_source = True

    preset: Literal["ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow"] = (
        Field("veryfast", description="x264's effort: slower makes smaller files")
    )
    crf: int = Field(23, ge=0, le=51, description="x264's quality: lower is better and bigger, 18 looks lossless")

    _rates: dict[str, float] = PrivateAttr(default_factory=dict)
    _recordings: dict[str, Recording] = PrivateAttr(default_factory=dict)

    @field_validator("path")
    @classmethod
    def _is_mp4(cls, path: Path) -> Path:
        if path.suffix.lower() not in (".mp4", ".m4v"):
            raise ValueError(f"videos are written as MP4, so name it {path.with_suffix('.mp4')} instead of {path}")
        return path

    def begin(self, source: SourceInfo) -> None:
        """Take note of the rate. An old file goes now, so that what is there is this run's."""
        self.claim(source.id).unlink(missing_ok=True)
        self._rates[source.id] = source.fps or _DEFAULT_FPS

    def write(self, frame: Frame) -> None:
        """Encode one frame."""
        image = frame.image if frame.canvas is None else frame.canvas
        recording = self._recordings.get(frame.source)
        if recording is None:
            height, width = image.shape[:2]
            path, fps = self.claim(frame.source), self._rates[frame.source]
            recording = Recording(path, (width, height), fps, self.preset, self.crf)
            self._recordings[frame.source] = recording
        recording.add(image, frame.timestamp)

    def end(self, source: str) -> None:
        """Complete the source's file. A source that gave no frame has none."""
        if recording := self._recordings.pop(source, None):
            recording.finish()

    def close(self) -> None:
        """Complete all files."""
        with ExitStack() as each:  # one that cannot be completed does not keep the others from it
            each.callback(super().close)
            each.callback(self._rates.clear)
            while self._recordings:
                each.callback(self._recordings.popitem()[1].finish)
