"""ImageFolder: the images of a folder or glob, or a single one, in natural order."""

from __future__ import annotations

import glob
import os
import re
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr

from pipeline.address import IMAGES, does_not_exist, kind, path_of
from pipeline.errors import UsageError
from pipeline.opencv import read_image
from pipeline.recorded_source import RecordedSource
from pipeline.source import Moment, SourceInfo


class ImageFolder(RecordedSource):
    """Images as a video of `fps` frames a second: the files of a folder or glob by natural order (img2 before img10).

    Sizes may differ from image to image. The EXIF orientation is applied. Grey, transparent and 16-bit images
    become BGR of 8 bits (transparency is dropped, of 16 bits the upper 8 are kept). Unreadable ones count as corrupt.
    `captured_at` is the file's time of last change.
    """

    name: ClassVar[str] = "images"

    fps: float = Field(10.0, gt=0, le=1000, description="images a second, for their timestamps")

    _paths: list[Path] = PrivateAttr(default_factory=list)
    _next: int = PrivateAttr(0)

    @classmethod
    def matches(cls, uri: str) -> bool:
        """A folder, a glob, or a file with an image's suffix."""
        return kind(uri) == "images"

    def open(self) -> SourceInfo:
        """List the images and read the first that can be read, for its size.

        Raises:
            UsageError: nothing there, no images among it, or none readable.
        """
        where = path_of(self.uri)
        self._paths = _listed(where)
        self._next = 0
        folder = where if where.is_dir() else where.parent
        self.id = self.id or (where.stem if where.is_file() else folder.resolve().name) or "images"
        first = next((image for path in self._paths if (image := read_image(path, self.max_pixels)) is not None), None)
        if first is None:
            raise UsageError(f"'{where}' holds no image that can be decoded; is it damaged?")
        height, width = first.shape[:2]
        return self._opened(str(where), width, height, self.fps, len(self._paths))

    def rewind(self) -> None:
        """Begin with the first file again."""
        self._next = 0

    def grab(self) -> Moment | None:
        """Step to the next file without reading it."""
        if self._next >= len(self._paths):
            return None
        self._next += 1
        try:
            changed = self._paths[self._next - 1].stat().st_mtime
        except OSError:
            changed = 0.0
        return Moment(self._next - 1, (self._next - 1) / self.fps, changed)

    def retrieve(self) -> NDArray[np.uint8] | None:
        """Read it."""
        return read_image(self._paths[self._next - 1], self.max_pixels)


def _listed(where: Path) -> list[Path]:
    if os.path.isdir(where):
        try:
            paths = [path for path in where.iterdir() if path.suffix.lower() in IMAGES and path.is_file()]
        except OSError as error:
            raise UsageError(
                f"the folder '{where}' cannot be listed: {error.strerror}; check its permissions"
            ) from error
        if not paths:
            raise UsageError(f"the folder '{where}' holds no images (jpg, png, bmp, tif, webp ...); give another one")
    elif os.path.exists(where):
        paths = [where]
    elif glob.has_magic(str(where)):
        paths = [path for name in glob.glob(str(where), recursive=True) if (path := Path(name)).is_file()]
        if not paths:
            raise UsageError(f"no file matches '{where}'; put the pattern in quotes and check it")
    else:
        raise UsageError(does_not_exist(where))
    readable = [path for path in paths if os.access(path, os.R_OK)]
    if not readable:
        raise UsageError(f"'{paths[0]}' may not be read; give yourself permission (chmod u+r)")
    return sorted(paths, key=_natural)


def _natural(path: Path) -> tuple[list[tuple[int, str]], str]:
    """Sorts numbers in names by value, and is unambiguous: img2, img02, img10."""
    parts = re.split(r"(\d+)", str(path).casefold())
    return [(int(part), "") if n % 2 else (-1, part) for n, part in enumerate(parts)], str(path)
