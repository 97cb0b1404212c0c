"""Gate: which frames, and which part of them, the stages that follow look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr

from pipeline.frame import NOWHERE, Frame, Region
from pipeline.stage import Stage

_SMALL = 160  # pixels of the longer side that are compared: 0.1 ms for a frame of 1080 lines
_THIRDS = 3  # a region is as many thirds of the frame wide and high as it must be: few sizes for the runtime
_MARGIN = 0.05  # of the frame's sides, around what changed: objects that move have parts that look the same
_WHOLE = 0.6  # share of the frame from which on the whole of it is looked at


@dataclass(slots=True)
class _Watched:
    """What is known of a source.

    Attributes:
        seen: how every place looked, in small, when it was last looked at. whole_at: when all of it was.
        count: frames so far.
    """

    seen: NDArray[np.uint8] | None = None
    whole_at: float = 0.0
    count: int = 0


class Gate(Stage):
    """Spares detectors what is not worth looking at; it stands before them.

    With `every` all frames but every n-th are marked `skipped`, and trackers predict them. With `motion` a frame's
    `region` is the part in which something changed since a detector looked there; a `recall` stage after the detector
    adds what it saw in the rest. Decided by pixels and time alone, so results do not depend on how busy a machine is.
    """

    name: ClassVar[str] = "gate"
    provides: ClassVar[frozenset[str]] = frozenset({"region"})

    every: int = Field(1, ge=1, le=1000, description="detect in every n-th frame; trackers predict the others")
    motion: bool = Field(
        False, description="detect only where something moved, for cameras that stand still; needs recall after detect"
    )
    interval: float = Field(1.0, ge=0, description="with motion: seconds after which all of a frame is looked at again")
    threshold: int = Field(10, ge=1, le=255, description="with motion: grey levels that count as a change")

    _sources: dict[str, _Watched] = PrivateAttr(default_factory=dict)

    def owes(self) -> str | None:
        """With motion the rest of the frame must be recalled."""
        return "recall" if self.motion else None

    def process(self, frames: Sequence[Frame]) -> None:
        """Set `skipped` and `region`."""
        for frame in frames:
            watched = self._sources.setdefault(frame.source, _Watched())
            frame.skipped = watched.count % self.every != 0
            watched.count += 1
            if self.motion and not frame.skipped:
                frame.region = self._region(watched, frame)

    def forget(self, source: str) -> None:
        """Drop what is known of a source that ended."""
        self._sources.pop(source, None)

    def state_dict(self) -> dict[str, Any]:
        """How all sources looked when they were looked at."""
        return {
            source: {
                "seen": None if one.seen is None else one.seen.copy(),
                "whole_at": one.whole_at,
                "count": one.count,
            }
            for source, one in self._sources.items()
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Compare with that again."""
        self._sources = {
            source: _Watched(
                None if one["seen"] is None else np.array(one["seen"], np.uint8, ndmin=2),
                float(one["whole_at"]),
                int(one["count"]),
            )
            for source, one in state.items()
        }

    def close(self) -> None:
        """Drop what is known of all sources."""
        self._sources.clear()

    def _region(self, watched: _Watched, frame: Frame) -> Region | None:
        small = _small(frame.image)
        before = watched.seen
        if before is None or before.shape != small.shape or frame.timestamp - watched.whole_at >= self.interval:
            watched.seen, watched.whole_at = small, frame.timestamp
            return None
        changed = cv2.threshold(cv2.absdiff(small, before), self.threshold, 255, cv2.THRESH_BINARY)[1]
        x, y, width, height = cv2.boundingRect(changed)
        if not width:
            return NOWHERE
        tall, wide = small.shape
        left, right = _span(x / wide, (x + width) / wide)
        top, bottom = _span(y / tall, (y + height) / tall)
        if (right - left) * (bottom - top) >= _WHOLE:
            watched.seen, watched.whole_at = small, frame.timestamp
            return None
        # what lies in the region is looked at now; the rest is still compared with how it was then
        part = slice(int(top * tall), int(bottom * tall)), slice(int(left * wide), int(right * wide))
        watched.seen = before.copy()
        watched.seen[part] = small[part]
        rows, columns = frame.image.shape[:2]
        return int(left * columns), int(top * rows), int(right * columns), int(bottom * rows)


def _small(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image in grey with a longer side of at most `_SMALL`, each pixel an average: noise goes, motion stays."""
    height, width = image.shape[:2]
    step = max(1, max(height, width) // (2 * _SMALL))  # every second pixel or so will do for an average
    thin = image[::step, ::step, 1]
    scale = min(1.0, _SMALL / max(thin.shape))
    size = max(1, round(thin.shape[1] * scale)), max(1, round(thin.shape[0] * scale))
    small = cv2.resize(np.ascontiguousarray(thin), size, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.blur(small, (3, 3)), np.uint8)


def _span(first: float, last: float) -> tuple[float, float]:
    """A stretch of 0..1 with its margins, widened to whole thirds of it without leaving it.

    >>> _span(0.5, 0.55), _span(0.9, 1.0)
    ((0.358..., 0.691...), (0.666..., 1.0))
    """
    first, last = max(0.0, first - _MARGIN), min(1.0, last + _MARGIN)
    length = -(-(last - first) * _THIRDS // 1) / _THIRDS
    start = min(max(0.0, (first + last - length) / 2), 1.0 - length)
    return start, start + length
