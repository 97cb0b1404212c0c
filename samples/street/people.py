"""Walkers: men cut out of the photograph, dressed anew, with legs that step as far as the body moves.

A figure is a body and two legs. A leg is bent by sliding its rows sideways about the hip, so that the foot stands
still on the ground for the stance part of the step and swings forward for the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .bus import polygon

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]
Points = tuple[tuple[float, float], ...]

PHASES = 26  # drawings of one step cycle; a walker at 1.3 m/s and 25 frames a second needs 25
CYCLE = 1.30  # metres walked in a cycle of two steps by a man of 1.75 m
STANCE = 0.6  # share of the cycle that a foot is on the ground
MARGIN = 70  # pixels around a figure for the swinging legs


@dataclass(frozen=True)
class Leg:
    """Outline of a leg, and the joints of its pose in the photograph; pixels of the photograph."""

    outline: Points
    hip: tuple[float, float]
    ankle: tuple[float, float]
    toe: tuple[float, float] | None = None  # heel's column, and the slope of a sole that the photograph shows raised


@dataclass(frozen=True)
class Pose:
    """A man in the photograph; the hem is where the coat ends, below it only legs are drawn."""

    outline: Points
    legs: tuple[Leg, Leg]
    hem: float
    top: float
    sole: float
    facing: int  # 1 walks to the right, -1 to the left
    bare: tuple[Points, ...] = ()  # hands, which dyeing spares
    mirror_at: float | None = None  # column about which the half that the photograph cut off is mirrored


FLEECE_LEG: Points = (
    (128, 690), (183, 690), (188, 780), (203, 852), (247, 880), (243, 902), (173, 902), (168, 830), (150, 770),
    (136, 720),
)  # fmt: skip
COAT_LEG: Points = (
    (243, 690), (298, 690), (292, 740), (285, 780), (285, 840), (294, 850), (292, 860), (255, 860), (253, 845),
    (256, 820), (250, 780),
)  # fmt: skip
JACKET_LEG: Points = (
    (757, 680), (812, 680), (810, 703), (795, 724), (783, 744), (774, 768), (761, 791), (748, 819), (741, 841),
    (739, 876), (732, 879), (712, 872), (694, 861), (672, 834), (671, 824), (684, 823), (698, 832), (712, 829),
    (719, 818), (729, 787), (741, 750), (744, 732), (757, 700),
)  # fmt: skip
FLEECE = Pose(
    outline=(
        (104, 432), (102, 415), (112, 402), (130, 398), (148, 402), (157, 415), (155, 428), (157, 440), (150, 465),
        (148, 474), (165, 478), (174, 495), (182, 508), (190, 540), (199, 552), (200, 575), (195, 590), (180, 604),
        (186, 630), (192, 690), (180, 693), (183, 730), (188, 780), (198, 835), (202, 852), (225, 868), (244, 880),
        (240, 893), (200, 899), (176, 899), (176, 870), (168, 830), (155, 780), (140, 720), (122, 703), (112, 735),
        (98, 775), (90, 820), (86, 848), (95, 868), (107, 885), (105, 899), (80, 896), (52, 881), (54, 862), (58, 850),
        (60, 820), (66, 790), (76, 740), (74, 700), (60, 697), (59, 640), (62, 590), (60, 565), (62, 500), (75, 480),
        (97, 465), (102, 450),
    ),
    legs=(
        Leg(FLEECE_LEG, (142, 640), (190, 860)),
        Leg(FLEECE_LEG, (118, 640), (190, 860)),
    ),
    hem=700, top=398, sole=898, facing=1,
)  # fmt: skip
COAT = Pose(
    outline=(
        (264, 442), (262, 420), (275, 407), (295, 407), (302, 420), (306, 440), (303, 460), (298, 475), (310, 483),
        (328, 495), (338, 530), (341, 545), (333, 562), (322, 570), (326, 610), (333, 690), (340, 700), (336, 725),
        (318, 740), (300, 765), (285, 785), (284, 840), (292, 850), (290, 858), (258, 858), (254, 845), (258, 825),
        (252, 800), (248, 760), (243, 702), (226, 698), (232, 650), (236, 600), (236, 560), (236, 530), (238, 510),
        (250, 495), (275, 485), (277, 474), (271, 459),
    ),
    legs=(
        Leg(COAT_LEG, (278, 640), (268, 830)),
        Leg(COAT_LEG, (284, 640), (268, 830)),
    ),
    hem=694, top=405, sole=857, facing=1,
    bare=(
        ((234, 505), (262, 499), (285, 515), (288, 540), (240, 543)),
        ((255, 642), (280, 642), (293, 688), (262, 686)),
    ),
)  # fmt: skip
STRIDE_LEG = Leg(JACKET_LEG, (795, 630), (728, 850), toe=(733, 0.6))  # fmt: skip
JACKET = Pose(
    outline=(
        (796, 473), (812, 468), *JACKET_LEG[1:-1], (757, 700),
        (757, 686), (748, 681), (760, 640), (757, 610), (758, 590), (752, 574),
        (728, 566), (720, 552), (728, 541), (748, 550), (768, 548), (770, 520), (769, 504), (777, 486),
    ),
    legs=(STRIDE_LEG, STRIDE_LEG), hem=684, top=401, sole=879, facing=-1, mirror_at=808.5,
    bare=(((716, 536), (740, 536), (742, 572), (716, 572)),),
)  # fmt: skip


@dataclass(frozen=True)
class Look:
    """One identity: a pose, the tint of coat and trousers (BGR gains and lift), and his height in metres."""

    pose: Pose
    coat: tuple[float, float, float] = (1, 1, 1)
    coat_lift: float = 0.0
    trousers: tuple[float, float, float] = (1, 1, 1)
    trousers_lift: float = 0.0
    height: float = 1.75


def matte(photo: Image, outline: Points) -> Floats:
    """Alpha 0..1 of what the outline encloses: GrabCut decides in a band of 9 pixels around the hand-drawn line."""
    shape = (photo.shape[0], photo.shape[1])
    inside = (polygon(shape, list(outline), 0.1) > 0.5).astype(np.uint8)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (9, 9))
    labels = np.full(shape, cv2.GC_BGD, np.uint8)
    labels[cv2.dilate(inside, kernel) > 0] = cv2.GC_PR_BGD
    labels[inside > 0] = cv2.GC_PR_FGD
    labels[cv2.erode(inside, kernel) > 0] = cv2.GC_FGD
    x, y, w, h = cv2.boundingRect(inside)
    window = np.s_[max(0, y - 25) : y + h + 25, max(0, x - 25) : x + w + 25]
    part = np.ascontiguousarray(labels[window])
    cv2.setRNGSeed(0)  # GrabCut's k-means starts at random
    cv2.grabCut(
        np.ascontiguousarray(photo[window]),
        part,
        (0, 0, 0, 0),
        np.zeros((1, 65)),
        np.zeros((1, 65)),
        4,
        cv2.GC_INIT_WITH_MASK,
    )
    labels[window] = part
    sure = ((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)).astype(np.uint8)
    sure = cv2.morphologyEx(sure, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    soft = cv2.GaussianBlur(sure.astype(np.float32), (0, 0), 1.3)
    return np.asarray(
        np.clip((soft - 0.42) / 0.5, 0, 1), np.float32
    )  # half a pixel inwards: no rim of the old background


def decontaminated(photo: Image, alpha: Floats) -> Floats:
    """The photograph with the colours of the figure carried outwards over its edge, (H, W, 3) float32."""
    solid = cv2.erode((alpha > 0.95).astype(np.uint8), np.ones((3, 3), np.uint8)).astype(np.float32)
    colour = photo.astype(np.float32) * solid[..., None]
    weight = cv2.GaussianBlur(solid, (0, 0), 2.0)
    spread = cv2.GaussianBlur(colour, (0, 0), 2.0) / np.maximum(weight, 1e-3)[..., None]
    return np.where(solid[..., None] > 0, photo, np.where(weight[..., None] > 1e-3, spread, photo)).astype(np.float32)


def tint(colour: Floats, where: Floats, gain: tuple[float, float, float], lift: float) -> Floats:
    """Dye cloth: its lightness, lifted, times a colour; folds and weave stay."""
    if gain == (1, 1, 1) and lift == 0:
        return colour
    light = cv2.cvtColor(np.clip(colour, 0, 255).astype(np.uint8), cv2.COLOR_BGR2GRAY).astype(np.float32)[..., None]
    dyed = (light * (1 + lift / 110) + 0.75 * lift * (1 - light / 255)) * np.array(gain, np.float32)
    return np.asarray(colour + where[..., None] * (dyed - colour), np.float32)


def sigmoid(values: NDArray[np.floating]) -> Floats:
    """1 / (1 + exp(-x)) without overflow."""
    return np.asarray(0.5 + 0.5 * np.tanh(values / 2), np.float32)


@dataclass(frozen=True)
class Figure:
    """All drawings of a walker: (PHASES, H, W, 4) premultiplied uint8.

    Row `sole` stands on the ground, column `middle` is where he is, `tall` is his height; all in pixels.
    """

    cycle: Image
    sole: float
    middle: float
    tall: float


@dataclass(frozen=True)
class Cutout:
    """A man dressed: premultiplied (H, W, 4) layers of his body and of both legs."""

    body: Image
    legs: tuple[Image, Image]


@dataclass(frozen=True)
class Cut:
    """A man as the photograph shows him, whole: colour (H, W, 3) and alpha (H, W) float32, from (left, top) on."""

    colour: Floats
    alpha: Floats
    left: int
    top: int


def cut(photo: Image, pose: Pose) -> Cut:
    """Cut a man out of the photograph."""
    alpha = matte(photo, pose.outline)
    colour = decontaminated(photo, alpha)
    if pose.mirror_at is not None:
        colour, alpha = completed(photo, colour, alpha, pose.mirror_at)
    left, top = int(min(x for x, _ in pose.outline)) - 12, int(pose.top) - 12
    window = np.s_[top : int(pose.sole) + 12, left : left + 230]
    return Cut(np.ascontiguousarray(colour[window]), np.ascontiguousarray(alpha[window]), left, top)


def dressed(man: Cut, look: Look) -> Cutout:
    """Dye what a man wears, and part his legs from his body."""
    pose, colour, alpha = look.pose, man.colour, man.alpha
    shape = (alpha.shape[0], alpha.shape[1])

    def region(outline: Points, soften: float) -> Floats:
        return polygon(shape, [(x - man.left, y - man.top) for x, y in outline], soften)

    rows = np.arange(man.top, man.top + shape[0], dtype=np.float32)[:, None]
    tall = pose.sole - pose.top
    below_head = sigmoid((rows - pose.top - 0.16 * tall) / 2)
    above_shoe = sigmoid((pose.sole - 0.085 * tall - rows) / 3)
    cloth = np.array(np.broadcast_to(below_head, shape))
    for hand in pose.bare:
        cloth = cloth * (1 - region(hand, 1.5))
    coat = tint(colour, cloth, look.coat, look.coat_lift)
    legwear = tint(colour, np.broadcast_to(above_shoe, shape), look.trousers, look.trousers_lift)
    near, far = (alpha * region(leg.outline, 0.8) for leg in pose.legs)
    body = alpha * sigmoid((pose.hem + 1 - rows) / 0.8)
    return Cutout(premultiplied(coat, body), (premultiplied(legwear, near), premultiplied(legwear * 0.66, far)))


def premultiplied(colour: Floats, alpha: Floats) -> Image:
    """(H, W, 4) uint8 of a colour and its coverage."""
    layer = np.concatenate([colour * alpha[..., None], alpha[..., None] * 255], axis=2)
    return np.asarray(np.clip(layer + 0.5, 0, 255).astype(np.uint8))


def figure(man: Cut, look: Look, tall: float, facing: int) -> Figure:
    """Draw a look's steps to the right (1) or left (-1), not larger than the `tall` pixels that the film needs."""
    pose = look.pose
    cutout = dressed(man, look)
    middle = pose.legs[0].hip[0] / 2 + pose.legs[1].hip[0] / 2
    scale = min(1.0, tall / (pose.sole - pose.top))
    x0, y0 = middle - 105 - MARGIN, pose.top - 14
    width, height = int((210 + 2 * MARGIN) * scale), int((pose.sole + 12 - y0) * scale)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    x, y = x / scale + np.float32(x0), y / scale + np.float32(y0)  # of the photograph, for every pixel of the drawing
    if scale < 0.7:  # far away: what is left out between two pixels must be averaged first
        blurred = [cv2.GaussianBlur(layer, (0, 0), 0.35 / scale) for layer in (cutout.body, *cutout.legs)]
        cutout = Cutout(blurred[0], (blurred[1], blurred[2]))
    drawings = []
    for step in range(PHASES):
        phase = step / PHASES
        canvas = stepped(cutout.legs[1], pose.legs[1], (phase + 0.5) % 1, pose, man, x, y)
        canvas = over(canvas, stepped(cutout.legs[0], pose.legs[0], phase, pose, man, x, y))
        drawings.append(over(canvas, upper_body(cutout.body, phase, pose, man, x, y)))
    cycle, across = np.stack(drawings), (middle - x0) * scale
    if facing != pose.facing:
        cycle, across = np.ascontiguousarray(cycle[:, :, ::-1]), width - 1 - across
    return Figure(cycle, (pose.sole - y0) * scale, across, (pose.sole - pose.top) * scale)


def completed(photo: Image, colour: Floats, alpha: Floats, column: float) -> tuple[Floats, Floats]:
    """The figure with its mirror image beyond `column`, where the photograph ends, and with the other man's head."""
    edge, width = int(column + 0.5), 120
    rows = np.arange(alpha.shape[0], dtype=np.float32)[:, None]
    colour = np.concatenate([colour[:, :edge], colour[:, edge - width : edge][:, ::-1]], axis=1)
    alpha = np.concatenate([alpha[:, :edge], alpha[:, edge - width : edge][:, ::-1]], axis=1)
    size = (edge + width, alpha.shape[0])
    # his hands are in front of him only
    hand = [(edge + 44, 530), (edge + 100, 530), (edge + 100, 590), (edge + 52, 585)]
    alpha = alpha * (1 - polygon(size[::-1], list(hand), 2))
    head = matte(photo, COAT.outline) * sigmoid((488 - rows) / 1.5)
    turned = np.array([[-1.0, 0, 284 + edge], [0, 1, -2]])
    head_colour = cv2.warpAffine(decontaminated(photo, head), turned, size)
    head = cv2.warpAffine(head, turned, size)
    behind = head * (1 - alpha)
    total = np.maximum(alpha + behind, 1e-3)[..., None]
    mixed = (colour * alpha[..., None] + head_colour * behind[..., None]) / total
    return np.asarray(mixed, np.float32), np.asarray(alpha + behind, np.float32)


def over(canvas: Image, layer: Image) -> Image:
    """Premultiplied source-over."""
    keep = cv2.cvtColor(255 - layer[..., 3], cv2.COLOR_GRAY2BGRA)
    keep[..., 3] = 255 - layer[..., 3]
    return np.asarray(cv2.add(cv2.multiply(canvas, keep, scale=1 / 255), layer))


def foot(phase: float) -> tuple[float, float, float]:
    """Where a foot is: metres ahead of the hip, metres above the ground, and how far the knee is bent, 0..1."""
    reach = STANCE * CYCLE / 2
    if phase < STANCE:
        return reach * (1 - 2 * phase / STANCE), 0.0, 0.0
    swing = (phase - STANCE) / (1 - STANCE)
    return (
        -reach * float(np.cos(np.pi * swing)),
        0.10 * float(np.sin(np.pi * swing)) ** 1.5,
        float(np.sin(np.pi * swing)),
    )


def stepped(layer: Image, leg: Leg, phase: float, pose: Pose, man: Cut, x: Floats, y: Floats) -> Image:
    """One leg at one phase, premultiplied; x, y: the photograph's place of every pixel of the drawing."""
    metre = (pose.sole - pose.top) / 1.75
    ahead, lift, bend = foot(phase)
    hip_x, hip_y = leg.hip
    source_y = hip_y + (y - hip_y) * ((pose.sole - hip_y) / (pose.sole - hip_y - lift * metre))
    along = np.clip((source_y - hip_y) / (leg.ankle[1] - hip_y), 0, 1)  # the foot moves as one with the ankle
    bulge = bend * 0.10 * metre * pose.facing * np.sin(np.pi * along)
    source_x = x - (ahead * metre * pose.facing - (leg.ankle[0] - hip_x)) * along - bulge
    if leg.toe is not None:
        heel, slope = leg.toe
        flat = np.clip(phase / 0.1, 0, 1) if phase < STANCE else (1 - phase) / (1 - STANCE)
        source_y = source_y - slope * flat * np.clip(heel - source_x, 0, 70) * sigmoid((source_y - 815) / 6)
    source_y = np.maximum(source_y, pose.hem + 5)  # under the coat the leg goes on as it leaves the hem
    drawn = sampled(layer, source_x, source_y, man)
    drawn[y < pose.hem - 40] = 0
    return drawn


def upper_body(layer: Image, phase: float, pose: Pose, man: Cut, x: Floats, y: Floats) -> Image:
    """Coat and head, bobbing twice a cycle and swaying once, premultiplied; x, y as in `stepped`."""
    metre = (pose.sole - pose.top) / 1.75
    bob = 0.018 * metre * np.cos(4 * np.pi * (phase - STANCE / 4))
    sway = 0.012 * metre * np.sin(2 * np.pi * phase)
    height = np.clip((pose.hem - y) / (pose.hem - pose.top), 0, 1.2)
    hem_swing = 0.03 * metre * np.sin(2 * np.pi * phase + 0.7) * np.clip(1 - 2.2 * height, 0, 1)
    source_x = x - sway * height - hem_swing
    return sampled(layer, source_x, y + bob, man)


def sampled(layer: Image, x: Floats, y: Floats, man: Cut) -> Image:
    """The layer at places of the photograph."""
    columns, rows = np.asarray(x - man.left, np.float32), np.asarray(y - man.top, np.float32)
    return np.asarray(cv2.remap(layer, columns, rows, cv2.INTER_LINEAR))
