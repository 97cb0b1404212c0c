"""Video: the annotated frames as an MP4 that plays everywhere."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PrivateAttr, field_validator

from pipeline import reasons
from pipeline.encode import Recording, affordable_preset
from pipeline.files.disk_full import DiskFull
from pipeline.files.lock import check_free
from pipeline.files.output import PartedSink
from pipeline.frame import Frame
from pipeline.inference.choice import available_cores
from pipeline.source import SourceInfo

logger = logging.getLogger("framechain")

# For sources that do not tell their rate. It only spaces key frames and gives the last frame its duration.
_DEFAULT_FPS = 25.0

# Finished parts that may wait for their index; a disk that is slower than that holds up the frames.
_UNINDEXED = 64

# Seconds that the end of a run waits for the indices of cameras' files: service managers kill what takes much longer.
_LIVE_INDEXING = 10.0


class Video(PartedSink):
    """H.264 in MP4 with the timing of the source. Holds `frame.canvas`, or the bare image where nothing drew one."""

    name = "video"
    per_source = True

    preset: Literal[
        "auto", "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow"
    ] = Field(
        "auto",
        description="x264's effort: slower makes smaller files; auto: veryfast, but ultrafast where that would take "
        "more than a quarter of the cores",
    )
    crf: int = Field(23, ge=0, le=51, description="x264's quality: lower is better and bigger, 18 looks lossless")

    _infos: dict[str, SourceInfo] = PrivateAttr(default_factory=dict)
    _chosen: str = PrivateAttr("")
    _recordings: dict[str, Recording] = PrivateAttr(default_factory=dict)
    _indexer: ThreadPoolExecutor | None = PrivateAttr(None)
    _unindexed: deque[Future[None]] = PrivateAttr(default_factory=deque)
    _hurry: threading.Event = PrivateAttr(default_factory=threading.Event)  # no file gets its index in front any more

    @field_validator("path")
    @classmethod
    def _is_mp4(cls, path: Path) -> Path:
        if path.suffix.lower() not in (".mp4", ".m4v"):
            raise ValueError(f"videos are written as MP4, so name it {path.with_suffix('.mp4')} instead of {path}")
        return path

    def begin(self, source: SourceInfo) -> None:
        """Take note of size and rate. An old file goes now, so that what is there is this run's."""
        super().begin(source)
        series = self.series(source.id)
        if self.rotate is None and not series.begun and not series.keeps:
            check_free(self._claimed[source.id])
            self._claimed[source.id].unlink(missing_ok=True)
        self._infos[source.id] = source

    def record(self, frame: Frame) -> None:
        """Encode one frame, into a new part if one is due: a part begins with a key frame and plays by itself."""
        image = frame.image if frame.canvas is None else frame.canvas
        recording = self._recordings.get(frame.source)
        if recording is not None and self.series(frame.source).due(frame.timestamp, recording.size):
            self._end_part(frame.source)
            recording = None
        if recording is None:
            height, width = image.shape[:2]
            fps = self._infos[frame.source].fps or _DEFAULT_FPS
            options = ((width, height), fps, self._preset(), self.crf)
            recording = self.next_part(frame.source, frame.timestamp, lambda path: Recording(path, *options))
            self._recordings[frame.source] = recording
        try:
            recording.add(image, frame.timestamp)
        except DiskFull as error:
            if self.pauses:  # it ends here, and goes on in a part of its own
                del self._recordings[frame.source]
                recording.finish()
                self._later(self.finished(frame.source, recording.path))
                error.frames = recording.frames - recording.held
            raise

    def put_down(self) -> Callable[[], bool]:
        """Whether the files hold what was taken so far; of cameras a kill loses some frames whatever is waited for."""
        waited = [
            (recording, recording.frames)
            for source, recording in self._recordings.items()
            if self._infos[source].repeats
        ]
        return lambda: all(recording.holds(frames) for recording, frames in waited)

    def _preset(self) -> str:
        """What is asked for, or what this machine can afford for all sources together; chosen once."""
        if self.preset != "auto":
            return self.preset
        if not self._chosen:
            infos = self._infos.values()
            pixels = sum(info.width * info.height * (info.fps or _DEFAULT_FPS) for info in infos)
            self._chosen = affordable_preset(pixels, available_cores())
            if self._chosen != affordable_preset(0, 1):
                told = "%.0f megapixels a second are encoded with preset %s, to spare the cores"
                logger.info(told, pixels / 1e6, self._chosen)
        return self._chosen

    def end(self, source: str) -> None:
        """Complete the source's file. A source that gave no frame has none."""
        if source in self._recordings:
            self._end_part(source)
        self._infos.pop(source, None)
        super().end(source)

    def close(self) -> None:
        """Complete all files; those of cameras get their index in front within some seconds, or not: they play, too."""
        with ExitStack() as each:  # one that cannot be completed does not keep the others from it
            each.callback(super().close)
            each.callback(self._infos.clear)
            each.callback(self._stop_indexing, _LIVE_INDEXING if self._live else None)
            for source in list(self._recordings):
                each.callback(self.end, source)

    def _finish(self, recording: Recording) -> None:
        try:
            recording.finish()
        except DiskFull:
            if not self.pauses:
                raise
            lost = recording.frames - recording.held
            self.dropped[reasons.DISK_FULL] += lost
            self.pause.begin(recording.path, lost)

    def _end_part(self, source: str) -> None:
        recording = self._recordings.pop(source)
        self._finish(recording)
        keep = self.finished(source, recording.path)
        self._later(_index, recording, self._copy_name(source), self._hurry.is_set, keep)

    def _later(self, work: Callable[..., None], *arguments: Any) -> None:
        """In the background, one file after the other: copying an hour of 4 Mbit/s takes seconds."""
        if self._indexer is None:
            self._indexer = ThreadPoolExecutor(1, "index")
        while len(self._unindexed) >= _UNINDEXED or (self._unindexed and self._unindexed[0].done()):
            self._unindexed.popleft().result()
        self._unindexed.append(self._indexer.submit(work, *arguments))

    def _copy_name(self, source: str) -> str:
        return f".{self._claimed[source].name}.part"

    def abort(self) -> None:
        """Leave files as they are: they play."""
        self._hurry.set()

    def _stop_indexing(self, seconds: float | None) -> None:
        if self._indexer is not None:
            if wait(self._unindexed, seconds).not_done:
                logger.info("sink '%s': some files stay fragmented MP4s, as copying them takes too long", self.name)
                self._hurry.set()
            self._indexer.shutdown()
            self._indexer = None
        while self._unindexed:
            self._unindexed.popleft().result()
        self._hurry.clear()


def _index(recording: Recording, copy: str, unwanted: Callable[[], bool], keep: Callable[[], None]) -> None:
    recording.put_index_in_front(copy, unwanted)
    keep()
