"""Results as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.trackers.accuracy import differences
from benchmarks.trackers.speed import cell

REFERENCES = ("framechain/tether+features", "framechain/tether")


def table(results: Mapping[str, Any]) -> str:
    """Tables of a results file of either kind."""
    rows = results["entries"]
    if any("crowds" in row for row in rows.values()):
        lines = _speed(results)
    else:
        lines = _accuracy(results)
    machine = results["machine"]
    return "\n".join([*lines, "", f"{machine['cpu']}, one thread, Python {machine['python']}, {results['date']}.", ""])


def _speed(results: Mapping[str, Any]) -> Iterator[str]:
    rows = results["entries"]
    sizes = sorted({size for row in rows.values() for size in row["crowds"]}, key=int)
    yield "Milliseconds a frame (median), by people in the crowd; `mot`: MOTChallenge's public detections; "
    yield "16×25: sixteen cameras of 25 people, one tracker each, and all in one object."
    yield ""
    yield "| | " + " | ".join(["mot", *sizes, "16×25", "in one"]) + " |"
    yield "|---" * (len(sizes) + 4) + "|"
    for name, row in rows.items():
        stopped = False
        cells = [cell(row.get("mot"))]
        for size in sizes:
            found = row["crowds"].get(size)
            cells.append("not tried" if found is None and stopped else cell(found))
            stopped = stopped or bool(found and ("over" in found or "error" in found))
        cameras = row.get("cameras", {})
        cells += [cell(cameras.get("separate")), cell(cameras.get("together"))]
        yield f"| {name} | " + " | ".join(cells) + " |"


def _accuracy(results: Mapping[str, Any]) -> Iterator[str]:
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
        if "error" in row:
            yield f"| {name} | {row['error']} | | | | | |"
    reference = next((f"{name}{end}" for name in REFERENCES for end in ("",) if f"{name}{end}" in rows), None)
    if reference is None:
        return
    yield ""
    yield f"{reference} minus each, over chunks of 100 frames, with 95 % intervals (paired bootstrap):"
    yield ""
    yield "| | HOTA | IDF1 | switches |"
    yield "|---" * 4 + "|"
    for name, found in differences(results, reference).items():
        cells = [f"{middle:+.1f} ({low:+.1f} … {high:+.1f})" for middle, low, high in found.values()]
        yield f"| {name} | " + " | ".join(cells) + " |"
