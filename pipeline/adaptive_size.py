"""AdaptiveSize: how much smaller than it could be a frame is given to a detector, while all that is there is large."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.detections import Detections
from pipeline.frame import Frame

_SHARES = (0.5, 0.65, 0.8)  # of the full size
_LEAST = 64.0  # pixels of the network's input that the smallest object keeps in height
_AGAIN = 2  # full looks in a row that must allow a smaller size


@dataclass(slots=True)
class _Scene:
    """What is known of a source.

    Attributes:
        looked_at, index: time and index of the last frame that was looked at in full size.
        share: of the full size, until the next such look. asked: smaller ones that looks allowed, newest last.
    """

    looked_at: float
    index: int
    share: float = 1.0
    asked: tuple[float, ...] = ()


class AdaptiveSize:
    """Decides by what earlier full looks at the same source found, and by media time: the same on every machine.

    Every `interval` seconds a frame is looked at in full size. The frames until the next such look are scaled down as
    far as the least of the objects it found allows; larger at once, smaller only when several looks in a row agree.
    An empty scene is looked at in full size: nothing tells how small what comes next will be.
    """

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._scenes: dict[str, _Scene] = {}

    def rounds(self, frames: Sequence[Frame]) -> Iterator[list[tuple[Frame, float]]]:
        """The frames with their shares of the full size, in calls that each end where the next depends on its result.

        `learn` is called with what the last one shows before the next round is asked for.
        """
        together: list[tuple[Frame, float]] = []
        for frame in frames:
            if self._is_due(frame):
                yield [*together, (frame, 1.0)]
                together = []
            else:
                together.append((frame, self._scenes[frame.source].share))
        if together:
            yield together

    def learn(self, frame: Frame, found: Detections, scale: float) -> None:
        """Take in what the last frame of a round showed; `scale`: pixels of the network's full input for one of it."""
        if not self._is_due(frame):
            return
        scene = self._scenes.get(frame.source)
        if scene is None:
            scene = self._scenes[frame.source] = _Scene(frame.timestamp, frame.index)
        elif scene.index != frame.index:
            scene.looked_at, scene.index = frame.timestamp, frame.index
        allowed = _allowed(found, scale)
        scene.asked = (*scene.asked, allowed)[-_AGAIN:]
        scene.share = max(scene.asked) if len(scene.asked) == _AGAIN else 1.0

    def _is_due(self, frame: Frame) -> bool:
        """Whether a frame is looked at in full size to decide about those after it; the same if it is asked again."""
        scene = self._scenes.get(frame.source)
        return scene is None or frame.index == scene.index or frame.timestamp - scene.looked_at >= self._interval

    def state_dict(self) -> dict[str, Any]:
        """What is known of all sources, as plain values."""
        return {
            source: {
                "looked_at": scene.looked_at,
                "index": scene.index,
                "share": scene.share,
                "asked": list(scene.asked),
            }
            for source, scene in self._scenes.items()
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go by that again.

        Raises:
            ValueError: these are no shares of a size.
        """
        scenes = {
            source: _Scene(float(one["looked_at"]), int(one["index"]), float(one["share"]), tuple(one["asked"]))
            for source, one in state.items()
        }
        for scene in scenes.values():
            if not math.isfinite(scene.looked_at) or not {scene.share, *scene.asked} <= {*_SHARES, 1.0}:
                raise ValueError("a saved state has sizes that are never looked at")
        self._scenes = scenes

    def forget(self, source: str) -> None:
        """Drop what is known of a source."""
        self._scenes.pop(source, None)

    def clear(self) -> None:
        """Drop what is known of all sources."""
        self._scenes.clear()


def _allowed(found: Detections, scale: float) -> float:
    if not len(found):
        return 1.0
    least = float(np.min(found.xyxy[:, 3] - found.xyxy[:, 1])) * scale
    return next((share for share in _SHARES if least * share >= _LEAST), 1.0)
