"""The empty street: pavement and facades rectified out of the photograph, laid out anew for the film's camera."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from .camera import PHOTO, Camera

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]

KERB, FAR_KERB, FACADE = 5.72, 12.6, 16.3  # distances across the road, metres
FIRST, LAST = -6.0, 34.0  # what of the street is laid out along it, metres
STOREY = 4.57  # height of the ground floor, metres
SUN_SHIFT = -1.2  # a shadow's length along the road per metre of height, as the bollards of the photograph cast it


def noise(rng: np.random.Generator, shape: tuple[int, int], *cells: float) -> Floats:
    """Smooth noise of about unit deviation: one octave for every cell size (pixels) given."""
    total = np.zeros(shape, np.float32)
    for cell in cells:
        small = (max(2, int(shape[0] / cell) + 2), max(2, int(shape[1] / cell) + 2))
        total += cv2.resize(rng.standard_normal(small, np.float32), (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
    return total / np.float32(np.sqrt(len(cells)))


def mirrored(patch: Image, width: int, start: int) -> Image:
    """The patch repeated to and fro along x, so that no seam shows."""
    period = np.concatenate([patch, patch[:, ::-1]], axis=1)
    return np.asarray(np.take(period, (np.arange(width) + start) % period.shape[1], axis=1))


def pavement(photo: Image, rng: np.random.Generator, metres: float, density: int) -> Image:
    """The near pavement seen from above, its last row at the kerb; density in pixels per metre."""
    to_texture = np.array([[density, 0, -0.5 * density], [0, density, -3.4 * density], [0, 0, 1.0]])
    top = cv2.warpPerspective(
        photo,
        to_texture @ np.linalg.inv(PHOTO.ground()),
        (9 * density, int((KERB - 3.4) * density)),
        flags=cv2.INTER_AREA,
    )

    def strip(x0: float, x1: float, y0: float, y1: float) -> Image:
        """Part of the rectified photograph; measured at 120 pixels per metre, free of people and of bollards."""
        left, right, above, below = (int(value * density / 120) for value in (x0, x1, y0, y1))
        return np.asarray(top[above:below, left:right])

    width = int(metres * density)
    tactile, tiles, slabs = strip(312, 535, 102, 184), strip(300, 430, 62, 100), strip(505, 605, 221, 278)
    # a strip flipped beside itself meets itself: rows of tiles all the way to the slabs along the kerb
    order = [tiles, tiles[::-1], tactile[::-1], tactile, tiles[::-1], tiles, tactile, tactile[::-1], slabs]
    laid = np.concatenate([mirrored(part, width, int(rng.integers(2 * density))) for part in order])
    return np.asarray(laid)


def asphalt(rng: np.random.Generator, metres: float, density: int) -> Image:
    """The road seen from above, kerb to kerb: grain, wheel tracks, patches, a worn dashed line and gutters."""
    shape = (int((FAR_KERB - KERB) * density), int(metres * density))
    v = np.linspace(KERB, FAR_KERB, shape[0], dtype=np.float32)[:, None]
    u = np.linspace(FIRST, FIRST + metres, shape[1], dtype=np.float32)[None]
    tone = 118 + 7 * noise(rng, shape, 1.5) + 5 * noise(rng, shape, 4, 9) + 4 * noise(rng, shape, 60, 250)
    for track in (6.6, 8.3, 10.1, 11.8):
        tone -= 9 * np.exp(-(((v - track) / 0.35) ** 2))
    worn = 1 / (1 + np.exp(-2 * (noise(rng, shape, 3, 10) + 1.0)))
    line = ((np.abs(v - 9.15) < 0.06) & ((u % 3.6) < 2.0)).astype(np.float32)
    tone += 85 * worn * cv2.GaussianBlur(line, (0, 0), 1.2)
    tone += 40 * np.exp(-(((v - KERB - 0.12) / 0.14) ** 2)) - 26 * np.exp(-(((v - KERB) / 0.05) ** 2))
    tone -= 22 * np.exp(-(((FAR_KERB - v) / 0.18) ** 2))
    patch = ((u > 4.2) & (u < 6.9) & (v > 9.7) & (v < 11.3)) | ((u > 15.5) & (u < 17) & (v > 6.3) & (v < 8.3))
    tone -= 14 * cv2.GaussianBlur(patch.astype(np.float32), (0, 0), 1.0)
    colour = tone[..., None] * np.array([1.0, 0.985, 0.97], np.float32)
    return np.asarray(np.clip(colour, 0, 255).astype(np.uint8))


def far_pavement(slabs: Image, rng: np.random.Generator, density: int) -> Image:
    """The pavement below the facades, seen from above; `slabs` is a strip of the photographed kerb stones."""
    width, height = int((LAST - FIRST) * density), int((FACADE - FAR_KERB) * density)
    row = cv2.resize(mirrored(slabs, width, 37), (width, int(0.62 * density)), interpolation=cv2.INTER_AREA)
    laid = np.concatenate([np.roll(row, 97 * n, axis=1) for n in range(7)])[:height]
    shade = 0.80 + 0.03 * noise(rng, laid.shape[:2], 30, 90)
    shade *= np.linspace(1, 0.78, height, dtype=np.float32)[:, None] ** 2  # less sky is seen close to the wall
    shade[: int(0.18 * density)] *= 1.15
    return np.asarray(np.clip(laid * shade[..., None], 0, 255).astype(np.uint8))


def facade(photo: Image, rng: np.random.Generator, density: int) -> Image:
    """The front of the houses from 7.9 m down: the two photographed bays, in both storeys, on a stone plinth."""
    to_texture = np.array([[70.0, 0, -140], [0, -70.0, 665], [0, 0, 1]])
    front = cv2.warpPerspective(
        photo, to_texture @ np.linalg.inv(PHOTO.side(FACADE)), (1400, 665), flags=cv2.INTER_AREA
    )
    front[108:156, 300:540] = front[
        108:156, 560:800
    ]  # the photograph ends above the first bay: wall like its neighbour's
    bays = [front[108:343, 345:545], front[108:343, 545:743]]
    length = int((LAST - FIRST) * 70)
    ground: list[Image] = []
    upper: list[Image] = []
    while sum(bay.shape[1] for bay in ground) < length:
        for bay in bays:
            gain = rng.uniform(0.95, 1.0)
            upper.append(np.clip(bay * gain, 0, 255).astype(np.uint8))
            ground.append(np.clip(bay * gain * 0.93, 0, 255).astype(np.uint8))
    cornice = mirrored(front[109:129, 835:990], length, 11)
    plinth = stone_plinth(rng, int(70 * (STOREY - 3.36 - 20 / 70)) + 1, length)
    rows = [np.concatenate(upper, axis=1)[:, :length], cornice, np.concatenate(ground, axis=1)[:, :length], plinth]
    wall = np.concatenate(rows)
    soot = 1 - 0.05 * noise(rng, wall.shape[:2], 40, 160)[..., None]
    wall = np.clip(wall * soot, 0, 255).astype(np.uint8)
    return np.asarray(cv2.resize(wall, None, fx=density / 70, fy=density / 70, interpolation=cv2.INTER_CUBIC))


def stone_plinth(rng: np.random.Generator, height: int, length: int) -> Image:
    """Granite blocks, darker and dirtier towards the ground."""
    tone = 118 + 7 * noise(rng, (height, length), 1.3) + 8 * noise(rng, (height, length), 25, 70)
    tone *= np.linspace(1.02, 0.72, height, dtype=np.float32)[:, None]
    tone[:3] += 28
    tone[:, :: int(1.1 * 70)] *= 0.72
    return np.asarray(np.clip(tone[..., None] * np.array([0.93, 0.98, 1.0], np.float32), 0, 255).astype(np.uint8))


def lay(canvas: Image, texture: Image, to_pixels: NDArray[np.float64]) -> None:
    """Warp a texture onto the canvas, in place; twice the size and back, or thin lines far away become dots."""
    height, width = canvas.shape[:2]
    double = np.diag([2.0, 2.0, 1.0]) @ to_pixels
    seen = cv2.warpPerspective(texture, double, (2 * width, 2 * height), flags=cv2.INTER_LINEAR)
    mask = cv2.warpPerspective(np.full(texture.shape[:2], 255, np.uint8), double, (2 * width, 2 * height))
    seen, mask = (cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA) for image in (seen, mask))
    alpha = mask[..., None].astype(np.float32) / 255
    np.copyto(canvas, (canvas * (1 - alpha) + seen * alpha + 0.5).astype(np.uint8))


def empty_street(photo: Image, camera: Camera, size: tuple[int, int], rng: np.random.Generator) -> Image:
    """The street with nobody in it, (H, W, 3) uint8 BGR."""
    width, height = size
    canvas = np.full((height, width, 3), 90, np.uint8)
    length = LAST - FIRST
    walls = facade(photo, rng, 70)
    wall_to_plane = np.array([[1 / 70, 0, FIRST], [0, -1 / 70, walls.shape[0] / 70], [0, 0, 1]])
    lay(canvas, walls, camera.side(FACADE) @ wall_to_plane)
    near = pavement(photo, rng, 22.0, 220)
    slabs = near[-int(0.45 * 220) :]
    for texture, v, density in (
        (far_pavement(slabs, rng, 60), FAR_KERB, 60),
        (asphalt(rng, length, 110), KERB, 110),
        (near, KERB - near.shape[0] / 220, 220),
    ):
        to_plane = np.array([[1 / density, 0, FIRST], [0, 1 / density, v], [0, 0, 1]])
        lay(canvas, texture, camera.ground() @ to_plane)
    return dappled(canvas, camera, rng)


def dappled(canvas: Image, camera: Camera, rng: np.random.Generator) -> Image:
    """Uneven light: leaf shadows on the near pavement, the facade's dimmer foot, a long slow gradient."""
    height, width = canvas.shape[:2]
    u, v = camera.ray_to_ground((height, width))
    leaves = noise(rng, (400, 800), 5, 11, 26)
    at_u, at_v = ((u - FIRST) * 20).astype(np.float32), ((v - 3) * 40).astype(np.float32)
    spots = cv2.remap(leaves, at_u, at_v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    crown = np.exp(-(((u - 3.6) / 1.9) ** 2) - (((v - 4.2) / 0.75) ** 2)) + np.exp(
        -(((u - 9) / 1.5) ** 2) - (((v - 11) / 1.0) ** 2)
    )
    shade = crown / (1 + np.exp(-4 * (spots + 0.1)))
    below = (np.arange(height) > camera.horizon + 2)[:, None]
    light = 1 - 0.42 * cv2.GaussianBlur(np.where(below, shade, 0).astype(np.float32), (0, 0), 1.2)
    light *= 1 + 0.03 * noise(rng, (height, width), 300 * height / 720)
    return np.asarray(np.clip(canvas * light[..., None], 0, 255).astype(np.uint8))
