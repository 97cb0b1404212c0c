"""The head of NanoDet: class scores, and each side of a box as a distribution over distances.

Li et al. 2020, "Generalized Focal Loss", section 3.2: the distance from a cell to a side of the box is the
expectation of a discrete distribution over 0..R strides.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from pipeline import coco
from pipeline.heads.head import Candidates, Head, Preprocessing, Shape, cells, grid
from pipeline.inference.metadata import Metadata
from pipeline.normalisation import Normalisation

# Where in its cell the distances of a prediction start: in the middle, but at the corner in NanoDet-Plus.
_ORIGINS = {(8, 16, 32): 0.5, (8, 16, 32, 64): 0.0}
_BINS = (8, 11)  # R + 1 in the published models: 11 in NanoDet-g and those on EfficientNet-Lite, 8 in all others


class NanoDet(Head):
    """One output of cells × (classes + 4 bins): scores, then the distributions of the four sides."""

    name: ClassVar[str] = "nanodet"
    preprocessing: Preprocessing = Preprocessing(
        Normalisation(rgb=False, mean=(103.53, 116.28, 123.675), std=(57.375, 57.12, 58.395)), centred=False, padding=0
    )
    overlap: ClassVar[float] = 0.6
    layout: ClassVar[str] = "(1, cells, classes + 4 bins)"

    def __init__(self, classes: int, bins: int, strides: tuple[int, ...]) -> None:
        self.classes: int | None = classes
        self._bins = bins
        self._strides = strides

    @classmethod
    def recognise(cls, shapes: Sequence[Shape], size: tuple[int, int], metadata: Metadata) -> Self | None:
        """By the number of cells, and by as many bins as leave the classes that the file names (else COCO's 80)."""
        if len(shapes) != 1 or len(shapes[0]) != 3:
            return None
        _, rows, columns = shapes[0]
        classes = len(metadata.names or coco.NAMES)
        for strides in _ORIGINS:
            for bins in _BINS:
                if (rows, columns) == (cells(size, strides), classes + 4 * bins):
                    return cls(classes, bins, strides)
        return None

    def decode(self, outputs: Sequence[NDArray[np.float32]], size: tuple[int, int], threshold: float) -> Candidates:
        """The best class of each cell, and the expected distance to each side."""
        (table,) = outputs
        scores = table[:, : self.classes]
        best = scores.max(axis=1)
        rows = np.flatnonzero(best > threshold)
        places, strides = (part[rows] for part in grid(size, self._strides))
        logits = table[rows, self.classes :].reshape(len(rows), 4, self._bins)
        weights = np.exp(logits - logits.max(axis=2, keepdims=True))
        distances = np.arange(self._bins, dtype=np.float32)
        sides = (weights * distances).sum(axis=2) / weights.sum(axis=2) * strides
        start = (places + _ORIGINS[self._strides]) * strides
        xyxy = np.concatenate([start - sides[:, :2], start + sides[:, 2:]], axis=1, dtype=np.float32)
        return Candidates(xyxy, best[rows], scores[rows].argmax(axis=1))
