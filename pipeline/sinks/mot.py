"""MOTChallenge results: the text format that tracking benchmarks score."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from pipeline.files.lines import LineSink
from pipeline.frame import Frame
from trackers import mot_format


class Mot(LineSink):
    """Rows `frame,id,x,y,w,h,confidence,-1,-1,-1`: frames from 1, top left corner and size in pixels.

    The format asks where everyone is: those whom the tracker believes to be behind another are in it.
    """

    name = "mot"
    requires = frozenset({"tracks"})
    per_source = True

    classes: tuple[str, ...] = Field(
        (), description="classes to write, by name, as no column tells them; all if empty, or if the detector has none"
    )

    hidden: bool = Field(True, description="write where tracks are believed to be that a frame did not show")

    def lines(self, frame: Frame) -> str:
        """The rows of one frame."""
        wanted = [number for number, name in enumerate(frame.detections.names) if name in self.classes]
        parts = (frame.tracks, frame.tracks.hidden()) if self.hidden else (frame.tracks,)
        chosen = [tracks[np.isin(tracks.class_id, wanted)] if wanted else tracks for tracks in parts]
        return "".join(mot_format.lines(frame.index + 1, tracks) for tracks in chosen)
