"""Images with boxes in YOLO's format: a text file for each image, a line for each object."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from pipeline.address import IMAGES
from pipeline.errors import UsageError
from pipeline.opencv import read_image, silence


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """An image and the objects in it.

    Attributes:
        path: of the image. class_id: (N,) int64. xyxy: (N, 4) float32, fractions of the image's sides, in 0..1.
    """

    path: Path
    class_id: NDArray[np.int64]
    xyxy: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class YoloDataset:
    """All that could be read.

    Attributes:
        images: in the order of their paths. names: of the classes; empty where the data does not say.
        problems: what was wrong and what was done about it, a line each.
    """

    images: tuple[LabelledImage, ...]
    names: tuple[str, ...]
    problems: tuple[str, ...]


def read_yolo(path: Path, names: Sequence[str] = (), split: str = "") -> YoloDataset:
    """Read a folder with `images` and `labels`, or what an Ultralytics data.yaml describes.

    An image without a file of labels has no objects. What cannot be used is named in `problems` and left out.

    Args:
        path: the folder, or the YAML file; a folder that holds a data.yaml is read by it.
        names: of the classes, where the data does not give them.
        split: "train", "val" or "test" of the YAML, or that folder below images; all of them if empty.

    Raises:
        UsageError: there is nothing to be used.
    """
    silence()
    path = path.expanduser()
    if not path.exists():
        raise UsageError(f"there is no data at {path}; check the path")
    described = path / "data.yaml" if (path / "data.yaml").is_file() else path
    if described.is_file():
        folders, own = _described(described, split)
    else:
        folders, own = [path / "images" / split], ()
    names = own or tuple(names)
    problems: list[str] = []
    images = [image for folder in dict.fromkeys(folders) for image in _images(folder, len(names), problems)]
    if not images:
        reason = f" ({problems[0]})" if problems else ""
        raise UsageError(f"{path} has no image that can be used{reason}; give a folder with images/ and labels/")
    seen = {int(number) for image in images for number in image.class_id}
    problems += [f"{path}: no object of class {name}" for n, name in enumerate(names) if n not in seen and own]
    return YoloDataset(tuple(images), tuple(names), tuple(problems))


def _described(file: Path, split: str) -> tuple[list[Path], tuple[str, ...]]:
    """The folders of images, and the names of the classes, that a data.yaml gives."""
    try:
        raw: Any = yaml.safe_load(file.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{file} is not a readable data.yaml; give the folder with images/ and labels/") from error
    if not isinstance(raw, dict):
        raise UsageError(f"{file} is no data.yaml: it gives no train, val and names")
    names = raw.get("names") or ()
    names = tuple(map(str, names.values() if isinstance(names, dict) else names))
    root = file.parent / str(raw.get("path", "."))
    root = root if root.is_dir() else file.parent
    parts = [raw[key] for key in ([split] if split else ("train", "val", "test")) if raw.get(key)]
    if not parts:
        raise UsageError(f"{file} gives no folder of images as {split or 'train, val or test'}")
    return [root / entry for part in parts for entry in (part if isinstance(part, list) else [part])], names


def _images(folder: Path, classes: int, problems: list[str]) -> Iterator[LabelledImage]:
    if not folder.is_dir():
        problems.append(f"{folder}: no such folder")
        return
    files = [file for file in sorted(folder.rglob("*")) if file.suffix.lower() in IMAGES]
    if not files:
        problems.append(f"{folder}: no image in it")
    for file in files:
        if read_image(file) is None:
            problems.append(f"{file}: not an image that can be decoded; left out")
            continue
        yield LabelledImage(file, *_objects(_labels(file), classes, problems))


def _labels(image: Path) -> Path:
    """images/a/b.jpg → labels/a/b.txt."""
    parts = list(image.parts)
    for n in reversed(range(len(parts) - 1)):
        if parts[n] == "images":
            parts[n] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _objects(file: Path, classes: int, problems: list[str]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    numbers: list[int] = []
    boxes: list[NDArray[np.float64]] = []
    try:
        lines = file.read_text().splitlines() if file.exists() else []
    except (OSError, UnicodeDecodeError):
        problems.append(f"{file}: not a text file; its image counts as empty")
        lines = []
    for n, line in enumerate(lines, 1):
        words = line.split()
        if not words:
            continue
        where = f"{file}, line {n}"
        try:
            values = np.array(words, np.float64)
        except ValueError:
            values = np.zeros(0)
        if len(values) not in (5, 6) or not np.isfinite(values).all() or values[0] != int(values[0]) or values[0] < 0:
            problems.append(f"{where}: not 'class x y width height'; left out")
            continue
        if classes and values[0] >= classes:
            problems.append(f"{where}: class {int(values[0])} of {classes} classes; left out")
            continue
        centre, size = values[1:3], values[3:5]
        box = np.concatenate([centre - size / 2, centre + size / 2])
        inside = np.clip(box, 0, 1)
        if (inside[2:] <= inside[:2]).any():
            problems.append(f"{where}: a box without area inside the image; left out")
            continue
        if np.abs(inside - box).max() > 1e-3:
            problems.append(f"{where}: a box that reaches outside the image; cut at its edge")
        numbers.append(int(values[0]))
        boxes.append(inside)
    return np.array(numbers, np.int64), np.array(boxes, np.float32).reshape(-1, 4)
