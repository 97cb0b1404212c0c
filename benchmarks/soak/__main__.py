"""The command line: `python -m benchmarks.soak --minutes 5`."""

from __future__ import annotations

import argparse
import json
import signal
import sqlite3
import sys
import tempfile
import time
from contextlib import ExitStack, closing
from dataclasses import asdict
from pathlib import Path

import benchmarks.soak
from benchmarks.soak.plot import plot
from benchmarks.soak.run import Run, Sample, frames_in
from benchmarks.soak.site import Site
from benchmarks.soak.verdict import Verdict, judge_accounts, judge_growth

_EVERY = 2.0
"""Seconds between two samples."""

_ROWS = "SELECT sources.name, frames.frame FROM frames JOIN sources ON sources.id = frames.source"


def soak(minutes: float, seed: int, folder: Path) -> tuple[list[Sample], list[Verdict], Site]:
    """Run, watch, and judge.

    Args:
        minutes: from the moment that all cameras are live. seed: of the faults. folder: empty, for outputs.
    """
    samples: list[Sample] = []
    with ExitStack() as stack:
        site = Site(folder, seed)
        stack.callback(site.close)
        run = Run(site, folder)
        stack.callback(run.close)
        run.await_beginning()
        site.begin()
        samples.append(run.sample())
        while samples[-1].at < 60 * minutes:
            time.sleep(_EVERY)  # the pace of the samples
            samples.append(run.sample())
        site.settle()
        report = run.end()
        with closing(sqlite3.connect(folder / "frames.db")) as database:
            rows = database.execute(_ROWS).fetchall()
        sent = {"street": site.street.sent}
        accounts = judge_accounts(report, frames_in(folder), rows, site.peer.frames, sent)
    return samples, judge_growth(samples) + accounts, site


def main() -> int:
    """Soak, and tell a line for each thing that was looked at."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.soak",
        description=benchmarks.soak.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=0, help="of the faults")
    parser.add_argument("--json", type=Path, help="write samples, faults and verdicts here")
    parser.add_argument("--plot", type=Path, help="draw them here, .png or .svg")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # whatever ends it, cameras are switched off
    with tempfile.TemporaryDirectory(prefix="framechain-soak-") as folder:
        samples, verdicts, site = soak(arguments.minutes, arguments.seed, Path(folder))
    for verdict in verdicts:
        print(f"{'ok ' if verdict.well else 'NOT'} {verdict.what}: {verdict.words}")
    print(f"{samples[-1].at / 60:.1f} minutes, {len(site.faults)} faults, {site.peer.repeated} messages came twice")
    if arguments.plot:
        plot(samples, site.faults, arguments.plot)
    if arguments.json:
        figures = {"verdicts": verdicts, "faults": site.faults, "samples": samples}
        plain = {key: [asdict(one) for one in values] for key, values in figures.items()}  # type: ignore[arg-type]
        arguments.json.write_text(json.dumps(plain) + "\n")
    return 0 if all(verdict.well for verdict in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
