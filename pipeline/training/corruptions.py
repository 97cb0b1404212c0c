"""Corruptions: what weather, light, lenses and thrifty encoders do to pictures, to see how far a model bears it.

Kinds and strengths follow the middle of the five severities of Hendrycks and Dietterich 2019, "Benchmarking Neural
Network Robustness to Common Corruptions and Perturbations", where they have the kind.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

Corruption = Callable[[NDArray[np.uint8], NDArray[np.float32], np.random.Generator], NDArray[np.uint8]]
"""From an image (H, W, 3) uint8 BGR, the boxes (N, 4) of its objects in pixels, and a source of chance, to an image."""

_HIDDEN = 0.4  # of an object's width or height
_DARKER = 0.25  # share of the light that is left
_NOISE = 25.0  # standard deviation, of 255
_BLUR = 3.0  # pixels of standard deviation, for an image of 640 pixels; no more than a crop of 128 bears
_QUALITY = 10  # of JPEG


def occlusion(image: NDArray[np.uint8], boxes: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Hide the lower part of each object, or one side of it, behind grey."""
    image = image.copy()
    for box in boxes:
        x1, y1, x2, y2 = np.maximum(box, 0).round().astype(int)
        rows, columns = round(_HIDDEN * (y2 - y1)), round(_HIDDEN * (x2 - x1))
        side = rng.integers(3)
        if side == 0:
            image[y2 - rows : y2, x1:x2] = 128
        elif side == 1:
            image[y1:y2, x2 - columns : x2] = 128
        else:
            image[y1:y2, x1 : x1 + columns] = 128
    return image


def darkness(image: NDArray[np.uint8], boxes: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.uint8]:
    """A quarter of the light, and the noise of a sensor that amplifies it."""
    grain = rng.standard_normal(image.shape, np.float32) * 4
    return np.asarray(np.clip(image * np.float32(_DARKER) + grain, 0, 255), np.uint8)


def noise(image: NDArray[np.uint8], boxes: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Gaussian noise."""
    return np.asarray(np.clip(image + rng.standard_normal(image.shape, np.float32) * _NOISE, 0, 255), np.uint8)


def blur(image: NDArray[np.uint8], boxes: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Out of focus, by as much as the size of the image makes alike."""
    return np.asarray(cv2.GaussianBlur(image, (0, 0), max(1.5, _BLUR * max(image.shape[:2]) / 640)), np.uint8)


def jpeg(image: NDArray[np.uint8], boxes: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Compressed until blocks show."""
    _, data = cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, _QUALITY))
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)


CORRUPTIONS: dict[str, Corruption] = {
    "occlusion": occlusion,
    "darkness": darkness,
    "noise": noise,
    "blur": blur,
    "jpeg": jpeg,
}
