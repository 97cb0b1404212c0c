"""The decoupled filters against filterpy's full Kalman filter, on random tracks with random gaps."""

from __future__ import annotations

import numpy as np
import pytest
from filterpy.kalman import KalmanFilter
from scipy.stats import chi2

from trackers.motion import CHI2_95, REFERENCE_RATE, XYAH, XYSR, XYWH, KalmanFilters, MotionModel, squared_mahalanobis

pytestmark = pytest.mark.usefixtures("loops")


def full_filter(model: MotionModel, box: np.ndarray) -> KalmanFilter:
    """The coupled 8-state filter of the paper, per frame: one matrix, as published."""
    z = model.encode(box[None])[0]
    k = len(z)
    kalman = KalmanFilter(dim_x=2 * k, dim_z=k)
    kalman.x = np.concatenate([z, np.zeros(k)])[:, None]
    kalman.F = np.eye(2 * k) + np.eye(2 * k, k=k)
    kalman.H = np.eye(k, 2 * k)
    pp, vv = (np.broadcast_to(part, (1, k))[0] for part in model.initial_variance(z[None]))
    kalman.P = np.diag(np.concatenate([pp, vv]))
    return kalman


def predict_frames(kalman: KalmanFilter, model: MotionModel, frames: int) -> None:
    """Frame by frame, with the noise of the first state, as a tracker that skips frames knows no other."""
    k = len(kalman.x) // 2
    noise = model.process_variance(kalman.x[:k].T)
    kalman.Q = np.diag(np.concatenate([np.broadcast_to(part, (1, k))[0] for part in noise]))
    for _ in range(frames):
        kalman.predict()


@pytest.mark.parametrize("model", [XYAH(), XYSR(), XYWH(), XYAH(velocity=1 / 320)])
@pytest.mark.parametrize("seed", range(8))
def test_the_decoupled_filters_are_the_full_one(model: MotionModel, seed: int) -> None:
    rng = np.random.default_rng(seed)
    tracks = 5
    corner = rng.uniform(100, 500, (tracks, 2))
    size = rng.uniform(40, 120, (tracks, 2))
    boxes = np.concatenate([corner, corner + size], axis=1)
    ours = KalmanFilters(model, boxes)
    theirs = [full_filter(model, box) for box in boxes]
    for _ in range(40):
        gap = int(rng.integers(1, 6))
        ours.predict(gap / REFERENCE_RATE)
        for kalman in theirs:
            predict_frames(kalman, model, gap)
        boxes += rng.normal(0, 2, (tracks, 1)) + rng.normal(0, 1, boxes.shape)
        seen = rng.random(tracks) < 0.7
        rows = np.flatnonzero(seen)
        measured = model.encode(boxes[rows])
        doubt = rng.uniform(0.05, 1, len(rows))
        for row, z, factor in zip(rows, measured, doubt, strict=True):
            kalman = theirs[row]
            k = len(z)
            kalman.R = factor * np.diag(np.broadcast_to(model.measurement_variance(kalman.x[:k].T), (1, k))[0])
            kalman.update(z[:, None])
        ours.correct(rows, boxes, rows, doubt)
        for row, kalman in enumerate(theirs):
            k = ours.position.shape[1]
            np.testing.assert_allclose(ours.position[row], kalman.x[:k, 0], rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(ours.velocity[row] / REFERENCE_RATE, kalman.x[k:, 0], rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(ours.pp[row], np.diag(kalman.P)[:k], rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(ours.vv[row] / REFERENCE_RATE**2, np.diag(kalman.P)[k:], rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(ours.pv[row] / REFERENCE_RATE, np.diag(kalman.P, k=k), rtol=1e-9, atol=1e-9)
            off = kalman.P.copy()
            off[np.arange(2 * k), np.arange(2 * k)] = 0
            off[np.arange(k), np.arange(k) + k] = off[np.arange(k) + k, np.arange(k)] = 0
            assert np.abs(off).max() < 1e-9, "nothing else is ever correlated"


def test_cutting_time_into_pieces_changes_nothing() -> None:
    model = XYSR()  # its noise does not depend on the state
    once, often = (KalmanFilters(model, np.array([[40.0, 40.0, 60.0, 80.0]])) for _ in range(2))
    for filters in (once, often):
        filters.velocity[:] = [[3.0, -2.0, 1.0, 0.0]]
    once.predict(1.7)
    for dt in (0.4, 0.013, 0.287, 1.0):
        often.predict(dt)
    for name in ("position", "velocity", "pp", "pv", "vv"):
        np.testing.assert_allclose(getattr(often, name), getattr(once, name), rtol=1e-12)


def test_no_time_changes_nothing() -> None:
    model = XYAH()
    filters = KalmanFilters(model, np.array([[30.0, 20.0, 70.0, 100.0]]))
    before = filters.state_dict()
    filters.predict(0.0)
    for name, column in filters.state_dict().items():
        np.testing.assert_array_equal(column, before[name])


@pytest.mark.parametrize("model", [XYAH(), XYSR()])
def test_boxes_survive_encoding(model: MotionModel) -> None:
    rng = np.random.default_rng(0)
    corner = rng.uniform(-100, 500, (200, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(0.1, 900, (200, 2))], axis=1)
    np.testing.assert_allclose(model.decode(model.encode(boxes)), boxes, atol=1e-9)


def test_a_shrinking_box_never_turns_inside_out() -> None:
    for model in (XYAH(), XYSR()):
        filters = KalmanFilters(model, np.array([[0.0, 0.0, 30.0, 60.0]]))
        filters.velocity[:, list(model.positive)] = -1000.0
        for _ in range(50):
            filters.predict(0.1)
            box = filters.boxes()[0]
            assert np.isfinite(box).all()
            assert (box[2:] > box[:2]).all()


def test_the_gate_is_scipys_quantile_and_lets_95_percent_pass() -> None:
    for degrees, gate in CHI2_95.items():
        assert gate == pytest.approx(chi2.ppf(0.95, degrees), abs=1e-12)
    rng = np.random.default_rng(0)
    variance = np.array([4.0, 9.0, 0.25, 1.0])
    samples = rng.normal(0, np.sqrt(variance), (20_000, 4))
    inside = squared_mahalanobis(np.zeros(4), samples, variance) < CHI2_95[4]
    assert inside.mean() == pytest.approx(0.95, abs=0.01)
