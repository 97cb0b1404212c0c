"""Runs entries, one process at a time, and keeps what they report in a results file."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.trackers.rivals import HERE, Entry, environment, python_of

Report = dict[str, Any]


def run(
    entry: Entry, mode: str, scenes: Mapping[str, Path], venvs: Path, seconds: float, **limits: float
) -> tuple[Report, Callable[[], None]]:
    """What `worker.py` reports of an entry.

    Args:
        mode: speed, cameras or rows. scenes: files by name, smallest first. seconds: after which it is ended.
        limits: of the job: warmup, budget, limit.

    Returns:
        the report, and what removes the files it may point to.
    """
    folder = tempfile.TemporaryDirectory(prefix="tracker-")
    job, out = Path(folder.name) / "job.json", Path(folder.name) / "out.json"
    described = {
        "mode": mode,
        "adapter": str(HERE / "adapters" / f"{entry.package.adapter}.py"),
        "tracker": entry.tracker,
        "features": entry.features,
        "scenes": {name: str(path.absolute()) for name, path in scenes.items()},
        "out": str(out),
        **limits,
    }
    job.write_text(json.dumps(described))
    command = [python_of(entry.package, venvs), HERE / "worker.py", job]
    said = ""
    try:
        done = subprocess.run(
            command, env=environment(entry), timeout=seconds, capture_output=True, text=True, cwd=folder.name
        )
        said = done.stderr
    except subprocess.TimeoutExpired:
        said = f"ended after {seconds:.0f} s"
    report: Report = json.loads(out.read_text()) if out.is_file() else {"scenes": {}}
    missing = [name for name in scenes if name not in report["scenes"]] if mode != "cameras" else []
    if not report["scenes"] or (missing and said.startswith("ended")):
        last = said.strip().splitlines()[-1] if said.strip() else "no report"
        report["scenes"].update({name: {"error": last} for name in missing[:1] or ["cameras"]})
    return report, folder.cleanup


def read(path: Path) -> Report:
    """A results file, or the beginning of one."""
    if path.is_file():
        found: Report = json.loads(path.read_text())
        return found
    return {
        "machine": {
            "cpu": _processor(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "system": platform.platform(),
        },
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "entries": {},
    }


def write(path: Path, results: Report) -> None:
    """Replace a results file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".part")
    beside.write_text(json.dumps(results, indent=1) + "\n")
    beside.replace(path)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")


def say(text: str) -> None:
    """A line of progress."""
    print(text, file=sys.stderr, flush=True)
