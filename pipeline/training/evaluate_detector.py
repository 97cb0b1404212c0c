"""How well a detector finds what is there: average precision on clean, damaged and attacked images."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import coco
from pipeline.classes import class_ids
from pipeline.detections import Detections
from pipeline.errors import UsageError
from pipeline.frame import Frame
from pipeline.inference.torch import TorchModel
from pipeline.stages.detect import Detect, Detector
from pipeline.training.average_precision import CocoRecord, Scores, coco_evaluation
from pipeline.training.corruptions import CORRUPTIONS
from pipeline.training.detection_data import DetectionData, Example
from trackers.registry import nearest

CLEAN, ATTACK = "clean", "attack"

LEAST_SCORE = 0.001
"""Confidence from which detections count: precision is averaged over all recalls, so hardly any is left out."""

MOST = 300
"""Detections an image to be asked for, of all classes together."""

STEP = 2
"""Grey levels by which the attack moves each pixel."""

# where the scores are in a network's first output
_SCORES: dict[str, Callable[[Any], Any]] = {
    "yolov8": lambda output: output[:, 4:],
    "end-to-end": lambda output: output[:, :, 4],
    "rt-detr": lambda output: output[:, :, 4],
}


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What came of it.

    Attributes:
        conditions: figures by condition: "clean", the corruptions, "attack" where it can be made.
        images, objects: how many were looked at, and how many there were to be found.
        ignored: objects that need not be found, and do no harm if they are.
        notes: what a reader must know, a line each.
    """

    conditions: dict[str, Scores]
    images: int
    objects: int
    ignored: int
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Matching:
    """Which class of the detector is which of the ground truth.

    Attributes:
        truth: number in the ground truth of each class of the detector; -1 where it has none.
        names: of the classes that are compared, by their number in the ground truth.
        notes: what does not match, a line each.
    """

    truth: tuple[int, ...]
    names: dict[int, str]
    notes: tuple[str, ...]


def match_classes(
    detector: Sequence[str], truth: Sequence[str], wanted: Sequence[str] = (), numbers: Collection[int] = ()
) -> Matching:
    """By name, whatever the case.

    Args:
        detector, truth: names of the classes by number. wanted: those to compare; all if empty.
        numbers: of the classes in labels without names: names are assumed that fit them, and a note says which.

    Raises:
        UsageError: they have no class in common, or one that is wanted is in neither or one of them only, or no names
            can be assumed.

    >>> match_classes(["person", "car"], ["Car", "tram"]).truth
    (-1, 0)
    """
    notes = []
    if not detector:
        raise UsageError("the detector names no classes, so none can be compared; export it with names")
    if not truth:
        truth, note = _assumed(detector, numbers)
        notes.append(note)
    number = {name.lower(): n for n, name in enumerate(truth)}
    found = {name.lower() for name in detector}
    if wanted:
        kept = {truth[n] for n in class_ids(wanted, truth, "the ground truth")}
        for name in sorted(kept):
            if name.lower() not in found:
                raise UsageError(f"the detector knows no class '{name}'{nearest(name, detector)}")
    else:
        kept = {name for name in truth if name.lower() in found}
        unknown = [name for name in truth if name.lower() not in found]
        if not kept:
            raise UsageError(
                f"the detector knows none of the classes {_listed(truth)}; it knows {_listed(detector)}: "
                "give --names in the words of the detector"
            )
        if unknown:
            notes.append(f"left out, as the detector does not know them: {_listed(unknown)}")
    names = {n: name for n, name in enumerate(truth) if name in kept}
    theirs = (number.get(name.lower(), -1) for name in detector)
    return Matching(tuple(n if n in names else -1 for n in theirs), names, tuple(notes))


def _assumed(detector: Sequence[str], numbers: Collection[int]) -> tuple[Sequence[str], str]:
    """Names for the classes of labels that have none, and what to say of it."""
    highest = max(numbers, default=0)
    if highest < len(detector) and all(name.isdecimal() for name in detector):
        return detector, "the labels and the detector name no classes; their numbers are taken for the same"
    if highest == 0:
        return ["person"], "the labels name no classes and have number 0 only: assumed to be person (--names says else)"
    if tuple(detector) == coco.NAMES and highest < len(detector):
        return detector, "the labels name no classes: assumed to be numbered as COCO's (--names says else)"
    raise UsageError(
        f"the labels name no classes, their numbers go to {highest}, and the detector's {len(detector)} classes "
        f"({_listed(detector)}) are not known to be the same; give --names"
    )


def evaluate(
    stage: Detect,
    data: DetectionData,
    classes: Sequence[str] = (),
    corruptions: Sequence[str] = tuple(CORRUPTIONS),
    *,
    attack: bool = True,
    seed: int = 0,
    tick: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Average precision of the detect stage itself, on the same images in each condition.

    Args:
        stage: with the confidence to count from and the most detections: as a rule `LEAST_SCORE` and `MOST`.
        classes: names of those to compare; all that both know if empty.
        corruptions: which to try. attack: attack the network too, where it runs in PyTorch.
        seed: of the corruptions; each image has its own chance, whatever the others.
        tick: called after each image.

    Raises:
        UsageError: the classes do not match, or there is no object or image to be judged by.
        MissingExtra: faster-coco-eval is not installed.
    """
    coco_evaluation()  # so that it is not missed after all the work
    matching = match_classes(stage.detector.names, data.names, classes, data.numbers())
    slope = _slope(stage.detector) if attack else None
    conditions = [CLEAN, *corruptions, *([ATTACK] if slope else [])]
    records = {name: CocoRecord() for name in conditions}
    for n, example in enumerate(data):
        for name in conditions:
            if name == ATTACK:
                assert slope is not None
                seen = _attacked(stage.detector, slope, example)
            elif name == CLEAN:
                seen = example
            else:
                rng = np.random.default_rng([seed, n])
                seen = _with_image(example, CORRUPTIONS[name](example.image, example.xyxy, rng))
            records[name].add(seen, _detect(stage, seen.image), matching.truth)
        tick()
    clean = records[CLEAN]
    if not clean.images:
        raise UsageError("no image could be read; see what was said of each")
    crowds = [one["iscrowd"] for one in clean.truth if one["category_id"] in matching.names]
    ignored, objects = sum(crowds), len(crowds) - sum(crowds)
    if not objects:
        raise UsageError(f"there is no object of {_listed(list(matching.names.values()))} in these images")
    scores = {name: record.scores(matching.names) for name, record in records.items()}
    return Evaluation(scores, clean.images, objects, ignored, matching.notes)


def _detect(stage: Detect, image: NDArray[np.uint8]) -> Detections:
    frame = Frame(image)
    stage.process([frame])
    return frame.detections


def _with_image(example: Example, image: NDArray[np.uint8]) -> Example:
    return Example(image, example.xyxy, example.class_id, example.ignored)


def _slope(detector: Detector) -> Callable[[NDArray[np.float32]], NDArray[np.float32]] | None:
    """How the sum of all scores changes with the input, where that can be told."""
    model, scores = detector.model, _SCORES.get(detector.head.name)
    if scores is None or not isinstance(model, TorchModel):
        return None
    return lambda batch: model.gradient(batch, scores)


def _attacked(
    detector: Detector, slope: Callable[[NDArray[np.float32]], NDArray[np.float32]], example: Example
) -> Example:
    """The example at the size the network sees, every pixel moved so that all scores fall.

    Goodfellow et al. 2015, "Explaining and Harnessing Adversarial Examples", equation 1: x + ε sign(∇J), with minus the
    sum of the scores for the loss J.
    """
    batch, box = detector.prepare(example.image)
    rows, columns = box.window
    rise = slope(batch)[0][:, rows, columns]
    if detector.head.preprocessing.normalisation.rgb:
        rise = rise[::-1]
    image = np.clip(box.resize(example.image) - STEP * np.sign(rise).transpose(1, 2, 0), 0, 255).astype(np.uint8)
    scale = np.array([image.shape[1], image.shape[0]] * 2) / np.array([*example.image.shape[1::-1]] * 2)
    return Example(image, (example.xyxy * scale).astype(np.float32), example.class_id, example.ignored)


def _listed(names: Sequence[str], most: int = 6) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
