"""Identities made for tests: striped figures, each with colours of its own."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray


def figure(identity: int, view: int) -> NDArray[np.uint8]:
    """One sight of somebody (H, W, 3): the colours say who, everything else is chance."""
    rng = np.random.default_rng((identity, view))
    colours = np.random.default_rng(identity).integers(0, 256, (3, 3))
    height, width = rng.integers(60, 110), rng.integers(28, 52)
    image = np.repeat(colours, [height // 3, height // 3, height - 2 * (height // 3)], axis=0)[:, None, :]
    image = np.broadcast_to(image, (height, width, 3)) + rng.normal(0, 12, (height, width, 3)) + rng.integers(-25, 25)
    return np.asarray(np.clip(image, 0, 255), np.uint8)


def write_identities(folder: Path, identities: int = 6, views: int = 5) -> Path:
    """A folder with a folder of images for each identity."""
    for identity in range(identities):
        (folder / f"person{identity}").mkdir(parents=True)
        for view in range(views):
            cv2.imwrite(str(folder / f"person{identity}" / f"{view}.png"), figure(identity, view))
    return folder
