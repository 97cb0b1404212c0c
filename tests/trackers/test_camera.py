"""Camera motion, from boxes and from pictures, against motions that are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from trackers.camera import ImageMotion, common_motion
from trackers.motion import XYAH, XYSR, XYWH, KalmanFilters, MotionModel


def crowd(rng: np.random.Generator, count: int) -> np.ndarray:
    corner = rng.uniform(0, 1200, (count, 2))
    return np.concatenate([corner, corner + rng.uniform(0.9, 1.1, (count, 1)) * np.array([40, 110])], axis=1)


@pytest.mark.parametrize("seed", range(10))
def test_what_all_have_in_common_is_the_camera(seed: int) -> None:
    rng = np.random.default_rng(seed)
    expected = crowd(rng, 25)
    shift = rng.uniform(-25, 25, 2)
    own = rng.normal(0, 2, (25, 2))
    found = (expected + np.tile(own + shift, 2))[rng.permutation(25)[:18]]
    np.testing.assert_allclose(common_motion(expected, found), shift, atol=2.5)


@pytest.mark.parametrize("seed", range(10))
def test_people_who_each_go_their_way_are_no_camera(seed: int) -> None:
    rng = np.random.default_rng(seed)
    expected = crowd(rng, 25)
    found = expected + np.tile(rng.normal(0, 4, (25, 2)), 2)
    assert np.abs(common_motion(expected, found)).max() < 3
    assert not common_motion(expected[:3], found[:3]).any(), "three are too few to say"
    assert not common_motion(expected[:0], found).any()


@pytest.mark.parametrize("method", ["flow", "ecc"])
def test_pictures_tell_shift_and_turn(method: str, data: Path) -> None:
    """A real picture, moved by a known similarity."""
    cv2 = pytest.importorskip("cv2")
    _, picture = cv2.VideoCapture(str(data / "video" / "MOT17-09.mp4")).read()
    size = picture.shape[1], picture.shape[0]
    affine = cv2.getRotationMatrix2D((size[0] / 2, size[1] / 2), 1.0, 1.0 if method == "ecc" else 1.01)
    affine[:, 2] += (9.0, -5.0)
    motion = ImageMotion(method)
    assert np.array_equal(motion.estimate(picture), np.eye(2, 3)), "there is nothing to compare the first with"
    found = motion.estimate(cv2.warpAffine(picture, affine, size, borderMode=cv2.BORDER_REFLECT))
    corners = np.array([[300, 300, 1], [1600, 300, 1], [1600, 800, 1], [300, 800, 1.0]])
    np.testing.assert_allclose(corners @ found.T, corners @ affine.T, atol=2.5)


def test_a_picture_that_shows_nothing_is_no_motion() -> None:
    pytest.importorskip("cv2")
    for method in ("flow", "ecc"):
        motion = ImageMotion(method)
        for value in (0, 0, 255):
            assert np.array_equal(motion.estimate(np.full((120, 160, 3), value, np.uint8)), np.eye(2, 3))


@pytest.mark.parametrize("model", [XYAH(), XYSR(), XYWH()])
def test_filters_that_were_moved_are_those_of_the_moved_picture(model: MotionModel) -> None:
    """Warping the filters equals filtering boxes that were warped: means exactly, variances too."""
    rng = np.random.default_rng(0)
    angle, scale = 0.3, 1.7
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    affine = np.concatenate([turn, [[30.0], [-12.0]]], axis=1)

    def moved(boxes: np.ndarray) -> np.ndarray:
        centre, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2 * scale
        centre = centre @ turn.T + affine[:, 2]
        return np.concatenate([centre - half, centre + half], axis=1)

    boxes = crowd(rng, 6)
    plain = KalmanFilters(model, boxes)
    other = KalmanFilters(model, moved(boxes))
    for _ in range(15):
        boxes = boxes + np.tile(rng.normal(2, 1, (6, 2)), 2)
        for filters, seen in ((plain, boxes), (other, moved(boxes))):
            filters.predict(1 / 30)
            filters.correct(np.arange(6), seen, np.arange(6))
    plain.warp(affine)
    if isinstance(model, XYAH):  # the noise of SORT does not grow with the object, that of x and y in XYWH differs
        np.testing.assert_allclose(plain.position, other.position, rtol=1e-9)
        np.testing.assert_allclose(plain.velocity, other.velocity, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(plain.pp, other.pp, rtol=1e-9)
    else:
        np.testing.assert_allclose(plain.position[:, :2], other.position[:, :2], atol=25)
        np.testing.assert_allclose(model.decode(plain.position), model.decode(other.position), atol=40)


@pytest.mark.usefixtures("loops")
def test_each_filter_may_have_a_time_of_its_own() -> None:
    model = XYAH()
    boxes = crowd(np.random.default_rng(1), 3)
    together = KalmanFilters(model, boxes)
    together.velocity[:] = 5.0
    steps = np.array([0.1, 0.4, 1.3])
    alone = [together.take(np.array([n])) for n in range(3)]
    together.predict(steps)
    for n, one in enumerate(alone):
        one.predict(float(steps[n]))
        for name in ("position", "velocity", "pp", "pv", "vv"):
            np.testing.assert_array_equal(getattr(together, name)[n], getattr(one, name)[0])
