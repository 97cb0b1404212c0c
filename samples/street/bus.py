"""The bus of the photograph: cut out, mended where people hid it, given a plate, and driven along the road.

Its side and its front are two upright planes, so a homography each shows it exactly from wherever it has moved to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .backdrop import noise
from .camera import PHOTO, Camera

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]

SIDE, NOSE, WIDTH = 5.82, 3.27, 2.9  # near side across the road, nose along it, breadth of the front; metres
LENGTH, ROOF = 4.65, 2.75
EDGE_X = 236.0  # column of the photograph where the front turns into the side
# two thirds wider and half as high again than a real plate of 0.52 x 0.11 m, which would be 16 pixels high here
PLATE_SIZE = (0.86, 0.17)
CHARACTER_SHARE = 128 / 165  # of the plate's height
PLATE_LEFT, PLATE_BOTTOM = SIDE + WIDTH - 1.06, 0.30
PLATE_CORNERS = tuple(
    (PLATE_LEFT - right * PLATE_SIZE[0], PLATE_BOTTOM + up * PLATE_SIZE[1])
    for right, up in ((0, 1), (1, 1), (1, 0), (0, 0))
)  # (v, h), clockwise from the top left as read
OUTLINE = [
    (19, 571), (21, 540), (26, 480), (33, 410), (38, 345), (44, 325), (60, 303), (70, 290), (80, 268),
    (92, 256), (112, 247), (140, 243), (176, 240), (190, 235), (212, 232), (240, 232), (320, 238), (440, 246),
    (560, 257), (650, 261), (700, 266), (718, 276), (736, 294), (744, 303), (775, 307), (786, 314), (795, 328),
    (798, 345), (801, 400), (800, 500), (799, 640), (790, 652), (765, 655), (757, 660), (752, 668), (735, 674),
    (712, 674), (697, 664), (690, 655), (540, 677), (480, 686), (400, 697), (380, 700), (374, 714), (362, 730),
    (345, 737), (325, 737), (310, 730), (300, 722), (240, 726), (150, 722), (80, 716), (30, 702), (20, 690),
]  # fmt: skip


@dataclass(frozen=True)
class Bus:
    """The mended photograph and the bus's alpha in it, both at the photograph's size; the plate's text."""

    image: Image
    alpha: Floats
    plate: str


def polygon(shape: tuple[int, int], points: Sequence[tuple[float, float]], soften: float = 0.7) -> Floats:
    """A filled polygon as coverage 0..1."""
    mask = np.zeros(shape, np.uint8)
    cv2.fillPoly(mask, [np.round(np.array(points) * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), soften), np.float32) / np.float32(255)


def paint(image: Floats, mask: Floats, colour: Floats) -> None:
    """Blend a colour (or an image) into the image, in place."""
    image += mask[..., None] * (colour - image)


def bridge(image: Floats, left: int, right: int, top: int, bottom: int, slope: float, soften: float = 1.0) -> None:
    """Fill the columns between two by what both show, along lines of `slope`, in place."""
    x = np.arange(left, right, dtype=np.float32)[None]
    y = np.arange(top, bottom, dtype=np.float32)[:, None]
    soft = cv2.GaussianBlur(image, (0, 0), sigmaX=1, sigmaY=2.0)
    filled = image.copy()
    ends = []
    for end in (left, right):
        columns = np.full((y.size, x.size), end, np.float32)
        rows = (y + slope * (end - x)).astype(np.float32)
        ends.append(cv2.remap(soft, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))
    weight = ((x - left) / (right - left))[..., None]
    weight = weight * weight * (3 - 2 * weight)
    filled[top:bottom, left:right] = ends[0] * (1 - weight) + ends[1] * weight
    corners: list[tuple[float, float]] = [(left, top), (right - 1, top), (right - 1, bottom - 1), (left, bottom - 1)]
    paint(image, polygon((image.shape[0], image.shape[1]), corners, soften), filled)


def mend(photo: Image, rng: np.random.Generator) -> Floats:
    """The photograph with the bus as if nobody stood before it, (H, W, 3) float32."""
    image = photo.astype(np.float32)
    shape = (photo.shape[0], photo.shape[1])
    grain = noise(rng, shape, 1.2, 3)[..., None]
    # windscreen: the man in the fleece hides its lower half
    bridge(image, 52, 202, 376, 560, 0.02, soften=7)
    streaks = noise(rng, shape, 6)
    streaks = cv2.GaussianBlur(streaks, (0, 0), sigmaX=1.0, sigmaY=40)[..., None] * 60
    glass = polygon(shape, [(50, 425), (200, 425), (200, 540), (120, 548), (24, 540), (40, 480)], 9)
    paint(image, glass * 0.85, np.maximum(image * 0.55 + np.array([30, 34, 30], np.float32) * 0.6 + streaks * 0.5, 6))
    paint(
        image,
        polygon(shape, [(21, 528), (120, 540), (240, 528), (240, 551), (200, 558), (110, 566), (20, 562)], 2) * 0.9,
        np.array([22, 20, 20], np.float32),
    )
    # front below it
    blue, grey = image[600:640, 206:218].mean((0, 1)), image[708:722, 190:215].mean((0, 1))
    y = np.arange(shape[0], dtype=np.float32)[:, None, None]
    panel = blue * (1.12 - 0.32 * np.clip((y - 560) / 130, 0, 1)) + grain
    paint(
        image,
        polygon(shape, [(20, 565), (110, 569), (205, 561), (240, 553), (240, 692), (150, 688), (20, 668)], 1.2),
        panel,
    )
    skirt = grey * (1.05 - 0.5 * np.clip((y - 690) / 45, 0, 1)) + grain
    paint(
        image,
        polygon(
            shape,
            [
                (20, 668),
                (150, 688),
                (240, 692),
                (300, 690),
                (300, 724),
                (240, 728),
                (150, 724),
                (80, 717),
                (30, 703),
                (20, 690),
            ],
            1.0,
        ),
        skirt,
    )
    # side: the man in the dark coat hides the door's window, the arch and the front wheel
    bridge(image, 215, 352, 556, 690, -0.04)
    flank = blue * (1.0 - 0.25 * np.clip((y - 560) / 130, 0, 1)) + grain
    paint(
        image,
        polygon(shape, [(236, 552), (262, 536), (335, 526), (345, 560), (345, 692), (236, 694)], 1.5) * 0.8,
        flank,
    )
    window = [
        (262, 330),
        (344, 332),
        (352, 400),
        (359, 480),
        (356, 500),
        (340, 515),
        (262, 531),
        (242, 540),
        (244, 400),
    ]
    hidden = polygon(
        shape, [(252, 398), (305, 398), (312, 470), (342, 492), (345, 524), (236, 548), (236, 480), (250, 470)], 2
    )
    inside = np.array([44, 40, 36], np.float32) * (1.25 - 0.5 * np.clip((y - 400) / 140, 0, 1)) + grain + 0.2 * streaks
    paint(image, hidden, np.where(polygon(shape, window, 1)[..., None] > 0.5, inside, flank))
    paint(
        image,
        polygon(shape, [(236, 330), (246, 330), (250, 470), (248, 545), (238, 550)], 1.5),
        np.array([26, 24, 24], np.float32),
    )
    for left, right, top, bottom in ((420, 468, 652, 702), (653, 695, 620, 668)):  # two bollards
        bridge(image, left, right, top, bottom, -0.13)
    rear_corner(image, y)
    front_wheel(image)
    return np.clip(image, 0, 255).astype(np.float32)


def rear_corner(image: Floats, y: Floats) -> None:
    """The rear corner, which the third man hides: the wheel's other half is its mirror image; in place."""
    shape = (image.shape[0], image.shape[1])
    strip = image[350:380, 782:790].mean((0, 1))
    blue = image[560:600, 640:660].mean((0, 1)) * (1.0 - 0.2 * np.clip((y - 520) / 130, 0, 1))
    dark = np.array([34, 32, 31], np.float32)
    paint(image, polygon(shape, [(766, 470), (787, 395), (790, 470), (779, 503), (764, 503)], 1.0), dark)
    paint(image, polygon(shape, [(783, 385), (803, 385), (803, 530), (776, 506), (788, 470)], 1.0), strip * 0.93)
    paint(image, polygon(shape, [(740, 548), (758, 520), (774, 504), (803, 498), (803, 624), (756, 632)], 1.2), blue)
    paint(
        image,
        polygon(shape, [(754, 630), (803, 616), (803, 654), (752, 664)], 1.0),
        np.array([96, 104, 106], np.float32),
    )
    mirrored = np.zeros_like(image)
    crown = [(711, 547), (718, 541), (728, 538), (744, 541), (744, 568), (726, 563), (713, 569)]  # his hand on the arch
    paint(image, polygon(shape, list(crown), 1.5), image[552:562, 699:706].mean((0, 1)))
    mirrored[:, 726:] = image[:, 726 - (shape[1] - 726) + 1 : 727][:, ::-1][:, : shape[1] - 726]
    half = polygon(
        shape, [(726, 536), (748, 540), (764, 556), (771, 590), (773, 626), (758, 630), (757, 678), (726, 678)], 1.0
    )
    paint(image, half * (np.arange(shape[1]) >= 726), mirrored)


def front_wheel(image: Floats) -> None:
    """The rear wheel again, moved forward in the plane of the side; in place."""
    size = (image.shape[1], image.shape[0])
    forward = PHOTO.side(SIDE, -3.22) @ np.linalg.inv(PHOTO.side(SIDE))
    angle = np.linspace(np.pi, 2 * np.pi, 40)
    arch = [(726 + 46 * np.cos(t), 622 + 82 * np.sin(t)) for t in angle]
    wheel = polygon(
        size[::-1],
        [*arch, (773, 632), (758, 640), (754, 664), (735, 676), (712, 676), (694, 662), (690, 640), (680, 640)],
        1.0,
    )
    paint(
        image,
        cv2.warpPerspective(wheel, forward, size),
        cv2.warpPerspective(image, forward, size, flags=cv2.INTER_CUBIC),
    )


def face(plate: str, rng: np.random.Generator) -> Image:
    """The licence plate, straight on, 860 x 165: black on white, blue band with stars, rim, screws, dirt."""
    image = np.full((165, 860, 3), (226, 230, 230), np.uint8)
    cv2.rectangle(image, (0, 0), (74, 165), (150, 60, 20), -1)
    for angle in np.linspace(0, 2 * np.pi, 12, endpoint=False):
        cv2.circle(
            image, (int(37 + 20 * np.cos(angle)), int(52 + 20 * np.sin(angle))), 3, (40, 210, 240), -1, cv2.LINE_AA
        )
    cv2.putText(image, "E", (25, 145), cv2.FONT_HERSHEY_SIMPLEX, 1.2, (235, 235, 235), 5, cv2.LINE_AA)
    draw_text(image, plate, (96, 18, 745, 128))
    cv2.rectangle(image, (1, 1), (858, 163), (40, 40, 40), 5, cv2.LINE_AA)
    for x in (250, 610):
        cv2.circle(image, (x, 15), 5, (120, 120, 120), -1, cv2.LINE_AA)
    dirt = 0.95 + 0.035 * noise(rng, (165, 860), 12, 50) - 0.13 * np.linspace(0, 1, 165, dtype=np.float32)[:, None] ** 3
    return np.asarray(np.clip(image * dirt[..., None], 0, 255).astype(np.uint8))


def draw_text(image: Image, text: str, box: tuple[int, int, int, int]) -> None:
    """Text stretched to fill the box (x, y, width, height), evenly spaced as on a plate, in place."""
    x, y, width, height = box
    pitch = width / len(text)
    for place, letter in enumerate(text):
        if letter == " ":
            continue
        glyph = np.zeros((220, 220), np.uint8)
        cv2.putText(glyph, letter, (50, 170), cv2.FONT_HERSHEY_SIMPLEX, 5, 255, 19, cv2.LINE_AA)
        left, top, wide, high = cv2.boundingRect((glyph > 60).astype(np.uint8))
        target = (min(int(pitch * 0.76), max(int(height * wide / high), 18)), height)
        stamp = cv2.resize(glyph[top : top + high, left : left + wide], target, interpolation=cv2.INTER_AREA)
        at = int(x + pitch * (place + 0.5) - target[0] / 2)
        under = image[y : y + height, at : at + target[0]]
        alpha = stamp[..., None].astype(np.float32) / 255
        under[:] = (under * (1 - alpha) + np.array([26, 24, 24]) * alpha).astype(np.uint8)


def front_details(image: Floats, plate: str, rng: np.random.Generator) -> None:
    """Headlamps, grille and plate on the front, drawn in its plane and seen by the photograph's camera; in place."""
    density = 250
    plane = np.zeros(
        (int(1.4 * density), int(3.0 * density), 4), np.float32
    )  # row 0 at 1.4 m, column 0 at the far side

    def rectangle(x: float, y: float, width: float, height: float, colour: tuple[float, float, float]) -> None:
        """A rounded rectangle, metres from the far edge and above the ground."""
        x0, y0 = int(x * density), int((1.4 - y - height) * density)
        x1, y1 = int((x + width) * density), int((1.4 - y) * density)
        radius = max(2, int(min(x1 - x0, y1 - y0) * 0.3))
        cv2.rectangle(plane, (x0 + radius, y0 + radius), (x1 - radius, y1 - radius), (*colour, 255.0), -1)
        cv2.rectangle(plane, (x0 + radius, y0 + radius), (x1 - radius, y1 - radius), (*colour, 255.0), 2 * radius)

    rectangle(0.5, 0.86, 1.8, 0.025, (60, 30, 8))
    rectangle(0.75, 0.60, 1.35, 0.16, (28, 26, 26))
    for slat in (0.64, 0.69):
        rectangle(0.8, slat, 1.25, 0.012, (60, 58, 56))
    for x in (0.16, 2.28):
        rectangle(x, 0.55, 0.46, 0.26, (58, 54, 52))
        for lamp, size in ((0.04, 0.17), (0.25, 0.15)):
            rectangle(x + lamp, 0.60, size, size, (150, 150, 146))
            rectangle(x + lamp + 0.04, 0.64, size - 0.08, size - 0.08, (236, 236, 230))
    for x in (0.22, 2.42):
        rectangle(x, 0.40, 0.26, 0.07, (30, 110, 220))
    width, height = PLATE_SIZE
    x0, y0 = int(1.06 * density), int((1.4 - PLATE_BOTTOM - height) * density)
    rectangle(1.03, 0.275, width + 0.06, height + 0.05, (30, 30, 30))
    small = cv2.resize(face(plate, rng), (int(width * density), int(height * density)), interpolation=cv2.INTER_AREA)
    plane[y0 : y0 + small.shape[0], x0 : x0 + small.shape[1], :3] = small
    plane = cv2.GaussianBlur(plane, (0, 0), 0.8)
    to_plane = np.array([[-1 / density, 0, SIDE + WIDTH], [0, -1 / density, 1.4], [0, 0, 1]])
    seen = cv2.warpPerspective(
        plane, PHOTO.front(NOSE) @ to_plane, (image.shape[1], image.shape[0]), flags=cv2.INTER_AREA
    )
    paint(image, seen[..., 3] / 255, seen[..., :3] / np.maximum(seen[..., 3:], 1) * 255)


def cut_out(photo: Image, plate: str, rng: np.random.Generator) -> Bus:
    """The bus, whole."""
    image = mend(photo, rng)
    front_details(image, plate, rng)
    alpha = polygon((photo.shape[0], photo.shape[1]), list(OUTLINE), 0.8)
    mirror = [
        (4, 372),
        (10, 362),
        (30, 355),
        (38, 362),
        (38, 372),
        (22, 380),
        (16, 400),
        (36, 410),
        (36, 470),
        (10, 482),
        (4, 440),
    ]
    return Bus(
        np.clip(image, 0, 255).astype(np.uint8), np.maximum(alpha, polygon(alpha.shape, list(mirror), 0.8)), plate
    )


def place(bus: Bus, camera: Camera, size: tuple[int, int], nose: float) -> tuple[Image, Floats]:
    """The bus with its nose at `nose` metres along the road: image (H, W, 3) and alpha (H, W) of the film's size."""
    shift = nose - NOSE
    image = np.zeros((size[1], size[0], 3), np.uint8)
    alpha = np.zeros((size[1], size[0]), np.float32)
    corner = camera.project(np.array([nose, SIDE, 0.5]))[0]
    left = int(np.clip(round(float(corner)), 0, size[0]))
    planes = (
        (slice(0, left), camera.front(NOSE, shift) @ np.linalg.inv(PHOTO.front(NOSE))),
        (slice(left, size[0]), camera.side(SIDE, shift) @ np.linalg.inv(PHOTO.side(SIDE))),
    )
    for columns, homography in planes:
        if columns.start >= columns.stop:
            continue
        moved = np.array([[1, 0, -columns.start], [0, 1, 0], [0, 0, 1.0]]) @ homography
        part = (columns.stop - columns.start, size[1])
        image[:, columns] = cv2.warpPerspective(
            bus.image, moved, part, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        alpha[:, columns] = cv2.warpPerspective(bus.alpha, moved, part, flags=cv2.INTER_LINEAR)
    return image, alpha
