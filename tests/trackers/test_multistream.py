"""Many cameras in one pass, against a tracker for each."""

from __future__ import annotations

import numpy as np
import pytest
from test_contract import NAMES, random_scene, same

import trackers
from trackers import MultiStreamTracker, Tracks, View

pytestmark = pytest.mark.usefixtures("loops")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("features", [False, True])
def test_one_pass_gives_what_a_tracker_for_each_gives(name: str, features: bool) -> None:
    """Five cameras with rates of their own; one joins late, one stops for a while."""
    together = MultiStreamTracker(name)
    alone = {camera: trackers.create(name) for camera in "abcde"}
    scenes = {camera: random_scene(seed, frames=60) for seed, camera in enumerate(alone)}
    rng = np.random.default_rng(0)
    for n in range(60):
        here = [camera for camera in alone if rng.random() < 0.8 and not (camera == "d" and n < 20)]
        views = {}
        for camera in here:
            boxes, scores, looks = scenes[camera][n]
            views[camera] = View(boxes, scores, features=looks if features else None, timestamp=n / 10 + 0.01 * n**0.5)
        found = together.update(views)
        assert list(found) == here
        for camera in here:
            view = views[camera]
            expected = alone[camera].update(view.xyxy, view.scores, features=view.features, timestamp=view.timestamp)
            assert same(found[camera], expected), (n, camera)


@pytest.mark.parametrize("name", NAMES)
def test_class_policies_hold_for_each_camera(name: str) -> None:
    together = MultiStreamTracker(name, class_policy="separate")
    alone = [trackers.create(name, class_policy="separate") for _ in range(3)]
    scenes = [random_scene(seed) for seed in range(3)]
    rng = np.random.default_rng(1)
    for n in range(60):
        views = [View(*scene[n][:2], rng.integers(0, 3, len(scene[n][0])), timestamp=n / 10) for scene in scenes]
        found = together.update(dict(enumerate(views)))
        for camera, view in enumerate(views):
            assert same(found[camera], alone[camera].update(view.xyxy, view.scores, view.class_ids, timestamp=n / 10))


def test_pictures_move_the_tracks_of_their_own_camera() -> None:
    cv2 = pytest.importorskip("cv2")
    ground = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 255, (300, 900, 3)).astype(np.uint8), (0, 0), 3)
    together, alone = MultiStreamTracker("deepocsort"), [trackers.create("deepocsort") for _ in range(2)]
    for n in range(12):
        pictures = [np.ascontiguousarray(ground[:, step * n : step * n + 400]) for step in (0, 9)]
        boxes = [np.array([[200.0 - step * n, 50, 240 - step * n, 150]]) for step in (0, 9)]
        found = together.update({k: View(boxes[k], frame=pictures[k], timestamp=n / 10) for k in range(2)})
        for k in range(2):
            assert same(found[k], alone[k].update(boxes[k], frame=pictures[k], timestamp=n / 10))


def test_cameras_come_go_and_come_back_as_new() -> None:
    together = MultiStreamTracker("sort", min_hits=0)
    box = [[0.0, 0.0, 40.0, 90.0]]
    for n in range(3):
        assert together.update({"a": (box,), "b": (box,)})["b"].id.tolist() == [1], n
    together.forget("a")
    assert list(together.cameras) == ["b"]
    assert together.update({"c": (box,), "b": (box,)})["c"].id.tolist() == [1], "its number is free, not its tracks"
    assert together.update({"a": ([[500.0, 0, 540, 90]],)})["a"].id.tolist() == [1]
    assert together.update({}) == {}
    assert {name: one.stream for name, one in together.cameras.items()} == {"b": 1, "c": 0, "a": 2}
    with pytest.raises(KeyError):
        together.forget("nobody")


def test_a_saved_state_goes_on() -> None:
    one, scene = MultiStreamTracker(), random_scene(4)
    other = MultiStreamTracker()
    for n, (boxes, scores, looks) in enumerate(scene):
        if n == 30:
            other.load_state_dict(one.state_dict())
        view = View(boxes, scores, features=looks, timestamp=n / 10)
        found = one.update({"x": view, "y": view})
        if n >= 30:
            again = other.update({"x": view, "y": view})
            assert all(same(found[name], again[name]) for name in "xy")


def test_a_refused_call_changes_nothing_and_names_the_camera() -> None:
    together = MultiStreamTracker("sort", min_hits=0)
    together.update({"a": View([[0.0, 0, 40, 90]], timestamp=5.0)})
    before = together.state_dict()
    with pytest.raises(ValueError, match=r"camera 'b': .* must be"):
        together.update({"a": View([[0.0, 0, 40, 90]], timestamp=6.0), "b": View([[0.0, 0, 40]])})
    with pytest.raises(ValueError, match="camera 'a': time goes backwards"):
        together.update({"a": View([[0.0, 0, 40, 90]], timestamp=4.0)})
    looks = np.ones((1, 4), np.float32)
    with pytest.raises(ValueError, match="for all or for none"):
        together.update({"a": View([[0.0, 0, 40, 90]], features=looks), "b": View([[0.0, 0, 40, 90]])})
    np.testing.assert_equal(together.state_dict(), before)


def test_useless_rows_are_counted_by_camera() -> None:
    together = MultiStreamTracker("sort", min_hits=0)
    bad = [[np.nan, 0, 10, 10], [0, 0, 40, 90]]
    tracks = together.update({"a": (bad, [0.9, 1.5]), "b": ([[0, 0, 40, 90]],)})
    assert tracks["a"].det_index.tolist() == [1]
    assert together.cameras["a"].ignored == {"box not finite": 1}
    assert (together.cameras["a"].clipped, together.cameras["b"].clipped) == (1, 0)


def test_a_tracker_for_one_camera_is_refused() -> None:
    from trackers.tracker import Tracker, registry

    class Still(Tracker):
        name = "still"

        def _step(self, seen, now, dt, frame):  # type: ignore[no-untyped-def]
            return Tracks()

        def predict(self, timestamp: float) -> Tracks:
            return Tracks()

    registry._own["still"] = Still
    try:
        with pytest.raises(ValueError, match="follows one camera only"):
            MultiStreamTracker("still")
    finally:
        del registry._own["still"]
