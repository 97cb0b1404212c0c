"""Results as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.trackers.accuracy import differences
from benchmarks.trackers.speed import cell

REFERENCES = tuple(
    f"framechain/tether{features} (numpy){believed}"
    for features in ("+features", "")
    for believed in (" and believed", "")
)
"""The entry that others are subtracted from: the first of these that there is."""


def table(results: Mapping[str, Any], *, cpu: bool = False, only: Sequence[str] = ()) -> str:
    """Tables of a results file of either kind.

    Args:
        cpu: milliseconds of processor time, which others on the machine disturb less.
        only: sequences that differences are taken over; all if empty.
    """
    rows = results["entries"]
    lines = _speed(results, cpu) if any("crowds" in row for row in rows.values()) else _accuracy(results, only)
    machine = results["machine"]
    return "\n".join([*lines, "", f"{machine['cpu']}, one thread, Python {machine['python']}, {results['date']}.", ""])


def _speed(results: Mapping[str, Any], cpu: bool) -> Iterator[str]:
    rows = results["entries"]
    sizes = sorted({size for row in rows.values() for size in row["crowds"]}, key=int)
    key = "cpu" if cpu else "ms"
    what = "Milliseconds of processor time a frame" if cpu else "Milliseconds a frame"
    yield f"{what} (median), by people in the crowd; `mot`: MOTChallenge's public detections; "
    yield "16×25: sixteen cameras of 25 people, one tracker each, and all in one object."
    yield ""
    yield "| | " + " | ".join(["mot", *sizes, "16×25", "in one"]) + " |"
    yield "|---" * (len(sizes) + 4) + "|"
    for name, row in rows.items():
        stopped = False
        cells = [cell(row.get("mot"), key)]
        for size in sizes:
            found = row["crowds"].get(size)
            cells.append("not tried" if found is None and stopped else cell(found, key))
            stopped = stopped or bool(found and ("over" in found or "error" in found))
        cameras = row.get("cameras", {})
        cells += [_camera(cameras, "separate", key), _camera(cameras, "together", key)]
        yield f"| {name} | " + " | ".join(cells) + " |"


def _camera(cameras: Mapping[str, Any], name: str, key: str) -> str:
    return cell(cameras if "error" in cameras or "over" in cameras else cameras.get(name), key)


def _accuracy(results: Mapping[str, Any], only: Sequence[str]) -> Iterator[str]:
    rows = {name: row for name, row in results["entries"].items() if "all" in row}
    frames = sum(results["sequences"].values())
    yield f"{', '.join(results['sequences'])}: {frames} frames together."
    yield ""
    yield "| | HOTA | DetA | AssA | IDF1 | MOTA | switches |"
    yield "|---" * 7 + "|"
    for name, row in sorted(rows.items(), key=lambda item: -item[1]["all"]["HOTA"]):
        figures = row["all"]
        shares = " | ".join(f"{100 * figures[key]:.1f}" for key in ("HOTA", "DetA", "AssA", "IDF1", "MOTA"))
        yield f"| {name} | {shares} | {figures['IDSW']} |"
    for name, row in results["entries"].items():
        if "all" not in row:
            yield f"| {name} | {row['error']} | | | | | |"
    yield ""
    yield "HOTA by sequence:"
    yield ""
    yield "| | " + " | ".join(results["sequences"]) + " |"
    yield "|---" * (len(results["sequences"]) + 1) + "|"
    for name, row in rows.items():
        yield f"| {name} | " + " | ".join(f"{100 * row['each'][each]['HOTA']:.1f}" for each in row["each"]) + " |"
    reference = next((name for name in REFERENCES if name in rows), None)
    if reference is None:
        return
    yield ""
    where = f" of {' and '.join(only)}" if only else ""
    yield f"{reference} minus each, over chunks of 100 frames{where}, with 95 % intervals (paired bootstrap):"
    yield ""
    yield "| | HOTA | IDF1 | switches |"
    yield "|---" * 4 + "|"
    for name, found in differences(results, reference, only).items():
        cells = [f"{middle:+.1f} ({low:+.1f} … {high:+.1f})" for middle, low, high in found.values()]
        yield f"| {name} | " + " | ".join(cells) + " |"
