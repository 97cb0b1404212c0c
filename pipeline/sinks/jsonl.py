"""JSON lines: everything that was found, one object a frame."""

from __future__ import annotations

from pydantic import Field

from pipeline.files.lines import LineSink
from pipeline.frame import Frame
from pipeline.frame_json import to_json


class JsonLines(LineSink):
    """One JSON object a frame, frames without objects too; docs/outputs.md describes its keys.

    Every object of a frame is in it once: in `tracks` where a confirmed track shows it, else in `detections`.
    `lost` holds the predicted boxes of tracks that this frame does not show. With a tracker that has `revise: true`
    `revisions` tells what was learnt about earlier frames.
    """

    name = "jsonl"

    captured_at: bool = Field(
        False, description="add the wall-clock time of each frame; two runs over one file then differ"
    )

    def lines(self, frame: Frame) -> str:
        """The frame as one line of JSON."""
        return to_json(frame, self.captured_at)
