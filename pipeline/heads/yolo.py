"""Heads of the YOLO family as Ultralytics exports them: v8 and later, v5, and those that need no suppression."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from pipeline.heads.head import Candidates, Head, Preprocessing, Shape, cells
from pipeline.inference.metadata import Metadata
from pipeline.normalisation import Normalisation

_GRIDS = ((8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32), (16, 32))  # the usual one; P6, P2 and tiny variants
_GREY = 114 / 255
_PREPROCESSING = Preprocessing(
    Normalisation(rgb=True, mean=(0.0, 0.0, 0.0), std=(255.0, 255.0, 255.0)), centred=True, padding=_GREY
)


class YoloV8(Head):
    """One output of (4 + classes) × cells: box centre and size in pixels, then a score a class."""

    name: ClassVar[str] = "yolov8"
    preprocessing: Preprocessing = _PREPROCESSING
    layout: ClassVar[str] = "(1, 4 + classes, cells)"

    def __init__(self, classes: int) -> None:
        self.classes: int | None = classes

    @classmethod
    def recognise(cls, shapes: Sequence[Shape], size: tuple[int, int], metadata: Metadata) -> Self | None:
        """By the number of cells in the last dimension."""
        if len(shapes) != 1 or len(shapes[0]) != 3:
            return None
        _, rows, columns = shapes[0]
        return cls(rows - 4) if rows > 4 and any(columns == cells(size, strides) for strides in _GRIDS) else None

    def decode(self, outputs: Sequence[NDArray[np.float32]], size: tuple[int, int], threshold: float) -> Candidates:
        """The best class of each cell."""
        (table,) = outputs
        best = table[4:].max(axis=0)
        rows = np.flatnonzero(best > threshold)
        return Candidates(_corners(table[:4, rows].T), best[rows], table[4:, rows].argmax(axis=0))


class YoloV5(Head):
    """First output of 3 × cells rows: box centre and size in pixels, objectness, then a score a class."""

    name: ClassVar[str] = "yolov5"
    preprocessing: Preprocessing = _PREPROCESSING
    layout: ClassVar[str] = "(1, 3 cells, 5 + classes)"

    def __init__(self, classes: int) -> None:
        self.classes: int | None = classes

    @classmethod
    def recognise(cls, shapes: Sequence[Shape], size: tuple[int, int], metadata: Metadata) -> Self | None:
        """By three anchors a cell."""
        if not shapes or len(shapes[0]) != 3:
            return None
        _, rows, columns = shapes[0]
        return cls(columns - 5) if columns > 5 and _three_a_cell(rows, size) else None

    def decode(self, outputs: Sequence[NDArray[np.float32]], size: tuple[int, int], threshold: float) -> Candidates:
        """The best class of each anchor; its score times the objectness."""
        table = outputs[0][outputs[0][:, 4] > threshold]
        scores = table[:, 5:] * table[:, 4:5]
        best = scores.max(axis=1)
        rows = np.flatnonzero(best > threshold)
        return Candidates(_corners(table[rows, :4]), best[rows], scores[rows].argmax(axis=1))


class EndToEnd(Head):
    """One output of rows x1, y1, x2, y2, score, class, overlapping boxes already suppressed (YOLOv10, YOLO26)."""

    name: ClassVar[str] = "end-to-end"
    preprocessing: Preprocessing = _PREPROCESSING
    suppressed: ClassVar[bool] = True
    layout: ClassVar[str] = "(1, boxes, 6)"

    def __init__(self) -> None:
        self.classes: int | None = None

    @classmethod
    def recognise(cls, shapes: Sequence[Shape], size: tuple[int, int], metadata: Metadata) -> Self | None:
        """By its six columns, unless they are those of a YOLOv5 with one class."""
        if len(shapes) != 1 or len(shapes[0]) != 3:
            return None
        _, rows, columns = shapes[0]
        return cls() if columns == 6 and not _three_a_cell(rows, size) else None

    def decode(self, outputs: Sequence[NDArray[np.float32]], size: tuple[int, int], threshold: float) -> Candidates:
        """The rows whose score is high enough, best first."""
        table = outputs[0][outputs[0][:, 4] > threshold]
        table = table[np.argsort(-table[:, 4], kind="stable")]
        return Candidates(table[:, :4], table[:, 4], table[:, 5].astype(np.int64))


def _three_a_cell(rows: int, size: tuple[int, int]) -> bool:
    return any(rows == 3 * cells(size, strides) for strides in _GRIDS)


def _corners(xywh: NDArray[np.float32]) -> NDArray[np.float32]:
    half = xywh[:, 2:] / 2
    return np.concatenate([xywh[:, :2] - half, xywh[:, :2] + half], axis=1)
