"""The Source contract, the registry of sources, and how a word on the command line becomes one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass
from typing import ClassVar

from pydantic import Field, PrivateAttr

from pipeline.component import Component
from pipeline.errors import UsageError
from pipeline.frame import Frame
from trackers.registry import Registry


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """What is known of a source once it is open.

    Attributes:
        id: the source's id; frames carry it.
        uri: where it comes from, without credentials.
        width, height: pixels of its frames, as decoded (rotation applied).
        fps: nominal frames a second; None where it is unknown.
        frame_count: how many frames it will give; None where that is unknown or it never ends.
        live: True for cameras and streams: frames arrive at their own pace and may be dropped when late.
    """

    id: str
    uri: str
    width: int
    height: int
    fps: float | None = None
    frame_count: int | None = None
    live: bool = False


class Source(Component, ABC):
    """Where frames come from. One instance is read by one thread.

    Subclasses implement `matches`, `open`, `read` and `close`.
    """

    live: ClassVar[bool] = False
    """True where frames arrive at their own pace (camera, stream)."""

    uri: str = Field(description="file, folder, device or address")
    id: str = Field("", description="name of this source in all outputs; derived from the uri if empty")
    every: int = Field(1, ge=1, description="give every n-th frame only; the others are counted as skipped")
    max_frames: int | None = Field(None, ge=1, description="stop after giving this many frames")

    _dropped: Counter[str] = PrivateAttr(default_factory=Counter)

    @property
    def dropped(self) -> Counter[str]:
        """Frames that were not given, by reason: "corrupt", "every"."""
        return self._dropped

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

    def close(self) -> None:
        """Release the file, device or connection."""


sources: Registry[Source] = Registry("source", Source, "pipeline.sources", "framechain.sources")  # type: ignore[type-abstract]


def source_for(uri: str) -> type[Source]:
    """The class that reads `uri`. Exactly one kind of ours matches any uri; plugins are asked first.

    Raises:
        UsageError: nothing reads it; the message lists what can be read.
    """
    kinds = [sources.load(name) for name in sources.names()]
    kinds.sort(key=lambda kind: kind.__module__.startswith("pipeline."))
    for kind in kinds:
        if kind.matches(uri):
            return kind
    raise UsageError(
        f"'{uri}' is no source; give a video file, a folder or glob of images, a webcam number, "
        f"an rtsp:// or http:// address, - for standard input, or test:"
    )
