"""The pinhole camera of the photograph, and the camera of the film that stands in the same place.

World axes: u along the road (away to the right), v across it (away from the camera), h up; metres, with the
origin on the ground below the camera. The numbers were measured in bus.jpg: lines along the road meet at (2146, 430),
lines across it near (-570, 430); 1.65 m is the height at which a man of 1.75 m stands as tall as he does there.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

HEIGHT = 1.65
ALONG = np.array([0.801, 0.598])  # (right, forward) of one metre along the road
ACROSS = np.array([-0.598, 0.801])


@dataclass(frozen=True)
class Camera:
    """A level pinhole camera; `focal`, `cx` and `horizon` in pixels."""

    focal: float
    cx: float
    horizon: float

    def project(self, points: Floats) -> Floats:
        """World (..., 3) u, v, h to pixels (..., 2)."""
        u, v, h = np.moveaxis(np.asarray(points, float), -1, 0)
        right, forward = u * ALONG[0] + v * ACROSS[0], u * ALONG[1] + v * ACROSS[1]
        return np.stack(
            [self.cx + self.focal * right / forward, self.horizon + self.focal * (HEIGHT - h) / forward], -1
        )

    def scale(self, u: float, v: float) -> float:
        """Pixels per metre of an upright thing that stands at (u, v)."""
        return float(self.focal / (u * ALONG[1] + v * ACROSS[1]))

    def plane(self, corners: Floats) -> Floats:
        """Homography from plane coordinates to pixels; corners (4, 5): the plane's a, b, then u, v, h."""
        source = np.ascontiguousarray(corners[:, :2], np.float32)
        return np.asarray(cv2.getPerspectiveTransform(source, self.project(corners[:, 2:]).astype(np.float32)), float)

    def ground(self) -> Floats:
        """Homography from ground (u, v) to pixels."""
        return self.plane(np.array([[u, v, u, v, 0] for u, v in ((0, 4), (20, 4), (20, 17), (0, 17))], float))

    def side(self, v: float, shift: float = 0.0) -> Floats:
        """Homography from (u, h) of the upright plane along the road at `v`, moved by `shift` along it, to pixels."""
        return self.plane(np.array([[u, h, u + shift, v, h] for u, h in ((0, 0), (12, 0), (12, 3), (0, 3))], float))

    def front(self, u: float, shift: float = 0.0) -> Floats:
        """Homography from (v, h) of the upright plane across the road at `u`, moved by `shift` along it, to pixels."""
        return self.plane(np.array([[v, h, u + shift, v, h] for v, h in ((4, 0), (9, 0), (9, 3), (4, 3))], float))

    def ray_to_ground(self, shape: tuple[int, int]) -> tuple[Floats, Floats]:
        """Ground u, v (each (H, W)) seen by every pixel; meaningless above the horizon."""
        y, x = np.mgrid[: shape[0], : shape[1]].astype(float)
        forward = self.focal * HEIGHT / np.maximum(y - self.horizon, 1.0)
        right = (x - self.cx) / self.focal * forward
        return right * ALONG[0] + forward * ALONG[1], right * ACROSS[0] + forward * ACROSS[1]


PHOTO = Camera(focal=1300.0, cx=405.0, horizon=430.0)


def film_camera(width: int, height: int) -> Camera:
    """The film's camera: the photograph's place, wide enough for the street beside the bus."""
    k = height / 720
    return Camera(focal=1400.0 * k, cx=600.0 / 1280 * width, horizon=238.0 * k)
