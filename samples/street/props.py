"""Still things that hide people: a tree's trunk, a lamp post and the bollards of the photograph."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .backdrop import noise
from .camera import Camera

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Prop:
    """An upright thing: premultiplied (h, w, 4) uint8 as filmed, its top left corner, and where it stands."""

    image: Image
    left: int
    top: int
    u: float
    v: float
    height: float  # of its shadow's caster, metres


def standing(camera: Camera, drawing: Floats, alpha: Floats, u: float, v: float, width: float, height: float) -> Prop:
    """Scale a drawing to metres and stand it on the ground."""
    scale = camera.scale(u, v)
    x, y = camera.project(np.array([u, v, 0.0]))
    size = (max(2, round(width * scale)), max(2, round(height * scale)))
    layer = np.concatenate([drawing * alpha[..., None], alpha[..., None] * 255], axis=2)
    small = cv2.resize(layer, size, interpolation=cv2.INTER_AREA)
    left, top = round(float(x) - size[0] / 2), round(float(y) - size[1])
    cut = max(0, -top)
    return Prop(np.clip(small[cut:] + 0.5, 0, 255).astype(np.uint8), left, top + cut, u, v, height)


def cylinder(width: int) -> Floats:
    """Sunlit from the right and behind: brightness across an upright cylinder."""
    x = np.linspace(-1, 1, width, dtype=np.float32)
    return np.asarray(0.42 + 0.34 * np.clip(x, 0, 1) ** 1.5 + 0.5 * np.exp(-(((x - 0.86) / 0.13) ** 2)), np.float32)


def trunk(camera: Camera, u: float, v: float, rng: np.random.Generator) -> Prop:
    """A plane tree's trunk, taller than the picture, with its flaking bark."""
    high, wide = 1200, 150
    bark = (
        96
        + 9 * noise(rng, (high, wide), 2)
        + 10 * cv2.GaussianBlur(noise(rng, (high, wide), 2), (0, 0), 1, sigmaY=14) * 4
    )
    flakes = 1 / (1 + np.exp(-6 * (noise(rng, (high, wide), 9, 24, 50) - 0.45)))
    colour = bark[..., None] * np.array([0.76, 0.90, 0.98], np.float32)
    colour += flakes[..., None] * np.array([20, 25, 27], np.float32)
    colour *= cylinder(wide)[None, :, None] * 1.3
    y, x = np.mgrid[:high, :wide].astype(np.float32)
    wobble = 4 * np.sin(y / 170) + 3 * np.sin(y / 61 + 1)
    flare = 52 + 14 * np.exp((y - high) / 55) + 4 * (y / high)
    across = (x - wide / 2 - wobble) / flare
    ground = high - 26 + 24 * np.sqrt(np.clip(1 - across**2, 0, 1))  # its foot is round
    alpha = np.clip(flare - np.abs(x - wide / 2 - wobble), 0, 1) * np.clip((ground - y) / 3, 0, 1)
    return standing(camera, np.clip(colour, 0, 255), alpha.astype(np.float32), u, v, 0.60, 4.8)


def bollard(photo: Image, camera: Camera, u: float, v: float) -> Prop:
    """The bollard beside the bus in the photograph."""
    x0, y0, x1, y1 = 420, 655, 468, 764
    part = photo[y0:y1, x0:x1].astype(np.float32)
    mask = np.zeros(part.shape[:2], np.uint8)
    outline = np.array(
        [
            (428, 664),
            (434, 660),
            (452, 660),
            (457, 664),
            (459, 735),
            (452, 741),
            (452, 749),
            (461, 757),
            (454, 761),
            (430, 761),
            (427, 757),
            (434, 749),
            (434, 741),
            (427, 735),
        ]
    )
    cv2.fillPoly(mask, [(outline - (x0, y0)) * 16], 255, cv2.LINE_AA, 4)
    alpha = cv2.GaussianBlur(mask, (0, 0), 0.7).astype(np.float32) / 255
    height = 109 / 1300 * 6.55
    return standing(camera, part, alpha, u, v, height * 48 / 109, height)
