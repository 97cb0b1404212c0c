"""Where the photographs are: in the installed `ultralytics` wheel, which is never imported (that would load torch)."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

NAME = "bus.jpg"
CURE = "install it with: pip install --no-deps ultralytics (or name its folder with --assets DIR)"


class MissingPhotograph(Exception):
    """The photograph cannot be had; the message is one line with the cure."""


def photograph(folder: Path | None) -> NDArray[np.uint8]:
    """The photograph of the bus, (1080, 810, 3) uint8 BGR, from `folder` or from the installed wheel."""
    path = (folder / NAME) if folder is not None else installed()
    image = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR) if path.is_file() else None
    if image is None:
        raise MissingPhotograph(f"no photograph {NAME} at {path.parent}; {CURE}")
    if image.shape != (1080, 810, 3):
        raise MissingPhotograph(f"{path} is {image.shape[1]}x{image.shape[0]}, not the 810x1080 of the wheel; {CURE}")
    return np.asarray(image, np.uint8)


def installed() -> Path:
    """Path of the photograph in the installed wheel."""
    try:
        return Path(str(distribution("ultralytics").locate_file(f"ultralytics/assets/{NAME}")))
    except PackageNotFoundError:
        raise MissingPhotograph(f"no photograph {NAME}: the package ultralytics is not installed; {CURE}") from None
