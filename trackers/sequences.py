"""Sequences with detections and ground truth, and trackers run over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trackers import mot_format
from trackers.mot_format import MotRows
from trackers.tracker import Tracker
from trackers.tracks import Tracks


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """The detections of one frame: (N, 4) boxes, (N,) scores, (N, D) features or none."""

    xyxy: NDArray[np.float64]
    scores: NDArray[np.float64]
    features: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class TrackedSequence:
    """What a tracker is judged on.

    Attributes:
        name: of the sequence. rate: frames a second. frames: detections of each. truth: ground truth.
    """

    name: str
    rate: float
    frames: Sequence[Found]
    truth: MotRows


def sequence_folders(path: Path) -> list[Path]:
    """The MOTChallenge sequences at a path: itself, or the folders in it, sorted.

    Raises:
        ValueError: there is none.
    """
    if (path / "gt" / "gt.txt").is_file():
        return [path]
    found = sorted(truth.parents[1] for truth in path.glob("*/gt/gt.txt"))
    if not found:
        raise ValueError(f"{path} is no MOTChallenge sequence (no gt/gt.txt) and holds none; give a folder that does")
    return found


def read_sequence(folder: Path) -> TrackedSequence:
    """A MOTChallenge sequence with its public detections.

    Raises:
        OSError: a file of it cannot be read.
        ValueError: a file of it is not what it should be; the message names it.
    """
    info = mot_format.read_seqinfo(folder / "seqinfo.ini")
    found = mot_format.read(folder / "det" / "det.txt")
    order = np.argsort(found.frame, kind="stable")
    bounds = np.searchsorted(found.frame[order], np.arange(1, info.length + 2))
    parts = np.split(order, bounds)[1:-1]
    frames = [Found(found.xyxy[rows], found.confidence[rows]) for rows in parts]
    return TrackedSequence(folder.name, info.frame_rate, frames, mot_format.read(folder / "gt" / "gt.txt"))


def run(tracker: Tracker, sequence: TrackedSequence, *, hidden: bool) -> MotRows:
    """What a tracker makes of a sequence.

    Args:
        tracker: is reset before.
        hidden: as well as what each frame showed, where tracks are believed to be that it did not show.
    """
    tracker.reset()
    frames, shown = [], []
    for number, found in enumerate(sequence.frames):
        tracks = tracker.update(found.xyxy, found.scores, features=found.features, timestamp=number / sequence.rate)
        for part in (tracks, tracks.hidden()) if hidden else (tracks,):
            frames.append(np.full(len(part), number + 1))
            shown.append(part)
    return _rows(np.concatenate([np.zeros(0, np.int64), *frames]), shown)


def _rows(frames: NDArray[np.int64], shown: Sequence[Tracks]) -> MotRows:
    every = [Tracks(), *shown]
    ids, boxes, scores = (np.concatenate([getattr(part, name) for part in every]) for name in ("id", "xyxy", "score"))
    return MotRows(frames, ids, boxes, scores, np.full(len(ids), -1), np.ones(len(ids)))


def parse(text: str) -> tuple[str, Mapping[str, object]]:
    """A tracker's name and options out of `name` or `name:option=value,option=value`.

    >>> parse("sort:min_hits=2,iou_threshold=0.2")
    ('sort', {'min_hits': 2, 'iou_threshold': 0.2})

    Raises:
        ValueError: something between the commas is no `option=value`.
    """
    name, _, rest = text.partition(":")
    options: dict[str, object] = {}
    for pair in filter(None, rest.split(",")):
        key, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"'{pair}' in '{text}' is no option=value; write for instance sort:min_hits=2")
        options[key.strip()] = _value(value.strip())
    return name, options


def _value(text: str) -> object:
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
