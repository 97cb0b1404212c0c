"""How well text can be read in a crop, and whether another crop is worth reading again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LARGER = 2.0  # of area: 1.4 times the pixels in each direction
SHARPER = 2.0  # of sharpness
NOT_SMALLER = 0.8  # of area: a crop that shrank looks sharper than it reads
LINE_SIDE = 128  # pixels of the longer side at which the sharpness of a line of text is measured
# The same for an object searched for text, whose letters are a small part of it: at 128 pixels a bus that comes to
# a stop gets no sharper, at 512 nearly twice as sharp (2868 to 2845, and 419 to 803, on the sample video).
OBJECT_SIDE = 512


@dataclass(frozen=True, slots=True)
class Quality:
    """Size and sharpness of a crop.

    Attributes:
        area: square pixels.
        sharpness: variance of the Laplacian at a normalised size.
    """

    area: float
    sharpness: float

    @classmethod
    def of(cls, crop: NDArray[np.uint8], side: int = LINE_SIDE) -> Quality:
        """Measure a crop.

        Sharpness is the variance of the Laplacian (Pech-Pacheco et al., "Diatom autofocusing in brightfield
        microscopy", ICPR 2000), taken at one size, so that crops of different sizes compare.

        Args:
            crop: (H, W, 3) uint8, BGR.
            side: pixels of the longer side at which sharpness is measured.
        """
        import cv2

        height, width = crop.shape[:2]
        scale = side / max(height, width)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = cv2.resize(crop, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        laplacian = cv2.Laplacian(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), cv2.CV_32F)
        return cls(float(height * width), float(laplacian.var()))

    def better_than(self, other: Quality) -> bool:
        """Whether this crop is so much larger or sharper that it may read differently.

        >>> Quality(2100, 10).better_than(Quality(1000, 10)), Quality(1900, 19).better_than(Quality(1000, 10))
        (True, False)
        """
        sharper = self.sharpness >= SHARPER * other.sharpness and self.area >= NOT_SMALLER * other.area
        return self.area >= LARGER * other.area or sharper

    def best_of(self, other: Quality | None) -> Quality:
        """The larger area and the greater sharpness.

        Readings are asked for against the best of all crops read, which grows by a factor each time: a track is
        read a number of times that is logarithmic in its growth, however long it lasts.
        """
        if other is None:
            return self
        return Quality(max(self.area, other.area), max(self.sharpness, other.sharpness))
