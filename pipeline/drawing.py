"""Drawing: colours told apart by eye, text of any script, boxes, and room for labels."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

Image: TypeAlias = NDArray[np.uint8]
Colour: TypeAlias = tuple[int, int, int]
"""Blue, green, red in 0..255."""

_GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))


def distinct_colour(number: int) -> Colour:
    """The colour of an id or a class: always the same one, and far from those of the numbers around it.

    Hues are a golden angle apart in Oklab (Björn Ottosson, "A perceptual color space for image processing", 2020),
    where equal steps look equal. Numbers 8, 13 or 21 apart come close in hue; lightness, in turn of five, tells those.
    Saturation is what sRGB can show.
    """
    hue = number * _GOLDEN_ANGLE
    lightness = 0.62 + 0.06 * (number % 5)
    chroma = 0.19
    while True:
        rgb = _oklab_to_rgb(lightness, chroma * math.cos(hue), chroma * math.sin(hue))
        if all(-0.001 <= part <= 1.001 for part in rgb):
            red, green, blue = (round(255 * min(1.0, max(0.0, _gamma(part)))) for part in rgb)
            return blue, green, red
        chroma *= 0.95


def dimmed(colour: Colour) -> Colour:
    """The same hue for what is less certain: halfway to a dark grey."""
    blue, green, red = ((part + 70) // 2 for part in colour)
    return blue, green, red


def readable_on(colour: Colour) -> Colour:
    """Near black or white, whichever has the higher WCAG 2 contrast on `colour`."""
    blue, green, red = (_linear(part / 255) for part in colour)
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return (20, 20, 20) if (luminance + 0.05) ** 2 > 0.05 * 1.05 else (255, 255, 255)


def _oklab_to_rgb(lightness: float, a: float, b: float) -> tuple[float, float, float]:
    """Linear sRGB; outside 0..1 where sRGB cannot show the colour."""
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    return (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
    )


def _gamma(part: float) -> float:
    return 12.92 * part if part <= 0.0031308 else 1.055 * part ** (1 / 2.4) - 0.055


def _linear(part: float) -> float:
    return part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4


class Tags:
    """Filled boxes with text. Words and colours are kept once made: a label costs a look-up, not a rendering.

    OpenCV 5 renders every script, from fonts it carries. OpenCV 4 has letters for ASCII only: there accents are
    dropped ("é" becomes "e") and each character it lacks becomes a "?".

    Args:
        keep: how many words are kept; the least recently used goes first.
    """

    def __init__(self, keep: int = 1024) -> None:
        self._written = lru_cache(keep)(_written)
        self._shades = lru_cache(keep)(_shades)
        self.colour = lru_cache(keep)(distinct_colour)
        """`distinct_colour`, kept."""

    def shape(self, words: Sequence[str], px: int) -> Image:
        """(h, w) uint8: how much ink is where, 0..255, for some words side by side in letters `px` high."""
        return np.hstack([self._written(word, px) for word in words])

    def paint(self, image: Image, shape: Image, x: int, y: int, background: Colour) -> None:
        """Put a tag into the image; what would be outside is left out."""
        height, width = min(shape.shape[0], image.shape[0] - y), min(shape.shape[1], image.shape[1] - x)
        # 0.02 ms where indexing the table with the shape takes 0.4
        image[y : y + height, x : x + width] = cv2.applyColorMap(shape[:height, :width], self._shades(background))


def _shades(background: Colour) -> Image:
    """(256, 1, 3): the colours from background to ink."""
    paper, ink = np.array(background, np.float64), np.array(readable_on(background), np.float64)
    return (paper + np.linspace(0, 1, 256)[:, None, None] * (ink - paper)).round().astype(np.uint8)


def _written(text: str, px: int) -> Image:
    """Coverage 0..255 of the text with a margin, on a line of constant height."""
    text = "".join(" " if unicodedata.category(character)[0] in "CZ" else character for character in text)
    margin, height, baseline = round(0.3 * px), round(1.4 * px), round(1.06 * px)
    if hasattr(cv2, "FontFace"):
        face: Any = cv2.FontFace("sans")
        width = cv2.getTextSize((1 << 16, px), text, (0, 0), face, px, 600)[2]
        mask = np.zeros((height, width + 2 * margin), np.uint8)
        cv2.putText(mask, text, (margin, baseline), (255,), face, px, 600)
        return mask
    plain = unicodedata.normalize("NFKD", text)
    plain = "".join(character for character in plain if not unicodedata.combining(character))
    plain = plain.encode("ascii", "replace").decode()
    scale, thickness = px / 30, max(1, round(px / 11))
    width = cv2.getTextSize(plain, cv2.FONT_HERSHEY_SIMPLEX, scale, thickness)[0][0]
    mask = np.zeros((height, width + 2 * margin), np.uint8)
    cv2.putText(mask, plain, (margin, baseline), cv2.FONT_HERSHEY_SIMPLEX, scale, (255,), thickness, cv2.LINE_AA)
    return mask


class Room:
    """Which parts of a frame are taken by tags, on a coarse grid.

    Args:
        width, height: of the frame in pixels. cell: pixels of a grid cell.
    """

    def __init__(self, width: int, height: int, cell: int) -> None:
        self._width, self._height, self._cell = width, height, cell
        self._taken = np.zeros((height // cell + 1, width // cell + 1), bool)

    def inside(self, x: int, y: int, width: int, height: int) -> tuple[int, int]:
        """The nearest corner to (x, y) that keeps a tag within the frame."""
        return max(0, min(x, self._width - width)), max(0, min(y, self._height - height))

    def is_free(self, x: int, y: int, width: int, height: int) -> bool:
        """Whether no tag is there. A grid cell that is only touched counts as half free."""
        return not self._cells(x, y, width, height).any()

    def take(self, x: int, y: int, width: int, height: int) -> None:
        """A tag is there now."""
        self._cells(x, y, width, height)[:] = True

    def _cells(self, x: int, y: int, width: int, height: int) -> NDArray[np.bool_]:
        half = self._cell // 2
        columns = slice((x + half) // self._cell, max((x + width - half) // self._cell, (x + half) // self._cell) + 1)
        rows = slice((y + half) // self._cell, max((y + height - half) // self._cell, (y + half) // self._cell) + 1)
        return self._taken[rows, columns]


def box(image: Image, xyxy: Sequence[float], colour: Colour, thickness: int) -> None:
    """A solid frame around a box, half its thickness outside."""
    x1, y1, x2, y2 = _near(image, xyxy)
    left, top, inner = x1 - thickness // 2, y1 - thickness // 2, thickness - thickness // 2
    # four filled sides: a rectangle of OpenCV's with thickness 2 is 3 pixels thick, with 5 it is 7
    for corner, opposite in (
        ((left, top), (x2 + inner, y1 + inner)),
        ((left, y2 - thickness // 2), (x2 + inner, y2 + inner)),
        ((left, top), (x1 + inner, y2 + inner)),
        ((x2 - thickness // 2, top), (x2 + inner, y2 + inner)),
    ):
        cv2.rectangle(image, corner, (opposite[0] - 1, opposite[1] - 1), colour, cv2.FILLED)


def dashed_box(image: Image, xyxy: Sequence[float], colour: Colour, thickness: int) -> None:
    """A broken frame around a box."""
    x1, y1, x2, y2 = _near(image, xyxy)
    corners = np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)])
    dash = 4.0 * thickness + 4
    segments = []
    for start, stop in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        pieces = max(1, round(float(np.abs(stop - start).sum()) / dash)) // 2 * 2 + 1  # begins and ends with a dash
        points = start + np.linspace(0, 1, pieces + 1)[:, None] * (stop - start)
        segments += [points[n : n + 2] for n in range(0, pieces, 2)]
    cv2.polylines(image, [segment.round().astype(np.int32) for segment in segments], False, colour, thickness)


def _near(image: Image, xyxy: Sequence[float]) -> list[int]:
    """The box in whole pixels, cut a little outside the image: a predicted one may be anywhere."""
    height, width = image.shape[:2]
    return [round(max(-99.0, min(edge, limit + 99.0))) for edge, limit in zip(xyxy, (width, height) * 2, strict=True)]


def path(image: Image, points: NDArray[np.float64], colour: Colour, thickness: int) -> None:
    """A line through (N, 2) points, thin where it is old and thicker towards the last point."""
    fixed = (points * 8).round().astype(np.int32)  # three bits of fraction: a slow track does not move in jerks
    third = max(1, len(fixed) // 3)
    for part, width in (
        (fixed[: third + 1], 1),
        (fixed[third : 2 * third + 1], -(-thickness // 2)),
        (fixed[2 * third :], thickness),
    ):
        if len(part) > 1:
            cv2.polylines(image, [part], False, colour, width, cv2.LINE_AA, 3)
