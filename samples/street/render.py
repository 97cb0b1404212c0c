"""Render the scene: frames drawn on all cores, written in order, with the ground truth of each."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from . import bus, truth
from .film import Lens, recorder
from .scene import BUS_ID, PLATE, Appearance, Scene, bus_nose

Image = NDArray[np.uint8]

RATE = 25


def render(photo: Image, video: Path, seconds: float, size: tuple[int, int], seed: int) -> Path:
    """Write the video and its ground truth; returns the folder of the latter."""
    scene, lens = Scene(photo, size, seed), Lens(size, seed)
    frames = max(1, round(seconds * RATE))
    video.parent.mkdir(parents=True, exist_ok=True)
    rows, plate_frames = [], []

    def frame(number: int) -> tuple[Image, list[Appearance]]:
        image, found = scene.draw(number / RATE, 1 / RATE)
        return lens.film(image, number, number / RATE), found

    workers = min(8, os.cpu_count() or 1)
    with recorder(video, size, RATE) as write, ThreadPoolExecutor(workers) as pool:
        numbers = iter(range(frames))
        # a few frames at a time: all at once would fill the memory when encoding is slower than drawing
        while block := list(islice(numbers, 2 * workers)):
            for number, (image, found) in zip(block, pool.map(frame, block), strict=True):
                write(image)
                sway = lens.sway(number / RATE)
                rows += [row(number, appearance, sway, size) for appearance in found]
                plate_frames.append(plate(scene, number, sway))
    plates: dict[str, object] = {"id": BUS_ID, "text": PLATE, "frames": [found for found in plate_frames if found]}
    truth.write(video, rows, plates, size, RATE, frames)
    return truth.folder(video)


def row(
    number: int, appearance: Appearance, sway: tuple[float, float], size: tuple[int, int]
) -> tuple[int, int, tuple[float, float, float, float], int, float]:
    """A line of the ground truth: the box moved as the picture swayed, kept inside the frame."""
    left, right = np.clip(np.array(appearance.box[::2]) + sway[0], 0, size[0])
    top, bottom = np.clip(np.array(appearance.box[1::2]) + sway[1], 0, size[1])
    kind = truth.CAR if appearance.id == BUS_ID else truth.PEDESTRIAN
    box = (float(left), float(top), float(right - left), float(bottom - top))
    return number + 1, appearance.id, box, kind, appearance.visibility


def plate(scene: Scene, number: int, sway: tuple[float, float]) -> dict[str, object] | None:
    """Where the plate is: its four corners, clockwise from the top left, and how high its characters are, in pixels."""
    nose = bus_nose(number / RATE)
    corners = scene.camera.project(np.array([(nose, v, h) for v, h in bus.PLATE_CORNERS])) + np.array(sway)
    if corners.min() < 0 or corners[:, 0].max() > scene.size[0] or corners[:, 1].max() > scene.size[1]:
        return None
    height = (
        bus.CHARACTER_SHARE
        * float(np.linalg.norm(corners[3] - corners[0]) + np.linalg.norm(corners[2] - corners[1]))
        / 2
    )
    return {"frame": number + 1, "corners": corners.round(2).tolist(), "character_height": round(height, 1)}
