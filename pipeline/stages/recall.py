"""Recall: what was seen in the part of a frame that nobody looked at, because nothing moved there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import PrivateAttr

from pipeline.detections import Detections
from pipeline.frame import Frame, Region
from pipeline.stage import Stage

_INSIDE = 0.5  # share of a box in the region from which on only what was seen there now counts
_EDGE = 4.0  # pixels from the edge of a region within which a box may have been cut by it
_SAME = 0.6  # share of a cut box that an older whole one covers, if both are one object


class Recall(Stage):
    """Adds to `frame.detections` what an earlier frame showed outside of `frame.region`; stands after the detector."""

    name: ClassVar[str] = "recall"
    requires: ClassVar[frozenset[str]] = frozenset({"detections", "region"})
    provides: ClassVar[frozenset[str]] = frozenset({"detections"})

    _seen: dict[str, Detections] = PrivateAttr(default_factory=dict)

    def process(self, frames: Sequence[Frame]) -> None:
        """Complete the detections of frames that were looked at in part."""
        for frame in frames:
            if frame.skipped:
                continue
            if frame.region is not None and (before := self._seen.get(frame.source)) is not None:
                frame.detections = _completed(frame.detections, before, frame.region, frame.image.shape)
            self._seen[frame.source] = frame.detections

    def forget(self, source: str) -> None:
        """Drop what was seen by a source that ended."""
        self._seen.pop(source, None)

    def state_dict(self) -> dict[str, Any]:
        """What all sources showed last."""
        return {
            source: {
                "xyxy": found.xyxy.copy(),
                "confidence": found.confidence.copy(),
                "class_id": found.class_id.copy(),
                "features": None if found.features is None else np.array(found.features),
                "names": list(found.names),
            }
            for source, found in self._seen.items()
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Complete frames with that again.

        Raises:
            ValueError: these are no detections.
        """
        self._seen = {
            source: Detections(
                np.array(one["xyxy"], np.float32),
                np.array(one["confidence"], np.float32),
                np.array(one["class_id"], np.int64),
                None if one["features"] is None else np.array(one["features"], np.float32),
                tuple(map(str, one["names"])),
            )
            for source, one in state.items()
        }

    def close(self) -> None:
        """Drop what all sources saw."""
        self._seen.clear()


def _completed(now: Detections, before: Detections, region: Region, shape: tuple[int, ...]) -> Detections:
    inner = np.array([region], np.float32)
    kept = before[_shared(before.xyxy, inner)[:, 0] < _INSIDE]
    if len(now) and len(kept):
        height, width = shape[:2]
        edges = np.array(region, np.float32)
        at_edge = np.abs(now.xyxy - edges) <= _EDGE
        at_edge &= edges != np.array([0, 0, width, height])  # there the frame ends, and nothing is cut
        cut = at_edge.any(axis=1) & (_shared(now.xyxy, kept.xyxy).max(axis=1) >= _SAME)
        now = now[~cut]
    return _joined(now, kept)


def _joined(one: Detections, other: Detections) -> Detections:
    both = (one, other)
    features = [np.asarray(part.features) for part in both if part.features is not None and len(part)]
    whole = len(features) == sum(bool(len(part)) for part in both) and features
    return replace(
        one,
        xyxy=np.concatenate([part.xyxy for part in both]),
        confidence=np.concatenate([part.confidence for part in both]),
        class_id=np.concatenate([part.class_id for part in both]),
        features=np.concatenate(features) if whole else None,
        names=one.names or other.names,
    )


def _shared(boxes: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, M) share of each box that each of the others covers."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return np.asarray((high - low).clip(0).prod(axis=2) / areas[:, None], np.float32)
