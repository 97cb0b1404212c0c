"""Does a student learn from a teacher? The same one with and without labels that a teacher made, on held-out frames.

    python -m benchmarks.distillation DATA --out FOLDER [--epochs 24] [--json]

DATA is the folder of test data. The given labels are a few images of pedestrians (Penn-Fudan); the teacher labels the
first 600 frames of a surveillance video (PETS 2009 S2L1, vtest.avi), of which no label is given to anyone; both
students are then judged on the last 150 frames of it by the ground truth that people drew. Both begin with the same
random weights, take the same number of steps and keep the epoch that did best on the given images held back. What the
difference shows is what a teacher is worth on the scene itself.
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.frame import Frame
from pipeline.source import open_source
from pipeline.stages.detect import Detect
from pipeline.training.detector import DetectorSettings, train_detector
from pipeline.training.detector_data import DetectorData
from pipeline.training.distil import Labelling, label_videos, student_data
from pipeline.training.distributed import Process
from pipeline.training.yolo_dataset import read_yolo
from trackers.mot_format import read

TAUGHT, HELD_FROM, HELD_STEP = 600, 645, 5
NAMES = ("person",)


def main() -> None:
    """Train both students and print what each finds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="an empty folder for both runs")
    parser.add_argument("--student", default="yolox-n")
    parser.add_argument("--teacher", default="weights/nanodet_g.onnx", help="relative to DATA")
    parser.add_argument("--image-size", type=int, default=256)
    parser.add_argument("--given", type=int, default=100, help="labelled images")
    parser.add_argument("--epochs", type=int, default=24, help="of each student")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()

    given = given_labels(options.data / "train" / "pennfudan", options.given)
    options.out.mkdir(parents=True, exist_ok=True)
    frames = first_frames(options.data / "video" / "vtest.avi", options.out / "video", every=10)
    how = Labelling((str(frames),), every=1)
    with Detect(weights=options.data / options.teacher, confidence=how.confidence, device="cpu") as teacher:
        labelled = label_videos(teacher, how, NAMES, options.out / "labelled")
        taught = student_data(options.out / "labelled", NAMES, given)
    with Detect(weights=options.data / options.teacher, confidence=0.01, device="cpu") as teacher:
        result = {"teacher": average_precision(teacher, options.data)}
    print(f"the teacher labelled {labelled.kept} of {labelled.frames} frames, {labelled.objects} people", flush=True)

    # the given images as often in an epoch as there are images with the teacher's, so that all else is equal
    repeated = (given.train * len(taught.train))[: len(taught.train)]
    for name, data in (
        ("given labels alone", replace(given, train=repeated)),
        ("given labels and the teacher's", taught),
    ):
        folder = options.out / name.replace(" ", "-").replace("'", "")
        settings = DetectorSettings(
            data="",
            model=options.student,
            epochs=options.epochs,
            image_size=options.image_size,
            batch=4,
            augment="light",
            patience=10_000,
        )
        trained = train_detector(
            settings, folder, resume=False, process=Process(0, 1, "cpu"), data=lambda _, data=data: data
        )
        with Detect(weights=trained.exported, confidence=0.01, device="cpu") as student:
            result[name] = average_precision(student, options.data)
        print(f"{name}: AP50 {result[name]:.3f}", flush=True)
    print(json.dumps(result) if options.json else "\n".join(f"{ap:.3f}  {name}" for name, ap in result.items()))


def given_labels(folder: Path, count: int) -> DetectorData:
    """So many images of the folder, evenly taken, a fifth of them to validate on."""
    found = read_yolo(folder, NAMES)
    images = found.images[:: len(found.images) // count][:count]
    return DetectorData(
        tuple(image for n, image in enumerate(images) if n % 5),
        tuple(image for n, image in enumerate(images) if n % 5 == 0),
        NAMES,
        (),
    )


def first_frames(video: Path, folder: Path, every: int) -> Path:
    """The frames that the teacher sees, as a folder of images."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with open_source(str(video), every=every, max_frames=TAUGHT // every) as source:
        for frame in source:
            cv2.imwrite(str(folder / f"{frame.index:06d}.png"), frame.image)
    return folder


def average_precision(detector: Detect, data: Path) -> float:
    """AP at an IoU of 0.5 on the held-out frames, as COCO defines it."""
    truth = read(data / "mot" / "MOT15" / "PETS09-S2L1" / "gt" / "gt.txt")
    images, boxes, found = [], [], []
    with open_source(str(data / "video" / "vtest.avi")) as source:
        for frame in source:
            if frame.index < HELD_FROM or frame.index % HELD_STEP:
                continue
            images.append({"id": frame.index, "width": frame.image.shape[1], "height": frame.image.shape[0]})
            boxes += [row(frame, xyxy) for xyxy in truth.xyxy[truth.frame == frame.index + 1]]
            detector.process([frame])
            for xyxy, score, number in zip(
                frame.detections.xyxy, frame.detections.confidence, frame.detections.class_id, strict=True
            ):
                if frame.detections.names[number] == "person":
                    found.append({**row(frame, xyxy), "score": float(score)})
    return coco_ap50(images, boxes, found)


def row(frame: Frame, xyxy: NDArray[np.floating]) -> dict[str, object]:
    """A box as COCO writes it."""
    x1, y1, x2, y2 = map(float, xyxy)
    area = (x2 - x1) * (y2 - y1)
    return {"image_id": frame.index, "category_id": 1, "bbox": [x1, y1, x2 - x1, y2 - y1], "area": area, "iscrowd": 0}


def coco_ap50(images: list[dict[str, int]], boxes: list[dict[str, object]], found: list[dict[str, object]]) -> float:
    """The second line of COCO's summary."""
    from faster_coco_eval import COCO, COCOeval_faster

    numbered = [{**box, "id": n} for n, box in enumerate(boxes, 1)]
    truth = COCO({"images": images, "annotations": numbered, "categories": [{"id": 1, "name": "person"}]})
    if not found:
        return 0.0
    evaluation = COCOeval_faster(truth, truth.loadRes(found), "bbox", print_function=lambda *_: None)
    evaluation.run()
    return float(evaluation.stats[1])


if __name__ == "__main__":
    main()
