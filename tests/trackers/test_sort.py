"""SORT against what the published program writes on its own detections."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

import numpy as np
import pytest

from trackers import SORT, mot_format

NAMES = [
    *("ADL-Rundle-6", "ADL-Rundle-8", "ETH-Bahnhof", "ETH-Pedcross2", "ETH-Sunnyday", "KITTI-13", "KITTI-17"),
    *("PETS09-S2L1", "TUD-Campus", "TUD-Stadtmitte", "Venice-2"),
]


@pytest.mark.parametrize("name", NAMES)
def test_the_published_programs_output_is_reproduced(name: str, data: Path) -> None:
    rows = mot_format.read(data / "mot" / "SORT-detections" / f"{name}.txt")
    with (data / "mot" / "SORT-goldens.csv").open() as file:
        golden = next(row for row in csv.DictReader(file) if row["sequence"] == name)
    # the program's max_age=1 and min_hits=3, one frame a step, and ids given at birth
    tracker = SORT(max_coast=1 / 30, min_hits=3, iou_threshold=0.3, number_at_birth=True)
    lines: list[str] = []
    ids: set[int] = set()
    for frame in range(1, int(rows.frame.max()) + 1):
        here = rows.frame == frame
        tracks = tracker.update(rows.xyxy[here])
        for track_id, (x1, y1, x2, y2) in sorted(
            zip(tracks.id.tolist(), tracks.xyxy.tolist(), strict=True), reverse=True
        ):
            ids.add(track_id)
            lines.append(f"{frame},{track_id},{x1:.2f},{y1:.2f},{x2 - x1:.2f},{y2 - y1:.2f},1,-1,-1,-1\n")
    assert len(lines) == int(golden["rows"])
    assert len(ids) == int(golden["ids"])
    assert hashlib.sha256("".join(lines).encode()).hexdigest() == golden["sha256"]


def test_ids_are_gap_free_by_default() -> None:
    rng = np.random.default_rng(0)
    tracker, seen = SORT(), []
    for _ in range(60):
        boxes = rng.uniform(0, 400, (6, 2))
        still = np.array([[10.0, 10.0, 60.0, 110.0]])
        tracks = tracker.update(np.concatenate([still, np.concatenate([boxes, boxes + 40], axis=1)]))
        seen += tracks.id.tolist()
    assert sorted(set(seen)) == list(range(1, max(seen) + 1))
