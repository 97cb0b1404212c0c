"""Augmentation of crops: what a camera, the light and other people do to the sight of somebody."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.training.identities import HEIGHT, MARGIN, WIDTH

Strength = Literal["none", "light", "strong", "blended"]


@dataclass(frozen=True, slots=True)
class CropAugmentation:
    """How often and how much; probabilities in 0..1.

    Attributes:
        shift: largest displacement and change of scale of the box, as shares of the margin.
        flip, light, blur, noise, jpeg: probabilities; light is brightness, contrast, gamma and colour together.
        blend: probability that somebody else shines through: no identity is left, but a teacher has an opinion.
        occlusion: probability that somebody else is pasted in front.
        erasing: probability that a rectangle is erased (Zhong et al. 2020, "Random Erasing Data Augmentation").
    """

    shift: float = 0.0
    flip: float = 0.0
    light: float = 0.0
    blur: float = 0.0
    noise: float = 0.0
    jpeg: float = 0.0
    blend: float = 0.0
    occlusion: float = 0.0
    erasing: float = 0.0

    def __call__(
        self, crop: NDArray[np.uint8], other: NDArray[np.uint8], rng: np.random.Generator
    ) -> NDArray[np.uint8]:
        """One sight of a crop.

        Args:
            crop: with its margins, as in `Identities.crops`.
            other: of somebody else, with margins, to stand in front.
            rng: all chance comes from it.

        Returns:
            (HEIGHT, WIDTH, 3) uint8 BGR, its memory its own.
        """
        if rng.random() < self.blend:
            share = rng.uniform(0.5, 0.9)
            crop = np.asarray(cv2.addWeighted(crop, share, other, 1 - share, 0), np.uint8)
        if rng.random() < self.occlusion:
            crop = _in_front(crop, other, rng)
        image = self._framed(crop, rng)
        if rng.random() < self.flip:
            image = image[:, ::-1]
        if rng.random() < self.light:
            image = _lit(image, rng)
        if rng.random() < self.blur:
            image = _blurred(image, rng)
        if rng.random() < self.noise:
            grain = rng.normal(0, rng.uniform(3, 16), image.shape)
            image = np.clip(image + grain, 0, 255).astype(np.uint8)
        if rng.random() < self.jpeg:
            _, data = cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(15, 70))))
            image = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
        image = np.ascontiguousarray(image)
        if rng.random() < self.erasing:
            _erase(image, rng)
        return image

    def _framed(self, crop: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        """The box, each of its sides moved a little: detectors never draw the same one twice."""
        down, right = MARGIN
        left, x2 = right * (1 + self.shift * rng.uniform(-1, 1, 2)) + (0, WIDTH)
        top, y2 = down * (1 + self.shift * rng.uniform(-1, 1, 2)) + (0, HEIGHT)
        part = crop[round(top) : round(y2), round(left) : round(x2)]
        return part if part.shape[:2] == (HEIGHT, WIDTH) else np.asarray(cv2.resize(part, (WIDTH, HEIGHT)), np.uint8)


_STRONG = CropAugmentation(shift=1.0, flip=0.5, light=0.8, blur=0.25, noise=0.15, jpeg=0.25, occlusion=0.3, erasing=0.4)

AUGMENTATIONS: dict[Strength, CropAugmentation] = {
    "none": CropAugmentation(),
    "light": CropAugmentation(shift=0.5, flip=0.5, light=0.5, erasing=0.3),
    "strong": _STRONG,
    "blended": replace(_STRONG, blend=0.5),
}


def _in_front(crop: NDArray[np.uint8], other: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Somebody else from below or from the side, over up to half of the crop."""
    height, width = crop.shape[:2]
    shown = crop.copy()
    if rng.random() < 0.5:
        rows = int(height * rng.uniform(0.15, 0.5))
        shown[height - rows :] = other[:rows]
    else:
        columns = int(width * rng.uniform(0.15, 0.45))
        if rng.random() < 0.5:
            shown[:, :columns] = other[:, width - columns :]
        else:
            shown[:, width - columns :] = other[:, :columns]
    return shown


def _lit(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Another light: one table of 256 entries for each channel."""
    gamma = np.exp(rng.uniform(-0.5, 0.5))
    contrast, brightness = rng.uniform(0.6, 1.4), rng.uniform(-50, 40)
    tint = rng.uniform(0.85, 1.15, 3)
    values = 255 * (np.arange(256)[:, None] / 255) ** gamma
    table = np.clip(((values - 128) * contrast + 128 + brightness) * tint, 0, 255).astype(np.uint8)
    image = np.asarray(cv2.LUT(image, table.reshape(1, 256, 3)), np.uint8)
    if rng.random() < 0.3:  # colours fade, as at dusk and on cheap cameras
        grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
        share = rng.uniform(0.3, 1.0)
        image = np.asarray(cv2.addWeighted(grey, share, image, 1 - share, 0), np.uint8)
    return image


def _blurred(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Out of focus, or far away: scaled down and up again."""
    if rng.random() < 0.5:
        return np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.6, 2.5)), np.uint8)
    scale = rng.uniform(0.2, 0.6)
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (WIDTH, HEIGHT)), np.uint8)


def _erase(image: NDArray[np.uint8], rng: np.random.Generator) -> None:
    area = rng.uniform(0.04, 0.3) * HEIGHT * WIDTH
    ratio = np.exp(rng.uniform(np.log(0.4), np.log(2.5)))
    rows, columns = min(int((area * ratio) ** 0.5), HEIGHT - 1), min(int((area / ratio) ** 0.5), WIDTH - 1)
    top, left = rng.integers(0, HEIGHT - rows), rng.integers(0, WIDTH - columns)
    image[top : top + rows, left : left + columns] = rng.integers(0, 256, 3)
