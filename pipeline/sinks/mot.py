"""MOTChallenge results: the text format that tracking benchmarks score."""

from __future__ import annotations

from pipeline.frame import Frame
from pipeline.lines import LineSink


class Mot(LineSink):
    """Rows `frame,id,x,y,w,h,confidence,-1,-1,-1`: frames from 1, top left corner and size in pixels."""

    name = "mot"
    requires = frozenset({"tracks"})
    per_source = True

    def lines(self, frame: Frame) -> str:
        """The rows of one frame."""
        tracks = frame.tracks
        return "".join(
            f"{frame.index + 1},{track_id},{x1:.2f},{y1:.2f},{x2 - x1:.2f},{y2 - y1:.2f},{score:.2f},-1,-1,-1\n"
            for track_id, (x1, y1, x2, y2), score in zip(
                tracks.id.tolist(), tracks.xyxy.tolist(), tracks.score.tolist(), strict=True
            )
        )
