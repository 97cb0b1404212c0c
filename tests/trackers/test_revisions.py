"""What is learnt later about earlier frames."""

from __future__ import annotations

import numpy as np
import pytest
from test_contract import NAMES, random_scene, same
from test_graveyard import gone, walk

import trackers
from trackers import MultiStreamTracker, View

pytestmark = pytest.mark.usefixtures("loops")


@pytest.mark.parametrize("name", NAMES)
def test_a_gap_is_filled_along_the_way(name: str) -> None:
    """Someone walks at 30 pixels a second and is not detected for three frames."""
    tracker = trackers.create(name, revise=True, **({"max_coast": 1.0} if name == "sort" else {}))
    shown, filled = {}, {}
    for n in range(40):
        hidden = 20 <= n < 23
        boxes = np.zeros((0, 4)) if hidden else np.array([[3.0 * n, 100, 3.0 * n + 40, 220]])
        tracks = tracker.update(boxes, np.full(len(boxes), 0.9), timestamp=n / 10)
        if len(tracks):
            shown[n] = tracks.xyxy[0]
        revisions = tracker.revisions()
        filled |= {round(10 * time): box for time, box in zip(revisions.timestamp, revisions.xyxy, strict=True)}
        assert set(revisions.id.tolist()) <= {1}
    assert not set(shown) & set(filled), "nothing is told twice"
    assert sorted({*shown, *filled}) == list(range(40)), "and every frame in the end"
    for n, box in filled.items():
        np.testing.assert_allclose(box, [3.0 * n, 100, 3.0 * n + 40, 220], atol=3)


@pytest.mark.parametrize("name", NAMES)
def test_collecting_changes_nothing_else(name: str) -> None:
    plain, revising, boxes = trackers.create(name), trackers.create(name, revise=True), 0
    for n, (found, scores, features) in enumerate(random_scene(2)):
        given = {"features": features, "timestamp": n / 10}
        assert same(plain.update(found, scores, **given), revising.update(found, scores, **given))
        boxes += len(revising.revisions().id)
        assert not len(plain.revisions().id)
    assert boxes > 0


def test_who_is_recognised_late_is_told() -> None:
    """The first looks after the return are blurred; an id is given before they are good."""
    tracker = trackers.create(revise=True)
    assert walk(tracker, 0, 3, {1: 100}) == {1}
    gone(tracker, 3, 10)
    walk(tracker, 13, 0.2, {1: 100}, noise=3.0)
    assert walk(tracker, 13.2, 3, {1: 101}) == {2}
    revisions = tracker.revisions()
    assert (revisions.merged.tolist(), revisions.into.tolist()) == ([2], [1])
    assert not len(tracker.revisions().merged), "told once"


def test_each_camera_has_its_own_and_a_saved_state_keeps_them() -> None:
    together, alone = MultiStreamTracker(revise=True), [trackers.create(revise=True) for _ in range(2)]
    scenes = [random_scene(seed) for seed in (1, 2)]
    for n in range(60):
        views = {k: View(*scenes[k][n][:2], timestamp=n / 10) for k in range(2)}
        together.update(views)
        for k in range(2):
            alone[k].update(views[k].xyxy, views[k].scores, timestamp=n / 10)
    other = MultiStreamTracker(revise=True)
    other.load_state_dict(together.state_dict())
    expected = [one.revisions() for one in alone]
    assert all(len(one.id) for one in expected)
    for found in (together.revisions(), other.revisions()):
        for k in range(2):
            np.testing.assert_array_equal(found[k].id, expected[k].id)
            np.testing.assert_array_equal(found[k].timestamp, expected[k].timestamp)
            np.testing.assert_array_equal(found[k].xyxy, expected[k].xyxy)
    assert not len(together.revisions()[0].id)
