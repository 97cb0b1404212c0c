"""The command line: `python -m benchmarks.trackers speed|accuracy|table|venvs`."""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import benchmarks.trackers
from benchmarks.trackers import accuracy, jobs, scenes, speed
from benchmarks.trackers.rivals import PACKAGES, entries, python_of
from benchmarks.trackers.tables import table
from trackers.sequences import read_sequence, sequence_folders


def main() -> None:
    """Do what the command line says."""
    arguments = _arguments()
    if arguments.command == "table":
        print(
            "\n".join(
                table(json.loads(path.read_text()), cpu=arguments.cpu, only=arguments.sequence)
                for path in arguments.results
            )
        )
        return
    only = [name for name in (arguments.only or "").split(",") if name]
    for package in PACKAGES:
        if not only or any(name.split("/")[0] == package.name for name in only):
            try:
                python_of(package, arguments.venvs.absolute())
            except subprocess.CalledProcessError as error:
                jobs.say(f"{package.name}: pip failed ({error.returncode}); its trackers will be recorded as failed")
    if arguments.command == "speed":
        speed.measure(
            entries(only, arguments.variant),
            arguments.out,
            arguments.venvs.absolute(),
            mot=arguments.mot,
            sizes=arguments.sizes,
            budget=arguments.budget,
            limit=arguments.limit,
            warmup=arguments.warmup,
            again=arguments.again,
        )
    elif arguments.command == "accuracy":
        if arguments.data is not None:
            from benchmarks.trackers.videos import with_features

            sequences = with_features(arguments.data, arguments.embedder, arguments.cache)
        else:
            sequences = [scenes.one_scale(read_sequence(each)) for each in sequence_folders(arguments.mot)]
        chosen = [
            entry
            for entry in entries(only, arguments.variant or ["numpy"])
            if arguments.data is not None or not entry.features
        ]
        with tempfile.TemporaryDirectory() as folder:
            accuracy.measure(
                chosen,
                sequences,
                arguments.out,
                arguments.venvs.absolute(),
                Path(folder),
                again=arguments.again,
            )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.trackers",
        description=benchmarks.trackers.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    shown = commands.add_parser("table", help="results as Markdown")
    shown.add_argument("results", type=Path, nargs="+")
    shown.add_argument("--cpu", action="store_true", help="processor time instead of the clock's")
    shown.add_argument("--sequence", action="append", default=[], help="differences over this alone; may be repeated")
    for name in ("venvs", "speed", "accuracy"):
        command = commands.add_parser(name)
        command.add_argument("--venvs", type=Path, default=Path(".venvs"), help="folder of the rivals' environments")
        command.add_argument("--only", help="package or package/tracker, comma-separated; default: all")
        if name == "venvs":
            continue
        command.add_argument("--out", type=Path, required=True, help="results file, JSON; added to if it exists")
        command.add_argument("--again", action="store_true", help="measure also what the file has")
        command.add_argument("--variant", action="append", help="of packages that have several; may be repeated")
        command.add_argument("--mot", type=Path, help="folder of MOTChallenge sequences")
    timed = commands.choices["speed"]
    timed.add_argument("--sizes", type=int, nargs="+", default=list(speed.SIZES))
    timed.add_argument("--budget", type=float, default=8.0, help="seconds a tracker and size")
    timed.add_argument("--limit", type=float, default=2.0, help="seconds a frame; larger crowds are not tried above")
    timed.add_argument("--warmup", type=int, default=10, help="frames to settle")
    judged = commands.choices["accuracy"]
    judged.add_argument("--data", type=Path, help="instead of --mot: folder with video/ and mot/, see videos.py")
    judged.add_argument("--embedder", type=Path, help="with --data: weights that turn crops into features")
    judged.add_argument("--cache", type=Path, default=Path("out/features"), help="with --data: folder for features")
    arguments = parser.parse_args()
    if arguments.command == "accuracy" and (arguments.mot is None) == (arguments.data is None):
        parser.error("accuracy takes either --mot or --data")
    if arguments.command == "accuracy" and arguments.data is not None and arguments.embedder is None:
        parser.error("--data needs --embedder")
    return arguments


if __name__ == "__main__":
    main()
