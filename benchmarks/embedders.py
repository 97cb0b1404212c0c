"""What an embedder is worth to the tracker: the same detections, tracked without and with each of them.

    python -m benchmarks.embedders --data ../shared/data --embedder person-embedder --embedder osnet.onnx

DATA holds `video/NAME` and the ground truth `mot/GROUP/NAME` of the sequences below. Detections come from one detector,
once a sequence, so that nothing but the features differs.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np

from pipeline.frame import Frame
from pipeline.models import DETECTOR, EMBEDDER
from pipeline.source import open_source
from pipeline.stages.detect import Detect
from pipeline.stages.embed import Embed
from pipeline.stages.track import Track
from trackers import mot_format
from trackers.evaluate import Figures, evaluate
from trackers.mot_format import MotRows

SEQUENCES = {
    "PETS09-S2L1": ("vtest.avi", "MOT15/PETS09-S2L1"),
    "TUD-Campus": ("TUD-Campus.mp4", "MOT15/TUD-Campus"),
    "TUD-Stadtmitte": ("TUD-Stadtmitte.mp4", "MOT15/TUD-Stadtmitte"),
    "MOT17-09": ("MOT17-09.mp4", "MOT17/MOT17-09-FRCNN"),
}


def main() -> None:
    """Track every sequence without and with each embedder, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", default=DETECTOR)
    parser.add_argument("--embedder", action="append", help=f"may be repeated; default: {EMBEDDER}")
    parser.add_argument("--sequence", action="append", choices=SEQUENCES, help="may be repeated; default: all")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    names = arguments.sequence or list(SEQUENCES)
    embedders = {"none": None, **{name: Embed(weights=Path(name)) for name in arguments.embedder or [EMBEDDER]}}
    results: dict[str, dict[str, tuple[MotRows, MotRows]]] = {name: {} for name in embedders}
    seconds = dict.fromkeys(embedders, 0.0)
    detect = Detect(weights=Path(arguments.weights), classes=("person",))
    for sequence in names:
        video, truth = SEQUENCES[sequence]
        ground = mot_format.read(arguments.data / "mot" / truth / "gt" / "gt.txt")
        trackers = {name: Track() for name in embedders}
        rows: dict[str, list[str]] = {name: [] for name in embedders}
        with open_source(str(arguments.data / "video" / video)) as source:
            for frame in source:
                detect.process([frame])
                for name, embed in embedders.items():
                    shown = Frame(frame.image, frame.source, frame.index, frame.timestamp, detections=frame.detections)
                    if embed is not None:
                        begun = time.perf_counter()
                        embed.process([shown])
                        seconds[name] += time.perf_counter() - begun
                    trackers[name].process([shown])
                    rows[name].append(mot_format.lines(shown.index + 1, shown.tracks))
        for name, lines in rows.items():
            results[name][sequence] = ground, parsed("".join(lines))
    report = {name: evaluate(found) for name, found in results.items()}
    show(report, seconds)
    if arguments.json:
        plain = {
            name: {"all": asdict(together), **{k: asdict(v) for k, v in each.items()}, "seconds": seconds[name]}
            for name, (together, each) in report.items()
        }
        arguments.json.write_text(json.dumps(plain, indent=2) + "\n")


def parsed(text: str) -> MotRows:
    """Rows of a result as the evaluation reads them."""
    table = np.array([line.split(",") for line in text.splitlines()], np.float64).reshape(-1, 10)
    xyxy = table[:, 2:6].copy()
    xyxy[:, 2:] += xyxy[:, :2]
    whole = table[:, :2].astype(np.int64)
    unknown = np.full(len(table), -1)
    return MotRows(whole[:, 0], whole[:, 1], xyxy, table[:, 6], unknown, np.ones(len(table)))


def show(report: dict[str, tuple[Figures, dict[str, Figures]]], seconds: dict[str, float]) -> None:
    """A line for each embedder and sequence."""
    print(f"{'sequence':16}{'embedder':28}{'HOTA':>6}{'AssA':>6}{'MOTA':>6}{'IDF1':>6}{'IDSW':>6}{'s':>8}")
    for sequence in [*next(iter(report.values()))[1], "all"]:
        for name, (together, each) in report.items():
            figures = together if sequence == "all" else each[sequence]
            shares = "".join(
                f"{100 * value:6.1f}" for value in (figures.HOTA, figures.AssA, figures.MOTA, figures.IDF1)
            )
            spent = f"{seconds[name]:8.1f}" if sequence == "all" else ""
            print(f"{sequence:16}{Path(name).name:28}{shares}{figures.IDSW:6}{spent}")


if __name__ == "__main__":
    main()
