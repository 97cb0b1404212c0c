"""Somebody who was gone for long, and comes back, gets the old id: told by looks, place, and nobody else like it."""

from __future__ import annotations

import numpy as np
import pytest
from test_contract import same

import trackers
from trackers import MultiStreamTracker, Tracker, View
from trackers.graveyard import MOST

pytestmark = pytest.mark.usefixtures("loops")

RATE = 10.0


def look(seed: int, noise: float = 0.0, frame: int = 0) -> np.ndarray:
    """Somebody's appearance, a little different in every frame."""
    vector = np.random.default_rng(seed).normal(size=64)
    return (vector + np.random.default_rng([seed, frame]).normal(0, noise, 64)).astype(np.float32)


def walk(tracker: Tracker, start: float, seconds: float, people: dict[int, float], noise: float = 0.2) -> set[int]:
    """People of given looks stand at given places; the ids that are shown."""
    ids: set[int] = set()
    for n in range(round(seconds * RATE)):
        boxes = np.array([[x + n * 0.5, 100, x + 40 + n * 0.5, 220] for x in people.values()]).reshape(-1, 4)
        looks = np.array([look(seed, noise, round(start * RATE) + n) for seed in people]).reshape(-1, 64)
        tracks = tracker.update(boxes, np.full(len(boxes), 0.9), features=looks, timestamp=start + n / RATE)
        ids |= set(tracks.id.tolist())
        assert not set(tracks.id.tolist()) & set(tracks.lost().id.tolist())
    return ids


def gone(tracker: Tracker, start: float, seconds: float) -> None:
    walk(tracker, start, seconds, {})


@pytest.mark.parametrize("away", [2.0, 10.0, 40.0])
def test_who_comes_back_gets_the_old_id(away: float) -> None:
    tracker = trackers.create(frame_period=1 / RATE)
    assert walk(tracker, 0, 3, {1: 100, 2: 400}) == {1, 2}
    gone(tracker, 3, away)
    assert walk(tracker, 3 + away, 2, {2: 100, 1: 300}) == {1, 2}
    assert walk(tracker, 5 + away, 2, {2: 100, 1: 300, 3: 600}) == {1, 2, 3}, "ids have no gaps"


def test_who_looks_otherwise_does_not() -> None:
    tracker = trackers.create()
    walk(tracker, 0, 3, {1: 100})
    gone(tracker, 3, 10)
    assert walk(tracker, 13, 2, {5: 100}) == {2}


def test_nobody_is_told_from_a_twin() -> None:
    tracker = trackers.create()
    walk(tracker, 0, 3, {1: 100, 2: 400})
    gone(tracker, 3, 10)
    twin = (look(1) + look(2)) / 2
    for n in range(20):
        box = np.array([[250.0, 100, 290, 220]])
        tracks = tracker.update(box, [0.9], features=twin[None], timestamp=13 + n / RATE)
        assert set(tracks.id.tolist()) <= {3}
    assert tracks.id.tolist() == [3]


def test_nobody_crosses_the_picture_in_no_time() -> None:
    tracker = trackers.create()
    walk(tracker, 0, 3, {1: 100})
    gone(tracker, 3, 4.5)
    assert walk(tracker, 7.5, 2, {1: 5000}) == {2}


def test_time_runs_out() -> None:
    for seconds, expected in ((20.0, {1}), (5.0, {2}), (0.0, {2})):
        tracker = trackers.create(remember_for=seconds)
        walk(tracker, 0, 3, {1: 100})
        gone(tracker, 3, 10)
        assert walk(tracker, 13, 2, {1: 100}) == expected


def test_a_saved_state_remembers_the_dead() -> None:
    one, other = trackers.create(), trackers.create()
    walk(one, 0, 3, {1: 100})
    gone(one, 3, 10)
    other.load_state_dict(one.state_dict())
    assert walk(other, 13, 2, {1: 100}) == {1}


def test_each_camera_has_its_own_dead() -> None:
    together, alone = MultiStreamTracker(), {name: trackers.create() for name in "ab"}
    people = {"a": {1: 100.0}, "b": {2: 100.0}}
    for n in range(200):
        here = n < 30 or n >= 150
        views = {}
        for name in "ab":
            # they change places
            seeds = people["b" if (n >= 150) == (name == "a") else "a"] if here else {}
            boxes = np.array([[x, 100, x + 40, 220] for x in seeds.values()]).reshape(-1, 4)
            looks = np.array([look(seed, 0.2, n) for seed in seeds]).reshape(-1, 64)
            views[name] = View(boxes, np.full(len(boxes), 0.9), features=looks, timestamp=n / RATE)
        found = together.update(views)
        for name, view in views.items():
            expected = alone[name].update(view.xyxy, view.scores, features=view.features, timestamp=view.timestamp)
            assert same(found[name], expected)
    assert found["a"].id.tolist() == found["b"].id.tolist() == [2]


def test_the_graveyard_has_an_end() -> None:
    tracker = trackers.create(remember_for=1e6, max_coast=0.1, max_absence=0.1)
    for n in range(600):
        walk(tracker, 2.0 * n, 0.5, {n: 100.0})
        gone(tracker, 2.0 * n + 0.5, 0.5)
    assert len(tracker.state_dict()["graveyard"]["id"]) == MOST


def test_time_runs_out_for_a_camera_that_sees_nobody_too() -> None:
    """Nobody is there for longer than the dead are remembered; another camera has no frames at all meanwhile."""
    together, alone, ids = MultiStreamTracker(remember_for=20.0), trackers.create(remember_for=20.0), set()
    for n in range(480):
        here = n < 30 or n >= 430
        boxes = np.array([[100.0, 100, 140, 220]] if here else []).reshape(-1, 4)
        looks = np.array([look(1, 0.2, n)] if here else []).reshape(-1, 64)
        view = View(boxes, np.full(len(boxes), 0.9), features=looks, timestamp=n / RATE)
        found = together.update({"a": view} if 30 <= n < 450 else {"a": view, "b": view})
        assert same(found["a"], alone.update(view.xyxy, view.scores, features=view.features, timestamp=view.timestamp))
        ids |= set(found["a"].id.tolist())
    assert ids == {1, 2}
