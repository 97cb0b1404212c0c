"""A camera that is dead, corrupt or four times as fast changes nothing in the results of another one, not a bit.

What it takes in frames a second is for benchmarks/isolation.py to say; here frames are counted, not timed.
"""

from __future__ import annotations

import json
import socket
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from cameras import HttpCamera

from benchmarks.isolation import isolation
from pipeline.engine import Pipeline
from pipeline.metrics import SourceSnapshot
from pipeline.sinks.jsonl import JsonLines
from pipeline.source import Source, create_source
from pipeline.stages.detect import Detect
from pipeline.stages.track import Track

FRAMES = 20


def record(folder: Path, good: list[Source], bad: list[Source]) -> dict[str, SourceSnapshot]:
    """Run until the good sources have ended; what they gave is in a file of each."""
    chain = [Detect(image_size=320, batch=4, runtime="onnxruntime"), Track()]
    pipeline = Pipeline([*good, *bad], chain, [JsonLines(path=folder / "{source}.jsonl")], keep_going=True)
    pipeline.start()
    names = {source.id for source in good}
    while not pipeline.join(0.02):
        sources = {one.id: one for one in pipeline.metrics.snapshot().sources}
        if all(sources[name].state == "ended" and not sources[name].in_flight for name in names):
            pipeline.stop()
    return {one.id: one for one in pipeline.wait(20).sources}


def rows(path: Path) -> dict[int, dict[str, Any]]:
    return {row["frame"]: row for row in map(json.loads, path.read_text().splitlines())}


def scores(row: dict[str, Any]) -> list[float]:
    """Of all that was detected in a frame, whether it became a track or not."""
    return sorted(found["score"] for found in row["tracks"] + row["detections"])


def test_results_do_not_depend_on_the_neighbours(tmp_path: Path, data: Path) -> None:
    video = str(data / "video" / "vtest.avi")

    def file() -> Source:
        return create_source(video, id="file", max_frames=FRAMES)

    def played() -> Source:
        return create_source(video, id="played", max_frames=FRAMES, realtime=True, rate=6)

    alone, beside = tmp_path / "alone", tmp_path / "beside"
    record(alone, [file()], [])
    record(alone, [played()], [])
    with ExitStack() as stack:
        garbage, fast = HttpCamera(), HttpCamera(rate=100)
        garbage.garbage = 10**6
        ports = [stack.enter_context(camera).port for camera in (garbage, fast)]
        dead = stack.enter_context(closing(socket.create_server(("127.0.0.1", 0))))
        ports.append(dead.getsockname()[1])
        bad = [
            create_source(f"http://127.0.0.1:{port}/mjpeg", id=name, open_timeout=1)
            for name, port in zip(("garbage", "fast", "dead"), ports, strict=True)
        ]
        sources = record(beside, [file(), played()], bad)

    assert sources["fast"].finished > 0
    assert sources["garbage"].finished == sources["dead"].finished == 0
    assert sources["file"].finished == FRAMES
    assert (beside / "file.jsonl").read_bytes() == (alone / "file.jsonl").read_bytes()
    assert sum(len(row["tracks"]) for row in rows(alone / "file.jsonl").values()) > FRAMES

    one, other = rows(alone / "played.jsonl"), rows(beside / "played.jsonl")
    assert sources["played"].captured == FRAMES
    assert len(other) == FRAMES - sum(sources["played"].dropped.values())
    assert len(one.keys() & other.keys()) > FRAMES / 2
    for index in one.keys() & other.keys():
        assert scores(one[index]) == scores(other[index])
    if one.keys() == other.keys():  # tracks depend on the frames before, and a busy machine may have dropped some
        assert one == other


def test_a_steady_camera_in_turns_alone_and_beside_a_fast_one() -> None:
    alone, fast = isolation(1, 1, ("", "fast"))
    assert (alone.kind, fast.kind) == ("", "fast")
    assert alone.compared > 10
    assert fast.compared > 0
    assert alone.differing == fast.differing == 0
