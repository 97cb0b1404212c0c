"""SyntheticScene (`test:`): textured objects that move over a textured ground, drawn at next to no cost."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import PrivateAttr

from pipeline.address import kind
from pipeline.errors import UsageError
from pipeline.recorded_source import RecordedSource
from pipeline.source import Moment, SourceInfo

_SPEC = re.compile(r"(?:(\d{1,5})x(\d{1,5}))?(?:@(\d{1,4}(?:\.\d+)?))?((?:(?:^|,)(?:frames|seed)=\d{1,9})*)")
_EXAMPLE = "test:640x360@25,frames=250,seed=1"
_SPEED = 60
"""Pixels a second, at most, that objects move by at 640 pixels of width."""


@dataclass(frozen=True, slots=True)
class _Sprite:
    image: NDArray[np.uint8]
    start: tuple[float, float]
    velocity: tuple[float, float]


class SyntheticScene(RecordedSource):
    """A scene made by arithmetic: `test:640x360@25,frames=250,seed=1`; every part of that may be left out.

    Endless without `frames`. An image depends on the spec and its index alone: the ground slides, objects cross
    it and bounce off the borders, and the index is burned in at the top left. `captured_at` is the timestamp.
    """

    name: ClassVar[str] = "test_pattern"

    _width: int = PrivateAttr(640)
    _height: int = PrivateAttr(360)
    _fps: float = PrivateAttr(25.0)
    _frames: int | None = PrivateAttr(None)
    _next: int = PrivateAttr(0)
    _ground: NDArray[np.uint8] = PrivateAttr(default_factory=lambda: np.zeros((0, 0, 3), np.uint8))
    _sprites: list[_Sprite] = PrivateAttr(default_factory=list)
    _digits: list[NDArray[np.uint8]] = PrivateAttr(default_factory=list)

    @classmethod
    def matches(cls, uri: str) -> bool:
        """Whether it begins with `test:`."""
        return kind(uri) == "test"

    def open(self) -> SourceInfo:
        """Draw the parts of the scene.

        Raises:
            UsageError: the spec is malformed.
        """
        seed = self._parse()
        random = np.random.default_rng(seed)
        # The ground slides by up to its own period of 64 pixels; a copy of a window of it is cheaper than a roll.
        cells = random.integers(60, 140, (8, 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
        repeats = (self._height // 64 + 2, self._width // 64 + 2, 1)
        self._ground = np.tile(cells, repeats)
        self._sprites = [self._sprite(random) for _ in range(8)]
        self._digits = [_glyph(character, max(12, self._height // 16)) for character in "0123456789"]
        self._next = 0
        self.id = self.id or "test"
        return self._opened(self.uri, self._width, self._height, self._fps, self._frames)

    def rewind(self) -> None:
        """Begin with the first image again."""
        self._next = 0

    def grab(self) -> Moment | None:
        """Count on."""
        if self._frames is not None and self._next >= self._frames:
            return None
        self._next += 1
        timestamp = (self._next - 1) / self._fps
        return Moment(self._next - 1, timestamp, timestamp)

    def retrieve(self) -> NDArray[np.uint8]:
        """Put the scene together."""
        index = self._next - 1
        shift = int(index / self._fps * 10) % 64
        image = self._ground[shift : shift + self._height, shift : shift + self._width].copy()
        for sprite in self._sprites:
            height, width = sprite.image.shape[:2]
            x, y = (
                _bounce(start + speed * index / self._fps, room)
                for start, speed, room in zip(
                    sprite.start, sprite.velocity, (self._width - width, self._height - height), strict=True
                )
            )
            image[y : y + height, x : x + width] = sprite.image
        x = 4
        for digit in f"{index:06d}":
            glyph = self._digits[int(digit)][: self._height - 4, : max(0, self._width - x)]
            image[4 : 4 + glyph.shape[0], x : x + glyph.shape[1]] = glyph
            x += glyph.shape[1]
        return image

    def _parse(self) -> int:
        spec = self.uri.partition(":")[2]
        found = _SPEC.fullmatch(spec)
        if found is None:
            raise UsageError(f"'{self.uri}' is malformed; write it like {_EXAMPLE}, leaving out what you like")
        width, height, fps, rest = found.groups()
        values = dict(part.split("=") for part in rest.split(",") if part)
        self._width, self._height = int(width or 640), int(height or 360)
        self._fps = float(fps or 25)
        self._frames = int(values["frames"]) if "frames" in values else None
        if not (32 <= self._width <= 16384 and 32 <= self._height <= 16384):
            raise UsageError(f"'{self.uri}' asks for {self._width}x{self._height} pixels; give 32x32 to 16384x16384")
        if not 0 < self._fps <= 1000 or self._frames == 0:
            raise UsageError(f"'{self.uri}' gives no frames; ask for 1 or more, at up to 1000 a second")
        return int(values.get("seed", 0))

    def _sprite(self, random: np.random.Generator) -> _Sprite:
        height = int(random.uniform(0.15, 0.4) * self._height)
        width = min(int(random.uniform(0.4, 1.2) * height), self._width - 1)
        texture = random.integers(0, 256, (height // 6 + 1, width // 6 + 1, 3), np.uint8)
        image = texture.repeat(6, 0).repeat(6, 1)[:height, :width]
        start = random.uniform(0, (self._width, self._height))
        velocity = random.uniform(-_SPEED, _SPEED, 2) * self._width / 640
        return _Sprite(image.copy(), (start[0], start[1]), (velocity[0], velocity[1]))


def _bounce(position: float, room: int) -> int:
    """Reflect a position at 0 and `room`."""
    if room <= 0:
        return 0
    return round(room - abs(position % (2 * room) - room))


def _glyph(character: str, height: int) -> NDArray[np.uint8]:
    import cv2

    font, scale = cv2.FONT_HERSHEY_SIMPLEX, height / 30
    width = cv2.getTextSize("0", font, scale, 1)[0][0] + 2
    image = np.zeros((height, width, 3), np.uint8)
    at, white, thickness = (1, int(height * 0.85)), (255, 255, 255), max(1, height // 16)
    cv2.putText(image, character, at, font, scale, white, thickness, cv2.LINE_AA)
    return image
