"""Runs entries, one process at a time, and keeps what they report in a results file."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.trackers.rivals import HERE, Entry, environment, python_of

Report = dict[str, Any]


@contextmanager
def run(
    entry: Entry, parts: Mapping[str, Mapping[str, Path]], venvs: Path, seconds: float, **limits: float
) -> Iterator[Report]:
    """What `worker.py` reports of an entry; files that the report points to live as long as this context.

    Args:
        parts: scenes by name, smallest first, of rows, mot, cameras and crowds. seconds: after which it is ended.
        limits: of the job: warmup, budget, limit.
    """
    with tempfile.TemporaryDirectory(prefix="tracker-") as folder:
        job, out = Path(folder) / "job.json", Path(folder) / "out.json"
        described: Report = {
            "adapter": str(HERE / "adapters" / f"{entry.package.adapter}.py"),
            "tracker": entry.tracker,
            "features": entry.features,
            "out": str(out),
            **limits,
        }
        for part, scenes in parts.items():
            described[part] = {name: str(path.absolute()) for name, path in scenes.items()}
        job.write_text(json.dumps(described))
        command = [python_of(entry.package, venvs), HERE / "worker.py", job]
        try:
            done = subprocess.run(
                command,
                env=environment(entry),
                timeout=seconds,
                capture_output=True,
                text=True,
                cwd=folder,
                check=False,
            )
            said = done.stderr if done.returncode > 0 else f"ended by signal {-done.returncode}"
        except subprocess.TimeoutExpired:
            said = f"ended after {seconds:.0f} s"
        report: Report = json.loads(out.read_text()) if out.is_file() else {}
        for part, scenes in parts.items():
            _explain(report.setdefault(part, {}), list(scenes), said)
        yield report


def _explain(found: Report, names: list[str], said: str) -> None:
    """Note why a scene was not reported, unless one before it already says."""
    stopped = any(isinstance(each, dict) and ("over" in each or "error" in each) for each in found.values())
    missing = [name for name in names if name not in found]
    if missing and not stopped and not {"separate", "over", "error"} & set(found):
        found[missing[0]] = {"error": (said.strip().splitlines() or ["no report"])[-1][:300]}


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
