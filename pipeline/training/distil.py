"""Distillation of a detector: a teacher labels frames of videos, and a student learns from them."""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from pipeline.errors import FramechainError, UsageError
from pipeline.files.output import cannot_write, file_safe, replace_file
from pipeline.frame import Frame
from pipeline.source import open_source
from pipeline.stages.detect import Detect
from pipeline.training.detector_data import DetectorData, label_lines, read_data
from pipeline.training.yolo_dataset import LabelledImage, read_yolo

_THUMBNAIL = 64  # pixels of the side of the grey pictures that are compared
_CHANGED = 10  # grey levels from which a pixel of them counts as changed; noise and compression stay below
_REMEMBERED = 32  # frames of a video that a new one is compared with
_COUNTS = "labelled.json"


@dataclass(frozen=True, slots=True)
class Labelling:
    """How a teacher labels videos.

    Attributes:
        videos: files or folders of images. every: take each n-th frame. confidence: least score of an object.
        classes: to label, by the teacher's names; all of them if empty.
        novelty: share of the picture that must differ from every frame kept lately; what does not is left out.
    """

    videos: tuple[str, ...]
    every: int = 10
    confidence: float = 0.4
    classes: tuple[str, ...] = ()
    novelty: float = 0.02


@dataclass(frozen=True, slots=True)
class Labelled:
    """What came of it: frames looked at, left out as known already, and kept; objects in those."""

    frames: int
    known: int
    kept: int
    objects: int


def check_videos(how: Labelling) -> None:
    """Open every video once; raises UsageError or FramechainError where one cannot be read."""
    for video in how.videos:
        open_source(video, every=how.every).close()


def label_videos(
    teacher: Detect,
    how: Labelling,
    names: Sequence[str],
    folder: Path,
    on_frame: Callable[[int], None] = lambda _: None,
) -> Labelled:
    """Write frames with the teacher's boxes as a YOLO-format folder; one that is complete already is left as it is.

    Args:
        teacher: an open stage.
        names: the classes to number them by; what the teacher finds besides is left out.
        folder: gets images/, labels/ and data.yaml.
        on_frame: told the number of frames so far.

    Raises:
        UsageError: a video cannot be read.
        FramechainError: nothing to learn from was found, or the folder cannot be written.
    """
    counts = folder / _COUNTS
    if counts.is_file():
        return Labelled(**json.loads(counts.read_text()))
    numbers = {name: number for number, name in enumerate(names)}
    frames = known = kept = objects = 0
    try:
        for part in ("images", "labels"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        for n, video in enumerate(how.videos):
            lately: deque[NDArray[np.int16]] = deque(maxlen=_REMEMBERED)
            with open_source(video, every=how.every) as source:
                for frame in source:
                    frames += 1
                    on_frame(frames)
                    small = _thumbnail(frame.image)
                    if any(changed(small, other) < how.novelty for other in lately):
                        known += 1
                        continue
                    lately.append(small)
                    image = _labelled(teacher, frame, numbers, folder / "images" / f"{n}_{file_safe(frame.source)}")
                    (folder / "labels" / f"{image.path.stem}.txt").write_text(label_lines(image))
                    kept, objects = kept + 1, objects + len(image.class_id)
        if not objects:
            raise FramechainError(
                f"the teacher found nothing in {frames} frames; give a lower --confidence, other --classes or videos"
            )
        description = {"path": ".", "train": "images", "names": dict(enumerate(names))}
        replace_file(folder / "data.yaml", yaml.safe_dump(description, sort_keys=False, allow_unicode=True))
        result = Labelled(frames, known, kept, objects)
        replace_file(counts, json.dumps({"frames": frames, "known": known, "kept": kept, "objects": objects}) + "\n")
    except OSError as error:
        raise cannot_write(folder, error) from error
    return result


def student_data(labelled: Path, names: tuple[str, ...], given: DetectorData | None) -> DetectorData:
    """What the student learns from: the teacher's labels, and the given ones where there are any.

    The given data alone is validated on; without it, the last tenth of the labelled frames.
    """
    found = read_yolo(labelled, names)
    if given is not None:
        return replace(given, train=given.train + found.images, problems=given.problems + found.problems)
    held = max(1, math.ceil(len(found.images) / 10))
    if held == len(found.images):
        raise FramechainError("only one frame was kept; give more video, a smaller --every or a lower --novelty")
    return DetectorData(found.images[:-held], found.images[-held:], names, found.problems)


def class_names(
    teacher: Sequence[str], how: Labelling, data: Path | None, validation: str, seed: int
) -> tuple[tuple[str, ...], DetectorData | None]:
    """The classes of the student, and the given data numbered by them.

    They are those of the data where it names them, else the ones asked for, else all of the teacher's.

    Raises:
        UsageError: the teacher does not know a class that is asked for, or knows none of the data's.
    """
    if not teacher:
        raise UsageError("the teacher's weights do not name its classes; give others")
    if unknown := [name for name in how.classes if name not in teacher]:
        raise UsageError(f"the teacher knows no class '{unknown[0]}'; it knows: {', '.join(teacher[:24])}")
    if data is None:
        return how.classes or tuple(teacher), None
    given = read_data(data, validation, seed, how.classes or teacher)
    if not set(given.names) & set(how.classes or teacher):
        raise UsageError(
            f"the teacher labels none of the classes of {data} ({', '.join(given.names[:24])}); "
            f"give --classes, or data with the teacher's names"
        )
    return given.names, given


def changed(a: NDArray[np.int16], b: NDArray[np.int16]) -> float:
    """Share of the pixels that differ visibly."""
    return float((np.abs(a - b) > _CHANGED).mean())


def _thumbnail(image: NDArray[np.uint8]) -> NDArray[np.int16]:
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    return np.asarray(cv2.resize(grey, (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA), np.int16)


def _labelled(teacher: Detect, frame: Frame, numbers: dict[str, int], stem: Path) -> LabelledImage:
    """Write the picture; the teacher's boxes in it as fractions."""
    teacher.process([frame])
    found, (height, width) = frame.detections, frame.image.shape[:2]
    rows = [n for n in range(len(found)) if found.class_name(int(found.class_id[n])) in numbers]
    class_id = [numbers[found.class_name(int(found.class_id[n]))] for n in rows]
    path = stem.with_name(f"{stem.name}_{frame.index:08d}.jpg")
    done, data = cv2.imencode(".jpg", frame.image, [cv2.IMWRITE_JPEG_QUALITY, 95])
    if not done:
        raise FramechainError(f"frame {frame.index} of {frame.source} cannot be encoded as JPEG")
    path.write_bytes(data.tobytes())
    fractions = found.xyxy[rows] / np.array([width, height] * 2, np.float32)
    return LabelledImage(path, np.array(class_id, np.int64), fractions.astype(np.float32).reshape(-1, 4))
