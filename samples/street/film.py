"""What a camera adds: a swaying pole, breathing exposure, vignette and grain; and the H.264 file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

GRAINS = 8  # fields of grain drawn once; every frame shows one of them, shifted


class Lens:
    """Turns drawn frames into filmed ones; a function of the frame's number, so that order does not matter."""

    def __init__(self, size: tuple[int, int], seed: int) -> None:
        rng = np.random.default_rng(seed + 1)
        self.size, self.seed = size, seed
        width, height = size
        y, x = np.mgrid[:height, :width].astype(np.float32)
        radius = np.hypot((x - width / 2) / width, (y - height / 2) / width)
        self.vignette = np.repeat((255 * (1 - 0.26 * radius**2))[..., None], 3, axis=2).astype(np.uint8)
        self.grains = [self.grain(rng) for _ in range(GRAINS)]
        self.sway_phase = rng.uniform(0, 2 * np.pi, 6)

    def grain(self, rng: np.random.Generator) -> NDArray[np.int16]:
        """Noise of 2.4 levels, mostly of brightness, a little larger than a pixel as a demosaiced sensor's is."""
        shape = (self.size[1], self.size[0])
        light = cv2.GaussianBlur(rng.standard_normal(shape, np.float32), (0, 0), 0.6) * 4.6
        colour = cv2.GaussianBlur(rng.standard_normal((*shape, 3), np.float32), (0, 0), 1.1) * 3.0
        return np.asarray(np.round(light[..., None] + colour).astype(np.int16))

    def sway(self, time: float) -> tuple[float, float]:
        """How far the picture has moved, pixels right and down: a pole in light wind, two modes and a slow drift."""
        unit = self.size[1] / 720
        waves = ((0.31, 0.7), (1.13, 0.35), (2.9, 0.12))
        x, y = (
            sum(a * np.sin(2 * np.pi * f * time + p) for (f, a), p in zip(waves, phases, strict=True))
            for phases in (self.sway_phase[:3], self.sway_phase[3:])
        )
        return float(x) * unit, float(0.5 * y) * unit

    def film(self, image: Image, number: int, time: float) -> Image:
        """The frame as recorded."""
        dx, dy = self.sway(time)
        moved = cv2.warpAffine(image, np.array([[1, 0, dx], [0, 1, dy]]), self.size, borderMode=cv2.BORDER_REPLICATE)
        exposure = (
            1 + 0.012 * np.sin(2 * np.pi * 0.17 * time + self.sway_phase[0]) + 0.004 * np.sin(2 * np.pi * 1.7 * time)
        )
        toned = cv2.multiply(moved, self.vignette, scale=float(exposure) / 255)
        rng = np.random.default_rng((self.seed, number))
        grain = self.grains[int(rng.integers(GRAINS))]
        shift = int(rng.integers(self.size[1]))
        return np.asarray(add_grain(toned, grain, shift))


def add_grain(image: Image, grain: NDArray[np.int16], shift: int) -> Image:
    """Image plus grain rolled down by `shift` rows, saturated."""
    result = np.empty_like(image)
    for rows, source in ((np.s_[:shift], np.s_[len(grain) - shift :]), (np.s_[shift:], np.s_[: len(grain) - shift])):
        if result[rows].size:
            result[rows] = cv2.add(image[rows], grain[source], dtype=cv2.CV_8U)
    return result


class Writer(Protocol):
    """Takes frames in order."""

    def __call__(self, image: Image) -> None:
        """Append a frame, (H, W, 3) uint8 BGR."""


@contextmanager
def recorder(path: Path, size: tuple[int, int], rate: int) -> Iterator[Writer]:
    """An H.264 MP4 that plays in browsers while it downloads."""
    import av

    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.time_base = Fraction(1, rate)
        # The pictures are the same for the same seed; x264's bytes are nearly always (not on a very busy machine).
        stream.options = {"crf": "24", "preset": "veryfast", "threads": "2"}

        def write(image: Image) -> None:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))

        yield write
        container.mux(stream.encode())
