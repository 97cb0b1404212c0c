"""Head of YOLOv9 as libreyolo exports it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.heads.head import Candidates, Preprocessing
from pipeline.heads.yolo import YoloV8
from pipeline.inference.metadata import LIBREYOLO


class LibreYolo9(YoloV8):
    """One output of (4 + classes) × cells: box corners in pixels, then a score a class; the image at the top left.

    A cell counts once for each class that is likely enough, as in that library's own evaluation.
    """

    name: ClassVar[str] = "libreyolo-yolo9"
    preprocessing: Preprocessing = replace(YoloV8.preprocessing, centred=False)
    described: ClassVar[frozenset[str]] = frozenset({f"{LIBREYOLO}yolo9", f"{LIBREYOLO}yolo9_p2"})
    overlap: ClassVar[float] = 0.45

    def decode(self, outputs: Sequence[NDArray[np.float32]], size: tuple[int, int], threshold: float) -> Candidates:
        """All pairs of cell and class whose score is high enough."""
        (table,) = outputs
        class_id, cell = np.nonzero(table[4:] > threshold)
        return Candidates(table[:4, cell].T, table[4 + class_id, cell], class_id.astype(np.int64))
