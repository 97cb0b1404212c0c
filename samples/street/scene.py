"""Who walks where and when, and one frame of it: image, silhouettes, what hides what."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from . import bus, people, props
from .backdrop import SUN_SHIFT, empty_street
from .camera import ACROSS, ALONG, Camera, film_camera
from .people import COAT, FLEECE, JACKET, Look

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]

SHUTTER = 0.4  # share of a frame's time that the shutter is open
PLATE = "4826 KTR"


@dataclass(frozen=True)
class Walker:
    """An identity on a straight way: `start` (u, v) in metres at time 0, `speed` along the road in metres a second."""

    look: Look
    start: tuple[float, float]
    speed: float
    drift: float = 0.0  # across the road, metres a second

    def at(self, time: float) -> tuple[float, float]:
        """Where he is."""
        return self.start[0] + self.speed * time, self.start[1] + self.drift * time


CAST = (
    Walker(Look(FLEECE, height=1.78), (-0.9, 4.85), 1.32, 0.02),
    Walker(Look(COAT, height=1.74), (3.4, 5.30), 1.16, -0.01),
    Walker(Look(JACKET, height=1.80), (10.3, 5.05), -1.36),
    Walker(Look(FLEECE, (0.42, 0.52, 0.38), 0, (0.5, 0.5, 0.52), 40, 1.72), (15.9, 4.75), -1.30, 0.02),
    Walker(Look(COAT, (0.52, 0.68, 0.86), 85, (0.9, 0.95, 1.0), 60, 1.79), (14.4, 13.7), -1.30),
    Walker(Look(JACKET, (0.42, 0.40, 0.95), 55, (0.95, 1.0, 1.0), 70, 1.70), (5.2, 14.6), 1.34),
    Walker(Look(FLEECE, (0.74, 0.60, 0.52), 0, (0.6, 0.75, 0.9), 70, 1.83), (14.6, 13.3), 1.42),
    Walker(Look(COAT, (0.75, 0.80, 0.72), 60, (0.6, 0.6, 0.6), 0, 1.76), (-7.2, 5.2), 1.28),
)
BUS_ID = len(CAST) + 1


def bus_nose(time: float) -> float:
    """Where the bus's nose is along the road: it comes, brakes to a stop at 4.8 s, and pulls out at 10.2 s."""
    stop, standstill, leave = 2.95, 4.8, 10.2
    if time < standstill:
        remaining = standstill - time
        return stop + 0.5 * 1.45 * remaining**2 / (1 + 0.035 * remaining)
    if time < leave:
        return stop
    return stop - 0.5 * 0.55 * (time - leave) ** 2


@dataclass(frozen=True)
class Thing:
    """What is drawn in front of the backdrop: premultiplied (h, w, 4) at (left, top); id 0 for what is not tracked."""

    id: int
    layer: Image
    left: int
    top: int
    distance: float

    def window(self, width: int, height: int) -> tuple[tuple[slice, slice], tuple[slice, slice]] | None:
        """The part inside the frame: slices of the frame, slices of the layer; None where nothing is inside."""
        x0, y0 = max(0, self.left), max(0, self.top)
        x1 = min(width, self.left + self.layer.shape[1])
        y1 = min(height, self.top + self.layer.shape[0])
        if x0 >= x1 or y0 >= y1:
            return None
        return np.s_[y0:y1, x0:x1], np.s_[y0 - self.top : y1 - self.top, x0 - self.left : x1 - self.left]


@dataclass(frozen=True)
class Appearance:
    """One identity in one frame: box (x0, y0, x1, y1) in pixels of what of it is inside, were nothing before it."""

    id: int
    box: tuple[float, float, float, float]
    visibility: float


class Scene:
    """Everything drawn once for a size and a seed; `draw` is then a function of time alone."""

    def __init__(self, photo: Image, size: tuple[int, int], seed: int, cast: tuple[Walker, ...] = CAST) -> None:
        rng = np.random.default_rng(seed)
        self.size = size
        self.camera: Camera = film_camera(*size)
        self.backdrop = empty_street(photo, self.camera, size, rng)
        self.bus = bus.cut_out(photo, PLATE, rng)
        self.props = [
            props.trunk(self.camera, 8.5, 5.45, rng),
            *(props.bollard(photo, self.camera, u, 5.42) for u in (1.6, 3.5, 5.4, 7.3, 11.2, 13.1)),
        ]
        self.cast = cast
        phases = rng.uniform(0, 1, len(CAST))
        self.phases = {walker: float(phase) for walker, phase in zip(CAST, phases, strict=True)}
        men = {pose: people.cut(photo, pose) for pose in {walker.look.pose: None for walker in cast}}
        self.figures = {
            walker: people.figure(
                men[walker.look.pose], walker.look, self.tallest(walker), 1 if walker.speed > 0 else -1
            )
            for walker in cast
        }
        self.standing_bus = lru_cache(maxsize=2)(self.bus_thing)

    def tallest(self, walker: Walker) -> float:
        """The most pixels that a walker is high while he is in the picture."""
        times = [quarter / 4 for quarter in range(80)]
        inside = [self.camera.scale(*walker.at(time)) for time in times if self.present(walker, time)]
        return max(inside, default=1.0) * walker.look.height

    def draw(self, time: float, interval: float) -> tuple[Image, list[Appearance]]:
        """The frame at a time, (H, W, 3) uint8, and who is in it; `interval`: seconds between frames, for the blur."""
        present = [(number, walker) for number, walker in enumerate(self.cast, 1) if self.present(walker, time)]
        things = [self.walker_thing(number, walker, time, interval) for number, walker in present]
        nose, speed = bus_nose(time), bus_nose(time) - bus_nose(time + interval * SHUTTER)
        # positions within a millimetre are one drawing: a standing bus is drawn once
        vehicle = self.standing_bus(round(nose, 3), round(speed, 3))
        things += [Thing(0, prop.image, prop.left, prop.top, prop.v) for prop in self.props]
        if vehicle is not None:
            things.append(vehicle)
        things.sort(key=lambda thing: -thing.distance)
        image = self.shaded([walker for _, walker in present], time, nose)
        for thing in things:
            blend(image, thing)
        return image, appearances(things, self.size)

    def present(self, walker: Walker, time: float) -> bool:
        """Whether he, or the shadow before him, may be in the picture: who is far beside it is not drawn."""
        u, v = walker.at(time)
        ahead = u * ALONG[1] + v * ACROSS[1]
        x = float(self.camera.project(np.array([u, v, 0.0]))[0])
        return bool(ahead > 3.0 and -0.25 * self.size[0] < x < 1.35 * self.size[0])

    def drawing(self, walker: Walker, time: float) -> Image:
        """The drawing of a walker's step at a time: as many steps as he has gone metres."""
        cycles = abs(walker.speed) * time / (people.CYCLE * walker.look.height / 1.75) + self.phases[walker]
        return np.asarray(self.figures[walker].cycle[int(cycles * people.PHASES) % people.PHASES])

    def walker_thing(self, number: int, walker: Walker, time: float, interval: float) -> Thing:
        """A walker's drawing of this moment, scaled and placed to a fraction of a pixel."""
        u, v = walker.at(time)
        figure, drawing = self.figures[walker], self.drawing(walker, time)
        scale = self.camera.scale(u, v) * walker.look.height / figure.tall
        x, y = (float(value) for value in self.camera.project(np.array([u, v, 0.0])))
        left, top = x - figure.middle * scale, y - figure.sole * scale
        whole_x, whole_y = int(np.floor(left)) - 1, int(np.floor(top)) - 1
        to_layer = np.array([[scale, 0, left - whole_x], [0, scale, top - whole_y]])
        size = (int(drawing.shape[1] * scale) + 4, int(drawing.shape[0] * scale) + 4)
        layer = cv2.warpAffine(drawing, to_layer, size, flags=cv2.INTER_LINEAR)
        blur = abs(walker.speed) * interval * SHUTTER * self.camera.scale(u, v) * 0.8
        return Thing(number, smeared(layer, blur), whole_x, whole_y, v)

    def bus_thing(self, nose: float, travel: float) -> Thing | None:
        """The bus with its nose there, cut to where it is inside the frame, smeared over `travel` metres."""
        image, alpha = bus.place(self.bus, self.camera, self.size, nose)
        x, y, w, h = cv2.boundingRect((alpha > 0.02).astype(np.uint8))
        if w == 0:
            return None
        window = np.s_[y : y + h, x : x + w]
        layer = people.premultiplied(image[window].astype(np.float32), alpha[window])
        near = self.camera.scale(nose, bus.SIDE)
        return Thing(BUS_ID, smeared(layer, abs(travel) * near), x, y, bus.SIDE)

    def shaded(self, walkers: list[Walker], time: float, nose: float) -> Image:
        """The backdrop with all shadows; drawn at half size, as shadows are soft."""
        half = np.diag([0.5, 0.5, 1.0])
        small = (self.size[0] // 2, self.size[1] // 2)
        shade = np.zeros((small[1], small[0]), np.uint8)
        self.bus_shadow(shade, half, nose)
        for walker in walkers:
            u, v = walker.at(time)
            shade = np.maximum(shade, self.cast_shadow(walker, time, u, v, half, small))
            self.darken_contact(shade, walker, time, u, v)
        for prop in self.props:
            quad = [(prop.u, prop.v - 0.08), (prop.u, prop.v + 0.08)]
            quad += [
                (prop.u + SUN_SHIFT * prop.height, prop.v + 0.07),
                (prop.u + SUN_SHIFT * prop.height, prop.v - 0.07),
            ]
            fill_ground(shade, self.camera, half, quad, 215)
        soft = cv2.GaussianBlur(shade, (0, 0), 1.0 * self.size[1] / 720)
        keep = 255 - cv2.resize(soft, self.size, interpolation=cv2.INTER_LINEAR) * np.float32(0.6)
        return np.asarray(
            cv2.multiply(self.backdrop, cv2.cvtColor(keep.astype(np.uint8), cv2.COLOR_GRAY2BGR), scale=1 / 255)
        )

    def bus_shadow(self, shade: Image, half: NDArray[np.float64], nose: float) -> None:
        """Below the bus, and as far before it as the sun throws it; in place."""
        reach = SUN_SHIFT * bus.ROOF
        near, far = bus.SIDE - 0.05, bus.SIDE + bus.WIDTH
        quad = [(nose + reach, near + 0.1), (nose + reach, far), (nose + bus.LENGTH, far), (nose + bus.LENGTH, near)]
        fill_ground(shade, self.camera, half, quad, 225)
        fill_ground(
            shade,
            self.camera,
            half,
            [(nose, near - 0.1), (nose, far), (nose + bus.LENGTH, far), (nose + bus.LENGTH, near - 0.1)],
            255,
        )

    def darken_contact(self, shade: Image, walker: Walker, time: float, u: float, v: float) -> None:
        """The dark line under a shoe that is on the ground, without which walkers float; in place, at half size."""
        figure = self.figures[walker]
        metre = figure.tall / walker.look.height
        last = int(figure.sole)
        touching = (self.drawing(walker, time)[last - max(1, int(0.035 * metre)) : last, :, 3] > 127).any(axis=0)
        edges = np.flatnonzero(np.diff(np.pad(touching.astype(np.int8), 1)))
        scale = self.camera.scale(u, v) / metre / 2
        x, y = self.camera.project(np.array([u, v, 0.0])) / 2
        for start, end in edges.reshape(-1, 2):
            middle = float(x) + (float(start + end) / 2 - figure.middle) * scale
            half = float(end - start) / 2 * scale
            box = ((middle - 0.15 * half, float(y)), (2.5 * half + 2, max(2.0, 0.55 * half)), 0.0)
            cv2.ellipse(shade, box, 255, -1, cv2.LINE_AA)

    def cast_shadow(
        self, walker: Walker, time: float, u: float, v: float, half: NDArray[np.float64], small: tuple[int, int]
    ) -> Image:
        """A walker's shadow: his silhouette, an upright picture facing the camera, thrown along the road by the sun."""
        figure = self.figures[walker]
        alpha = np.ascontiguousarray(self.drawing(walker, time)[..., 3])
        metre = figure.tall / walker.look.height
        places = []
        for column, row in ((0, 0), (alpha.shape[1], 0), (alpha.shape[1], alpha.shape[0]), (0, alpha.shape[0])):
            aside, up = (column - figure.middle) / metre, (figure.sole - row) / metre
            places.append([column, row, u + 0.8 * aside + SUN_SHIFT * up, v - 0.6 * aside, 0.0])
        corners = np.array(places, float)
        if np.any(corners[:, 2] * ALONG[1] + corners[:, 3] * ACROSS[1] < 1.0):  # it would reach behind the camera
            return np.zeros(small[::-1], np.uint8)
        return np.asarray(cv2.warpPerspective(alpha, half @ self.camera.plane(corners), small, flags=cv2.INTER_LINEAR))


def fill_ground(
    shade: Image, camera: Camera, half: NDArray[np.float64], quad: list[tuple[float, float]], value: int
) -> None:
    """Fill a polygon of the ground, in place; what is behind the camera is left out."""
    # walk the outline in short steps, so that a corner behind the camera does not turn the polygon inside out
    points = np.array(quad)
    steps = np.linspace(0, 1, 24, endpoint=False)[:, None]
    dense = np.concatenate([a + (b - a) * steps for a, b in zip(points, np.roll(points, -1, axis=0), strict=True)])
    dense = dense[dense[:, 0] * 0.598 + dense[:, 1] * 0.801 > 1.5]
    if len(dense) < 3:
        return
    seen = camera.project(np.column_stack([dense, np.zeros(len(dense))]))
    seen = seen * half[0, 0]
    cv2.fillPoly(shade, [np.round(seen * 16).astype(np.int32)], value, cv2.LINE_AA, 4)


def smeared(layer: Image, pixels: float) -> Image:
    """Motion blur along x."""
    width = round(pixels)
    return np.asarray(cv2.blur(layer, (width, 1), borderType=cv2.BORDER_CONSTANT)) if width > 1 else layer


def blend(image: Image, thing: Thing) -> None:
    """Draw a thing over the image, in place."""
    windows = thing.window(image.shape[1], image.shape[0])
    if windows is None:
        return
    inside, part = windows
    layer = thing.layer[part]
    keep = cv2.cvtColor(255 - layer[..., 3], cv2.COLOR_GRAY2BGR)
    image[inside] = cv2.add(cv2.multiply(image[inside], keep, scale=1 / 255), np.ascontiguousarray(layer[..., :3]))


def appearances(things: list[Thing], size: tuple[int, int]) -> list[Appearance]:
    """Ground truth from the silhouettes (alpha above one half), the nearest first hiding what is behind."""
    hidden = np.zeros((size[1], size[0]), bool)
    found = []
    for thing in reversed(things):
        windows = thing.window(*size)
        if windows is None:
            continue
        inside, part = windows
        silhouette = thing.layer[part][..., 3] > 127
        if thing.id and silhouette.any():
            columns, rows = np.flatnonzero(silhouette.any(axis=0)), np.flatnonzero(silhouette.any(axis=1))
            x, y = inside[1].start, inside[0].start
            box = (x + columns[0], y + rows[0], x + columns[-1] + 1, y + rows[-1] + 1)
            whole = np.count_nonzero(thing.layer[..., 3] > 127)
            visible = np.count_nonzero(silhouette & ~hidden[inside])
            found.append(Appearance(thing.id, tuple(float(edge) for edge in box), visible / whole))  # type: ignore[arg-type]
        hidden[inside] |= silhouette
    return sorted(found, key=lambda appearance: appearance.id)
