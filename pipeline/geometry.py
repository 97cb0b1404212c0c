"""Geometry: boxes, and the letterbox that fits an image into a network's input."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray


def iou(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.float64]:
    """Intersection over union of every box in `a` with every box in `b`.

    Args:
        a, b: (N, 4) and (M, 4) boxes as x1, y1, x2, y2.

    Returns:
        (N, M) in 0..1; 0 where both boxes are empty.

    >>> iou(np.array([[0, 0, 2, 2.0]]), np.array([[1, 0, 3, 2.0], [5, 5, 6, 6]]))
    array([[0.33333333, 0.        ]])
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    overlap = np.asarray(np.prod(np.clip(high - low, 0, None), axis=2), np.float64)
    union = area(a)[:, None] + area(b)[None, :] - overlap
    shares: NDArray[np.float64] = np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)
    return shares


def area(xyxy: NDArray[np.floating]) -> NDArray[np.float64]:
    """Areas of (N, 4) boxes in square pixels; 0 for inverted ones."""
    size = np.clip(xyxy[:, 2:] - xyxy[:, :2], 0, None)
    return np.asarray(size[:, 0] * size[:, 1], np.float64)


def clip(xyxy: NDArray[np.float32], width: int, height: int) -> NDArray[np.float32]:
    """(N, 4) boxes cut to an image of that size."""
    return np.clip(xyxy, 0, np.array([width, height, width, height], np.float32))


def nms(
    xyxy: NDArray[np.float32], scores: NDArray[np.float32], class_id: NDArray[np.int64], threshold: float, limit: int
) -> NDArray[np.int64]:
    """Greedy non-maximum suppression within each class.

    Args:
        xyxy: (N, 4). scores: (N,), at least 0. class_id: (N,).
        threshold: a box goes if its IoU with a better one of its class is above this.
        limit: most boxes kept.

    Returns:
        (K,) rows that stay, best first; equal scores in their given order.

    >>> boxes = np.array([[0, 0, 9, 9], [0, 0, 9, 8], [0, 0, 9, 9]], np.float32)
    >>> nms(boxes, np.array([0.8, 0.9, 0.7], np.float32), np.array([0, 0, 1]), 0.7, 300)
    array([1, 2])
    """
    if not len(xyxy):
        return np.zeros(0, np.int64)
    # OpenCV moves each class out of reach of the others by the largest coordinate: that holds for positive ones.
    # In ms for 60 / 240 / 1200 boxes: OpenCV 0.02 / 0.1 / 2.0, a NumPy loop over the boxes kept 0.3 / 1.4 / 18.7.
    xywh = np.concatenate([xyxy[:, :2] - xyxy.min(), xyxy[:, 2:] - xyxy[:, :2]], axis=1).astype(np.float64)
    suppress: Any = cv2.dnn.NMSBoxesBatched  # its type stub knows of lists only
    kept = suppress(xywh, scores, class_id.astype(np.int32), 0.0, threshold)
    return np.asarray(kept, np.int64)[:limit]


@dataclass(frozen=True, slots=True)
class Letterbox:
    """Fits an image into a network input: scaled, placed, the rest padded.

    Attributes:
        source: (height, width) of the image. target: (height, width) of the network input.
        scale: input pixels per image pixel, the same for both sides unless it is stretched.
        left, top: where the scaled image lies in the input.
        tallness: how much more the height is scaled than the width.
    """

    source: tuple[int, int]
    target: tuple[int, int]
    scale: float
    left: int = 0
    top: int = 0
    tallness: float = 1.0

    @classmethod
    def within(cls, source: tuple[int, int], target: tuple[int, int], centred: bool = True) -> Letterbox:
        """Fit into exactly `target`; padding on all sides, or right and below only if not `centred`."""
        scale = min(target[0] / source[0], target[1] / source[1])
        return cls(source, target, scale)._placed(centred)

    @classmethod
    def around(cls, source: tuple[int, int], most: tuple[float, float], stride: int, centred: bool = True) -> Letterbox:
        """Scale to fit into `most`, then pad each side to the next multiple of `stride` and no further."""
        scale = min(most[0] / source[0], most[1] / source[1])
        height, width = (-(-max(1, round(side * scale)) // stride) * stride for side in source)
        return cls(source, (height, width), scale)._placed(centred)

    @classmethod
    def stretched(cls, source: tuple[int, int], target: tuple[int, int]) -> Letterbox:
        """Fill `target` and leave nothing to pad; the image's aspect is lost."""
        scale = target[1] / source[1]
        return cls(source, target, scale, tallness=target[0] / source[0] / scale)

    def _placed(self, centred: bool) -> Letterbox:
        height, width = self.resized
        # an odd pixel of padding goes below and to the right, as in the training of Ultralytics' models
        top, left = ((self.target[0] - height) // 2, (self.target[1] - width) // 2) if centred else (0, 0)
        return replace(self, left=left, top=top)

    @property
    def resized(self) -> tuple[int, int]:
        """(height, width) of the scaled image."""
        height, width = self.source[0] * self.scale * self.tallness, self.source[1] * self.scale
        return max(1, round(height)), max(1, round(width))

    @property
    def place(self) -> tuple[int, int, int, int]:
        """Top, left, height and width in the input of the scaled image."""
        return self.top, self.left, *self.resized

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the input that the scaled image covers."""
        top, left, height, width = self.place
        return slice(top, top + height), slice(left, left + width)

    def resize(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The image scaled, bilinear; the image itself where nothing changes."""
        height, width = self.resized
        if (height, width) == self.source:
            return image
        return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)

    def forward(self, xyxy: NDArray[np.floating]) -> NDArray[np.float32]:
        """(N, 4) boxes of the image in pixels of the network input."""
        return np.asarray(xyxy * self._scales + self._offset, np.float32)

    def back(self, xyxy: NDArray[np.floating]) -> NDArray[np.float32]:
        """(N, 4) boxes of the network input in pixels of the image, cut to it."""
        return clip(np.asarray((xyxy - self._offset) / self._scales, np.float32), self.source[1], self.source[0])

    @property
    def _scales(self) -> NDArray[np.float32]:
        return np.array([self.scale, self.scale * self.tallness] * 2, np.float32)

    @property
    def _offset(self) -> NDArray[np.float32]:
        return np.array([self.left, self.top, self.left, self.top], np.float32)
