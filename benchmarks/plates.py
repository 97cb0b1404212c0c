"""How well ReadText reads number plates, engine by engine.

Every labelled plate box becomes a track of its own, in a frame of its own, and goes through the stage as it would in
a chain. Options were chosen on the even rows of the labels; the odd rows are the test.

    python benchmarks/plates.py --data ../shared/data/ocr/plates --json plates.json
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

from pipeline.detections import Detections
from pipeline.errors import MissingExtra
from pipeline.frame import Frame
from pipeline.ocr.engine import engines
from pipeline.stages.read_text import ReadText
from trackers.tracks import Tracks

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Plate:
    """One labelled plate: image file, box in pixels, text."""

    file: Path
    xyxy: tuple[float, float, float, float]
    text: str


def plates(folder: Path) -> list[Plate]:
    """The plates of `labels.csv` (columns file, x, y, w, h, text) in its order."""
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as rows:
        return [
            Plate(
                folder / row["file"],
                (
                    float(row["x"]),
                    float(row["y"]),
                    float(row["x"]) + float(row["w"]),
                    float(row["y"]) + float(row["h"]),
                ),
                row["text"],
            )
            for row in csv.DictReader(rows)
        ]


def frames(labelled: list[Plate]) -> Iterator[Frame]:
    """A frame for each plate, with one detection and one track."""
    for number, plate in enumerate(labelled, 1):
        image = cv2.imread(str(plate.file))
        if image is None:
            raise SystemExit(f"{plate.file} cannot be read as an image; check the folder given with --data")
        box = np.array([plate.xyxy])
        yield Frame(
            np.asarray(image, np.uint8),
            index=number - 1,
            timestamp=float(number),
            detections=Detections(
                box.astype(np.float32), np.ones(1, np.float32), np.zeros(1, np.int64), names=("license_plate",)
            ),
            tracks=Tracks(
                np.array([number]), box, np.ones(1), np.zeros(1, np.int64), np.zeros(1, np.int64),
                np.zeros(1), np.zeros(1), np.zeros((1, 2)),
            ),
        )  # fmt: skip


def distance(a: str, b: str) -> int:
    """Levenshtein's: the fewest characters to insert, delete or replace."""
    row = list(range(len(b) + 1))
    for i, character in enumerate(a, 1):
        before, row[0] = list(row), i
        for j, (diagonal, above) in enumerate(pairwise(before), 1):
            row[j] = min(above + 1, row[j - 1] + 1, diagonal + (character != b[j - 1]))
    return row[-1]


def score(truth: list[str], read: list[str]) -> dict[str, float]:
    """Share of plates read without a mistake, and character accuracy: 1 - edits / characters."""
    edits = sum(map(distance, read, truth))
    return {
        "plates": len(truth),
        "exact": round(sum(map(str.__eq__, read, truth)) / len(truth), 4),
        "characters": round(1 - edits / sum(map(len, truth)), 4),
    }


def measure(engine: str, labelled: list[Plate]) -> dict[str, object]:
    """Read every plate with one engine."""
    read: list[str] = []
    seconds: list[float] = []
    with ReadText(engine=engine, allow="A-Z0-9", confidence=0) as stage:
        stage.process([next(frames(labelled[:1]))])  # the first call sets up buffers
        stage.forget("frame")
        for frame in frames(labelled):
            start = time.perf_counter()
            stage.process([frame])
            seconds.append(time.perf_counter() - start)
            read.append(frame.texts[0].text if frame.texts else "")
    truth = [plate.text for plate in labelled]
    return {
        "engine": engine,
        "all": score(truth, read),
        "even_rows": score(truth[::2], read[::2]),
        "odd_rows": score(truth[1::2], read[1::2]),
        "ms_per_crop": round(1e3 * float(np.median(seconds)), 1),
        "wrong": {
            plate.file.name: [plate.text, got] for plate, got in zip(labelled, read, strict=True) if got != plate.text
        },
    }


def main() -> None:
    """Print a table, and write all figures and mistakes as JSON on request."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=engines.names(), action="append", help="default: every installed one")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "ocr" / "plates")
    parser.add_argument("--json", type=Path, help="write all figures, and every plate that was misread")
    arguments = parser.parse_args()
    if not (arguments.data / "labels.csv").is_file():
        raise SystemExit(f"no labels.csv in {arguments.data}; give the folder of labelled plates with --data")
    labelled = plates(arguments.data)
    results = []
    print(f"{'engine':10} {'rows':>10} {'plates':>7} {'exact':>7} {'characters':>11} {'ms/crop':>8}")
    for engine in arguments.engine or engines.names():
        try:
            result = measure(engine, labelled)
        except MissingExtra as error:
            print(f"{engine:10} {error}")
            continue
        results.append(result)
        for rows in ("even_rows", "odd_rows", "all"):
            figures = result[rows]
            assert isinstance(figures, dict)
            print(
                f"{engine:10} {rows.replace('_rows', ''):>10} {figures['plates']:>7} {figures['exact']:>7.1%} "
                f"{figures['characters']:>11.1%} {result['ms_per_crop']:>8}"
            )
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
