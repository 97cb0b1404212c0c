"""How well ReadText reads number plates, engine by engine.

Still: every labelled plate box becomes a track of its own, in a frame of its own, and goes through the stage as it
would in a chain. Options were chosen on the even rows of the labels; the odd rows are the test.

Approach (--approach): every plate comes nearer over 15 frames, from 44 to 110 pixels wide, with changing blur, noise
and boxes that are 2 % off, from a fixed seed. It shows what reading a track again and the consensus are worth.

    python -m benchmarks.plates --data ../shared/data/ocr/plates --json plates.json
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
from pipeline.text import Text
from trackers.tracks import Tracks

STEPS = 15
NEAR = 110  # pixels: width of the nearest plate
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


def frame_of(image: np.ndarray, xyxy: np.ndarray, track_id: int, timestamp: float) -> Frame:
    """A frame with one detection, and one track on it."""
    return Frame(
        np.asarray(image, np.uint8),
        timestamp=timestamp,
        detections=Detections(
            np.float32([xyxy]), np.ones(1, np.float32), np.zeros(1, np.int64), names=("license_plate",)
        ),
        tracks=Tracks(
            np.array([track_id]), np.array([xyxy]), np.ones(1), np.zeros(1, np.int64), np.zeros(1, np.int64),
            np.zeros(1), np.zeros(1), np.zeros((1, 2)),
        ),
    )  # fmt: skip


def still(labelled: list[Plate]) -> Iterator[Frame]:
    """A frame for each plate."""
    for number, plate in enumerate(labelled, 1):
        yield frame_of(_image(plate), np.array(plate.xyxy), number, float(number))


def approach(plate: Plate, track_id: int) -> Iterator[Frame]:
    """Frames in which one plate comes nearer."""
    random = np.random.default_rng(track_id)
    image, (x1, y1, x2, y2) = _image(plate), plate.xyxy
    margin = 0.3 * (x2 - x1)
    left, top = max(0, int(x1 - margin)), max(0, int(y1 - margin))
    image, box = image[top : int(y2 + margin), left : int(x2 + margin)], np.array(plate.xyxy) - [left, top, left, top]
    for step, scale in enumerate(np.geomspace(0.4, 1, STEPS) * min(1, NEAR / (x2 - x1))):
        small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        small = cv2.GaussianBlur(small, (0, 0), abs(random.normal(0, 0.6)) + 0.05)
        noisy = np.clip(small + random.normal(0, 6, small.shape), 0, 255)
        xyxy = scale * (box + random.normal(0, 0.02, 4) * [x2 - x1, y2 - y1, x2 - x1, y2 - y1])
        yield frame_of(noisy, xyxy, track_id, 100 * track_id + step / 10)


def _image(plate: Plate) -> np.ndarray:
    image = cv2.imread(str(plate.file))
    if image is None:
        raise SystemExit(f"{plate.file} cannot be read as an image; check the folder given with --data")
    return image


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
        stage.process([next(still(labelled))])  # the first call sets up buffers
        stage.forget("frame")
        for frame in still(labelled):
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


def measure_approach(engine: str, labelled: list[Plate]) -> dict[str, object]:
    """Read every plate while it comes nearer: with the policy of read_text, and each frame by itself."""
    alone: list[str] = []
    first: list[str] = []
    agreed: list[str] = []
    readings = 0
    options = {"engine": engine, "allow": "A-Z0-9"}
    with ReadText(**options) as stage, ReadText(**options) as fresh:
        for number, plate in enumerate(labelled, 1):
            shown: list[Text] = []
            for frame in approach(plate, number):
                stage.process([frame])
                shown += frame.texts
                frame.texts = ()
                fresh.forget(frame.source)
                fresh.process([frame])
                alone.append(frame.texts[0].text if frame.texts else "")
            first.append(shown[0].text if shown else "")
            agreed.append(shown[-1].text if shown else "")
            readings += shown[-1].readings if shown else 0
    truth = [plate.text for plate in labelled]
    return {
        "engine": engine,
        "frames_per_track": STEPS,
        "readings_per_track": round(readings / len(labelled), 2),
        "each_frame_alone": score([text for text in truth for _ in range(STEPS)], alone),
        "last_frame_alone": score(truth, alone[STEPS - 1 :: STEPS]),
        "first_reading": score(truth, first),
        "consensus": score(truth, agreed),
    }


def main() -> None:
    """Print a table, and write all figures and mistakes as JSON on request."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=engines.names(), action="append", help="default: every installed one")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "ocr" / "plates")
    parser.add_argument("--approach", action="store_true", help="measure plates that come nearer instead")
    parser.add_argument("--json", type=Path, help="write all figures, and every plate that was misread")
    arguments = parser.parse_args()
    if not (arguments.data / "labels.csv").is_file():
        raise SystemExit(f"no labels.csv in {arguments.data}; give the folder of labelled plates with --data")
    labelled = plates(arguments.data)
    results = []
    for engine in arguments.engine or engines.names():
        try:
            results.append((measure_approach if arguments.approach else measure)(engine, labelled))
        except MissingExtra as error:
            print(f"{engine}: {error}")
            continue
        print("\n".join(table(results[-1])))
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def table(result: dict[str, object]) -> Iterator[str]:
    """One engine's figures as lines of text."""
    single = {key: value for key, value in result.items() if not isinstance(value, dict)}
    yield ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in single.items())
    for key, value in result.items():
        if isinstance(value, dict) and "exact" in value:
            yield f"  {key.replace('_', ' '):18} exact {value['exact']:6.1%}  characters {value['characters']:6.1%}"


if __name__ == "__main__":
    main()
