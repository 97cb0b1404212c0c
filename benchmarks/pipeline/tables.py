"""Results as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from statistics import median
from typing import Any

from benchmarks.pipeline.contestants import CONTESTANTS

PAIRS = (
    ("framechain", "ultralytics", 4.0),
    ("framechain", "ultralytics openvino", 2.0),
    ("framechain bytetrack", "ultralytics bytetrack", None),
    ("framechain bytetrack", "ultralytics openvino bytetrack", None),
    ("framechain", "ultralytics openvino fitted", None),
    ("framechain bytetrack", "ultralytics openvino fitted bytetrack", None),
    ("framechain", "ultralytics onnx", None),
    ("framechain int8", "ultralytics", None),
    ("framechain deepsort", "loop", 5.0),
    ("framechain default", "loop", None),
)
"""Ours, theirs, and how many times as fast ours shall be."""


def ratios(rounds: list[Mapping[str, Any]], ours: str, theirs: str) -> list[float]:
    """How many times as fast ours was in each round in which both ran.

    >>> ratios([{"a": {"fps": 40.0}, "b": {"fps": 10.0}}, {"a": {"error": "x"}, "b": {"fps": 9.0}}], "a", "b")
    [4.0]
    """
    pairs = [(one.get(ours, {}).get("fps"), one.get(theirs, {}).get("fps")) for one in rounds]
    return [first / second for first, second in pairs if first and second]


def tables(results: Mapping[str, Any]) -> str:
    """Tables of a results file."""
    return "\n".join(_lines(results))


def _lines(results: Mapping[str, Any]) -> Iterator[str]:
    rounds, machine, accuracy = results.get("rounds", []), results["machine"], results.get("accuracy", {})
    how = results.get("measured", {})
    classes = ", ".join(how.get("classes") or ["all"])
    yield f"{how.get('weights')} at {how.get('size')}, {how.get('video')}, classes: {classes}; "
    yield f"medians of {len(rounds)} rounds of {how.get('frames')} frames. {machine['cpu']}, {machine['cores']} cores, "
    yield f"Python {machine['python']}, {results['date']}."
    yield ""
    yield "| | | FPS | CPU ms a frame | peak MB | AP50-95 | agreement |"
    yield "|---|---|---|---|---|---|---|"
    for one in CONTESTANTS:
        found = [each[one.name] for each in rounds if "fps" in each.get(one.name, {})]
        failed = [each[one.name]["error"] for each in rounds if "error" in each.get(one.name, {})]
        if not found:
            if failed:
                yield f"| {one.name} | {one.what} | {failed[-1]} | | | | |"
            continue
        figures = [f"{median(each[key] for each in found):.1f}" for key in ("fps", "cpu_ms")]
        memory = f"{median(each['peak_mb'] for each in found):.0f}"
        judged = accuracy.get(one.name, {})
        shares = [f"{100 * part['AP50-95']:.1f}" if (part := judged.get(key)) else "" for key in ("truth", "agreement")]
        by = f" ({found[0]['computed by']})" if "computed by" in found[0] else ""
        yield "| " + " | ".join([one.name, one.what + by, *figures, memory, *shares]) + " |"
    yield ""
    yield "| ours | theirs | times as fast | least … most | wanted |"
    yield "|---|---|---|---|---|"
    for ours, theirs, wanted in PAIRS:
        if found := ratios(rounds, ours, theirs):
            bar = f"{wanted:g}" if wanted else ""
            yield f"| {ours} | {theirs} | {median(found):.2f} | {min(found):.2f} … {max(found):.2f} | {bar} |"
