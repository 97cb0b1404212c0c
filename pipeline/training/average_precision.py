"""Average precision of detections, computed by COCO's own evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.detections import Detections
from pipeline.errors import MissingExtra
from pipeline.training.detection_data import Example


@dataclass(frozen=True, slots=True)
class Precision:
    """Average precision, 0..1: over IoU 0.50, 0.55 … 0.95 (AP50-95), at 0.50 and at 0.75. NaN without any object."""

    ap: float
    ap50: float
    ap75: float


@dataclass(frozen=True, slots=True)
class Scores:
    """The mean over the classes of which there are objects, and each of those by name."""

    mean: Precision
    classes: dict[str, Precision]


@dataclass(slots=True)
class CocoRecord:
    """Objects and detections, image by image, numbered as COCO's evaluation wants them."""

    truth: list[dict[str, Any]] = field(default_factory=list)
    found: list[dict[str, Any]] = field(default_factory=list)
    images: int = 0

    def add(self, example: Example, detections: Detections, classes: Sequence[int]) -> None:
        """Take in an image.

        Args:
            classes: for each class of the detector its number in the ground truth, -1 where that has none.
        """
        self.images += 1
        for box, class_id, ignored in zip(example.xyxy, example.class_id, example.ignored, strict=True):
            x1, y1, x2, y2 = map(float, box)
            self.truth.append(
                {
                    "id": len(self.truth) + 1,
                    "image_id": self.images,
                    "category_id": int(class_id),
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": int(ignored),  # a crowd takes up any number of detections, and none is missed
                }
            )
        for box, score, class_id in zip(detections.xyxy, detections.confidence, detections.class_id, strict=True):
            if classes[class_id] >= 0:
                x1, y1, x2, y2 = map(float, box)
                self.found.append(
                    {
                        "image_id": self.images,
                        "category_id": classes[class_id],
                        "bbox": [x1, y1, x2 - x1, y2 - y1],
                        "score": float(score),
                    }
                )

    def scores(self, names: dict[int, str]) -> Scores:
        """Average precision as COCO defines it: 101 points of recall, the best 100 detections an image and class.

        Args:
            names: of the classes that count, by their number in the ground truth.

        Raises:
            MissingExtra: faster-coco-eval is not installed.
        """
        COCO, COCOeval_faster = coco_evaluation()
        dataset = {
            "images": [{"id": n} for n in range(1, self.images + 1)],
            "categories": [{"id": number, "name": name} for number, name in names.items()],
            "annotations": [one for one in self.truth if one["category_id"] in names],
        }
        truth = COCO(dataset)
        # it knows no empty list of results; one in no image that counts is the same
        found = truth.loadRes([one for one in self.found if one["category_id"] in names] or [_nothing(names)])
        evaluation = COCOeval_faster(truth, found, iouType="bbox", print_function=lambda *_: None)
        evaluation.evaluate()
        evaluation.accumulate()
        table = evaluation.eval["precision"][:, :, :, 0, -1]  # IoU × recall × class, of objects of any size
        figures = np.where(table < 0, np.nan, table).mean(axis=1)  # -1: there is no object of that class
        classes = {name: _precision(figures[:, n]) for n, name in enumerate(names[k] for k in sorted(names))}
        present = ~np.isnan(figures[0])
        mean = figures[:, present].mean(axis=1) if present.any() else np.full(len(figures), np.nan)
        return Scores(_precision(mean), {name: one for name, one in classes.items() if not np.isnan(one.ap)})


def coco_evaluation() -> tuple[Any, Any]:
    """The classes of faster-coco-eval for data and for judging it; raises MissingExtra without it."""
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ImportError as error:
        raise MissingExtra("evaluations", "eval") from error
    return COCO, COCOeval_faster


def _nothing(names: dict[int, str]) -> dict[str, Any]:
    return {"image_id": 1, "category_id": min(names), "bbox": [0.0, 0.0, 0.0, 0.0], "score": 0.0}


def _precision(by_iou: Any) -> Precision:
    return Precision(float(by_iou.mean()), float(by_iou[0]), float(by_iou[5]))
