"""The exact ground truth, as MOTChallenge lays it out, and the plate."""

from __future__ import annotations

import json
from pathlib import Path

PEDESTRIAN, CAR = 1, 3  # MOTChallenge classes; a bus counts as a car there


def folder(video: Path) -> Path:
    """Where a video's ground truth lies: a folder of the video's name beside it."""
    return video.with_suffix("")


def write(
    video: Path,
    rows: list[tuple[int, int, tuple[float, float, float, float], int, float]],
    plates: dict[str, object],
    size: tuple[int, int],
    rate: int,
    frames: int,
) -> None:
    """gt/gt.txt, seqinfo.ini and plates.json; rows: frame from 1, id, (left, top, width, height), class, visibility."""
    place = folder(video)
    (place / "gt").mkdir(parents=True, exist_ok=True)
    lines = [
        f"{frame},{identity},{','.join(f'{value:.2f}' for value in box)},1,{kind},{visibility:.4f}\n"
        for frame, identity, box, kind, visibility in rows
    ]
    (place / "gt" / "gt.txt").write_text("".join(lines), encoding="ascii")
    (place / "seqinfo.ini").write_text(
        f"[Sequence]\nname={video.stem}\nimDir=img1\nframeRate={rate}\nseqLength={frames}\n"
        f"imWidth={size[0]}\nimHeight={size[1]}\nimExt=.jpg\n",
        encoding="ascii",
    )
    (place / "plates.json").write_text(json.dumps(plates, indent=1) + "\n", encoding="ascii")
