"""Average precision against pycocotools, COCO's own code."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.detections import Detections
from pipeline.training.average_precision import CocoRecord, Scores
from pipeline.training.detection_data import Example

NAMES = {0: "person", 2: "car", 5: "ghost"}
IMAGE = np.zeros((4, 4, 3), np.uint8)


def boxes(rng: np.random.Generator, count: int) -> NDArray[np.float32]:
    corner = rng.uniform(0, 300, (count, 2))
    return np.concatenate([corner, corner + rng.uniform(5, 120, (count, 2))], axis=1).astype(np.float32)


def record(seed: int, images: int = 20) -> CocoRecord:
    """Objects, some of them ignored, found more or less well, and false alarms."""
    rng = np.random.default_rng(seed)
    found = CocoRecord()
    for _ in range(images):
        n = int(rng.integers(0, 8))
        truth = Example(IMAGE, boxes(rng, n), rng.choice([0, 2, 7], n), rng.random(n) < 0.2)
        near = truth.xyxy + rng.normal(0, 4, truth.xyxy.shape).astype(np.float32)
        alarms = int(rng.integers(0, 120))
        xyxy = np.concatenate([near, boxes(rng, alarms)]).astype(np.float32)
        # classes of the detector: 0 person, 1 something nobody asked for, 2 car
        class_id = np.concatenate([np.minimum(truth.class_id, 2), rng.integers(0, 3, alarms)])
        found.add(truth, Detections(xyxy, rng.random(len(xyxy)).astype(np.float32), class_id), (0, -1, 2))
    return found


def official(found: CocoRecord) -> NDArray[np.float64]:
    """IoU × class, of precision averaged over recall; NaN where there is no object."""
    coco = pytest.importorskip("pycocotools.coco")
    evaluation = pytest.importorskip("pycocotools.cocoeval")
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco.COCO()
        truth.dataset = {
            "info": {},
            "images": [{"id": n + 1} for n in range(found.images)],
            "categories": [{"id": number, "name": name} for number, name in NAMES.items()],
            "annotations": [one for one in found.truth if one["category_id"] in NAMES],
        }
        truth.createIndex()
        judge = evaluation.COCOeval(truth, truth.loadRes(found.found), "bbox")
        judge.evaluate()
        judge.accumulate()
    precision = judge.eval["precision"][:, :, :, 0, 2]
    return np.asarray(np.where(precision < 0, np.nan, precision).mean(axis=1))


@pytest.mark.parametrize("seed", range(4))
def test_figures_are_those_of_pycocotools(seed: int) -> None:
    found = record(seed)
    theirs, ours = official(found), found.scores(NAMES)
    assert set(ours.classes) == {"person", "car"}  # nothing is said of a class of which there is no object
    for n, name in enumerate(["person", "car"]):
        assert ours.classes[name].ap == pytest.approx(theirs[:, n].mean(), abs=1e-6)
        assert ours.classes[name].ap50 == pytest.approx(theirs[0, n], abs=1e-6)
        assert ours.classes[name].ap75 == pytest.approx(theirs[5, n], abs=1e-6)
    assert ours.mean.ap == pytest.approx(np.nanmean(theirs), abs=1e-6)
    assert 0 < ours.mean.ap < ours.mean.ap50 < 1


def scores_of(xyxy: list[list[float]], ignored: list[bool], found: list[list[float]]) -> Scores:
    truth = np.array(xyxy, np.float32).reshape(-1, 4)
    boxes = np.array(found, np.float32).reshape(-1, 4)
    one = CocoRecord()
    zeros = np.zeros(len(truth), np.int64)
    detections = Detections(boxes, np.linspace(0.9, 0.5, len(boxes), dtype=np.float32), np.zeros(len(boxes), np.int64))
    one.add(Example(IMAGE, truth, zeros, np.array(ignored, np.bool_)), detections, (0,))
    return one.scores({0: "person"})


def test_nothing_found_is_zero() -> None:
    assert scores_of([[0, 0, 10, 10]], [False], []).mean.ap == 0


def test_what_is_ignored_is_neither_missed_nor_wrong() -> None:
    person, other = [0.0, 0.0, 10.0, 10.0], [50.0, 50.0, 60.0, 60.0]
    assert scores_of([person, other], [False, True], [person]).mean.ap == pytest.approx(1)
    assert scores_of([person, other], [False, True], [other, person]).mean.ap == pytest.approx(1)
    assert scores_of([person], [False], [other, person]).mean.ap == pytest.approx(0.5)


def test_no_object_no_figure() -> None:
    assert np.isnan(scores_of([], [], [[0, 0, 10, 10]]).mean.ap)
