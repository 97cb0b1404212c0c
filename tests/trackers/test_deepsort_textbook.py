"""DeepSORT's four steps written out: loops over objects, dense matrices, one assignment a step."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from scipy.stats import chi2
from test_contract import random_scene

import trackers

pytestmark = pytest.mark.usefixtures("loops")

BUFFER, OVERLAP, FAINT_OVERLAP, HIGH, LOW = 0.25, 0.2, 0.5, 0.25, 0.1
MAX_COSINE, WEIGHT, RECOVERY = 0.25, 0.5, -5.0


def grown(box: list[float], share: float) -> list[float]:
    x, y = (box[2] - box[0]) * share, (box[3] - box[1]) * share
    return [box[0] - x, box[1] - y, box[2] + x, box[3] + y]


def iou(a: list[float], b: list[float]) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


class Track:
    """One track, out of the saved state."""

    def __init__(self, state: dict[str, Any], n: int, dt: float) -> None:
        records, motion, galleries = state["records"], state["motion"], state["galleries"]
        self.confirmed = records["id"][n] > 0
        self.lost = self.confirmed and records["det_index"][n] < 0
        frames = dt * 30
        x, v, pp, pv, vv = (motion[name][n].copy() for name in ("position", "velocity", "pp", "pv", "vv"))
        noise_p = np.array([x[3] / 20, x[3] / 20, 1e-2, x[3] / 20]) ** 2
        noise_v = np.array([x[3] / 320, x[3] / 320, 1e-5, x[3] / 320]) ** 2 * 30**2
        for k in (2, 3):
            if x[k] + dt * v[k] <= 0:
                v[k] = 0
        self.x = x + dt * v
        pp = pp + 2 * dt * pv + dt**2 * vv + frames * noise_p
        self.pp = pp + frames * (frames - 1) * (2 * frames - 1) / 6 * noise_v / 30**2
        cx, cy, aspect, height = self.x
        self.box = [cx - aspect * height / 2, cy - height / 2, cx + aspect * height / 2, cy + height / 2]
        count = min(galleries["count"][n], galleries["pool"].shape[1])
        self.looks = galleries["pool"][galleries["slot"][n], :count] if count else np.zeros((0, 1))

    def unlike(self, vector: np.ndarray) -> float:
        """Cosine distance to the nearest look; NaN without any."""
        unit = vector / np.linalg.norm(vector)
        return min((1 - float(look @ unit) for look in self.looks), default=math.nan)


def choose(cost: np.ndarray, limit: float) -> list[tuple[int, int]]:
    """The cheapest assignment where whatever costs the limit or more costs the limit, and is not made."""
    rows, cols = linear_sum_assignment(np.minimum(cost, limit))
    return [(i, j) for i, j in zip(rows, cols, strict=True) if cost[i, j] < limit]


def textbook(tracks: list[Track], boxes: np.ndarray, scores: np.ndarray, looks: np.ndarray | None) -> dict[int, int]:
    """Which track has which detection."""
    pairs: dict[int, int] = {}

    def free(mine: list[int], low: float, high: float) -> tuple[list[int], list[int]]:
        found = [j for j in range(len(boxes)) if low <= scores[j] < high and j not in pairs.values()]
        return [i for i in mine if i not in pairs], found

    def by_overlap(mine: list[int]) -> None:
        rows, cols = free(mine, HIGH, math.inf)
        cost, limit = np.full((len(rows), len(cols)), np.inf), 1 - OVERLAP
        for i, track in enumerate(rows):
            for j, n in enumerate(cols):
                cost[i, j] = 1 - iou(grown(tracks[track].box, BUFFER), grown(boxes[n], BUFFER)) * scores[n]
        if looks is not None:
            possible = cost < limit + WEIGHT
            # what does not even touch is no candidate
            possible &= cost < 1
            for i, j in zip(*possible.nonzero(), strict=True):
                if possible[i].sum() > 1 or possible[:, j].sum() > 1 or tracks[rows[i]].lost:
                    unlike = tracks[rows[i]].unlike(looks[cols[j]])
                    cost[i, j] -= 0 if math.isnan(unlike) else WEIGHT * min(max(1 - unlike / MAX_COSINE, -1), 1)
            cost[~possible] = np.inf
        pairs.update((rows[i], cols[j]) for i, j in choose(cost, limit))

    def by_faint_overlap(mine: list[int]) -> None:
        rows, cols = free(mine, LOW, HIGH)
        cost = np.array([[1 - iou(tracks[i].box, boxes[j]) for j in cols] for i in rows]).reshape(len(rows), len(cols))
        pairs.update((rows[i], cols[j]) for i, j in choose(cost, 1 - FAINT_OVERLAP))

    def by_place(mine: list[int]) -> None:
        rows, cols = free(mine, HIGH, math.inf)
        cost = np.full((len(rows), len(cols)), np.inf)
        for i, track in enumerate(rows):
            one = tracks[track]
            variance = one.pp[[0, 1, 3]] + (one.x[3] / 20) ** 2
            for j, n in enumerate(cols):
                x1, y1, x2, y2 = boxes[n]
                apart = np.array([(x1 + x2) / 2, (y1 + y2) / 2, y2 - y1]) - one.x[[0, 1, 3]]
                distance = (apart**2 / variance).sum()
                if distance < chi2.ppf(0.95, 3):
                    if looks is None:
                        cost[i, j] = distance + np.log(variance / one.x[3] ** 2).sum()
                    else:
                        unlike = one.unlike(looks[n])
                        cost[i, j] = np.inf if math.isnan(unlike) else unlike
        limit = RECOVERY if looks is None else MAX_COSINE
        pairs.update((rows[i], cols[j]) for i, j in choose(cost, limit))

    every = range(len(tracks))
    by_overlap([i for i in every if tracks[i].confirmed])
    by_faint_overlap([i for i in every if tracks[i].confirmed and not tracks[i].lost])
    by_place([i for i in every if tracks[i].lost])
    by_overlap([i for i in every if not tracks[i].confirmed])
    return pairs


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("features", [False, True])
def test_every_match_is_the_textbooks(seed: int, features: bool) -> None:
    tracker, matches, recovered = trackers.create("deepsort"), 0, 0
    rng = np.random.default_rng(seed)
    for n, (boxes, scores, looks) in enumerate(random_scene(seed, frames=80)):
        seen = rng.random(len(boxes)) > 0.15
        boxes, scores, looks = boxes[seen], scores[seen], looks[seen]  # noqa: PLW2901
        before = tracker.state_dict()
        tracks = [Track(before, k, 0.1 if n else 0.0) for k in range(len(before["records"]["id"]))]
        expected = textbook(tracks, boxes, scores, looks if features else None)
        found = tracker.update(boxes, scores, features=looks if features else None, timestamp=n / 10)
        old = tracker.state_dict()["records"]["born"] < n / 10
        everyone = np.concatenate([found.det_index, found.tentative().det_index])
        ages = np.concatenate([found.age, found.tentative().age])
        assert sorted(everyone[ages > 0].tolist()) == sorted(expected.values()), n
        # and by the right tracks: those that were dropped had none, so the rest are in order
        rows = tracker.state_dict()["records"]["det_index"][old]
        survivors = [k for k in range(len(tracks)) if k in expected]
        assert [int(row) for row in rows if row >= 0] == [expected[k] for k in survivors], n
        matches += len(expected)
        recovered += sum(tracks[k].lost for k in expected)
    assert matches > 300
    assert recovered > 20
