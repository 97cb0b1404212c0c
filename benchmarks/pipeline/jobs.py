"""Runs contestants, one process at a time, and what they need before."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.environments import clean, python_with
from benchmarks.pipeline.contestants import REQUIREMENTS, Contestant
from benchmarks.trackers.jobs import say
from pipeline.detections import Detections
from pipeline.training.average_precision import CocoRecord
from pipeline.training.detection_data import Example
from trackers import mot_format

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
_PATIENCE = 900.0  # seconds for one contestant
_LEAST = 0.001  # score from which detections count: precision is averaged over all recalls
_SURE = 0.25  # score from which the reference's detections are taken for objects

Report = dict[str, Any]


class Workshop:
    """Makes what contestants need and runs them.

    Args:
        arguments: weights, video, classes, size, venvs, work; warmup and frames to time.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        self._rivals = python_with(arguments.venvs.absolute() / "pipeline", REQUIREMENTS, torch=True)

    def timed(self, one: Contestant) -> Report:
        """Frames a second and what else it reports, or the error."""
        return self._run(one, {"warmup": self._arguments.warmup, "frames": self._arguments.frames})

    def accuracy(self, contestants: Sequence[Contestant], truth: Path, every: int) -> Report:
        """Average precision of everyone's detections: against the truth, and against what YOLO(.pt) is sure of."""
        detecting = {json.dumps([one.kind, self._detecting(one)]): one for one in reversed(contestants)}
        found = {}
        for one in reversed(detecting.values()):
            if one.kind == "loop":
                continue  # detects as YOLO(.pt) does
            say(f"accuracy of {one.name}")
            found[one.name] = self._run(one, {"found": True, "every": every, "least": _LEAST})
        sure = found.get("ultralytics", {})
        return {
            name: {
                "truth": _precision(rows, _labelled(truth)),
                "agreement": _precision(rows, {number: _boxes(row, _SURE) for number, row in sure.items()}),
            }
            for name, rows in found.items()
        }

    def _detecting(self, one: Contestant) -> Report:
        return {key: value for key, value in one.options.items() if key not in ("tracker", "embed")}

    def _run(self, one: Contestant, more: Report) -> Report:
        options = dict(one.options)
        if options.get("fitted"):
            options["size"] = self._fitted()
        job = {
            "kind": one.kind,
            "options": options,
            "weights": str(self._weights(one, options).absolute()),
            "video": str(self._arguments.video.absolute()),
            "size": self._arguments.size,
            "classes": self._arguments.classes,
            **more,
        }
        return self._process(self._python(one), job)

    def _python(self, one: Contestant) -> Path:
        return Path(sys.executable) if one.kind == "framechain" else self._rivals

    def _process(self, python: Path, job: Report) -> Report:
        with tempfile.TemporaryDirectory(prefix="pipeline-") as folder:
            order, out = Path(folder) / "job.json", Path(folder) / "out.json"
            order.write_text(json.dumps({**job, "out": str(out)}))
            ours = {"PYTHONPATH": str(ROOT)} if python == Path(sys.executable) else {}
            offline = {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false"}
            done = subprocess.run(
                [python, HERE / "worker.py", order],
                env=clean() | ours | offline,
                timeout=_PATIENCE,
                capture_output=True,
                text=True,
                cwd=folder,
                check=False,
            )
            if out.is_file():
                report: Report = json.loads(out.read_text())
                return report
            return {"error": (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1][:300]}

    def _weights(self, one: Contestant, options: Report) -> Path:
        """The checkpoint, or the network that the contestant's own program exports of it, once."""
        arguments = self._arguments
        if "export" not in options:
            return Path(arguments.weights)
        shape = "x".join(map(str, options["size"])) if "size" in options else str(arguments.size)
        suffix = ".onnx" if options["export"] == "onnx" else "_openvino_model"
        made = arguments.work / f"{arguments.weights.stem}-{one.kind}-{options['export']}-{shape}{suffix}"
        if made.exists():
            return Path(made)
        made.parent.mkdir(parents=True, exist_ok=True)
        say(f"exporting {made.name}")
        if one.kind == "framechain":
            words = ["export", arguments.weights, "--format", "openvino", "--precision", options["export"]]
            words += ["--calibration", arguments.video, "--out", made, "--force"]
            subprocess.run([sys.executable, "-m", "pipeline", *words], check=True, cwd=os.getcwd())
            return Path(made)
        with tempfile.TemporaryDirectory() as folder:  # Ultralytics writes beside the weights
            copy = Path(folder) / arguments.weights.name
            copy.write_bytes(arguments.weights.read_bytes())
            job = {"options": options, "weights": str(copy), "size": arguments.size, "exported": str(made.absolute())}
            self._process(self._rivals, job)
        return Path(made)

    def _fitted(self) -> list[int]:
        """Height and width of the input that the video's frames fill but for less than a stride."""
        capture = cv2.VideoCapture(str(self._arguments.video))
        width, height = capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT)
        scale = self._arguments.size / max(width, height)
        return [32 * -(-round(side * scale) // 32) for side in (height, width)]


def _boxes(row: list[Any], least: float) -> Example:
    xyxy, scores = np.asarray(row[0], np.float32).reshape(-1, 4), np.asarray(row[1], np.float32)
    kept = xyxy[scores >= least]
    return Example(np.zeros((1, 1, 3), np.uint8), kept, np.zeros(len(kept), np.int64), np.zeros(len(kept), np.bool_))


def _labelled(truth: Path) -> dict[str, Example]:
    rows = mot_format.read(truth)
    found = {}
    for number in np.unique(rows.frame).tolist():
        boxes = np.asarray(rows.xyxy[rows.frame == number], np.float32)
        found[str(number - 1)] = _boxes([boxes, np.ones(len(boxes))], 0)
    return found


def _precision(rows: Report, objects: dict[str, Example]) -> dict[str, float]:
    if "error" in rows or not objects:
        return {}
    record = CocoRecord()
    for number, (xyxy, scores) in rows.items():
        if number in objects:
            boxes, sure = np.asarray(xyxy, np.float32).reshape(-1, 4), np.asarray(scores, np.float32)
            record.add(objects[number], Detections(boxes, sure, np.zeros(len(sure), np.int64)), [0])
    mean = record.scores({0: "object"}).mean
    return {"AP50-95": mean.ap, "AP50": mean.ap50}
