"""Shapes: the sizes of input that an engine is built for, where the network leaves them open."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.inference.metadata import Metadata

_PIXELS = 16 * 640 * 640  # of a call: of frames there wait 16 at most,
_MOST = 128  # and of crops so many are embedded at once

Shape = tuple[int, int, int, int]


def profile(
    input_shape: Sequence[int | None], metadata: Metadata, size: tuple[int, int] = (640, 640)
) -> tuple[Shape, Shape, Shape]:
    """The least, the usual and the largest input, (N, 3, H, W); all the same where the network takes one size only.

    Args:
        size: (height, width) that will come, where the network does not say or was made for less.

    >>> profile((None, 3, None, None), Metadata(image_size=(384, 640)), (320, 320))
    ((1, 3, 32, 32), (1, 3, 384, 640), (16, 3, 640, 640))
    >>> profile((None, 3, 256, 128), Metadata())
    ((1, 3, 256, 128), (1, 3, 256, 128), (128, 3, 256, 128))
    """
    count, _, height, width = input_shape
    said = metadata.image_size
    usual = size if said is None or max(size) > max(said) else said
    least = (count or 1, 3, height or metadata.stride, width or metadata.stride)
    typical = (count or 1, 3, height or usual[0], width or usual[1])
    height, width = height or max(usual), width or max(usual)
    return least, typical, (count or max(1, min(_PIXELS // (height * width), _MOST)), 3, height, width)
