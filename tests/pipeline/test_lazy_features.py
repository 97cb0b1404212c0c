"""Vectors that are computed when they are asked for, by trackers that ask for few."""

from __future__ import annotations

import numpy as np

from pipeline.detections import Detections
from pipeline.lazy_features import LazyFeatures
from trackers import create


def counting(vectors: np.ndarray) -> tuple[LazyFeatures, list[int]]:
    asked: list[int] = []

    def compute(rows: np.ndarray) -> np.ndarray:
        asked.extend(rows.tolist())
        return vectors[rows]

    return LazyFeatures(compute, vectors.shape), asked


def test_each_vector_is_computed_once() -> None:
    vectors = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    lazy, asked = counting(vectors)
    np.testing.assert_array_equal(lazy(np.array([4, 1, 4])), vectors[[4, 1, 4]])
    np.testing.assert_array_equal(lazy[np.array([1, 2])], vectors[[1, 2]])
    np.testing.assert_array_equal(np.asarray(lazy), vectors)
    assert sorted(asked) == [0, 1, 2, 3, 4, 5]


def test_detections_carry_them_like_an_array() -> None:
    lazy, asked = counting(np.eye(3, dtype=np.float32))
    found = Detections(np.array([[0, 0, 9, 9]] * 3, np.float32), np.ones(3, np.float32), np.zeros(3, np.int64), lazy)
    assert not asked
    np.testing.assert_array_equal(found[np.array([2])].features, [[0, 0, 1]])


def test_a_tracker_gives_the_same_and_asks_for_fewer() -> None:
    """Two people who cross, and one who walks alone: only where there is a choice are looks asked for."""
    eager, lazily = create("tether"), create("tether")
    asked: list[int] = []
    total = 0
    looks = np.eye(3, 8, dtype=np.float32)
    for n in range(60):
        x = np.array([100 + 5 * n, 400 - 5 * n, 900])
        xyxy = np.stack([x, np.full(3, 50), x + 40, np.full(3, 150)], axis=1).astype(float)
        lazy, new = counting(looks)
        one = eager.update(xyxy, features=looks, timestamp=n / 30)
        other = lazily.update(xyxy, features=lazy, timestamp=n / 30)
        np.testing.assert_array_equal(one.id, other.id)
        np.testing.assert_array_equal(one.xyxy, other.xyxy)
        asked += new
        total += 3
    assert 0 < len(asked) < total / 2
