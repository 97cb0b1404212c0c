"""Normalisation against the formula."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.normalisation import Normalisation


@pytest.mark.parametrize("rgb", [True, False])
def test_every_channel_gets_its_own_mean_and_deviation(rgb: bool) -> None:
    image = np.random.default_rng(0).integers(0, 256, (37, 53, 3), np.uint8)
    mean, std = (10.0, 20.0, 30.0), (2.0, 3.0, 255.0)
    batch = np.full((3, 50, 60), -1, np.float32)
    Normalisation(rgb, mean, std).write(image, batch[:, 5:42, 7:60])
    ordered = image[..., ::-1] if rgb else image
    expected = ((ordered.astype(np.float64) - mean) / std).astype(np.float32).transpose(2, 0, 1)
    np.testing.assert_array_equal(batch[:, 5:42, 7:60], expected)
    outside = np.ones(batch.shape, np.bool_)
    outside[:, 5:42, 7:60] = False
    assert (batch[outside] == -1).all()


def test_a_window_of_a_larger_image() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    whole, part = np.empty((3, 40, 60), np.float32), np.empty((3, 10, 20), np.float32)
    scale = Normalisation(True, (0.0, 0.0, 0.0), (255.0, 255.0, 255.0))
    scale.write(image, whole)
    scale.write(image[5:15, 30:50], part)
    np.testing.assert_array_equal(part, whole[:, 5:15, 30:50])
