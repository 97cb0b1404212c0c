"""The Source contract, the registry of sources, and how a word on the command line becomes one."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr
from typing_extensions import Self

from pipeline import reasons
from pipeline.address import redacted
from pipeline.component import Component
from pipeline.errors import UsageError
from pipeline.frame import Frame
from pipeline.picture_size import MOST_PIXELS, refusal
from trackers.registry import Registry


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """What is known of a source once it is open.

    Attributes:
        id: the source's id; frames carry it.
        uri: where it comes from, without credentials.
        width, height: pixels of its frames, as decoded (rotation applied).
        fps: nominal frames a second that it gives; None where that is unknown.
        frame_count: how many frames it will give at most; None where that is unknown or it never ends.
        live: True for cameras and streams: frames arrive at their own pace and may be dropped when late.
    """

    id: str
    uri: str
    width: int
    height: int
    fps: float | None = None
    frame_count: int | None = None
    live: bool = False

    @property
    def repeats(self) -> bool:
        """Whether it can be read from its beginning again: a camera cannot, and a pipe neither."""
        return not self.live and self.uri != "-"


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a live source is waited for, and how often it is tried again. All times in seconds.

    Attributes:
        opening, reading: after how long an attempt to open it, or a wait for its next frame, is given up and its thread
            left behind, whatever it hangs in; None: it is waited for.
        reconnect: whether it is opened again when it breaks off.
        attempts: without a frame, in a row, after which it has ended; None: it never does.
        longest_pause: between two attempts.
    """

    opening: float | None = None
    reading: float | None = None
    reconnect: bool = False
    attempts: int | None = None
    longest_pause: float = 1.0


_POSSIBLE = 1 << 30
"""Pixels that a picture may have at all; OpenCV and FFmpeg refuse more."""


class Source(Component, ABC):
    """Where frames come from. One instance is read by one thread.

    Subclasses implement `matches`, `open`, `read` and `close`. `isolation` is the business of who opens it: the engine
    and `open_source` look at it (pipeline/isolation).
    """

    live: ClassVar[bool] = False
    """True where frames arrive at their own pace (camera, stream)."""

    uri: str = Field(description="file, folder, device or address")
    id: str = Field("", description="name of this source in all outputs; derived from the uri if empty")
    every: int = Field(1, ge=1, description="give every n-th frame only; the others are counted as skipped")
    max_frames: int | None = Field(None, ge=1, description="stop after giving this many frames")
    max_pixels: int = Field(
        MOST_PIXELS, ge=1, le=_POSSIBLE, description="most pixels of a picture; larger ones are refused"
    )
    isolation: Literal["none", "process"] = Field(
        "none", description="process: read it in a process of its own, so that a crash of its decoder ends nothing else"
    )

    _dropped: Counter[str] = PrivateAttr(default_factory=Counter)
    _waited: float = PrivateAttr(0.0)
    _abandoned: threading.Event = PrivateAttr(default_factory=threading.Event)

    @property
    def dropped(self) -> Counter[str]:
        """Frames that were not given, by reason (pipeline/reasons.py): corrupt, missing, every, stale."""
        return self._dropped

    @property
    def waited(self) -> float | None:
        """Seconds, in all, that `read` did nothing but wait for frames to come; None where it cannot tell."""
        return None

    @classmethod
    @abstractmethod
    def matches(cls, uri: str) -> bool:
        """Whether this kind of source reads `uri`. Looks at the words only, except to tell file from folder."""

    @abstractmethod
    def open(self) -> SourceInfo:
        """Connect and learn size and rate.

        Raises:
            UsageError: the uri is wrong (no such file, not a video ...).
            FramechainError: it is right, but cannot be had (refused, timed out).
        """

    @abstractmethod
    def read(self) -> Frame | None:
        """The next frame, or None at the end. Blocks for a bounded time only."""

    def skip(self, index: int, given: int, stopping: Callable[[], bool]) -> None:
        """Once it is open: pass over the frames that an earlier run was given, counting those that it was not.

        Args:
            index: of the last one. given: how many. stopping: tells whether nobody wants to go on any more.

        Raises:
            FramechainError: it does not hold them; it is another file now.
        """
        for _ in range(given):
            frame = self.read()
            if stopping():
                return
            if frame is None or frame.index > index:
                raise self._changed(index)

    def _changed(self, index: int) -> UsageError:
        return UsageError(
            f"'{redacted(self.uri)}' has no frame {index}, which it had when the checkpoint was saved; "
            "begin anew with --fresh"
        )

    def close(self) -> None:
        """Release the file, device or connection."""

    @property
    def patience(self) -> Patience:
        """How long to wait for it; for ever, unless a kind of source says otherwise."""
        return Patience()

    @property
    def complete(self) -> bool:
        """Once `read` gave None: whether that was the end; False where the other side hung up."""
        return True

    def anew(self) -> Self:
        """Another one with the same options, not opened."""
        return type(self)(**{option: getattr(self, option) for option in type(self).model_fields})

    def abandon(self) -> None:
        """Nobody wants more of it: `read`, in another thread, gives up as soon as it can."""
        self._abandoned.set()

    def __iter__(self) -> Iterator[Frame]:  # type: ignore[override]  # pydantic's gives the fields
        """The frames up to the end; the source must be open."""
        while (frame := self.read()) is not None:
            yield frame

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class Moment:
    """When and where in its source a frame is; see Frame for the meaning."""

    index: int
    timestamp: float
    captured_at: float
    discontinuity: bool = False


class SteppedSource(Source):
    """A source read in two steps, as cv2.VideoCapture is: `grab` moves on, `retrieve` makes the image.

    What `every` skips is grabbed and never made into an image. Subclasses implement `open`, which ends in
    `return self._opened(...)`, and the two steps.
    """

    _given: int = PrivateAttr(0)
    _broken: bool = PrivateAttr(False)  # a discontinuity in what was not given

    @abstractmethod
    def grab(self) -> Moment | None:
        """Move to the next frame; None at the end."""

    @abstractmethod
    def retrieve(self) -> NDArray[np.uint8] | None:
        """The grabbed frame as (H, W, 3) uint8 BGR, C-contiguous, its memory its own; None if it is damaged."""

    def read(self) -> Frame | None:
        """The next frame that `every` and `max_frames` ask for, or None at the end."""
        while (self.max_frames is None or self._given < self.max_frames) and not self._abandoned.is_set():
            moment = self.advance()
            if moment is None:
                return None
            self._broken |= moment.discontinuity
            if moment.index % self.every:
                self._dropped[reasons.EVERY] += 1
                continue
            if self.late():
                self._dropped[reasons.STALE] += 1
                continue
            image = self.retrieve()
            if image is None:
                self._dropped[reasons.CORRUPT] += 1
                continue
            self._given += 1
            broken, self._broken = self._broken, False
            return Frame(image, self.id, moment.index, moment.timestamp, moment.captured_at, discontinuity=broken)
        return None

    def skip(self, index: int, given: int, stopping: Callable[[], bool]) -> None:
        """As `Source.skip`, without making images."""
        wanted = 0
        while not stopping():
            moment = self.grab()
            if moment is None or moment.index > index:
                raise self._changed(index)
            self._broken |= moment.discontinuity
            if moment.index % self.every:
                self._dropped[reasons.EVERY] += 1
                continue
            wanted += 1
            if moment.index == index:
                self._given = given
                self._broken = False
                if wanted > given:  # the image could not be made
                    self._dropped[reasons.CORRUPT] += wanted - given
                return

    def late(self) -> bool:
        """Whether the grabbed frame is too old to be made into an image."""
        return False

    def advance(self) -> Moment | None:
        """The next moment that counts: where `grab` moves to."""
        return self.grab()

    def _opened(
        self,
        uri: str,
        width: int,
        height: int,
        fps: float | None = None,
        frame_count: int | None = None,
        live: bool | None = None,
    ) -> SourceInfo:
        """Begin to count anew. `fps` and `frame_count` are those of the whole source, before `every`.

        Raises:
            UsageError: its pictures are too large.
        """
        if why := refusal(width, height, self.max_pixels):
            raise UsageError(f"'{redacted(self.uri)}' {why}")
        self._given = 0
        self._dropped.clear()
        counts = [-(-frame_count // self.every)] if frame_count is not None else []
        counts += [self.max_frames] if self.max_frames is not None else []
        rate = None if fps is None else fps / self.every
        return SourceInfo(
            self.id, uri, width, height, rate, min(counts, default=None), self.live if live is None else live
        )


sources: Registry[Source] = Registry("source", Source, "pipeline.sources", "framechain.sources")  # type: ignore[type-abstract]


def source_for(uri: str) -> type[Source]:
    """The class that reads `uri`. Exactly one kind of ours matches any uri; plugins are asked first.

    Raises:
        UsageError: nothing reads it; the message lists what can be read.
    """
    kinds = [kind for _, kind in sources.kinds()]
    kinds.sort(key=lambda kind: kind.__module__.startswith("pipeline."))
    for kind in kinds:
        if kind.matches(uri):
            return kind
    raise UsageError(
        f"'{redacted(uri)}' is no source; give a video file, a folder or glob of images, a webcam number, "
        f"an rtsp:// or http:// address, - for standard input, or test:"
    )


def create_source(uri: str | int, **options: Any) -> Source:
    """The source that reads `uri`, not opened; `options` are the fields of that kind of source.

    Raises:
        UsageError: nothing reads it.
    """
    if not isinstance(uri, str | int):
        raise TypeError(f"a source is a uri or a Source, not {uri!r:.80}")
    return source_for(str(uri))(uri=str(uri), **options)


def open_source(uri: str | int, **options: Any) -> Source:
    """Open whatever `uri` names, for a loop of one's own; `options` are the fields of that kind of source.

        with open_source("clip.mp4", every=2) as frames:
            for frame in frames:
                ...

    Raises:
        UsageError, FramechainError: as `source_for` and `Source.open`.
    """
    from pipeline.isolation.source import IsolatedSource

    source = create_source(uri, **options)
    if source.isolation == "process":
        source = IsolatedSource.of(source)
    source.open()
    return source
