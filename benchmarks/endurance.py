"""A long life for trackers: memory over a million frames, garbage for input, and frames that never come.

    python -m benchmarks.endurance memory --trackers tether sort --frames 1000000 --json endurance.json
    python -m benchmarks.endurance fuzz --updates 100000
    python -m benchmarks.endurance dropped MOT17/ --trackers tether bytetrack --seeds 5

`memory`: a crowd of about ten is born, walks and leaves; the slope of the process's resident memory (after the first
tenth of the frames) and the size of the tracker's state. `fuzz`: boxes, scores, classes, features and times that make
no sense, over all trackers in turn; an update must not fail, repeat an id in a frame, or answer with what is not a
number. `dropped`: of sequences with ground truth half of the frames, drawn at random, are never seen; by how much IDF1
on the other half falls, against a run that saw all.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import trackers
from trackers import Tracker, Tracks
from trackers.evaluate import evaluate
from trackers.mot_format import MotRows
from trackers.sequences import TrackedSequence, read_sequence, sequence_folders

Array = NDArray[Any]

RATE = 10.0
"""Frames a second of what is made up here."""


def crowd(seed: int = 0, size: int = 10, life: float = 3.0, dimension: int = 8) -> Iterator[tuple[Array, ...]]:
    """Frames without end: (N, 4) boxes, (N,) scores, (N, dimension) features of about `size` people.

    Each is there for `life` seconds on average; one in ten detections is missing, and one in twenty is false.
    """
    rng = np.random.default_rng(seed)
    hall = np.array([1920.0, 1080.0])

    def born(count: int) -> tuple[Array, Array, Array]:
        return rng.uniform(0, hall, (count, 2)), rng.normal(0, 40, (count, 2)), rng.normal(size=(count, dimension))

    place, velocity, look = born(size)
    while True:
        place = place + velocity / RATE
        stays = (rng.random(len(place)) > 1 / (life * RATE)) & (place > 0).all(axis=1) & (place < hall).all(axis=1)
        new = born(int(rng.binomial(2 * size, 0.1)) if len(place) < size else 0)
        place, velocity, look = (
            np.concatenate([old[stays], more]) for old, more in zip((place, velocity, look), new, strict=True)
        )
        seen = rng.random(len(place)) > 0.1
        false = int(rng.binomial(size, 0.05))
        corner = np.concatenate([place[seen] + rng.normal(0, 2, (seen.sum(), 2)), rng.uniform(0, hall, (false, 2))])
        vectors = np.concatenate([look[seen], rng.normal(size=(false, dimension))])
        boxes = np.concatenate([corner, corner + np.array([40.0, 110.0])], axis=1)
        vectors = (vectors + rng.normal(0, 0.2, vectors.shape)).astype(np.float32)
        yield boxes, rng.uniform(0.15, 1.0, len(boxes)), vectors


def state_size(tracker: Tracker) -> int:
    """Bytes of everything that a tracker remembers."""
    return len(pickle.dumps(tracker.state_dict()))


def resident() -> int:
    """Bytes of memory that this process holds (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Endured:
    """What a long run came to.

    Attributes:
        frames: how many there were. ids: tracks that were named. rate: frames a second.
        most: bytes of state, at most. slope: bytes of resident memory gained a million frames.
        samples: (frame, bytes of state, bytes of resident memory), evenly spaced.
    """

    frames: int
    ids: int
    rate: float
    most: int
    slope: float
    samples: list[tuple[int, int, int]]


def endure(
    name: str,
    frames: int,
    seconds: float = float("inf"),
    held: Callable[[], int] = resident,
    samples: int = 100,
) -> Endured:
    """A crowd through a tracker, frame by frame.

    Args:
        name: of the tracker. frames: how many. seconds: after which it ends even so.
        held: bytes of memory in use. samples: how often it is asked.
    """
    tracker, last, start = trackers.create(name), 0, time.monotonic()
    found: list[tuple[int, int, int]] = []
    number = 0
    for number, (boxes, scores, features) in enumerate(crowd(), 1):
        tracks = tracker.update(boxes, scores, features=features, timestamp=number / RATE)
        last = max(last, int(tracks.id.max(initial=0)))
        if number % max(1, frames // samples) == 0:
            found.append((number, state_size(tracker), held()))
            if number >= frames or time.monotonic() - start > seconds:
                break
    later = np.array(found[len(found) // 10 :], float)
    slope = float(np.polyfit(later[:, 0], later[:, 2], 1)[0]) * 1e6 if len(later) > 1 else 0.0
    rate = number / (time.monotonic() - start)
    return Endured(number, last, rate, max(size for _, size, _ in found), slope, found)


def garbage(rng: np.random.Generator) -> dict[str, Any]:
    """Arguments of an update whose shapes are right and whose values need not be."""
    count = int(rng.choice([0, 1, 2, 5, 12, 40]))
    scale = 10.0 ** rng.integers(-3, 7)
    corner = rng.normal(0, scale, (count, 2))
    boxes = np.concatenate([corner, corner + rng.normal(0.3 * scale, scale, (count, 2))], axis=1)
    if count and rng.random() < 0.5:  # some over one another, some exactly the same
        boxes = boxes[rng.integers(0, count, count)] + rng.choice([0.0, 0.01 * scale]) * rng.normal(size=(count, 4))
    wild = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-300, 1e300, 1e9, -1e9, 5e-324])
    boxes = np.where(rng.random(boxes.shape) < rng.choice([0, 0.05, 0.5]), rng.choice(wild, boxes.shape), boxes)
    scores = rng.uniform(-0.2, 1.2, count)
    scores = np.where(rng.random(count) < rng.choice([0, 0.2]), rng.choice(wild, count), scores)
    features = rng.normal(size=(count, 6)).astype(np.float32)
    features[rng.random(count) < 0.2] = rng.choice(np.array([0, np.nan, np.inf, 1e30, 1e-30], np.float32))
    return {
        "xyxy": boxes,
        "scores": scores,
        "class_ids": rng.integers(-5, 5, count),
        "features": features if rng.random() < 0.5 else None,
    }


def check(tracks: Tracks) -> None:
    """See that a result can be used: finite, boxes with an area, every id once.

    Raises:
        AssertionError: it cannot.
    """
    ids: list[int] = []
    for part in (tracks, tracks.lost()):
        ids += part.id.tolist()
    for part in (tracks, tracks.lost(), tracks.tentative()):
        for column in ("xyxy", "score", "velocity", "age", "since_seen"):
            assert np.isfinite(getattr(part, column)).all(), f"{column} is not finite"
        assert (part.xyxy[:, 2:] > part.xyxy[:, :2]).all(), "a box without an area"
    assert len(set(ids)) == len(ids), "an id twice in a frame"


def fuzz(name: str, updates: int, seed: int = 0) -> None:
    """Garbage into a tracker, which is begun anew now and then.

    Raises:
        AssertionError: a result that cannot be used; the message names the update that brings it back.
    """
    rng, tracker, now = np.random.default_rng(seed), trackers.create(name), 0.0
    for number in range(updates):
        if rng.random() < 0.01:
            tracker, now = trackers.create(name), 0.0
        now += float(rng.choice([0.0, 1e-9, 0.04, 0.1, 3.0, 1e6]))
        try:
            with np.errstate(all="ignore"):
                check(tracker.update(**garbage(rng), timestamp=now))
                check(tracker.predict(now + 0.1))
        except Exception as error:
            raise AssertionError(f"{name}, seed {seed}, update {number}: {type(error).__name__}: {error}") from error


def seen_of(name: str, sequence: TrackedSequence, kept: NDArray[np.bool_], timed: bool = True) -> MotRows:
    """Results of a tracker that gets some frames only, with their times; hidden tracks included.

    Args:
        name: of the tracker. kept: (frames,) which ones it gets.
        timed: it is told their times; else it takes each for the next one, as programs do that count frames.
    """
    tracker = trackers.create(name, frame_period=1 / sequence.rate)
    frames, parts = [np.zeros(0, np.int64)], [Tracks()]
    for number, found in enumerate(sequence.frames):
        if not kept[number]:
            continue
        now = number / sequence.rate if timed else None
        tracks = tracker.update(found.xyxy, found.scores, features=found.features, timestamp=now)
        for part in (tracks, tracks.hidden()):
            frames.append(np.full(len(part), number + 1))
            parts.append(part)
    ids, boxes, scores = (np.concatenate([getattr(part, key) for part in parts]) for key in ("id", "xyxy", "score"))
    return MotRows(np.concatenate(frames), ids, boxes, scores, np.full(len(ids), -1), np.ones(len(ids)))


def fall(
    name: str, sequences: Sequence[TrackedSequence], seed: int, share: float = 0.5, timed: bool = True
) -> tuple[float, float]:
    """IDF1 on half of the frames, over all sequences: of a run that saw every frame, and of one that saw those only.

    Args:
        name: of the tracker. seed: of the frames that are dropped. share: how many are. timed: see `seen_of`.
    """
    rng = np.random.default_rng(seed)
    whole, half = {}, {}
    for sequence in sequences:
        kept = rng.random(len(sequence.frames)) >= share
        truth = _only(sequence.truth, kept)
        whole[sequence.name] = truth, _only(seen_of(name, sequence, np.ones(len(kept), bool)), kept)
        half[sequence.name] = truth, seen_of(name, sequence, kept, timed)
    return evaluate(whole)[0].IDF1, evaluate(half)[0].IDF1


def _only(rows: MotRows, kept: NDArray[np.bool_]) -> MotRows:
    within = rows.frame <= len(kept)
    return rows[within][kept[rows.frame[within] - 1]]


def main() -> None:
    """Run what is asked for, and print a line a tracker."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("what", choices=("memory", "fuzz", "dropped"))
    parser.add_argument("data", nargs="*", type=Path, help="dropped: MOTChallenge sequences or folders of them")
    parser.add_argument("--trackers", nargs="+", default=trackers.available())
    parser.add_argument("--frames", type=int, default=1_000_000, help="memory: for each tracker")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="memory: for each tracker, at most")
    parser.add_argument("--updates", type=int, default=100_000, help="fuzz: over all trackers")
    parser.add_argument("--seeds", type=int, default=5, help="dropped: how often frames are drawn")
    parser.add_argument("--untimed", action="store_true", help="dropped: tell no times, as if frames were counted")
    parser.add_argument("--json", type=Path, help="write figures here")
    arguments = parser.parse_args()
    figures: dict[str, Any] = {}
    sequences = [read_sequence(folder) for path in arguments.data for folder in sequence_folders(path)]
    for name in arguments.trackers:
        if arguments.what == "memory":
            done = endure(name, arguments.frames, arguments.seconds)
            figures[name] = {key: getattr(done, key) for key in Endured.__slots__}
            print(
                f"{name:12} {done.frames} frames, {done.ids} ids, {done.rate:.0f}/s: state at most {done.most} bytes, "
                f"resident memory {done.slope / 1e6:+.3f} MB a million frames",
                flush=True,
            )
        elif arguments.what == "fuzz":
            start, updates = time.monotonic(), arguments.updates // len(arguments.trackers)
            fuzz(name, updates)
            figures[name] = {"updates": updates}
            print(f"{name:12} {updates} updates of garbage in {time.monotonic() - start:.0f} s, all well", flush=True)
        else:
            pairs = [fall(name, sequences, seed, timed=not arguments.untimed) for seed in range(arguments.seeds)]
            whole, half = np.mean(pairs, axis=0)
            figures[name] = {"whole": whole, "half": half, "pairs": pairs}
            print(f"{name:12} IDF1 {100 * whole:.2f} → {100 * half:.2f}: {100 * (half - whole):+.2f}", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
