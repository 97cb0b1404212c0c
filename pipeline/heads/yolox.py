"""Heads of YOLOX: as its authors export it, in units of the grid, and as libreyolo does, in pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from pipeline import coco
from pipeline.heads.head import Candidates, Head, Preprocessing, Shape, cells, grid
from pipeline.inference.metadata import LIBREYOLO, Metadata
from pipeline.normalisation import Normalisation

_STRIDES = (8, 16, 32)


class YoloX(Head):
    """One output of cells × (5 + classes): box relative to the cell, objectness, then a score a class.

    Ge et al. 2021, "YOLOX: Exceeding YOLO Series in 2021", section 2.1: centre = (cell + xy) stride,
    size = exp(wh) stride, score = objectness × class. Both are exported after their sigmoid.
    """

    name: ClassVar[str] = "yolox"
    preprocessing: Preprocessing = Preprocessing(
        Normalisation(rgb=False, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)), centred=False, padding=114
    )
    overlap: ClassVar[float] = 0.65
    layout: ClassVar[str] = "(1, cells, 5 + classes)"

    def __init__(self, classes: int) -> None:
        self.classes: int | None = classes

    @classmethod
    def recognise(cls, shapes: Sequence[Shape], size: tuple[int, int], metadata: Metadata) -> Self | None:
        """By the number of cells, and by the classes that the file names (else COCO's 80)."""
        classes = len(metadata.names or coco.NAMES)
        return cls(classes) if list(shapes) == [(1, cells(size, _STRIDES), 5 + classes)] else None

    def decode(self, outputs: Sequence[NDArray[np.float32]], size: tuple[int, int], threshold: float) -> Candidates:
        """The best class of each cell; its score times the objectness."""
        scores = outputs[0][:, 5:] * outputs[0][:, 4:5]
        best = scores.max(axis=1)
        rows = np.flatnonzero(best > threshold)
        with np.errstate(over="ignore", invalid="ignore"):  # of a network that has hardly learned
            centre, extent = self._boxes(outputs[0][:, :4], rows, size)
            xyxy = np.concatenate([centre - extent / 2, centre + extent / 2], axis=1, dtype=np.float32)
        finite = np.isfinite(xyxy).all(axis=1)
        rows = rows[finite]
        return Candidates(xyxy[finite], best[rows], scores[rows].argmax(axis=1))

    def _boxes(
        self, boxes: NDArray[np.float32], rows: NDArray[np.int64], size: tuple[int, int]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        places, strides = (part[rows] for part in grid(size, _STRIDES))
        return (boxes[rows, :2] + places) * strides, np.exp(boxes[rows, 2:]) * strides


class DecodedYoloX(YoloX):
    """The same with boxes that are centre and size in pixels already; told from the above by what the file says."""

    name: ClassVar[str] = "yolox-decoded"
    described: ClassVar[frozenset[str]] = frozenset({f"{LIBREYOLO}yolox"})

    def _boxes(
        self, boxes: NDArray[np.float32], rows: NDArray[np.int64], size: tuple[int, int]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return boxes[rows, :2], boxes[rows, 2:]
