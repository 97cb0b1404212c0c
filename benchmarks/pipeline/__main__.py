"""The command line: `python -m benchmarks.pipeline measure|accuracy|table`."""

from __future__ import annotations

import argparse
from pathlib import Path

import benchmarks.pipeline
from benchmarks.pipeline.contestants import CONTESTANTS
from benchmarks.pipeline.jobs import Workshop
from benchmarks.pipeline.tables import tables
from benchmarks.trackers.jobs import read, say, write


def main() -> None:
    """Do what the command line says."""
    arguments = _arguments()
    if arguments.command == "table":
        print(tables(read(arguments.results)))
        return
    results = read(arguments.out)
    only = [name for name in (arguments.only or "").split(",") if name]
    chosen = [one for one in CONTESTANTS if not only or one.name in only]
    workshop = Workshop(arguments)
    if arguments.command == "accuracy":
        results["accuracy"] = workshop.accuracy(chosen, arguments.truth, arguments.every)
        write(arguments.out, results)
        return
    results["measured"] = {key: getattr(arguments, key) for key in ("size", "classes", "frames", "warmup")}
    results["measured"] |= {"video": arguments.video.name, "weights": arguments.weights.name}
    for number in range(arguments.rounds):
        turn = number % len(chosen)
        measured = {}
        for one in chosen[turn:] + chosen[:turn]:
            measured[one.name] = workshop.timed(one)
            say(f"round {number + 1}: {one.name}: {measured[one.name].get('fps', measured[one.name])}")
        results.setdefault("rounds", []).append(measured)
        write(arguments.out, results)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.pipeline",
        description=benchmarks.pipeline.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("table", help="results as Markdown").add_argument("results", type=Path)
    for name in ("measure", "accuracy"):
        command = commands.add_parser(name)
        command.add_argument("--weights", type=Path, required=True, help="an Ultralytics checkpoint, .pt")
        command.add_argument("--video", type=Path, required=True)
        command.add_argument("--classes", nargs="*", default=["person"], help="names; all if none follows")
        command.add_argument("--size", type=int, default=640, help="pixels of the input's longer side")
        command.add_argument("--only", help="contestants, comma-separated; default: all")
        command.add_argument("--out", type=Path, required=True, help="results file, JSON; added to if it exists")
        command.add_argument("--venvs", type=Path, default=Path(".venvs"), help="folder of the rivals' environment")
        command.add_argument("--work", type=Path, default=Path("out/exports"), help="folder for exported networks")
    timed, judged = commands.choices["measure"], commands.choices["accuracy"]
    timed.add_argument("--rounds", type=int, default=5)
    timed.add_argument("--warmup", type=int, default=30, help="frames")
    timed.add_argument("--frames", type=int, default=200, help="that are timed")
    judged.add_argument("--truth", type=Path, required=True, help="MOTChallenge ground truth of the video")
    judged.add_argument("--every", type=int, default=4, help="frames of which one is judged")
    return parser.parse_args()


if __name__ == "__main__":
    main()
