"""How large a picture may be. A damaged or hostile header of a few bytes can ask for more memory than there is."""

from __future__ import annotations

from pipeline.errors import UsageError

MOST_PIXELS = 8192 * 8192
"""Of a picture, unless told otherwise: twice what 8K has; 200 MB as BGR."""


def check_size(width: int, height: int, most: int) -> None:
    """Refuse what is larger than `most` pixels.

    Raises:
        UsageError: the message lacks its subject.

    >>> check_size(65535, 65535, MOST_PIXELS)
    Traceback (most recent call last):
    pipeline.picture_size.TooLarge: says that its pictures are 65535×65535, more than 67108864 pixels; if that is right, raise max_pixels
    """
    if width * height > most:
        raise TooLarge(width, height, most)


class TooLarge(UsageError):
    """A picture is larger than what is allowed. The message lacks its subject."""

    def __init__(self, width: int, height: int, most: int) -> None:
        super().__init__(
            f"says that its pictures are {width}×{height}, more than {most} pixels; if that is right, raise max_pixels"
        )
