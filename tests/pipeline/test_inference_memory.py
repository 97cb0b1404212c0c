"""A device that runs out of memory: the batch halves itself, says so once, and all results are there."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks import averages
from numpy.typing import NDArray

from pipeline.errors import FramechainError
from pipeline.inference.model import out_of_memory
from pipeline.inference.onnxruntime import OnnxModel
from pipeline.inference.views import View, Views
from pipeline.normalisation import IMAGENET

torch = pytest.importorskip("torch")


class Small(OnnxModel):
    """Has memory for so many images a call, and runs out of it with PyTorch's own error."""

    room = 5

    def _infer(self, batch: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        if len(batch) > self.room:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return super()._infer(batch)


@pytest.fixture
def small(tmp_path: Path) -> Small:
    return Small.load(averages(tmp_path / "averages.onnx", ["n", 3, "h", "w"]), "cpu")


def images(count: int) -> NDArray[np.float32]:
    return np.random.default_rng(count).uniform(0, 1, (count, 3, 8, 6)).astype(np.float32)


def warnings(log: pytest.LogCaptureFixture) -> list[str]:
    return [entry.getMessage() for entry in log.records if entry.levelno == logging.WARNING]


def test_batches_are_halved_until_they_fit_and_stay_so(small: Small, caplog: pytest.LogCaptureFixture) -> None:
    (means,) = small.run(images(16))
    np.testing.assert_allclose(means, images(16).mean((2, 3)), rtol=1e-5)
    said = warnings(caplog)
    assert len(said) == 2
    assert "going on with 8" in said[0]
    assert "going on with 4" in said[1]
    for count in (16, 5, 1):
        np.testing.assert_allclose(small.run(images(count))[0], images(count).mean((2, 3)), rtol=1e-5)
    assert warnings(caplog) == said


def test_views_as_well(small: Small) -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)
    views = Views(tuple(View(image, (n, n, n + 9, n + 12)) for n in range(11)), (12, 9), IMAGENET)
    np.testing.assert_allclose(small.run_views(views)[0], views.prepared().mean((2, 3)), rtol=1e-4, atol=1e-5)


def test_not_even_one_image_fits(small: Small) -> None:
    small.room = 0
    with pytest.raises(FramechainError, match="no memory left on cpu") as told:
        small.run(images(4))
    assert "\n" not in str(told.value)
    assert told.value.__context__ is None  # which would hold what is to be let go


def test_other_errors_are_not_taken_for_it(small: Small) -> None:
    with pytest.raises(Exception, match=r"channels|dimension|INVALID"):
        small.run(np.zeros((2, 4, 8, 6), np.float32))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("BFCArena: Available memory of 12 is smaller than requested bytes of 4096"), True),
        (RuntimeError("Failed to allocate memory for requested buffer of size 1048576"), True),
        (RuntimeError("Error Code 2: OutOfMemory (Requested size was 268435456 bytes.)"), True),
        (RuntimeError("clEnqueueNDRangeKernel, error code: -5 CL_OUT_OF_RESOURCES"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (ValueError("the memory of an elephant"), False),
    ],
)
def test_every_runtime_has_its_own_words_for_it(error: Any, expected: bool) -> None:
    assert out_of_memory(error) is expected
