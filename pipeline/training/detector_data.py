"""What a detector is trained on: labelled images checked, divided and laid out as the training libraries read them."""

from __future__ import annotations

import math
import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from pipeline.errors import UsageError
from pipeline.files.output import cannot_write, replace_file
from pipeline.training.yolo_dataset import LabelledImage, YoloDataset, read_yolo


@dataclass(frozen=True, slots=True)
class DetectorData:
    """Images to train on, images to validate on, and the classes of both.

    Attributes:
        problems: what was wrong with the data and what was done about it, a line each.
    """

    train: tuple[LabelledImage, ...]
    validation: tuple[LabelledImage, ...]
    names: tuple[str, ...]
    problems: tuple[str, ...]


def read_data(path: Path, validation: str, seed: int, names: Sequence[str] = ()) -> DetectorData:
    """Read YOLO-format data and divide it.

    Args:
        path: a folder with images/ and labels/, or a data.yaml.
        validation: a share such as "0.1", taken at random; another folder or data.yaml; or empty: the data's own
            validation part where it has one, else a tenth.
        seed: of the random share.
        names: of the classes, where the data does not give them.

    Raises:
        UsageError: nothing to train on, no object in it, or classes that differ between the two parts.
    """
    share = _share(validation)
    if share is None:
        train, held = read_yolo(path, names), read_yolo(Path(validation), names)
    else:
        parts = _own_parts(path, names) if not validation else None
        train, held = parts or _divided(read_yolo(path, names), share, seed)
    if held.names and held.names != train.names:
        raise UsageError(
            f"the classes to validate on ({', '.join(held.names)}) are not those to train on "
            f"({', '.join(train.names)}); give both the same list"
        )
    seen = {int(number) for image in (*train.images, *held.images) for number in image.class_id}
    if not any(len(image.class_id) for image in train.images):
        raise UsageError(f"no image to train on in {path} has a labelled object; check its labels folder")
    classes = train.names or tuple(str(number) for number in range(max(seen) + 1))
    problems = list(dict.fromkeys(train.problems + held.problems))
    return DetectorData(train.images, held.images, classes, tuple(problems))


def write_data(data: DetectorData, folder: Path, *, balanced: bool, seed: int) -> Path:
    """Lay the data out below `folder`, the images as links, and return its data.yaml.

    Args:
        balanced: list images of rare classes several times.

    Raises:
        FramechainError: it cannot be written.
    """
    folder = folder.resolve()
    lists = {}
    try:
        for part, images in (("train", data.train), ("val", data.validation)):
            for kind in ("images", "labels"):
                shutil.rmtree(folder / kind / part, ignore_errors=True)
                (folder / kind / part).mkdir(parents=True)
            paths = [_place(folder, part, n, image) for n, image in enumerate(images)]
            repeats = repeat_factors(images, seed) if balanced and part == "train" else [1] * len(images)
            lists[part] = [path for path, times in zip(paths, repeats, strict=True) for _ in range(times)]
            replace_file(folder / f"{part}.txt", "".join(f"{path}\n" for path in lists[part]))
    except OSError as error:
        raise cannot_write(folder, error) from error
    description = {
        "path": str(folder),
        "train": str(folder / "train.txt"),
        "val": str(folder / "val.txt"),
        "nc": len(data.names),
        "names": dict(enumerate(data.names)),
    }
    replace_file(folder / "data.yaml", yaml.safe_dump(description, sort_keys=False, allow_unicode=True))
    return folder / "data.yaml"


def repeat_factors(images: Sequence[LabelledImage], seed: int) -> list[int]:
    """How many times to list each image so that rare classes are seen more often.

    Repeat-factor sampling (Gupta et al. 2019, "LVIS", section on it): a class in a share f of the images has the
    factor max(1, sqrt(t / f)), an image the largest of its classes', rounded at random. t is here the mean share of
    the classes: those rarer than average are repeated.

    >>> common = LabelledImage(Path("a"), np.array([0]), np.zeros((1, 4), np.float32))
    >>> rare = LabelledImage(Path("b"), np.array([0, 1]), np.zeros((2, 4), np.float32))
    >>> repeat_factors([common] * 31 + [rare], seed=0)[-2:]
    [1, 4]
    """
    present = [set(image.class_id.tolist()) for image in images]
    counts: dict[int, int] = {}
    for classes in present:
        for number in classes:
            counts[number] = counts.get(number, 0) + 1
    mean = sum(counts.values()) / max(len(counts), 1)
    draw = random.Random(seed)
    factors = [max((math.sqrt(mean / counts[number]) for number in classes), default=1.0) for classes in present]
    return [math.floor(factor + draw.random()) if factor > 1 else 1 for factor in factors]


def _share(validation: str) -> float | None:
    """The share that `validation` asks for; None where it is a path."""
    try:
        share = float(validation or "0.1")
    except ValueError:
        return None
    if not 0 < share < 1:
        raise UsageError(
            f"a share of {validation} cannot be kept for validation; give one between 0 and 1, or a folder"
        )
    return share


def _own_parts(path: Path, names: Sequence[str]) -> tuple[YoloDataset, YoloDataset] | None:
    if (path / "images").is_dir() and not (path / "images" / "val").is_dir() and not (path / "data.yaml").is_file():
        return None
    try:
        return read_yolo(path, names, "train"), read_yolo(path, names, "val")
    except UsageError:
        return None


def _divided(data: YoloDataset, share: float, seed: int) -> tuple[YoloDataset, YoloDataset]:
    if len(data.images) < 2:
        raise UsageError("one image cannot be divided into training and validation; add images, or give --val FOLDER")
    count = min(max(1, round(share * len(data.images))), len(data.images) - 1)
    held = set(random.Random(seed).sample(range(len(data.images)), count))
    train = tuple(image for n, image in enumerate(data.images) if n not in held)
    return (
        YoloDataset(train, data.names, data.problems),
        YoloDataset(tuple(data.images[n] for n in sorted(held)), data.names, ()),
    )


def _place(folder: Path, part: str, number: int, image: LabelledImage) -> Path:
    """Link an image and write its labels; names are numbered, as several folders may hold the same."""
    name = f"{number:06d}_{image.path.stem}"
    link = folder / "images" / part / f"{name}{image.path.suffix.lower()}"
    try:
        link.symlink_to(image.path.resolve())
    except OSError:  # file systems without links, and Windows without the right to make them
        shutil.copyfile(image.path, link)
    (folder / "labels" / part / f"{name}.txt").write_text(label_lines(image))
    return link


def label_lines(image: LabelledImage) -> str:
    """The text of a label file: class, centre, width and height of each object as fractions of the image."""
    centre, size = (image.xyxy[:, :2] + image.xyxy[:, 2:]) / 2, image.xyxy[:, 2:] - image.xyxy[:, :2]
    rows = np.concatenate([centre, size], axis=1).tolist()
    return "".join(
        f"{number} {' '.join(f'{value:.6f}' for value in row)}\n"
        for number, row in zip(image.class_id.tolist(), rows, strict=True)
    )
