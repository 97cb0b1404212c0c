"""Gather: views of frames prepared on a device by torch: each frame is uploaded once, one gather fills the input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.inference.views import Views

if TYPE_CHECKING:
    from pipeline.inference.lanes import Lane


_ONE = 1 << 11  # OpenCV's weights of neighbouring pixels are in units of this


def gathered(views: Views, lane: Lane) -> Any:
    """What `Views.write` writes, as a float32 tensor (N, 3, H, W) on the device, channels last in memory.

    OpenCV interpolates bytes in integers and drops the last bits of what is in between. Here it is done as there: with
    exact sums 11 % of the pixels of a street scene were one grey level off, all of them brighter.
    """
    import torch

    pixels, origins = _uploaded(views, lane)
    height, width = views.size
    # of each view, rows then columns: which two pixels, how much of the second, and whether it lies in the view at all
    index = lane.host("index", (2, len(views), height + width), torch.int64)
    share = lane.host("share", (2, len(views), height + width), torch.int32)
    places = np.array([view.place or (0, 0, height, width) for view in views.parts])
    regions = np.array([view.region for view in views.parts])
    for axis, part, stride in ((0, slice(height), origins[:, 1]), (1, slice(height, None), np.ones(len(views), int))):
        near, far, between, inside = _taps(
            views.size[axis], places[:, axis], places[:, axis + 2], regions[:, 3 - axis] - regions[:, 1 - axis]
        )
        first = origins[:, :1] if axis == 0 else 0
        index.numpy()[0, :, part] = first + near * stride[:, None]
        index.numpy()[1, :, part] = first + far * stride[:, None]
        share.numpy()[0, :, part] = np.rint(_ONE * between)
        share.numpy()[1, :, part] = inside
    index, share = lane.up(index), lane.up(share)
    (top, bottom), (left, right) = index[:, :, :height, None], index[:, :, None, height:]
    down, across = share[0, :, :height, None, None], share[0, :, None, height:, None]
    upper, lower = (
        (pixels[row + left].int() * (_ONE - across) + pixels[row + right].int() * across) >> 4 for row in (top, bottom)
    )
    values = ((upper * (_ONE - down) >> 16) + (lower * down >> 16) + 2 >> 2).float()  # (N, H, W, 3)
    how = views.normalisation
    if how.rgb:
        values = values.flip(-1)
    values = values.sub_(lane.constant(how.mean)).div_(lane.constant(how.std))
    if (places != (0, 0, height, width)).any():
        inside = share[1, :, :height, None, None] * share[1, :, None, height:, None]
        values = torch.where(inside > 0, values, views.padding)
    return values.permute(0, 3, 1, 2)


def _uploaded(views: Views, lane: Lane) -> tuple[Any, NDArray[np.int64]]:
    """Of each image the part that its views cover together, on the device.

    Returns:
        (P, 3) uint8, the pixels of all images; and for each view the number of its first pixel, and how many pixels
        its rows are apart.
    """
    import torch

    covers: dict[int, NDArray[np.int64]] = {}
    for view in views.parts:
        region = np.array(view.region)
        known = covers.get(id(view.image))
        covers[id(view.image)] = (
            region if known is None else np.r_[np.minimum(known[:2], region[:2]), np.maximum(known[2:], region[2:])]
        )
    starts: dict[int, int] = {}
    total = 0
    for key, (x1, y1, x2, y2) in covers.items():
        starts[key] = total
        total += int((y2 - y1) * (x2 - x1))
    host = lane.host("pixels", (total, 3), torch.uint8)
    for image in {id(view.image): view.image for view in views.parts}.values():
        x1, y1, x2, y2 = covers[id(image)]
        start = starts[id(image)]
        place = host.numpy()[start : start + (y2 - y1) * (x2 - x1)]
        place.reshape(y2 - y1, x2 - x1, 3)[:] = image[y1:y2, x1:x2]
    origins = []
    for view in views.parts:
        x1, y1, x2, _ = covers[id(view.image)]
        stride = x2 - x1
        origins.append((starts[id(view.image)] + (view.region[1] - y1) * stride + view.region[0] - x1, stride))
    return lane.up(host), np.array(origins, np.int64)


def _taps(
    size: int, start: NDArray[np.int64], length: NDArray[np.int64], old: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.bool_]]:
    """Which pixels of a view each pixel of the input lies between, along one axis; centres of pixels are at +0.5.

    Args:
        size: pixels of the input. start, length: (N,) where each view lies in it.
        old: (N,) pixels of each view in its image.

    Returns:
        (N, size) each: the two pixels, counted from the view's first; the share of the second; whether it lies inside.
    """
    at = np.arange(size) - start[:, None]
    exact = np.clip((at + 0.5) * (old / length)[:, None] - 0.5, 0, old[:, None] - 1)
    near = exact.astype(np.int64)
    return near, np.minimum(near + 1, old[:, None] - 1), exact - near, (at >= 0) & (at < length[:, None])
