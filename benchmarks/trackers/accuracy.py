"""HOTA, CLEAR and IDF1 on identical detections, and how sure the differences between Tether and the others are.

Differences: what whole sequences' HOTA, IDF1 and identity switches are sums of is kept apart by stretches of 100 frames
(`chunks.py`); stretches are drawn with replacement, 2000 times, the same ones for both trackers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.trackers import jobs, scenes
from benchmarks.trackers.chunks import columns, contributions, figures
from benchmarks.trackers.rivals import Entry
from trackers.evaluate import Figures, _prepared, evaluate
from trackers.mot_format import MotRows
from trackers.sequences import TrackedSequence

CHUNK, DRAWS = 100, 2000
KEPT = ("HOTA", "DetA", "AssA", "IDF1", "MOTA", "IDSW", "Frag", "TP", "FP", "FN")


def measure(
    chosen: Iterable[Entry],
    sequences: Sequence[TrackedSequence],
    out: Path,
    venvs: Path,
    folder: Path,
    *,
    again: bool,
) -> None:
    """Add to a results file how right each entry is on all of the sequences.

    Args:
        folder: for the detections, as files.
        again: also what the file has already.
    """
    results = jobs.read(out)
    results["sequences"] = {each.name: len(each.frames) for each in sequences}
    paths: dict[bool, dict[str, Path]] = {}
    for entry in chosen:
        believed = f"{entry.label} and believed"
        if entry.label in results["entries"] and not again:
            continue
        if entry.features not in paths:
            paths[entry.features] = {each.name: _written(folder, each, entry.features) for each in sequences}
        with jobs.run(entry, {"rows": paths[entry.features]}, venvs, 1800) as report:
            found = report["rows"]
            tables = {name: np.load(one["rows"]) for name, one in found.items() if "rows" in one}
        row = {
            "package": entry.package.name,
            "tracker": entry.tracker,
            "features": entry.features,
            "note": entry.package.note,
            "versions": report.get("versions", {}),
        }
        bad = next((one for one in found.values() if "error" in one or "over" in one), None)
        if bad is not None:
            row["error"] = bad.get("error", "a frame took too long")
            results["entries"][entry.label] = row
            jobs.say(f"{entry.label:48} {row['error']}")
        else:
            row["ms"] = {name: one["ms"] for name, one in found.items()}
            some = any((table[:, 6] == 1).any() for table in tables.values())
            for label, hidden in ((entry.label, False), *(((believed, True),) if some else ())):
                results["entries"][label] = row | judged(sequences, tables, hidden=hidden)
                _say(label, results["entries"][label])
        jobs.write(out, results)


def _written(folder: Path, sequence: TrackedSequence, features: bool) -> Path:
    path = folder / f"{sequence.name}-{features}.npz"
    scenes.write(path, sequence.frames, sequence.rate)
    return path


def judged(
    sequences: Sequence[TrackedSequence], tables: Mapping[str, NDArray[np.float64]], *, hidden: bool
) -> dict[str, Any]:
    """Figures of whole sequences, of all of them together, and of each chunk."""
    whole, parts = {}, {}
    for sequence in sequences:
        pair = sequence.truth, _rows(tables[sequence.name], hidden)
        whole[sequence.name] = pair
        for n, sums in enumerate(contributions(_prepared(sequence.name, *pair), CHUNK)):
            parts[f"{sequence.name}@{n * CHUNK}"] = sums
    together, each = evaluate(whole)
    again = figures(columns(parts), np.arange(len(parts))[None])
    for name, values in again.items():
        if abs(values[0] - getattr(together, name)) > 1e-4:
            raise AssertionError(f"{name}: stretches add up to {values[0]}, TrackEval says {getattr(together, name)}")
    return {"all": _kept(together), "each": {name: _kept(one) for name, one in each.items()}, "chunks": parts}


def _kept(whole: Figures) -> dict[str, float]:
    found = asdict(whole)
    return {name: round(found[name], 5) for name in KEPT}


def _rows(table: NDArray[np.float64], hidden: bool) -> MotRows:
    table = table if hidden else table[table[:, 6] == 0]
    _, first = np.unique(table[:, :2], axis=0, return_index=True)  # TrackEval refuses an id twice in a frame
    table = table[np.sort(first)]
    table = table[(table[:, 4] > table[:, 2]) & (table[:, 5] > table[:, 3])]
    ids = np.unique(table[:, 1], return_inverse=True)[1] + 1
    count = len(table)
    return MotRows(table[:, 0].astype(np.int64), ids, table[:, 2:6], np.ones(count), np.full(count, -1), np.ones(count))


def differences(
    results: Mapping[str, Any], reference: str, sequences: Sequence[str] = ()
) -> dict[str, dict[str, tuple[float, float, float]]]:
    """Of each entry: reference minus it, and the 95 % interval: HOTA and IDF1 in points, IDSW in switches.

    Args:
        sequences: these alone; all if empty.
    """
    entries = {name: row for name, row in results["entries"].items() if "chunks" in row}
    if reference not in entries:
        return {}
    names = sorted(name for name in entries[reference]["chunks"] if not sequences or name.split("@")[0] in sequences)
    seed = int(hashlib.sha256(" ".join(names).encode()).hexdigest()[:8], 16)
    drawn = np.random.default_rng(seed).integers(0, len(names), (DRAWS, len(names)))
    every = np.concatenate([np.arange(len(names))[None], drawn])
    ours = _resampled(entries[reference]["chunks"], names, every)
    found = {}
    for name, row in entries.items():
        if name != reference:
            theirs = _resampled(row["chunks"], names, every)
            found[name] = {key: _interval(ours[key] - theirs[key]) for key in ours}
    return found


def _interval(differences: NDArray[np.float64]) -> tuple[float, float, float]:
    low, high = np.percentile(differences[1:], [2.5, 97.5])
    return round(float(differences[0]), 2), round(float(low), 2), round(float(high), 2)


def _resampled(
    sums: Mapping[str, Any], names: Sequence[str], drawn: NDArray[np.int64]
) -> dict[str, NDArray[np.float64]]:
    found = figures(columns({name: sums[name] for name in names}), drawn)
    return {name: values * (1 if name == "IDSW" else 100) for name, values in found.items()}


def _say(label: str, row: Mapping[str, Any]) -> None:
    whole = row["all"]
    shares = "  ".join(f"{key} {100 * whole[key]:5.1f}" for key in ("HOTA", "DetA", "AssA", "IDF1", "MOTA"))
    jobs.say(f"{label:48} {shares}  IDSW {whole['IDSW']:4}")
