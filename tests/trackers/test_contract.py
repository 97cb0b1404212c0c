"""The contract of `Tracker`, kept by every one of the family."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import trackers
from trackers import Tracks

NAMES = trackers.available()


def person(x: float, y: float = 100.0) -> list[float]:
    return [x, y, x + 40, y + 120]


def random_scene(seed: int, frames: int = 60) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """A dozen walkers with noise, misses and false alarms: boxes, scores and features a frame."""
    rng = np.random.default_rng(seed)
    start, velocity = rng.uniform(0, 600, (12, 2)), rng.normal(0, 40, (12, 2))
    looks = rng.normal(size=(12, 16))
    scene = []
    for n in range(frames):
        here = rng.random(12) < 0.85
        corner = (start + velocity * n / 10)[here] + rng.normal(0, 2, (here.sum(), 2))
        boxes = np.concatenate([corner, corner + np.array([40, 120])], axis=1)
        noise = rng.uniform(0, 600, (3, 2))
        boxes = np.concatenate([boxes, np.concatenate([noise, noise + np.array([30, 60])], axis=1)])
        features = np.concatenate([looks[here] + rng.normal(0, 0.2, (here.sum(), 16)), rng.normal(size=(3, 16))])
        scene.append((boxes, rng.uniform(0.15, 1.0, len(boxes)), features.astype(np.float32)))
    return scene


def same(a: Tracks, b: Tracks) -> bool:
    return all(
        np.array_equal(getattr(x, name), getattr(y, name))
        for x, y in ((a, b), (a.lost(), b.lost()), (a.tentative(), b.tentative()))
        for name in (field.name for field in fields(Tracks) if not field.name.startswith("_"))
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", range(3))
def test_a_saved_state_goes_on_bit_for_bit(name: str, seed: int) -> None:
    scene = random_scene(seed)
    whole, first = trackers.create(name), trackers.create(name)
    expected = [whole.update(*frame[:2], features=frame[2], timestamp=n / 10) for n, frame in enumerate(scene)]
    for n, frame in enumerate(scene[:30]):
        first.update(*frame[:2], features=frame[2], timestamp=n / 10)
    second = trackers.create(name)
    second.load_state_dict(first.state_dict())
    for n, frame in enumerate(scene[30:], 30):
        assert same(second.update(*frame[:2], features=frame[2], timestamp=n / 10), expected[n])
    with pytest.raises(ValueError, match="was saved by tracker"):
        trackers.create("sort" if name != "sort" else "deepsort").load_state_dict(first.state_dict())


@pytest.mark.parametrize("name", NAMES)
def test_two_trackers_share_nothing_and_reset_forgets_all(name: str) -> None:
    one, other = trackers.create(name), trackers.create(name)
    scene = random_scene(7)
    expected = [one.update(*frame[:2], timestamp=n / 10) for n, frame in enumerate(scene)]
    for n, frame in enumerate(random_scene(8)):
        one.update(*frame[:2], timestamp=100 + n / 10)
    assert all(same(other.update(*frame[:2], timestamp=n / 10), expected[n]) for n, frame in enumerate(scene))
    one.reset()
    assert all(same(one.update(*frame[:2], timestamp=n / 10), expected[n]) for n, frame in enumerate(scene))


@pytest.mark.parametrize("name", NAMES)
def test_rows_are_aligned_ids_gap_free_and_one_to_one(name: str) -> None:
    tracker = trackers.create(name)
    seen: list[int] = []
    for n, (boxes, scores, _) in enumerate(random_scene(3, frames=120)):
        tracks = tracker.update(boxes, scores, np.arange(len(boxes)), timestamp=n / 10)
        rows = tracks.det_index
        assert ((rows >= 0) & (rows < len(boxes))).all()
        assert len(set(rows.tolist())) == len(rows)
        assert len(set(tracks.id.tolist())) == len(tracks)
        np.testing.assert_array_equal(tracks.score, scores[rows])
        overlap = np.clip(
            np.minimum(tracks.xyxy[:, 2:], boxes[rows, 2:]) - np.maximum(tracks.xyxy[:, :2], boxes[rows, :2]), 0, None
        )
        assert (overlap.prod(axis=1) > 0).all(), "a row's detection is where its track is"
        assert (tracks.since_seen == 0).all()
        assert not set(tracks.id.tolist()) & set(tracks.lost().id.tolist())
        seen += tracks.id.tolist()
    assert sorted(set(seen)) == list(range(1, max(seen) + 1))


@pytest.mark.parametrize("name", NAMES)
def test_useless_rows_are_counted_and_change_nothing_for_the_others(name: str) -> None:
    clean, dirty = trackers.create(name), trackers.create(name)
    bad = np.array([[np.nan, 0, 10, 10], [0, 0, np.inf, 10], [10, 10, 10, 50], [50, 50, 20, 80], [0, 0, 30, 60]], float)
    bad_scores = np.array([0.9, 0.9, 0.9, 0.9, np.nan])
    for n, (boxes, scores, features) in enumerate(random_scene(1)):
        expected = clean.update(boxes, scores, features=features, timestamp=n / 10)
        mixed = np.concatenate([bad, boxes])
        more = np.concatenate([np.zeros((5, 16), np.float32), features])
        tracks = dirty.update(mixed, np.concatenate([bad_scores, scores]), features=more, timestamp=n / 10)
        np.testing.assert_array_equal(tracks.id, expected.id)
        np.testing.assert_array_equal(tracks.xyxy, expected.xyxy)
        np.testing.assert_array_equal(tracks.det_index, expected.det_index + 5)
    assert dirty.ignored == {"box not finite": 120, "box empty": 120, "score not finite": 60}


@pytest.mark.parametrize("name", NAMES)
def test_what_makes_no_sense_is_a_value_error(name: str) -> None:
    tracker = trackers.create(name)
    boxes = np.array([person(0), person(200)])
    with pytest.raises(ValueError, match="must be"):
        tracker.update(boxes, [0.5])
    with pytest.raises(ValueError, match="must be"):
        tracker.update(boxes[:, :3])
    with pytest.raises(ValueError, match=r"must be \(N, D\)"):
        tracker.update(boxes, [0.5, 0.5], features=np.zeros((1, 4)))
    tracker.update(boxes, timestamp=5.0)
    tracker.update(boxes, timestamp=5.0)
    with pytest.raises(ValueError, match="time goes backwards"):
        tracker.update(boxes, timestamp=4.9)
    with pytest.raises(ValueError, match="not str"):
        tracker.update("boxes")
    assert len(tracker.update(boxes, timestamp=5.1)) == 2, "a refused call changes nothing"


@pytest.mark.parametrize("name", NAMES)
def test_scores_outside_their_range_are_clipped_and_counted(name: str) -> None:
    clean, wild = trackers.create(name), trackers.create(name)
    for n, (boxes, scores, _) in enumerate(random_scene(2)):
        odd = np.where(np.arange(len(scores)) % 3 == 0, 7.5, scores)
        assert same(
            clean.update(boxes, np.clip(odd, 0, 1), timestamp=n / 10), wild.update(boxes, odd, timestamp=n / 10)
        )
    assert wild.clipped > 0
    assert clean.clipped == 0


def test_of_a_million_boxes_the_best_are_used() -> None:
    rng = np.random.default_rng(0)
    tracker = trackers.create("sort", min_hits=0)
    corner = rng.uniform(0, 1e6, (1_000_000, 2))
    scores = rng.permutation(1_000_000) / 1e6
    tracks = tracker.update(np.concatenate([corner, corner + 10], axis=1), scores)
    assert sorted(tracks.det_index.tolist()) == np.flatnonzero(scores >= 0.99).tolist()
    assert tracker.ignored == {"too many": 990_000}


@pytest.mark.parametrize("name", NAMES)
def test_frames_that_are_skipped_can_be_predicted(name: str) -> None:
    """Someone walks at 60 pixels a second; between two frames that were looked at, and after, is where he is."""
    tracker = trackers.create(name)
    for n in range(30):
        tracker.update(np.array([person(6.0 * n)]), [0.9], timestamp=n / 10)
    before = tracker.state_dict()
    for later in (0.0, 0.05, 0.25):
        ahead = tracker.predict(2.9 + later)
        assert ahead.id.tolist() == [1]
        assert ahead.det_index.tolist() == [-1]
        assert ahead.xyxy[0, 0] == pytest.approx(6.0 * 29 + 60 * later, abs=3)
        assert ahead.since_seen[0] == pytest.approx(later)
    with pytest.raises(ValueError, match="time goes backwards"):
        tracker.predict(2.8)
    np.testing.assert_equal(tracker.state_dict(), before)


@pytest.mark.parametrize("name", NAMES)
def test_classes_vote_stay_apart_or_are_ignored(name: str) -> None:
    """One object that is called 0 most of the time, then 1 for good."""
    shown = {}
    for policy in ("vote", "separate", "ignore"):
        tracker, rows = trackers.create(name, class_policy=policy), []
        for n in range(60):
            called = int(n >= 50 or n == 30)
            tracks = tracker.update(np.array([person(3.0 * n)]), [0.9], [called], timestamp=n / 10)
            rows += list(zip([n] * len(tracks), tracks.id.tolist(), tracks.class_id.tolist(), strict=True))
        shown[policy] = rows
    assert {track for _, track, _ in shown["vote"]} == {1}
    assert {kind for _, _, kind in shown["vote"]} == {0}, "ten frames do not outvote fifty"
    assert {track for _, track, _ in shown["ignore"]} == {1}
    called_last = {n: kind for n, _, kind in shown["ignore"]}
    assert called_last[30] == called_last[59] == 1
    kinds = {track: kind for _, track, kind in shown["separate"]}
    assert all(kind == kinds[track] for _, track, kind in shown["separate"]), "a track never changes its class"
    assert sorted(set(kinds.values())) == [0, 1]


@pytest.mark.parametrize("name", NAMES)
def test_after_a_break_nobody_is_taken_for_who_stood_there(name: str) -> None:
    tracker = trackers.create(name)
    shown = []
    for start in (0.0, 3600.0):
        for n in range(10):
            shown += tracker.update(np.array([person(100)]), [0.9], timestamp=start + n / 10).id.tolist()
    assert set(shown) == {1, 2}


_number = st.floats(-1e6, 1e6) | st.sampled_from([np.nan, np.inf, -np.inf, 0.0])
_frame = st.lists(st.tuples(_number, _number, _number, _number, st.floats(-2, 3) | st.just(np.nan)), max_size=12)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40, deadline=None, derandomize=True)
@given(frames=st.lists(st.tuples(_frame, st.floats(0, 3)), max_size=12))
def test_nothing_that_a_detector_can_say_breaks_it(
    name: str, frames: list[tuple[list[tuple[float, ...]], float]]
) -> None:
    tracker, now = trackers.create(name), 0.0
    for rows, later in frames:
        now += later
        table = np.array(rows, float).reshape(-1, 5)
        tracks = tracker.update(table[:, :4], table[:, 4], timestamp=now)
        for part in (tracks, tracks.lost(), tracks.tentative(), tracker.predict(now + 0.1)):
            assert np.isfinite(part.xyxy).all()
            assert (part.xyxy[:, 2:] > part.xyxy[:, :2]).all()
            assert np.isfinite(part.velocity).all()
        assert len(set(tracks.id.tolist())) == len(tracks)
        assert not set(tracks.id.tolist()) & set(tracks.lost().id.tolist())


@pytest.mark.parametrize("name", NAMES)
def test_frames_with_pictures_are_taken(name: str, data: Path) -> None:
    """Trackers that look at the picture see a camera that moves; the others do not mind it."""
    cv2 = pytest.importorskip("cv2")
    rng = np.random.default_rng(0)
    ground = cv2.GaussianBlur(rng.integers(0, 255, (700, 1400, 3)).astype(np.uint8), (0, 0), 3)
    tracker, ids = trackers.create(name), set()
    for n in range(25):
        left = 12 * n  # pixels that the camera turns
        boxes = np.array([person(600.0 - left), person(760.0 - left)])
        frame = np.ascontiguousarray(ground[:480, left : left + 640])
        tracks = tracker.update(boxes, [0.9, 0.9], frame=frame, timestamp=n / 25)
        ids |= set(tracks.id.tolist())
    assert ids == {1, 2}


@pytest.mark.parametrize("name", NAMES)
def test_lazy_features_give_the_same_tracks_as_an_array(name: str) -> None:
    whole, lazy, asked, total = trackers.create(name), trackers.create(name), 0, 0
    for n, (boxes, scores, features) in enumerate(random_scene(5, frames=100)):
        wanted: list[int] = []

        def ask(rows: np.ndarray, features: np.ndarray = features, wanted: list[int] = wanted) -> np.ndarray:
            wanted += rows.tolist()
            return features[rows]

        tracks = lazy.update(boxes, scores, features=ask, timestamp=n / 30)
        assert same(tracks, whole.update(boxes, scores, features=features, timestamp=n / 30))
        assert len(set(wanted)) == len(wanted), "no row is asked for twice"
        asked, total = asked + len(wanted), total + len(boxes)
    if name in ("deepsort", "tether"):
        assert 0 < asked < 0.8 * total, "only where motion leaves a doubt, or a gallery is due"
