"""Head: what a detector's outputs mean; recognised by their shapes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from pipeline.inference.metadata import LIBREYOLO, Metadata
from pipeline.normalisation import Normalisation
from trackers.registry import Registry

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How an image becomes the network's input.

    Attributes:
        normalisation: of the pixels.
        centred: the image lies in the middle of the letterbox, else at its top left.
        padding: value of the letterbox around the image, after normalising.
        fit: how the image gets the size of the input: scaled into a letterbox, stretched to fill it, or not at all,
            as the network takes images of any size and scales them itself.
    """

    normalisation: Normalisation
    centred: bool
    padding: float
    fit: Literal["letterbox", "stretch", "none"] = "letterbox"


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
        preprocessing: what the family's networks are fed.
        classes: how many classes it tells apart; None where the outputs don't say.
        described: what `Metadata.head` says of such outputs; where it says so no other head is asked. A head whose
            outputs look like another's can only be told by it.
        suppressed: overlapping boxes are already gone; no non-maximum suppression is needed.
        overlap: IoU from which boxes suppress each other in the family's own evaluation.
    """

    name: ClassVar[str]
    preprocessing: Preprocessing
    described: ClassVar[frozenset[str]] = frozenset()
    suppressed: ClassVar[bool] = False
    overlap: ClassVar[float] = 0.7
    layout: ClassVar[str]
    """Shape of the outputs in words, for messages."""

    classes: int | None

    @classmethod
    @abstractmethod
    def recognise(cls, shapes: Sequence[Shape], size: tuple[int, int], metadata: Metadata) -> Self | None:
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


def recognise(shapes: Sequence[Shape], size: tuple[int, int], metadata: Metadata) -> Head | None:
    """The head these outputs come from, by what the file says of them, else by their shapes; None if there is none.

    Args:
        shapes: of all outputs for one image.
        size: (height, width) of the input that gave them.
        metadata: what the file says about itself.
    """
    kinds = [kind for _, kind in heads.kinds()]
    asked = [kind for kind in kinds if metadata.head in kind.described]
    if not asked and not metadata.head.startswith(LIBREYOLO):  # its families share shapes and differ in their inputs
        asked = [kind for kind in kinds if not kind.described]
    return next((head for kind in asked if (head := kind.recognise(shapes, size, metadata))), None)


def cells(size: tuple[int, int], strides: Sequence[int]) -> int:
    """Cells of all grids together: the number of predictions of an anchor-free head.

    >>> cells((416, 416), (8, 16, 32))
    3549
    """
    return sum(-(-size[0] // stride) * -(-size[1] // stride) for stride in strides)


def grid(size: tuple[int, int], strides: Sequence[int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """All cells, grid by grid, row by row: their column and row (N, 2), and their stride (N, 1)."""
    places, steps = [], []
    for stride in strides:
        rows, columns = np.mgrid[: -(-size[0] // stride), : -(-size[1] // stride)]
        places.append(np.stack([columns.ravel(), rows.ravel()], axis=1))
        steps.append(np.full((rows.size, 1), stride))
    return np.concatenate(places).astype(np.float32), np.concatenate(steps).astype(np.float32)
