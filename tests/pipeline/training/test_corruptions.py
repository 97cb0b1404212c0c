from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.training.corruptions import CORRUPTIONS, darkness, occlusion

BOXES = np.array([[10, 20, 50, 100], [70, -5, 130, 40]], np.float32)


@pytest.fixture(scope="module")
def image() -> NDArray[np.uint8]:
    return np.random.default_rng(5).integers(0, 256, (120, 160, 3), np.uint8)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_same_chance_gives_the_same_picture(image: NDArray[np.uint8], name: str) -> None:
    before = image.copy()
    once, again = (CORRUPTIONS[name](image, BOXES, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(once, again)
    np.testing.assert_array_equal(image, before)
    assert once.shape == image.shape
    assert once.dtype == np.uint8
    assert (once != image).any()


def test_occlusion_covers_part_of_each_object_and_nothing_else(image: NDArray[np.uint8]) -> None:
    for seed in range(8):
        changed = (occlusion(image, BOXES, np.random.default_rng(seed)) != image).any(axis=2)
        inside = np.zeros(image.shape[:2], np.bool_)
        for x1, y1, x2, y2 in BOXES.clip(0).astype(int):
            inside[y1:y2, x1:x2] = True
            assert 0.35 < changed[y1:y2, x1:x2].mean() < 0.45
        assert not changed[~inside].any()


def test_no_objects_no_occlusion(image: NDArray[np.uint8]) -> None:
    nothing = np.zeros((0, 4), np.float32)
    np.testing.assert_array_equal(occlusion(image, nothing, np.random.default_rng(0)), image)


def test_darkness_leaves_a_quarter(image: NDArray[np.uint8]) -> None:
    dark = darkness(image, BOXES, np.random.default_rng(0))
    assert dark.mean() == pytest.approx(image.mean() / 4, abs=1.5)
