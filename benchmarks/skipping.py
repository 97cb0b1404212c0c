"""What each way of leaving work out gains, and what it costs in accuracy.

    python -m benchmarks.skipping --data ../shared/data --json skipping.json
    python -m benchmarks.skipping --data ../shared/data --weights yolo11n.pt --only detect-every-2 --only lazy

DATA holds `video/NAME` and the ground truth `mot/GROUP/NAME` of the sequences below. The chain of `framechain run`
without text runs over each of them: once as it is, then with each switch, and so on for some rounds. The gain is the
ratio to the chain as it is in the same round, of frames a second and of processor time a frame; the median of the
rounds is shown. On a machine that others use too, only the processor time tells something. Accuracy is against the
ground truth of all sequences together, the first round's: the others give the same. Where every n-th frame only is
processed, only those count.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean, median
from tempfile import TemporaryDirectory

from pipeline.config import Document
from pipeline.models import DETECTOR
from pipeline.sinks.mot import Mot
from pipeline.stages.detect import Detect
from pipeline.tuning import Change
from pipeline.usage import UsageMeter
from trackers import mot_format
from trackers.evaluate import Figures, evaluate
from trackers.mot_format import MotRows

SEQUENCES = {
    "vtest": ("vtest.avi", "MOT15/PETS09-S2L1"),
    "TUD-Campus": ("TUD-Campus.mp4", "MOT15/TUD-Campus"),
    "TUD-Stadtmitte": ("TUD-Stadtmitte.mp4", "MOT15/TUD-Stadtmitte"),
    "MOT17-09": ("MOT17-09.mp4", "MOT17/MOT17-09-FRCNN"),
}
PEOPLE = ("person",)
SHARES = (0.8, 0.65, 0.5)  # of the detector's image size


@dataclass(frozen=True, slots=True)
class Switch:
    """One way to leave work out: changes to the stages, and which frames of the source are given."""

    changes: tuple[Change, ...] = ()
    every: int = 1


@dataclass(slots=True)
class Run:
    """One pass over one sequence.

    Attributes:
        fps: of the chain. cpu: seconds of processor time a frame of the video, also where that was not processed.
        rows: the tracks.
    """

    fps: float
    cpu: float
    rows: MotRows = field(repr=False)


def switches(size: int) -> dict[str, Switch]:
    """All of them by name; `size`: pixels of the detector's input as it is."""
    lazy = Change("embed", "lazy", True)
    smaller = [int(size * share) // 32 * 32 for share in SHARES]
    return {
        "as it is": Switch(),
        **{f"detect-every-{n}": Switch((Change("gate", "every", n),)) for n in (2, 3, 5)},
        "motion": Switch((Change("gate", "motion", True),)),
        "lazy": Switch((lazy,)),
        "lazy, clear 0.5": Switch((lazy, Change("track", "options", {"clear": 0.5}))),
        "no-embed": Switch((Change("embed", "", None),)),
        **{f"image-size-{pixels}": Switch((Change("detect", "image_size", pixels),)) for pixels in smaller},
        "adaptive": Switch((Change("detect", "adaptive", 1.0),)),
        **{f"every-{n}": Switch(every=n) for n in (2, 3)},
    }


def measure(data: Path, sequence: str, detector: dict[str, str], switch: Switch, frames: int | None) -> Run:
    """Run the chain over one sequence."""
    options = {"uri": str(data / "video" / SEQUENCES[sequence][0]), "every": switch.every, "max_frames": frames}
    detect = {"detect": {**detector, "classes": list(PEOPLE)}}
    document = Document({"sources": [options], "stages": [detect, "embed", "track"]})
    for change in switch.changes:
        change.apply(document)
    with TemporaryDirectory(prefix="framechain-skipping-") as folder:
        path = Path(folder) / "tracks.txt"
        pipeline = document.build().pipeline(Mot(path=path, classes=PEOPLE))
        pipeline.start()  # loading is not what is measured
        with UsageMeter() as meter:
            snapshot = pipeline.wait()
        seen = snapshot.frames * switch.every
        return Run(snapshot.fps * switch.every, meter.usage.cpu / seen, mot_format.read(path))


def accuracy(data: Path, switch: Switch, runs: Mapping[str, Run], frames: int | None) -> Figures:
    """Figures over all sequences together."""
    pairs = {}
    for sequence, run in runs.items():
        truth = mot_format.read(data / "mot" / SEQUENCES[sequence][1] / "gt" / "gt.txt")
        shown = (truth.frame - 1) % switch.every == 0
        if frames is not None:
            shown &= truth.frame <= frames * switch.every
        pairs[sequence] = truth[shown], run.rows
    return evaluate(pairs)[0]


def measured(arguments: argparse.Namespace) -> Iterator[dict[str, object]]:
    """A row for each switch, once all rounds are over."""
    detector = {"weights": arguments.weights, "runtime": arguments.runtime, "precision": arguments.precision}
    with Detect(**detector) as stage:
        known = switches(max(stage.detector.size))
    chosen = {name: known[name] for name in known if name == "as it is" or not arguments.only or name in arguments.only}
    names = arguments.sequence or list(SEQUENCES)
    runs: dict[str, dict[str, list[Run]]] = {name: {sequence: [] for sequence in names} for name in chosen}
    for _ in range(arguments.rounds):
        for sequence in names:
            for name, switch in chosen.items():
                run = measure(arguments.data, sequence, detector, switch, arguments.frames)
                runs[name][sequence].append(run)
                print(f"{sequence}, {name}: {run.fps:.1f} FPS, {1e3 * run.cpu:.1f} ms of processor time", flush=True)
    first = runs["as it is"]
    for name, switch in chosen.items():
        gains = {
            sequence: median(
                run.fps / before.fps for run, before in zip(runs[name][sequence], first[sequence], strict=True)
            )
            for sequence in names
        }
        together = [_together(runs[name], n) / _together(first, n) for n in range(arguments.rounds)]
        cpu = {
            sequence: median(runs[name][sequence][n].cpu / first[sequence][n].cpu for n in range(arguments.rounds))
            for sequence in names
        }
        own = {sequence: found[0] for sequence, found in runs[name].items()}
        yield {
            "switch": name,
            "gain": round(median(together), 3),
            "gains": {sequence: round(gain, 3) for sequence, gain in gains.items()},
            "cpu": {sequence: round(share, 3) for sequence, share in cpu.items()},
            "figures": asdict(accuracy(arguments.data, switch, own, arguments.frames)),
            "HOTA": {
                sequence: accuracy(arguments.data, switch, {sequence: run}, arguments.frames).HOTA
                for sequence, run in own.items()
            },
        }


def _together(runs: Mapping[str, list[Run]], n: int) -> float:
    """Frames a second over all sequences of one round, each as long as the others."""
    return 1 / sum(1 / found[n].fps for found in runs.values())


def table(rows: list[dict[str, object]]) -> Iterator[str]:
    """The rows in Markdown: accuracy in points, of the chain as it is; in all others what is gained or lost."""
    names = list(rows[0]["gains"])  # type: ignore[call-overload]
    yield (
        "| switch | FPS | processor time | HOTA | IDF1 | MOTA | "
        + " | ".join(f"FPS, HOTA {name}" for name in names)
        + " |"
    )
    yield "|---" * (6 + len(names)) + "|"
    base = rows[0]
    for row in rows:
        shares = row["cpu"]
        cells = [f"× {row['gain']:.2f}", f"× {fmean(shares.values()):.2f}"]  # type: ignore[attr-defined]
        cells += [_points(row["figures"][key], base["figures"][key], row is base) for key in ("HOTA", "IDF1", "MOTA")]  # type: ignore[index]
        cells += [
            f"× {shares[name]:.2f}, {_points(row['HOTA'][name], base['HOTA'][name], row is base)}"  # type: ignore[index]
            for name in names
        ]
        yield f"| {row['switch']} | " + " | ".join(cells) + " |"


def _points(share: float, before: float, first: bool) -> str:
    return f"{100 * share:.1f}" if first else f"{100 * (share - before):+.1f}"


def main() -> None:
    """Measure, print the table, and write all figures as JSON on request."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", default=DETECTOR)
    parser.add_argument("--runtime", default="auto", help="of the detector; auto tries anew at each image size")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--sequence", action="append", choices=SEQUENCES, help="may be repeated; default: all")
    parser.add_argument("--only", action="append", help="name of a switch, may be repeated; default: all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--frames", type=int, help="of each sequence, at most")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = list(measured(arguments))
    print("\n".join(table(rows)))
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
