"""Heads of the transformers that predict a set of boxes: RT-DETR of Ultralytics, and libreyolo's RT-DETR and D-FINE."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from pipeline.heads.head import Candidates, Head, Preprocessing, Shape
from pipeline.inference.metadata import LIBREYOLO, Metadata
from pipeline.normalisation import Normalisation

_STRETCHED = Preprocessing(
    Normalisation(rgb=True, mean=(0.0, 0.0, 0.0), std=(255.0, 255.0, 255.0)), centred=False, padding=0, fit="stretch"
)
_FAMILIES = ("rtdetr", "rtdetrv2", "rtdetrv4", "dfine", "deim")  # those that libreyolo feeds alike


class RtDetr(Head):
    """One output of rows centre x, centre y, width, height, score, class; boxes as fractions of the image."""

    name: ClassVar[str] = "rt-detr"
    preprocessing: Preprocessing = _STRETCHED
    described: ClassVar[frozenset[str]] = frozenset({"RTDETRDecoder"})
    suppressed: ClassVar[bool] = True
    layout: ClassVar[str] = "(1, boxes, 6)"

    def __init__(self) -> None:
        self.classes: int | None = None

    @classmethod
    def recognise(cls, shapes: Sequence[Shape], size: tuple[int, int], metadata: Metadata) -> Self | None:
        """By its six columns."""
        return cls() if len(shapes) == 1 and len(shapes[0]) == 3 and shapes[0][2] == 6 else None

    def decode(self, outputs: Sequence[NDArray[np.float32]], size: tuple[int, int], threshold: float) -> Candidates:
        """The rows whose score is high enough, best first."""
        (table,) = outputs
        return _best_first(_pixels(table[:, :4], size), table[:, 4], table[:, 5].astype(np.int64), threshold)


class DetrLogits(Head):
    """Two outputs, boxes × classes before the sigmoid, and boxes × 4 as fractions of the image.

    A box counts once for each class that is likely enough, as in the evaluation of Deformable DETR (Zhu et al. 2021).
    """

    name: ClassVar[str] = "detr"
    preprocessing: Preprocessing = _STRETCHED
    described: ClassVar[frozenset[str]] = frozenset(LIBREYOLO + family for family in _FAMILIES)
    suppressed: ClassVar[bool] = True
    layout: ClassVar[str] = "(1, boxes, classes) and (1, boxes, 4)"

    def __init__(self, classes: int) -> None:
        self.classes: int | None = classes

    @classmethod
    def recognise(cls, shapes: Sequence[Shape], size: tuple[int, int], metadata: Metadata) -> Self | None:
        """By its two outputs of as many rows."""
        if len(shapes) != 2 or any(len(shape) != 3 for shape in shapes):
            return None
        logits, boxes = shapes
        return cls(logits[2]) if boxes == (1, logits[1], 4) else None

    def decode(self, outputs: Sequence[NDArray[np.float32]], size: tuple[int, int], threshold: float) -> Candidates:
        """All pairs of box and class whose score is high enough, best first."""
        logits, boxes = outputs
        scores = np.asarray(1 / (1 + np.exp(-logits)), np.float32)
        rows, class_id = np.nonzero(scores > threshold)
        return _best_first(_pixels(boxes[rows], size), scores[rows, class_id], class_id.astype(np.int64), threshold)


def _pixels(fractions: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Centre and size as fractions to corners in pixels of the input."""
    half = fractions[:, 2:] / 2
    sides = np.array([size[1], size[0]] * 2, np.float32)
    return np.concatenate([fractions[:, :2] - half, fractions[:, :2] + half], axis=1) * sides


def _best_first(
    xyxy: NDArray[np.float32], scores: NDArray[np.float32], class_id: NDArray[np.int64], threshold: float
) -> Candidates:
    order = np.argsort(-scores, kind="stable")
    order = order[scores[order] > threshold]
    return Candidates(xyxy[order], scores[order], class_id[order])
