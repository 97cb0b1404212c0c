"""Camera motion: how the whole picture moved since the last frame, so that tracks can be moved along.

`common_motion` tells it from boxes, at no cost; `ImageMotion` from the pictures, by OpenCV.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackers.association import Floats, Indices, expand, overlapping, paired_iou
from trackers.compiled import kernels

LEAST = 4
"""Tracks that must agree: three can move alike by chance."""

_NEAR = 0.5
"""Boxes grow by so much of their size on every side before they are compared: cameras jerk."""

_RIVAL = 0.6
"""A pair whose track has a second detection of more than this share of its overlap is no witness."""

_ENOUGH = 0.15
"""Overlap of grown boxes below which a pair is no witness."""

_CERTAIN = 1.6
"""Standard errors that the common motion must be away from none."""


def common_motions(predicted: Floats, tracks: Indices, found: Floats, detections: Indices, streams: int) -> Floats:
    """(streams, 2) the common motion of each stream, given the number of each track's and each detection's."""
    if fast := kernels():
        constants = np.array([_NEAR, _RIVAL, _ENOUGH, LEAST, _CERTAIN])
        shifts: Floats = fast.common_motions(predicted, tracks, found, detections, streams, constants)
        return shifts
    parts = ((predicted[tracks == stream], found[detections == stream]) for stream in range(streams))
    return np.array([common_motion(*part) for part in parts]).reshape(streams, 2)


def common_motion(predicted: Floats, found: Floats) -> Floats:
    """(2,) pixels by which all tracks together are away from where they were expected; zeros if they do not agree.

    People move each in their own way, a camera moves them all alike. So the median of what tracks and detections that
    surely belong together differ by is the camera's motion, if it is large beside how far apart they are. It takes no
    image. On MOT17-10, filmed by someone who walks, IDF1 rises by 8 points; where the camera stands nothing changes.

    Args:
        predicted: (T, 4) boxes expected. found: (N, 4) boxes detected.
    """
    shift = np.zeros(2)
    for _ in range(2):  # once to be near, once more with all that are near then
        rows, cols = _witnesses(predicted + np.tile(shift, 2), found)
        if len(rows) < LEAST:
            return shift
        apart = (found[cols, :2] + found[cols, 2:] - predicted[rows, :2] - predicted[rows, 2:]) / 2 - shift
        step = agreed(apart, predicted[rows, 3] - predicted[rows, 1])
        if not step.any():
            return shift
        shift = shift + step
    return shift


def agreed(moved: Floats, height: Floats) -> Floats:
    """(2,) what (N, 2) motions in pixels have in common: their median where it is sure, else 0.

    Args:
        height: (N,) of the boxes that moved; they say what is small.
    """
    middle = np.median(moved, axis=0)
    spread = 1.4826 * np.median(np.abs(moved - middle), axis=0)  # the deviation of a normal distribution
    error = 1.25 * spread / len(moved) ** 0.5  # of its median
    sure = np.abs(middle) > _CERTAIN * (error + 1e-3 * float(np.median(height)))
    return np.where(sure, middle, 0.0)


def _witnesses(predicted: Floats, found: Floats) -> tuple[Indices, Indices]:
    """Pairs that are each other's best by far."""
    a, b = expand(predicted, _NEAR), expand(found, _NEAR)
    rows, cols = overlapping(a, b)
    if not len(rows):
        return rows, cols
    overlap = paired_iou(a[rows], b[cols])
    order = np.lexsort((-overlap, rows))  # of each track, the best detection first, then the second
    first = np.ones(len(order), bool)
    first[1:] = rows[order[1:]] != rows[order[:-1]]
    second = np.zeros(len(order))
    second[:-1] = np.where(first[1:], 0.0, overlap[order[1:]])
    top = np.zeros(len(found))
    np.maximum.at(top, cols, overlap)
    value = overlap[order]
    sure = order[first & (second < _RIVAL * value) & (value == top[cols[order]]) & (value > _ENOUGH)]
    return rows[sure], cols[sure]


_SIDE = 480
"""Pixels of the longer side of the pictures that are compared: more cost time and say no more about a camera."""

_STILL = np.eye(2, 3)


class ImageMotion:
    """The picture's motion from one frame to the next.

    Args:
        method: "flow": corners followed by sparse optical flow (Bouguet 2001), a similarity by RANSAC; "ecc": a turn
            and a shift that maximise the enhanced correlation (Evangelidis and Psarakis 2008), slower and finer.
    """

    def __init__(self, method: str) -> None:
        self._method = method
        self._before: NDArray[np.uint8] | None = None

    def estimate(self, frame: NDArray[np.uint8]) -> Floats:
        """(2, 3) from the last frame's pixel coordinates to this one's; no motion where it cannot be told.

        Args:
            frame: (H, W, 3) uint8 BGR.

        Raises:
            ImportError: OpenCV is not installed.
        """
        import cv2

        scale = min(1.0, _SIDE / max(frame.shape[:2]))
        grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
        small = np.asarray(cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
        before, self._before = self._before, small
        if before is None or before.shape != small.shape:
            return _STILL.copy()
        found = _by_flow(before, small) if self._method == "flow" else _by_ecc(before, small)
        if found is None:
            return _STILL.copy()
        found[:, 2] /= scale
        return found

    def state_dict(self) -> dict[str, Any]:
        """What is remembered: the last picture, small and grey."""
        return {"before": None if self._before is None else self._before.copy()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self._before = state["before"]


def _by_flow(before: NDArray[np.uint8], now: NDArray[np.uint8]) -> Floats | None:
    import cv2

    corners = cv2.goodFeaturesToTrack(before, 500, 0.01, 5)
    if corners is None:
        return None
    moved, found, _ = cv2.calcOpticalFlowPyrLK(before, now, corners, None)
    kept = found[:, 0] == 1
    if np.count_nonzero(kept) < 8:
        return None
    affine, _ = cv2.estimateAffinePartial2D(corners[kept], moved[kept], method=cv2.RANSAC, ransacReprojThreshold=1.0)
    return None if affine is None else np.asarray(affine, np.float64)


def _by_ecc(before: NDArray[np.uint8], now: NDArray[np.uint8]) -> Floats | None:
    import cv2

    warp = np.eye(2, 3, dtype=np.float32)
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 50, 1e-4)
    try:
        _, found = cv2.findTransformECC(before, now, warp, cv2.MOTION_EUCLIDEAN, stop, None, 5)
    except cv2.error:  # the pictures have too little in common
        return None
    return np.asarray(found, np.float64)
