"""What a score means is learnt from the video."""

from __future__ import annotations

import numpy as np
import pytest

import trackers
from trackers.calibration import ScoreCalibration

pytestmark = pytest.mark.usefixtures("loops")


def taught(rate: dict[float, float], rounds: int = 400, seed: int = 0) -> ScoreCalibration:
    """A table that saw detections of some scores, real at some rates."""
    calibration, rng = ScoreCalibration(1), np.random.default_rng(seed)
    scores = np.array(list(rate))
    for _ in range(rounds):
        calibration.learn(scores, np.zeros(len(scores), np.int64), rng.random(len(scores)) < list(rate.values()))
    return calibration


def meaning(calibration: ScoreCalibration, *scores: float) -> np.ndarray:
    return calibration(np.array(scores), np.zeros(len(scores), np.int64))


def test_before_anything_is_seen_a_score_means_itself() -> None:
    scores = np.linspace(0.03, 0.98, 50)
    np.testing.assert_allclose(meaning(ScoreCalibration(1), *scores), scores, atol=0.01)


def test_what_was_seen_is_learnt() -> None:
    rates = {0.125: 0.02, 0.325: 0.1, 0.525: 0.5, 0.725: 0.9, 0.875: 0.98}
    np.testing.assert_allclose(meaning(taught(rates), *rates), list(rates.values()), atol=0.07)


def test_more_is_never_worth_less() -> None:
    table = meaning(taught({0.325: 0.9, 0.525: 0.2, 0.725: 0.6}), *np.linspace(0, 1, 200))
    assert (np.diff(table) >= -1e-12).all()


def test_a_sure_detector_is_believed_where_nothing_lasts() -> None:
    assert meaning(taught({0.975: 0.0}), 0.95)[0] >= 0.95**3


def test_each_stream_has_its_own_and_it_is_saved() -> None:
    both = ScoreCalibration(2)
    for _ in range(300):
        both.learn(np.array([0.525, 0.525]), np.array([0, 1]), np.array([True, False]))
    other = ScoreCalibration(2)
    other.load_state_dict(both.state_dict())
    for one in (both, other):
        first, second = one(np.array([0.525, 0.525]), np.array([0, 1]))
        assert first > 0.9
        assert second < 0.2
    both.begin(1)
    assert both(np.array([0.525]), np.array([1]))[0] == pytest.approx(0.525)


def test_clutter_of_a_score_of_its_own_gets_fewer_ids() -> None:
    """Five walkers of 0.9; and false alarms of 0.7 that stay for six frames each, four at a time."""
    found = {}
    for calibrate in (0.0, 0.78):
        tracker, rng, ids = trackers.create(calibrate=calibrate), np.random.default_rng(0), set()
        for n in range(600):
            walkers = np.array([[200.0 * k + n, 900, 200.0 * k + n + 40, 1000] for k in range(5)])
            spots = np.random.default_rng(n // 6).uniform(0, 800, (4, 2)) + rng.normal(0, 1, 2)
            boxes = np.concatenate([walkers, np.concatenate([spots, spots + np.array([30, 60])], axis=1)])
            tracks = tracker.update(boxes, np.repeat([0.9, 0.7], [5, 4]), timestamp=n / 10)
            if n >= 200:
                ids |= set(tracks.id.tolist())
        found[calibrate] = len(ids)
    assert found[0.78] < 20
    assert found[0.0] > 200


def test_a_stream_of_passers_by_is_tracked_for_ever() -> None:
    """Nobody stays for more than six frames, so no track is ever established; all are still followed."""
    tracker, ids = trackers.create(), set()
    for n in range(1500):
        age = n % 8
        boxes = np.array([[100.0 + 15 * age, 100, 140 + 15 * age, 220]] if age < 6 else []).reshape(-1, 4)
        ids |= set(tracker.update(boxes, np.full(len(boxes), 0.9), timestamp=n / 10).id.tolist())
    assert len(ids) > 100
