"""Frame: one image on its way through the chain, and all that was found in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.detections import Detections
from pipeline.text import Text
from trackers.revisions import Revisions
from trackers.tracks import Tracks

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
