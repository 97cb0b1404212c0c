"""Frame: one image on its way through the chain, and all that was found in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipeline.detections import Detections
from pipeline.text import Text
from trackers.revisions import Revisions
from trackers.tracks import Tracks

Region: TypeAlias = tuple[int, int, int, int]
"""x1, y1, x2, y2 in pixels of a frame."""

NOWHERE: Region = (0, 0, 0, 0)

# Frozen and empty, so one of each serves all frames: making them anew costs 30 µs a frame.
_NO_DETECTIONS = Detections()
_NO_TRACKS = Tracks()


@dataclass(slots=True)
class Frame:
    """One image and its annotations. Stages set the fields they provide; nothing else changes a frame.

    Attributes:
        image: (H, W, 3) uint8, BGR, as decoded. No stage writes into it.
        source: id of the source.
        index: position within the source, from 0, counting damaged and skipped frames too.
        timestamp: seconds of media time, never decreasing within a source.
        captured_at: wall clock, seconds since the epoch.
        detections: set by detect; `detections.features` by embed.
        tracks: set by track.
        texts: set by read_text.
        canvas: (H, W, 3) uint8, BGR, set by annotate: the image with everything drawn on it.
        revisions: set by track with a tracker that has `revise: true`: what was learnt about earlier frames.
        skipped: set by gate: no detector looks at it, and trackers predict where things are.
        region: set by gate: the part that detectors look at; None: all of it.
        discontinuity: the first frame after a gap: the camera was away, its clock jumped, or its frames changed size.

    Raises:
        ValueError: the image is another kind of array.
    """

    image: NDArray[np.uint8]
    source: str = "frame"
    index: int = 0
    timestamp: float = 0.0
    captured_at: float = 0.0
    detections: Detections = _NO_DETECTIONS
    tracks: Tracks = _NO_TRACKS
    texts: tuple[Text, ...] = ()
    canvas: NDArray[np.uint8] | None = None
    revisions: Revisions | None = None
    skipped: bool = False
    region: Region | None = None
    discontinuity: bool = False

    def __post_init__(self) -> None:
        image = self.image
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(
                f"the image of a frame is (H, W, 3) uint8, BGR, not {image.shape} {image.dtype}; "
                "cv2.cvtColor makes one of grey or RGBA pictures"
            )
