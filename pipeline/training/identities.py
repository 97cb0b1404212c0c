"""Identities: crops of persons or other objects, and which of them show the same one."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.address import IMAGES
from pipeline.errors import UsageError
from pipeline.opencv import read_image, silence
from pipeline.source import open_source
from pipeline.training.yolo_dataset import read_yolo
from trackers import mot_format
from trackers.mot_format import MotRows

HEIGHT, WIDTH = 256, 128
"""Pixels of a crop as a network sees it."""

MARGIN = 16, 8
"""Pixels kept around it, above and below, left and right: what augmentation shifts into view."""

_MARKET = re.compile(r"(-?\d+)_c(\d+)")  # 0002_c1s1_000451_03.jpg: identity and camera, as in Market-1501
_COVERED = 0.5  # share of a box behind another one from which its crop shows the other person rather than its own
_VISIBLE = 0.35  # the same, where the ground truth tells how much can be seen
_PEDESTRIAN = 1  # MOT16/17/20
_SMALLEST = 24  # pixels; lower crops show nobody in particular


@dataclass(frozen=True, slots=True)
class Identities:
    """Crops with the identity that each of them shows.

    Attributes:
        crops: (N, HEIGHT + 2 margins, WIDTH + 2 margins, 3) uint8 BGR; the box itself without the margins.
        identity: (N,) int64, from 0; no two groups share one.
        group: (N,) int64, index into `groups`: crops that look alike whoever they show, as they are of one camera.
        time: (N,) float64 seconds within the group; NaN where unknown.
        groups: names of the sequences, cameras and folders.
        problems: what could not be used, a line each.
    """

    crops: NDArray[np.uint8]
    identity: NDArray[np.int64]
    group: NDArray[np.int64]
    time: NDArray[np.float64]
    groups: tuple[str, ...]
    problems: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.crops)

    @property
    def count(self) -> int:
        """How many identities there are."""
        return int(self.identity.max()) + 1 if len(self) else 0

    def part(self, rows: NDArray[np.bool_]) -> Identities:
        """Some of the crops, their identities numbered anew."""
        _, identity = np.unique(self.identity[rows], return_inverse=True)
        return Identities(self.crops[rows], identity, self.group[rows], self.time[rows], self.groups, self.problems)

    def split(self, share: float, seed: int) -> tuple[Identities, Identities]:
        """Those to train on, and as many identities kept out as are `share` of those with several crops.

        Raises:
            UsageError: fewer than two identities can be kept out.
        """
        several = np.flatnonzero(np.bincount(self.identity) > 1)
        kept = np.random.default_rng(seed).permutation(several)[: max(2, round(share * len(several)))]
        if len(several) < 4:
            raise UsageError("there are too few identities to keep some out for validation; give --val data of its own")
        out = np.isin(self.identity, kept)
        return self.part(~out), self.part(out)

    def boxes(self) -> NDArray[np.uint8]:
        """The crops without their margins: (N, HEIGHT, WIDTH, 3), a view."""
        down, right = MARGIN
        return self.crops[:, down : down + HEIGHT, right : right + WIDTH]


@dataclass(frozen=True, slots=True)
class _Crop:
    image: NDArray[np.uint8]
    identity: str
    group: str
    time: float


def read_identities(items: Sequence[str], *, crops: int = 60) -> Identities:
    """Read crops from any mixture of data.

    Args:
        items: each one of: a folder with a folder of images for each identity; a folder of images named as in
            Market-1501; a MOTChallenge sequence (gt/gt.txt, img1/); `VIDEO=TRACKS`, where TRACKS is a file in
            MOTChallenge format, such as `framechain run --mot` writes, or the folder of a sequence; or a folder in
            YOLO's format, whose every person is an identity with a single crop.
        crops: most of an identity, evenly spaced in time.

    Raises:
        UsageError: an item is nothing of that, or there are no crops in it.
    """
    silence()
    problems: list[str] = []
    found: list[_Crop] = []
    for item in items:
        before = len(found)
        found += _read(item, crops, problems)
        if len(found) == before:
            reason = f" ({problems[-1]})" if problems else ""
            raise UsageError(f"{item} has no crop of anybody{reason}; give a folder of identities, or VIDEO=TRACKS")
    numbers = {key: n for n, key in enumerate(dict.fromkeys((crop.group, crop.identity) for crop in found))}
    groups = {name: n for n, name in enumerate(dict.fromkeys(crop.group for crop in found))}
    return Identities(
        np.stack([crop.image for crop in found]),
        np.array([numbers[crop.group, crop.identity] for crop in found]),
        np.array([groups[crop.group] for crop in found]),
        np.array([crop.time for crop in found]),
        tuple(groups),
        tuple(problems),
    )


def _read(item: str, most: int, problems: list[str]) -> Iterator[_Crop]:
    video, equals, tracks = item.rpartition("=")
    if equals and not Path(item).exists():
        rows = _tracks(Path(tracks))
        if not Path(video).exists():
            raise UsageError(f"there is no video {video} of {item}; check the path")
        return _of_video(video, rows, most)
    folder = Path(item).expanduser()
    if not folder.is_dir():
        raise UsageError(f"{item} is no folder; give a folder of identities, a MOTChallenge sequence, or VIDEO=TRACKS")
    if (folder / "gt").is_dir():
        if not (folder / "img1").is_dir():
            raise UsageError(f"{item} has no frames in img1; give its video with it: VIDEO={item}")
        return _of_video(str(folder / "img1"), _tracks(folder), most)
    if (folder / "labels").is_dir():
        return _of_yolo(folder, problems)
    return _of_folder(folder, most, problems)


def _tracks(path: Path) -> MotRows:
    """What the tracks of a file or sequence show: pedestrians that can be seen."""
    file = path / "gt" / "gt.txt" if path.is_dir() else path
    try:
        rows = mot_format.read(file)
    except OSError as error:
        raise UsageError(f"cannot read the tracks {file}: {error.strerror}; check the path") from error
    except ValueError as error:
        raise UsageError(f"{error}; give tracks in MOTChallenge format") from error
    if (rows.class_id >= 0).any():  # a ground truth that tells classes, and which boxes count
        return rows[(rows.class_id == _PEDESTRIAN) & (rows.confidence > 0) & (rows.visibility >= _VISIBLE)]
    return rows


def _of_video(uri: str, rows: MotRows, most: int) -> Iterator[_Crop]:
    wanted = _spread(rows, most)
    order = np.argsort(rows.frame, kind="stable")
    frames, starts = np.unique(rows.frame[order], return_index=True)
    by_frame = dict(zip(frames.tolist(), np.split(order, starts[1:]), strict=True))
    with open_source(uri) as source:
        for frame in source:
            here = by_frame.get(frame.index + 1)
            if here is None or not wanted[here].any():
                continue
            covered = _covered(rows.xyxy[here])
            for row, hidden in zip(here.tolist(), covered.tolist(), strict=True):
                x1, y1, x2, y2 = rows.xyxy[row]
                if wanted[row] and hidden < _COVERED and y2 - y1 >= _SMALLEST:
                    yield _Crop(cut(frame.image, (x1, y1, x2, y2)), str(rows.id[row]), uri, frame.timestamp)


def _spread(rows: MotRows, most: int) -> NDArray[np.bool_]:
    """At most so many rows of each id, evenly spaced."""
    wanted = np.zeros(len(rows), np.bool_)
    for identity in np.unique(rows.id):
        own = np.flatnonzero(rows.id == identity)
        wanted[own[np.linspace(0, len(own) - 1, min(most, len(own))).round().astype(int)]] = True
    return wanted


def _covered(xyxy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of each box behind another that is nearer to the camera: stands lower in the image."""
    low = np.maximum(xyxy[:, None, :2], xyxy[None, :, :2])
    high = np.minimum(xyxy[:, None, 2:], xyxy[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    nearer = xyxy[None, :, 3] > xyxy[:, None, 3]
    area = (xyxy[:, 2:] - xyxy[:, :2]).prod(axis=1)
    return np.asarray((shared * nearer).max(axis=1, initial=0) / np.maximum(area, 1e-9))


def _of_yolo(folder: Path, problems: list[str]) -> Iterator[_Crop]:
    dataset = read_yolo(folder)
    problems += dataset.problems
    person = dataset.names.index("person") if "person" in dataset.names else 0
    for labelled in dataset.images:
        image = read_image(labelled.path)
        if image is None:
            continue  # read_yolo has told
        height, width = image.shape[:2]
        xyxy = (labelled.xyxy[labelled.class_id == person] * (width, height, width, height)).astype(np.float64)
        for n, (box, hidden) in enumerate(zip(xyxy, _covered(xyxy), strict=True)):
            x1, y1, x2, y2 = box
            # lying, sitting and cut persons are wider than the upright ones that trackers see
            if hidden < _COVERED and y2 - y1 >= max(_SMALLEST, 1.2 * (x2 - x1)):
                yield _Crop(cut(image, (x1, y1, x2, y2)), f"{labelled.path.name}#{n}", str(folder), np.nan)


def _of_folder(folder: Path, most: int, problems: list[str]) -> Iterator[_Crop]:
    found: defaultdict[tuple[str, str], list[Path]] = defaultdict(list)
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            images = [file for file in sorted(path.iterdir()) if file.suffix.lower() in IMAGES]
            if not images:
                problems.append(f"{path}: an identity without images; left out")
            found[str(folder), path.name] += images
        elif (match := _MARKET.match(path.name)) and path.suffix.lower() in IMAGES and int(match[1]) > 0:
            found[f"{folder} camera {match[2]}", match[1]].append(path)
    for (group, identity), paths in found.items():
        for n in np.linspace(0, len(paths) - 1, min(most, len(paths))).round().astype(int):
            image = read_image(paths[n])
            if image is None:
                problems.append(f"{paths[n]}: not an image that can be decoded; left out")
                continue
            height, width = image.shape[:2]
            yield _Crop(cut(image, (0, 0, width, height)), identity, group, np.nan)


def cut(image: NDArray[np.uint8], box: tuple[float, float, float, float]) -> NDArray[np.uint8]:
    """What a box shows of the image, scaled, with its margins; where these leave the image its edge is repeated.

    Args:
        image: (H, W, 3) uint8.
        box: x1, y1, x2, y2 in pixels.

    Returns:
        (HEIGHT + 2 margins, WIDTH + 2 margins, 3) uint8.
    """
    down, right = MARGIN
    height, width = image.shape[:2]
    x1, y1, x2, y2 = np.clip(box, 0, (width, height, width, height))  # as the embed stage does
    scale = np.array([(x2 - x1) / WIDTH, (y2 - y1) / HEIGHT])
    # from pixels of the crop to pixels of the image, centre to centre
    start = np.array([x1, y1]) + scale * (0.5 - np.array([right, down])) - 0.5
    mapping = np.array([[scale[0], 0, start[0]], [0, scale[1], start[1]]])
    size = (WIDTH + 2 * right, HEIGHT + 2 * down)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(image, mapping, size, flags=flags, borderMode=cv2.BORDER_REPLICATE), np.uint8)
