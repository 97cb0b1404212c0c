"""What an OCR engine does: locate the lines of text in an image and recognize one line."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from trackers.registry import Registry

MOST_ENLARGED = 4.0  # beyond this, interpolation only slows the search down


@dataclass(frozen=True, slots=True)
class Line:
    """One line of text.

    Attributes:
        text: its characters.
        confidences: one per character, 0..1.
        xyxy: the box around it, in pixels of the image that was read.
    """

    text: str
    confidences: tuple[float, ...]
    xyxy: tuple[float, float, float, float]

    @property
    def confidence(self) -> float:
        """Mean over the characters, 0..1; 0 where there are none."""
        return sum(self.confidences) / len(self.confidences) if self.confidences else 0.0

    @property
    def height(self) -> float:
        """Pixels."""
        return self.xyxy[3] - self.xyxy[1]


class Engine(ABC):
    """An OCR engine. Constructing one loads its models; a new engine is a new file in this package.

    Args:
        threads: CPU threads to compute with; 0: as many as there are cores.
    """

    name: ClassVar[str]
    """What the option `engine` of read_text calls it."""

    @abstractmethod
    def __init__(self, threads: int = 0) -> None: ...

    @abstractmethod
    def locate(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Find lines of text.

        Args:
            image: (H, W, 3) uint8, BGR.

        Returns:
            (K, 4, 2) float32, the corners of each line in pixels: top left, top right, bottom right, bottom left,
            as the text is read.
        """

    @abstractmethod
    def recognize(self, image: NDArray[np.uint8]) -> tuple[str, tuple[float, ...]]:
        """Read an image that holds one line of text and nothing else.

        Args:
            image: (H, W, 3) uint8, BGR.

        Returns:
            The text, and a confidence in 0..1 for each of its characters.
        """

    def read_line(self, image: NDArray[np.uint8]) -> list[Line]:
        """Read an image that is one line of text, such as a number plate: one line, or none."""
        text, confidences = self.recognize(image)
        height, width = image.shape[:2]
        return [Line(text, confidences, (0.0, 0.0, float(width), float(height)))] if text.strip() else []

    def read(self, image: NDArray[np.uint8], size: int) -> list[Line]:
        """Locate and recognize all text of an image.

        Args:
            image: (H, W, 3) uint8, BGR.
            size: pixels of the longer side at which text is searched for. The lines found are recognized at
                full resolution.

        Returns:
            Lines in reading order: top to bottom, and from left to right where they share a row.
        """
        import cv2

        height, width = image.shape[:2]
        scale = min(size / max(height, width), MOST_ENLARGED)
        resized = (max(1, round(width * scale)), max(1, round(height * scale)))
        interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        quads = self.locate(cv2.resize(image, resized, interpolation=interpolation)) / np.float32(scale)
        lines = []
        for quad in quads:
            text, confidences = self._recognize_upright(_rectify(image, quad))
            if text.strip():
                low, high = np.clip([quad.min(axis=0), quad.max(axis=0)], 0, (width, height)).tolist()
                lines.append(Line(text, confidences, (*low, *high)))
        return reading_order(lines)

    def _recognize_upright(self, image: NDArray[np.uint8]) -> tuple[str, tuple[float, ...]]:
        upright = self.recognize(image)
        height, width = image.shape[:2]
        if height < 1.5 * width:
            return upright
        # taller than wide: a narrow character, or a line that runs downwards; the engine is surer of the right one
        turned = self.recognize(np.ascontiguousarray(np.rot90(image)))
        return max(upright, turned, key=lambda reading: sum(reading[1]))


def reading_order(lines: list[Line]) -> list[Line]:
    """Rows from top to bottom; within a row from left to right.

    A line belongs to the row above it if its middle lies within the height of that row's first line.

    >>> at = lambda text, x, y: Line(text, (), (x, y, x + 10, y + 10))
    >>> [line.text for line in reading_order([at("c", 0, 20), at("b", 30, 0), at("a", 0, 3)])]
    ['a', 'b', 'c']
    """
    rows: list[list[Line]] = []
    for line in sorted(lines, key=lambda line: (line.xyxy[1] + line.xyxy[3], line.xyxy)):
        middle = (line.xyxy[1] + line.xyxy[3]) / 2
        if rows and middle < rows[-1][0].xyxy[3]:
            rows[-1].append(line)
        else:
            rows.append([line])
    return [line for row in rows for line in sorted(row, key=lambda line: line.xyxy)]


def _rectify(image: NDArray[np.uint8], quad: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Cut a quadrilateral out of an image and make it an upright rectangle."""
    import cv2

    top, right, bottom, left = np.linalg.norm(np.roll(quad, -1, axis=0) - quad, axis=1)
    width, height = max(1, round(float(max(top, bottom)))), max(1, round(float(max(left, right))))
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    matrix = cv2.getPerspectiveTransform(quad.astype(np.float32), corners)
    rectified: NDArray[np.uint8] = cv2.warpPerspective(
        image, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    return rectified


engines: Registry[Engine] = Registry("OCR engine", Engine, "pipeline.ocr", "framechain.ocr")  # type: ignore[type-abstract]
