"""Frames to calibrate a network with, and others, kept apart, to compare it by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UsageError
from pipeline.frame import Frame
from pipeline.source import create_source, open_source
from pipeline.stages.detect import Detect
from pipeline.stages.embed import crop

Image = NDArray[np.uint8]

_LARGEST = 1280  # pixels of the longer side that are kept: more than networks look at, less than fills the memory


@dataclass(frozen=True, slots=True)
class Frames:
    """Images (H, W, 3) uint8 BGR of a video or folder, evenly spaced, by turns for the one and the other."""

    calibrate: tuple[Image, ...]
    compare: tuple[Image, ...]


def read_frames(uri: str, count: int) -> Frames:
    """Read at most so many frames for each of the two; of a source that does not say how long it is, the first ones.

    Raises:
        UsageError: it is no video or folder of images, or there are fewer than two frames in it.
        FramechainError: it cannot be read.
    """
    probe = create_source(uri)
    total = probe.open().frame_count
    probe.close()
    step = max(1, total // (2 * count)) if total else 1
    with open_source(uri, every=step, max_frames=2 * count) as source:
        found = [_reduced(frame.image) for frame in source]
    if len(found) < 2:
        raise UsageError(f"{uri} has {len(found)} frames; give a video or folder with at least two to calibrate with")
    return Frames(tuple(found[::2]), tuple(found[1::2]))


def crops(frames: Sequence[Image], classes: Sequence[str]) -> list[Image]:
    """What the bundled detector finds of some classes, all if empty: for networks that see objects, not frames.

    Raises:
        UsageError: it finds nothing.
    """
    found: list[Image] = []
    with Detect(classes=tuple(classes)) as stage:
        for image in frames:
            frame = Frame(image)
            stage.process([frame])
            found += [crop(image, box) for box in frame.detections.xyxy.tolist()]
    if not found:
        raise UsageError("nothing was found on the calibration frames to cut out; give frames that show objects")
    return found


def _reduced(image: Image) -> Image:
    scale = _LARGEST / max(image.shape[:2])
    if scale >= 1:
        return image
    return np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
