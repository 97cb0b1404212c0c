"""A trace shows every frame in every part, in the format that Perfetto and Chrome read."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

from chains import Call, Keep, Memory

from pipeline.engine import Pipeline
from pipeline.trace import Trace


def traced(tmp_path: Path, trace: Trace, **options: object) -> list[dict]:
    sources = [Memory(uri="a", count=6), Memory(uri="b", count=4)]
    Pipeline(sources, [Call(workers=2), Call()], [Keep()], trace=trace, **options).run()
    trace.write(tmp_path / "trace.json")
    document = json.loads((tmp_path / "trace.json").read_text())
    assert document["displayTimeUnit"] == "ms"
    return document["traceEvents"]


def test_every_frame_is_seen_in_every_part_and_as_a_whole(tmp_path: Path) -> None:
    events = traced(tmp_path, Trace())
    expected = sorted([f"a {n}" for n in range(6)] + [f"b {n}" for n in range(4)])
    for part in ("decode", "call", "call-2", "sink:keep"):
        spans = [event for event in events if event["ph"] == "X" and event["name"] == part]
        assert sorted(event["args"]["frames"] for event in spans) == expected
        assert all(event["ts"] >= 0 and event["dur"] >= 0 for event in spans)
    begun = {event["id"]: event["ts"] for event in events if event["ph"] == "b"}
    ended = {event["id"]: event["ts"] for event in events if event["ph"] == "e"}
    assert len(begun) == 10
    assert begun.keys() == ended.keys()
    assert all(begun[frame] <= ended[frame] for frame in begun)
    # in each thread one thing at a time, and every row of the picture has a name
    rows = {(event["pid"], event["tid"]) for event in events if event["ph"] == "X"}
    named = {(event["pid"], event["tid"]) for event in events if event["name"] == "thread_name"}
    assert rows <= named
    for row in rows:
        mine = [event for event in events if event["ph"] == "X" and (event["pid"], event["tid"]) == row]
        for (start, length), (after, _) in pairwise(sorted((event["ts"], event["dur"]) for event in mine)):
            assert start + length <= after + 0.2  # times are rounded to tenths of microseconds


def test_frames_that_are_lost_are_seen_too(tmp_path: Path) -> None:
    def fail(frame: object) -> None:
        if frame.index == 2:  # type: ignore[attr-defined]
            raise ValueError("no")

    trace = Trace()
    Pipeline([Memory(count=5)], [Call(function=fail)], keep_going=True, trace=trace).run()
    trace.write(tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert [event["name"] for event in events if event["ph"] == "i"] == ["lost: call failed"]


def test_its_memory_is_bounded_and_what_is_left_out_is_counted(tmp_path: Path) -> None:
    trace = Trace(limit=20)
    kinds = Counter(event["ph"] for event in traced(tmp_path, trace))
    assert sum(kinds.values()) - kinds["M"] == 20
    assert json.loads((tmp_path / "trace.json").read_text())["otherData"]["left_out"] > 0
