"""Head: what a detector's outputs mean; recognised by their shapes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from trackers.registry import Registry

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How an image becomes the network's input.

    Attributes:
        rgb: channels in RGB order, else BGR. mean, std: subtracted and divided by, per channel in that order, 0..255.
        centred: the image lies in the middle of the letterbox, else at its top left.
        padding: value of the letterbox around the image, after normalising.
        stride: the sides of the input are multiples of this.
    """

    rgb: bool
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    centred: bool
    padding: float
    stride: int = 32


class Candidates(NamedTuple):
    """What a head found in one image, before non-maximum suppression.

    Attributes:
        xyxy: (N, 4) float32, pixels of the network input. scores: (N,) float32. class_id: (N,) int64.
    """

    xyxy: NDArray[np.float32]
    scores: NDArray[np.float32]
    class_id: NDArray[np.int64]


class Head(ABC):
    """The outputs of one family of detectors.

    Attributes:
        classes: how many classes it tells apart; None where the outputs don't say.
        suppressed: overlapping boxes are already gone; no non-maximum suppression is needed.
        overlap: IoU from which boxes suppress each other in the family's own evaluation.
    """

    name: ClassVar[str]
    preprocessing: ClassVar[Preprocessing]
    suppressed: ClassVar[bool] = False
    overlap: ClassVar[float] = 0.7
    layout: ClassVar[str]
    """Shape of the outputs in words, for messages."""

    classes: int | None

    @classmethod
    @abstractmethod
    def recognise(cls, shapes: Sequence[Shape], size: tuple[int, int], metadata: Mapping[str, Any]) -> Self | None:
        """This head if the outputs look like its own, else None.

        Args:
            shapes: of all outputs for one image.
            size: (height, width) of the input that gave them.
            metadata: what the file says about itself.
        """

    @abstractmethod
    def decode(self, outputs: Sequence[NDArray[np.float32]], size: tuple[int, int], threshold: float) -> Candidates:
        """Boxes with a score above `threshold`.

        Args:
            outputs: of one image, without the leading dimension.
            size: (height, width) of the input.
        """


heads: Registry[Head] = Registry("detector head", Head, "pipeline.heads", "framechain.heads")  # type: ignore[type-abstract]


def cells(size: tuple[int, int], strides: Sequence[int]) -> int:
    """Cells of all grids together: the number of predictions of an anchor-free head.

    >>> cells((416, 416), (8, 16, 32))
    3549
    """
    return sum(-(-size[0] // stride) * -(-size[1] // stride) for stride in strides)


def centres(size: tuple[int, int], strides: Sequence[int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Centres (N, 2) as x, y in pixels and strides (N,) of all cells, grid by grid, row by row."""
    points, steps = [], []
    for stride in strides:
        rows, columns = np.mgrid[: -(-size[0] // stride), : -(-size[1] // stride)]
        points.append((np.stack([columns.ravel(), rows.ravel()], 1) + 0.5) * stride)
        steps.append(np.full(rows.size, stride))
    return np.concatenate(points).astype(np.float32), np.concatenate(steps).astype(np.float32)
