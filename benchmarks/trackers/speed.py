"""Milliseconds a frame: on MOTChallenge detections, on crowds of growing size, and on sixteen cameras at once."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.trackers import jobs, scenes
from benchmarks.trackers.rivals import Entry
from trackers.sequences import read_sequence, sequence_folders

SIZES = (10, 50, 100, 200, 500, 1000, 5000)
CAMERAS, EACH = 16, 25
LENGTH = 256
"""Of the feature vectors that trackers with features are given."""


def measure(
    chosen: Iterable[Entry],
    out: Path,
    venvs: Path,
    *,
    mot: Path | None,
    sizes: Sequence[int],
    budget: float,
    limit: float,
    warmup: int,
    again: bool,
) -> None:
    """Add to a results file what each entry takes.

    Args:
        mot: folder of sequences. sizes: of the crowds. budget: seconds an entry and size, but at least 5 frames.
        limit: seconds a frame above which larger crowds are not tried. warmup: frames to settle.
        again: also what the file has already.
    """
    results = jobs.read(out)
    results["settings"] = {"budget_s": budget, "limit_s": limit, "warmup_frames": warmup, "features": LENGTH}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for entry in chosen:
            known: dict[str, Any] = {} if again else results["entries"].get(entry.label, {})
            row: dict[str, Any] = {
                "package": entry.package.name,
                "tracker": entry.tracker,
                "features": entry.features,
                "variant": entry.variant,
                "note": entry.package.note,
                **known,
            }
            parts: dict[str, dict[str, Path]] = {}
            if mot is not None and not entry.features and "mot" not in row:
                parts["mot"] = {"all": _mot(folder, mot)}
            if "cameras" not in row:
                parts["cameras"] = {str(n): _crowd(folder, EACH, 60, entry.features, n) for n in range(CAMERAS)}
            crowds = {str(size): _crowd(folder, size, warmup, entry.features) for size in sorted(sizes)}
            if any(name not in row.get("crowds", {}) for name in crowds) and not _stopped(row.get("crowds", {})):
                parts["crowds"] = crowds
            if not parts:
                continue
            seconds = 120 + 4 * budget * sum(map(len, parts.values()))
            limits = {"warmup": warmup, "budget": budget, "limit": limit}
            with jobs.run(entry, parts, venvs, min(seconds, 540), **limits) as report:
                row |= {name: found for name, found in report.items() if name != "mot"}
                if "mot" in report:
                    row["mot"] = report["mot"]["all"]
            results["entries"][entry.label] = row
            jobs.write(out, results)
            jobs.say(f"{entry.label:40} {_line(row)}")


def _stopped(crowds: dict[str, dict[str, Any]]) -> bool:
    return any("over" in found or "error" in found for found in crowds.values())


def _crowd(folder: Path, size: int, warmup: int, features: bool, seed: int = 0) -> Path:
    path = folder / f"crowd-{size}-{features}-{seed}-{warmup}.npz"
    if not path.is_file():
        frames = warmup + (100 if size <= 100 else 50 if size <= 1000 else 30)
        scenes.write(path, scenes.crowd(size, frames, length=LENGTH if features else 0, seed=seed), scenes.RATE)
    return path


def _mot(folder: Path, mot: Path) -> Path:
    """The first 250 frames of each sequence, one after another."""
    path = folder / "mot.npz"
    if not path.is_file():
        found = [scenes.one_scale(read_sequence(each)) for each in sequence_folders(mot)]
        scenes.write(path, [frame for sequence in found for frame in sequence.frames[:250]], scenes.RATE)
    return path


def _line(row: dict[str, Any]) -> str:
    cells = [f"{size}: {cell(found)}" for size, found in row["crowds"].items()]
    cameras = [f"{name}: {cell(found)}" for name, found in row["cameras"].items() if isinstance(found, dict)]
    return "  ".join(cells + cameras + ([f"mot: {cell(row['mot'])}"] if "mot" in row else []))


def cell(found: Mapping[str, Any] | None, key: str = "ms") -> str:
    """A median in milliseconds, or why there is none."""
    if not found:
        return "–"
    if "over" in found:
        return f"> {found['over'] / 1e3:.1f} s"
    if "error" in found:
        return "failed"
    value = found[key]
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"
