"""Views: parts of images, each with its place in a network's input; what runtimes prepare, wherever they compute."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.frame import Region
from pipeline.normalisation import Normalisation


@dataclass(frozen=True, slots=True)
class View:
    """A part of an image, scaled to fill its place in a network's input.

    Attributes:
        image: (H, W, 3) uint8, BGR. Views of one image share it.
        region: the part, inside the image, at least one pixel.
        place: top, left, height and width in the input; None: all of it.
    """

    image: NDArray[np.uint8]
    region: Region
    place: tuple[int, int, int, int] | None = None


@dataclass(frozen=True, slots=True)
class Views:
    """What one call of a network looks at.

    Attributes:
        parts: one for each image of the input.
        size: (height, width) of the input.
        normalisation: of the pixels.
        padding: value of what no view covers, after normalising.
    """

    parts: tuple[View, ...]
    size: tuple[int, int]
    normalisation: Normalisation
    padding: float = 0.0

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, rows: slice) -> Views:
        return replace(self, parts=self.parts[rows])

    def write(self, batch: NDArray[np.float32]) -> None:
        """Scale, place and normalise all of them on the processor.

        Args:
            batch: (N, 3, H, W), written.
        """
        for view, planes in zip(self.parts, batch, strict=True):
            top, left, height, width = view.place or (0, 0, *self.size)
            if (height, width) != self.size:
                planes[:] = self.padding
            x1, y1, x2, y2 = view.region
            part = view.image[y1:y2, x1:x2]
            if part.shape[:2] != (height, width):
                part = np.asarray(cv2.resize(part, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
            self.normalisation.write(part, planes[:, top : top + height, left : left + width])

    def prepared(self) -> NDArray[np.float32]:
        """The (N, 3, H, W) input."""
        batch = np.empty((len(self), 3, *self.size), np.float32)
        self.write(batch)
        return batch
