"""Detections to track: synthetic crowds, and MOTChallenge sequences; and the file that a rival's process reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackers.sequences import Found, TrackedSequence

RATE = 30.0
"""Frames a second of a crowd."""


def crowd(size: int, frames: int, *, length: int = 0, seed: int = 0) -> list[Found]:
    """People who walk through a hall, as a detector sees them: 10 % missed, 5 % clutter, a pixel of jitter.

    The hall's side grows with the square root of the crowd: as dense at any size.

    Args:
        size: people. frames: how many. length: of feature vectors; none if 0.
        seed: the same crowd for the same seed.
    """
    rng = np.random.default_rng([seed, size])
    hall = 150.0 * size**0.5
    place, velocity = rng.uniform(0, hall, (size, 2)), rng.normal(0, 3, (size, 2))
    sides = np.array([40.0, 110.0]) * rng.uniform(0.8, 1.2, (size, 1))
    looks = rng.normal(0, 1, (size, length))
    clutter = max(1, size // 20)
    scene = []
    for _ in range(frames):
        place += velocity
        velocity[(place < 0) | (place > hall)] *= -1
        seen = rng.random(size) > 0.1
        corners = np.concatenate([place[seen] + rng.normal(0, 1, (seen.sum(), 2)), rng.uniform(0, hall, (clutter, 2))])
        extent = np.concatenate([sides[seen], np.tile([40.0, 110.0], (clutter, 1))])
        scores = np.concatenate([rng.normal(0.85, 0.1, seen.sum()), rng.uniform(0.1, 0.7, clutter)]).clip(0.05, 0.99)
        features = None
        if length:
            features = np.concatenate([looks[seen], rng.normal(0, 1, (clutter, length))])
            features = unit(features + rng.normal(0, 0.5, features.shape))
        scene.append(Found(np.concatenate([corners, corners + extent], axis=1), scores, features))
    return scene


def unit(vectors: NDArray[np.float64]) -> NDArray[np.float32]:
    """The same directions, of length 1."""
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def one_scale(sequence: TrackedSequence) -> TrackedSequence:
    """A sequence whose scores are in 0..1: MOT15's are an ACF detector's, from below 0 to above 100.

    Sixty and more is 1: about half of them, as with a modern detector's.
    """
    if max((found.scores.max(initial=0.0) for found in sequence.frames), default=0.0) <= 1:
        return sequence
    frames = [Found(found.xyxy, np.clip(found.scores / 60, 0, 1), found.features) for found in sequence.frames]
    return TrackedSequence(sequence.name, sequence.rate, frames, sequence.truth)


def write(path: Path, frames: Sequence[Found], rate: float) -> None:
    """A scene for `worker.py`."""
    columns: dict[str, Any] = {
        "counts": np.array([len(found.xyxy) for found in frames]),
        "xyxy": np.concatenate([found.xyxy for found in frames]),
        "scores": np.concatenate([found.scores for found in frames]),
        "rate": np.array(rate),
    }
    vectors = [found.features for found in frames if found.features is not None]
    if len(vectors) == len(frames):
        columns["features"] = np.concatenate(vectors)
    np.savez(path, **columns)
