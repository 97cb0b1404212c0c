"""The head of NanoDet and PicoDet: class scores, and each side of a box as a distribution over distances.

Li et al. 2020, "Generalized Focal Loss", section 3.2: the distance from a cell's centre to a side of the box is
the expectation of a discrete distribution over 0..R strides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from pipeline.heads.head import Candidates, Head, Preprocessing, Shape, cells, centres

_GRIDS = ((8, 16, 32), (8, 16, 32, 64))
_BINS = (8, 11)  # R + 1 in the published models: 8 in NanoDet-m and -Plus, 11 in NanoDet-g
_COCO = 80


class NanoDet(Head):
    """One output of cells × (classes + 4 bins): scores, then the distributions of the four sides."""

    name: ClassVar[str] = "nanodet"
    preprocessing: ClassVar[Preprocessing] = Preprocessing(
        rgb=False, mean=(103.53, 116.28, 123.675), std=(57.375, 57.12, 58.395), centred=False, padding=0.0
    )
    overlap: ClassVar[float] = 0.6
    layout: ClassVar[str] = "(1, cells, classes + 4 bins)"

    def __init__(self, classes: int, strides: tuple[int, ...]) -> None:
        self.classes: int | None = classes
        self._strides = strides

    @classmethod
    def recognise(cls, shapes: Sequence[Shape], size: tuple[int, int], metadata: Mapping[str, Any]) -> Self | None:
        """By the number of cells, and by as many bins as leave the classes that the file names (else COCO's 80)."""
        if len(shapes) != 1 or len(shapes[0]) != 3:
            return None
        _, rows, columns = shapes[0]
        classes = len(metadata.get("names", ())) or _COCO
        for strides in _GRIDS:
            if rows == cells(size, strides) and (columns - classes) in [4 * bins for bins in _BINS]:
                return cls(classes, strides)
        return None

    def decode(self, outputs: Sequence[NDArray[np.float32]], size: tuple[int, int], threshold: float) -> Candidates:
        """The best class of each cell, and the expected distance to each side."""
        (table,) = outputs
        scores = table[:, : self.classes]
        best = scores.max(axis=1)
        rows = np.flatnonzero(best > threshold)
        points, strides = centres(size, self._strides)
        logits = table[rows, self.classes :].reshape(len(rows), 4, -1)
        weights = np.exp(logits - logits.max(axis=2, keepdims=True))
        mean = (weights * np.arange(logits.shape[2], dtype=np.float32)).sum(axis=2) / weights.sum(axis=2)
        sides = mean * strides[rows, None]
        centre = points[rows]
        xyxy = np.concatenate([centre - sides[:, :2], centre + sides[:, 2:]], axis=1)
        return Candidates(xyxy.astype(np.float32), best[rows], scores[rows].argmax(axis=1))
