"""How large a picture may be. A damaged or hostile header of a few bytes can ask for more memory than there is."""

from __future__ import annotations

MOST_PIXELS = 8192 * 8192
"""Of a picture, unless told otherwise: twice what 8K has; 200 MB as BGR."""


def refusal(width: int, height: int, most: int) -> str | None:
    """Why a picture of more than `most` pixels is refused, in words that follow its name; None if it is not.

    >>> refusal(65535, 65535, MOST_PIXELS)
    'says that it shows 65535×65535 pixels, more than max_pixels: 67108864; raise that if it is right'
    """
    if width * height <= most:
        return None
    return f"says that it shows {width}×{height} pixels, more than max_pixels: {most}; raise that if it is right"
