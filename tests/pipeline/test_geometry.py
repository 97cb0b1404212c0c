"""Boxes against torchvision, letterboxes against Ultralytics', and both against what must hold for any numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from pipeline.geometry import Letterbox, area, clip, iou, nms

sides = st.integers(8, 4000)
sizes = st.tuples(sides, sides)


@st.composite
def boxes(draw: st.DrawFn, most: int = 30) -> NDArray[np.float32]:
    n = draw(st.integers(1, most))
    corners = draw(hnp.arrays(np.float32, (n, 4), elements=st.floats(-100, 1000, width=32)))
    return np.concatenate([np.minimum(corners[:, :2], corners[:, 2:]), np.maximum(corners[:, :2], corners[:, 2:])], 1)


@settings(deadline=None)  # the first call imports torch
@given(boxes(), boxes())
def test_iou_is_torchvisions(a: NDArray[np.float32], b: NDArray[np.float32]) -> None:
    torch = pytest.importorskip("torch")
    box_iou = pytest.importorskip("torchvision").ops.box_iou
    theirs = box_iou(torch.from_numpy(a).double(), torch.from_numpy(b).double()).numpy()
    np.testing.assert_allclose(iou(a, b), np.nan_to_num(theirs), atol=1e-6)


def test_boxes_without_area_overlap_nothing() -> None:
    point = np.array([[3, 3, 3, 3]], np.float32)
    inverted = np.array([[5, 5, 2, 2]], np.float32)
    assert iou(point, point) == 0
    assert area(inverted) == 0
    assert iou(np.zeros((0, 4), np.float32), point).shape == (0, 1)


def test_clip_cuts_to_the_image() -> None:
    np.testing.assert_array_equal(
        clip(np.array([[-5, -1, 700, 500], [1, 2, 3, 4]], np.float32), 640, 480), [[0, 0, 640, 480], [1, 2, 3, 4]]
    )


@pytest.mark.parametrize("seed", range(20))
def test_nms_is_torchvisions(seed: int) -> None:
    torch = pytest.importorskip("torch")
    batched_nms = pytest.importorskip("torchvision").ops.batched_nms
    random = np.random.default_rng(seed)
    objects, copies = int(random.integers(1, 60)), int(random.integers(1, 8))
    centre = np.repeat(random.uniform(-20, 600, (objects, 2)), copies, 0) + random.normal(0, 4, (objects * copies, 2))
    half = np.repeat(random.uniform(5, 60, (objects, 2)), copies, 0) * random.uniform(0.8, 1.2, (objects * copies, 2))
    xyxy = np.concatenate([centre - half, centre + half], 1).astype(np.float32)
    scores = random.uniform(0, 1, len(xyxy)).astype(np.float32)
    class_id = random.integers(0, 4, len(xyxy))
    theirs = batched_nms(*map(torch.from_numpy, (xyxy, scores, class_id)), 0.6).numpy()
    np.testing.assert_array_equal(nms(xyxy, scores, class_id, 0.6, 10_000), theirs)
    np.testing.assert_array_equal(nms(xyxy, scores, class_id, 0.6, 5), theirs[:5])


def test_nms_leaves_other_classes_alone_even_outside_the_image() -> None:
    """Moving classes apart by the largest coordinate would put the second of these onto the first."""
    xyxy = np.array([[60, 0, 100, 10], [-41, 0, -1, 10]], np.float32)
    kept = nms(xyxy, np.array([0.9, 0.8], np.float32), np.array([0, 1]), 0.5, 300)
    np.testing.assert_array_equal(kept, [0, 1])


def test_nms_of_nothing_and_of_equal_scores() -> None:
    none = np.zeros(0, np.int64)
    assert nms(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), none, 0.5, 10).dtype == np.int64
    far_apart = np.array([[n * 20, 0, n * 20 + 10, 10] for n in range(50)], np.float32)
    kept = nms(far_apart, np.full(50, 0.5, np.float32), np.zeros(50, np.int64), 0.5, 300)
    np.testing.assert_array_equal(kept, np.arange(50))


@given(sizes, st.integers(1, 40).map(lambda n: n * 32), st.booleans())
def test_around_wastes_less_than_a_stride(source: tuple[int, int], size: int, centred: bool) -> None:
    box = Letterbox.around(source, (size, size), 32, centred)
    assert max(box.resized) == size
    for side, used in zip(box.target, box.resized, strict=True):
        assert side % 32 == 0
        assert 0 <= side - used < 32


@given(sizes, sizes, st.booleans())
def test_within_fills_one_side_and_stays_inside(
    source: tuple[int, int], target: tuple[int, int], centred: bool
) -> None:
    box = Letterbox.within(source, target, centred)
    rows, columns = box.window
    assert 0 <= rows.start < rows.stop <= target[0]
    assert 0 <= columns.start < columns.stop <= target[1]
    assert rows.stop - rows.start == target[0] or columns.stop - columns.start == target[1]
    before, after = rows.start, target[0] - rows.stop
    assert after - before in (0, 1) if centred else before == 0


@given(sizes, st.sampled_from([320, 416, 640, 1280]), st.data())
def test_what_goes_forward_comes_back(source: tuple[int, int], size: int, data: st.DataObject) -> None:
    height, width = source
    x = sorted(data.draw(st.lists(st.floats(0, width, width=32), min_size=2, max_size=2)))
    y = sorted(data.draw(st.lists(st.floats(0, height, width=32), min_size=2, max_size=2)))
    xyxy = np.array([[x[0], y[0], x[1], y[1]]], np.float32)
    for box in (Letterbox.around(source, (size, size), 32), Letterbox.within(source, (size, size), centred=False)):
        inside = box.forward(xyxy)
        assert (inside[:, :2] >= -0.51).all()
        assert (inside[0, 2:] <= np.array(box.target[::-1]) + 0.51).all()  # the scaled image is in whole pixels
        # float32 in the input's pixels, seen from the image: coarser by how much larger the image is
        np.testing.assert_allclose(box.back(inside), xyxy, atol=3e-4 / box.scale, rtol=1e-6)


def test_back_cuts_to_the_image() -> None:
    box = Letterbox.within((100, 200), (64, 64))
    np.testing.assert_array_equal(box.back(np.array([[-9, -9, 99, 99]], np.float32)), [[0, 0, 200, 100]])


@pytest.mark.parametrize("shape", [(576, 768), (480, 640), (1080, 1920), (333, 501), (641, 127), (40, 30), (1, 500)])
@pytest.mark.parametrize("rect", [True, False])
def test_the_picture_is_ultralytics_letterbox(shape: tuple[int, int], rect: bool) -> None:
    letterbox = pytest.importorskip("ultralytics.data.augment").LetterBox
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    theirs = letterbox((640, 640), auto=rect, stride=32)(image=image)
    box = Letterbox.around(shape, (640, 640), 32) if rect else Letterbox.within(shape, (640, 640))
    ours = np.full((*box.target, 3), 114, np.uint8)
    ours[box.window] = box.resize(image)
    np.testing.assert_array_equal(ours, theirs)


def test_stretched_fills_the_input_and_comes_back() -> None:
    box = Letterbox.stretched((576, 768), (640, 640))
    assert box.resized == (640, 640)
    assert box.window == (slice(0, 640), slice(0, 640))
    xyxy = np.array([[0, 0, 768, 576], [76.8, 57.6, 384, 288]], np.float32)
    np.testing.assert_allclose(box.forward(xyxy), [[0, 0, 640, 640], [64, 64, 320, 320]], atol=1e-3)
    np.testing.assert_allclose(box.back(box.forward(xyxy)), xyxy, atol=1e-3)
