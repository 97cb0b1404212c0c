"""MOTChallenge results: the text format that tracking benchmarks score."""

from __future__ import annotations

from pipeline.frame import Frame
from pipeline.lines import LineSink
from trackers import mot_format


class Mot(LineSink):
    """Rows `frame,id,x,y,w,h,confidence,-1,-1,-1`: frames from 1, top left corner and size in pixels."""

    name = "mot"
    requires = frozenset({"tracks"})
    per_source = True

    def lines(self, frame: Frame) -> str:
        """The rows of one frame."""
        return mot_format.lines(frame.index + 1, frame.tracks)
