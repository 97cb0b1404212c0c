"""Pictures in which all objects are known: images in YOLO's format, or a MOTChallenge sequence."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UsageError
from pipeline.opencv import read_image
from pipeline.source import open_source
from pipeline.training.yolo_dataset import LabelledImage, read_yolo
from trackers import mot_format
from trackers.mot_format import MotRows

VISIBLE = 0.25
"""Share of a pedestrian that must be seen to be expected: detectors cannot find, and are not trained on, those who are
hidden behind others; the ground truth of MOTChallenge follows them through."""

_PEDESTRIAN = 1
_DISTRACTORS = (2, 7, 8, 12)  # person on a vehicle, static person, distractor, reflection (Milan et al. 2016, MOT16)


@dataclass(frozen=True, slots=True)
class Example:
    """An image and its objects.

    Attributes:
        image: (H, W, 3) uint8, BGR. xyxy: (N, 4) float32 pixels. class_id: (N,) int64.
        ignored: (N,) bool: to find such an object is neither right nor wrong.
    """

    image: NDArray[np.uint8]
    xyxy: NDArray[np.float32]
    class_id: NDArray[np.int64]
    ignored: NDArray[np.bool_]


@dataclass(slots=True)
class DetectionData(ABC):
    """Examples, read one by one while they are iterated over.

    Attributes:
        names: of the classes; empty where nobody says.
        problems: what could not be used, a line each; more may come while reading.
    """

    names: tuple[str, ...]
    problems: list[str]

    @abstractmethod
    def __iter__(self) -> Iterator[Example]:
        """The images, in order."""

    @abstractmethod
    def __len__(self) -> int:
        """How many there should be."""

    def numbers(self) -> frozenset[int]:
        """Of the classes that labels without names have; empty where nobody says."""
        return frozenset()


@dataclass(slots=True)
class _Images(DetectionData):
    images: Sequence[LabelledImage]
    seen: frozenset[int]

    def numbers(self) -> frozenset[int]:
        return self.seen

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[Example]:
        for labelled in self.images:
            image = read_image(labelled.path)
            if image is None:
                self.problems.append(f"{labelled.path}: cannot be read any more; left out")
                continue
            height, width = image.shape[:2]
            xyxy = labelled.xyxy * np.array([width, height, width, height], np.float32)
            nothing = np.zeros(len(xyxy), np.bool_)
            yield Example(np.asarray(image, np.uint8), xyxy, labelled.class_id, nothing)


@dataclass(slots=True)
class _Sequence(DetectionData):
    frames: str
    rows: MotRows
    chosen: Sequence[int]
    visible: float

    def __len__(self) -> int:
        return len(self.chosen)

    def __iter__(self) -> Iterator[Example]:
        wanted = set(self.chosen)
        last = max(wanted)
        with open_source(self.frames) as source:
            for frame in source:
                number = frame.index + 1
                if number in wanted:
                    wanted.remove(number)
                    here = self.rows[self.rows.frame == number]
                    person = (here.class_id == _PEDESTRIAN) | (here.class_id < 0)
                    ignored = ~person | (here.confidence <= 0) | (here.visibility < self.visible)
                    xyxy = here.xyxy.astype(np.float32)
                    yield Example(frame.image, xyxy, np.zeros(len(here), np.int64), ignored)
                if number >= last:
                    break
        if wanted:
            self.problems.append(f"{self.frames}: frame {min(wanted)} and {len(wanted) - 1} more are not in it")


def read_detection_data(
    item: str | Path,
    names: Sequence[str] = (),
    *,
    split: str = "",
    every: int = 1,
    limit: int | None = None,
    visible: float | None = None,
) -> DetectionData:
    """Find out what there is; images and frames are decoded when they are asked for.

    Of a MOTChallenge ground truth those pedestrians count that it marks as to be considered; the other people in it,
    and reflections, are ignored.

    Args:
        item: a folder or data.yaml in YOLO's format, the folder of a MOTChallenge sequence (gt/gt.txt, img1/), or
            `VIDEO=TRUTH`, where TRUTH is such a folder or a ground truth in MOTChallenge format.
        names: of the classes, where YOLO labels come without. split: "train", "val" or "test" of them; all if empty.
        every: use every n-th image or frame only. limit: use no more than so many.
        visible: pedestrians of whom a smaller share can be seen are ignored, where the ground truth tells the share
            (MOT16 and later); `VISIBLE` if None. It has wholly hidden ones, too, so at 0 no detector finds all.

    Raises:
        UsageError: nothing there can be used, or an option is not for such data.
    """
    video, equals, truth = str(item).rpartition("=")
    path = Path(item).expanduser()
    if equals and not path.exists():
        path = Path(truth).expanduser()
        if not Path(video).expanduser().exists():
            raise UsageError(f"there is no video {video} of {item}; check the path")
    elif (path / "gt").is_dir():
        video = str(path / "img1")
        if not Path(video).is_dir():
            raise UsageError(f"{item} has no frames in img1; give its video with it: VIDEO={item}")
    else:
        if visible is not None:
            raise UsageError(f"only a MOTChallenge ground truth tells what is visible, and {item} is none")
        dataset = read_yolo(path, names, split)
        seen = frozenset(int(number) for image in dataset.images for number in image.class_id)
        return _Images(dataset.names, list(dataset.problems), dataset.images[::every][:limit], seen)
    if names or split:
        raise UsageError(f"{item} has one class, person, and no split; names and split go with labels in YOLO's format")
    rows = _ground_truth(path / "gt" / "gt.txt" if path.is_dir() else path)
    numbers = range(1, int(rows.frame.max()) + 1)[::every][:limit]
    return _Sequence(("person",), [], video, rows, numbers, VISIBLE if visible is None else visible)


def _ground_truth(file: Path) -> MotRows:
    """Pedestrians, and what must not be held against a detector that takes it for one."""
    try:
        rows = mot_format.read(file)
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}; give a MOTChallenge sequence") from error
    except (ValueError, UnicodeDecodeError) as error:
        raise UsageError(f"{error}; give a ground truth in MOTChallenge format") from error
    known = rows[(rows.class_id < 0) | np.isin(rows.class_id, (_PEDESTRIAN, *_DISTRACTORS))]
    if not len(known):
        raise UsageError(f"{file} tells of no pedestrian; give a ground truth in MOTChallenge format")
    return known
