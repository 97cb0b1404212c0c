"""CSV: one row per track and frame, for spreadsheets and data frames."""

from __future__ import annotations

import csv
import io
from collections import defaultdict

from pipeline.files.lines import LineSink
from pipeline.frame import Frame

_COLUMNS = ("source", "frame", "time", "id", "class_id", "class", "score", "x1", "y1", "x2", "y2", "text")


class Csv(LineSink):
    """One row for each track that a frame shows, with a header; docs/outputs.md describes the columns."""

    name = "csv"
    requires = frozenset({"tracks"})
    header = ",".join(_COLUMNS) + "\n"

    def lines(self, frame: Frame) -> str:
        """The rows of one frame."""
        tracks = frame.tracks
        texts: defaultdict[int | None, list[str]] = defaultdict(list)
        for text in frame.texts:
            texts[text.track_id].append(text.text)
        block = io.StringIO()
        rows = csv.writer(block, lineterminator="\n")
        for track_id, class_id, score, xyxy in zip(
            tracks.id.tolist(), tracks.class_id.tolist(), tracks.score.tolist(), tracks.xyxy.tolist(), strict=True
        ):
            rows.writerow(
                (
                    frame.source,
                    frame.index,
                    f"{frame.timestamp:.6f}",
                    track_id,
                    class_id,
                    frame.detections.class_name(class_id),
                    f"{score:.4f}",
                    *(f"{edge:.2f}" for edge in xyxy),
                    " ".join(texts[track_id]),
                )
            )
        return block.getvalue()
