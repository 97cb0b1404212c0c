"""Association against brute force and the dense problem it stands for."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from trackers.association import (
    assign,
    expand,
    iou,
    mutual_best,
    overlapping,
    paired_diou,
    paired_giou,
    paired_height_iou,
    paired_iou,
)

pytestmark = pytest.mark.usefixtures("loops")


def scene(seed: int, n: int, m: int, spread: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)

    def boxes(count: int) -> np.ndarray:
        corner = rng.uniform(0, spread, (count, 2))
        return np.concatenate([corner, corner + rng.uniform(5, 60, (count, 2))], axis=1)

    return boxes(n), boxes(m)


def plain_iou(a: np.ndarray, b: np.ndarray) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


@given(st.integers(0, 10**6), st.integers(0, 12), st.integers(0, 12))
def test_iou_is_the_plain_one(seed: int, n: int, m: int) -> None:
    a, b = scene(seed, n, m, 120)
    expected = np.array([[plain_iou(x, y) for y in b] for x in a]).reshape(n, m)
    np.testing.assert_allclose(iou(a, b), expected, atol=1e-12)


@pytest.mark.parametrize("count", [3, 40, 400])
def test_the_sweep_finds_every_pair_that_touches(count: int) -> None:
    """Both ways of finding pairs, the dense one for few boxes and the sorted sweep for many."""
    a, b = scene(count, count, count + 7, 1500)
    touch = (a[:, None, :2] <= b[None, :, 2:]).all(2) & (b[None, :, :2] <= a[:, None, 2:]).all(2)
    rows, cols = overlapping(a, b)
    np.testing.assert_array_equal(np.stack([rows, cols]), np.stack(touch.nonzero()))


def dense_best(cost: np.ndarray, gate: float) -> tuple[float, int]:
    """The textbook way: everything above the gate costs the gate, solve, reject."""
    saturated = np.minimum(cost, gate)
    rows, cols = linear_sum_assignment(saturated)
    kept = cost[rows, cols] < gate
    return float(saturated[rows, cols].sum()), int(kept.sum())


@settings(max_examples=150)
@given(st.integers(0, 10**6), st.integers(1, 30), st.integers(1, 30), st.floats(0.2, 0.99))
def test_assignment_is_as_good_as_the_dense_problem(seed: int, n: int, m: int, gate: float) -> None:
    a, b = scene(seed, n, m, 200)
    cost = 1 - iou(a, b)
    rows, cols = overlapping(a, b)
    chosen = assign(rows, cols, cost[rows, cols], gate)
    assert len(set(rows[chosen])) == len(set(cols[chosen])) == len(chosen), "one to one"
    assert (cost[rows[chosen], cols[chosen]] < gate).all()
    total = cost[rows[chosen], cols[chosen]].sum() + gate * (min(n, m) - len(chosen))
    assert total == pytest.approx(dense_best(cost, gate)[0], abs=1e-9)


@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 5))
def test_small_problems_against_every_permutation(seed: int, n: int, m: int) -> None:
    cost = np.random.default_rng(seed).uniform(0, 1, (n, m))
    rows, cols = (part.ravel() for part in np.mgrid[:n, :m])
    chosen = assign(rows, cols, cost.ravel(), 0.6)
    total = cost.ravel()[chosen].sum() + 0.6 * (min(n, m) - len(chosen))
    small, large = (cost, m) if n <= m else (cost.T, n)
    best = min(
        sum(min(small[i, j], 0.6) for i, j in enumerate(order)) for order in permutations(range(large), min(n, m))
    )
    assert total == pytest.approx(best)


def test_a_crowd_is_split_and_still_optimal() -> None:
    """400 against 400 in a tangle: far over the size up to which one dense problem is solved."""
    a, _ = scene(5, 400, 1, 900)
    b = a[np.random.default_rng(1).permutation(400)] + np.random.default_rng(2).normal(0, 4, (400, 4))
    cost = 1 - iou(a, b)
    rows, cols = overlapping(a, b)
    chosen = assign(rows, cols, cost[rows, cols], 0.9)
    total = cost[rows[chosen], cols[chosen]].sum() + 0.9 * (400 - len(chosen))
    assert total == pytest.approx(dense_best(cost, 0.9)[0])


def test_expanding_and_nothing() -> None:
    np.testing.assert_array_equal(expand(np.array([[0.0, 0, 10, 20]]), 0.1), [[-1, -2, 11, 22]])
    empty = np.zeros((0, 4))
    assert iou(empty, empty).shape == (0, 0)
    assert len(assign(np.zeros(0, int), np.zeros(0, int), np.zeros(0), 1.0)) == 0


@pytest.mark.parametrize("seed", range(8))
def test_the_overlap_family_is_torchvisions(seed: int) -> None:
    ops = pytest.importorskip("torchvision.ops")
    import torch

    a, b = scene(seed, 20, 20, 90)
    one, other = torch.from_numpy(a), torch.from_numpy(b)
    for ours, theirs in (
        (paired_iou, ops.box_iou),
        (paired_giou, ops.generalized_box_iou),
        (paired_diou, ops.distance_box_iou),
    ):
        np.testing.assert_allclose(ours(a, b), theirs(one, other).diagonal().numpy(), atol=1e-6)
    upright = np.array([[0, 1, 0, 1]])
    tall = [x * upright + np.array([[0, 0, 1, 0]]) for x in (a, b)]
    np.testing.assert_allclose(paired_height_iou(a, b), paired_iou(*tall), atol=1e-12)


@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 12), st.floats(0.1, 1))
def test_mutual_best_takes_the_cheapest_pair_that_is_left(seed: int, n: int, m: int, gate: float) -> None:
    """The same as taking the cheapest of all pairs, striking out its row and column, and so on."""
    cost = np.random.default_rng(seed).random((n, m))
    rows, cols = (part.ravel() for part in np.indices(cost.shape))
    chosen = mutual_best(rows, cols, cost.ravel(), gate)
    left, expected = cost.copy(), set()
    while left.min() < gate:
        i, j = np.unravel_index(left.argmin(), left.shape)
        expected.add((int(i), int(j)))
        left[i], left[:, j] = np.inf, np.inf
    assert set(zip(rows[chosen].tolist(), cols[chosen].tolist(), strict=True)) == expected
