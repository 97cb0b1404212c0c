"""Heads against their formulas written out in loops, and recognised by the shapes of real exports."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.heads.head import Head, cells, heads
from pipeline.inference.metadata import Metadata

COCO_640 = (640, 640)


UNDESCRIBED = [name for name, kind in heads.kinds() if not kind.described]


def recognised(shape: tuple[int, ...], size: tuple[int, int] = COCO_640, metadata: Metadata | None = None) -> list[str]:
    kinds = (heads.load(name) for name in UNDESCRIBED)
    return [kind.name for kind in kinds if kind.recognise([shape], size, metadata or Metadata())]


@pytest.mark.parametrize(
    ("shape", "size", "name"),
    [
        ((1, 84, 8400), COCO_640, "yolov8"),
        ((1, 84, 6300), (480, 640), "yolov8"),
        ((1, 5, 8400), COCO_640, "yolov8"),  # one class
        ((1, 6, 8400), COCO_640, "yolov8"),  # two
        ((1, 84, 34000), COCO_640, "yolov8"),  # P2
        ((1, 84, 34000), (1280, 1280), "yolov8"),  # P6
        ((1, 25200, 85), COCO_640, "yolov5"),
        ((1, 25200, 6), COCO_640, "yolov5"),  # one class
        ((1, 300, 6), COCO_640, "end-to-end"),
        ((1, 3549, 124), (416, 416), "nanodet"),
        ((1, 3549, 112), (416, 416), "nanodet"),
        ((1, 3598, 112), (416, 416), "nanodet"),  # NanoDet-Plus
        ((1, 84, 2000), COCO_640, "yolov8"),  # v3-tiny
        ((1, 3549, 85), (416, 416), "yolox"),
    ],
)
def test_exports_are_told_apart_by_their_shapes(shape: tuple[int, ...], size: tuple[int, int], name: str) -> None:
    assert recognised(shape, size) == [name]


def test_the_classes_that_a_file_names_tell_how_many_bins_there_are() -> None:
    assert recognised((1, 3549, 1 + 44), (416, 416), Metadata(names=("plate",))) == ["nanodet"]
    assert recognised((1, 3549, 1 + 44), (416, 416)) == []


@pytest.mark.parametrize("shape", [(1, 1000), (1, 512), (1, 84, 100), (1, 3549, 77), (1, 3, 640, 640), ()])
def test_anything_else_is_no_head(shape: tuple[int, ...]) -> None:
    assert recognised(shape) == []


def head(name: str, shape: tuple[int, ...], size: tuple[int, int], metadata: Metadata | None = None) -> Head:
    found = heads.load(name).recognise([shape], size, metadata or Metadata())
    assert found is not None
    return found


def check(found: Any, expected: list[tuple[list[float], float, int]]) -> None:
    assert len(found.scores) == len(expected) > 0
    np.testing.assert_allclose(found.xyxy, [row[0] for row in expected], rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(found.scores, [row[1] for row in expected], rtol=1e-6)
    assert found.class_id.tolist() == [row[2] for row in expected]
    assert found.xyxy.dtype == found.scores.dtype == np.float32
    assert found.class_id.dtype == np.int64


def centred(row: NDArray[np.float32]) -> list[float]:
    x, y, w, h = map(float, row[:4])
    return [x - w / 2, y - h / 2, x + w / 2, y + h / 2]


def test_yolov8() -> None:
    size = (64, 96)
    table = np.random.default_rng(0).uniform(0, 1, (4 + 3, cells(size, (8, 16, 32)))).astype(np.float32)
    table[:4] *= 60
    expected = [
        (centred(column), float(column[4:].max()), int(column[4:].argmax()))
        for column in table.T
        if column[4:].max() > 0.9
    ]
    check(head("yolov8", (1, *table.shape), size).decode([table], size, 0.9), expected)


def test_yolov5() -> None:
    size = (64, 96)
    table = np.random.default_rng(0).uniform(0, 1, (3 * cells(size, (8, 16, 32)), 5 + 3)).astype(np.float32)
    table[:, :4] *= 60
    expected = []
    for row in table:
        scores = row[5:] * row[4]
        if scores.max() > 0.7:
            expected.append((centred(row), float(scores.max()), int(scores.argmax())))
    check(head("yolov5", (1, *table.shape), size).decode([table], size, 0.7), expected)


def test_end_to_end_gives_the_best_first() -> None:
    table = np.array([[1, 2, 3, 4, 0.3, 5], [5, 6, 7, 8, 0.9, 7], [0, 0, 0, 0, 0, 0]], np.float32)
    found = head("end-to-end", (1, 3, 6), COCO_640).decode([table], COCO_640, 0.25)
    check(found, [([5, 6, 7, 8], 0.9, 7), ([1, 2, 3, 4], 0.3, 5)])


@pytest.mark.parametrize(("strides", "bins", "origin"), [((8, 16, 32), 11, 0.5), ((8, 16, 32, 64), 8, 0.0)])
def test_nanodet(strides: tuple[int, ...], bins: int, origin: float) -> None:
    size = (64, 128)
    names = ("person", "car")
    random = np.random.default_rng(0)
    table = random.normal(0, 2, (cells(size, strides), len(names) + 4 * bins)).astype(np.float32)
    table[:, :2] = random.uniform(0, 1, (len(table), 2))
    expected, row = [], 0
    for stride in strides:
        for y in range(size[0] // stride):
            for x in range(size[1] // stride):
                scores, sides = table[row, :2], []
                for side in range(4):
                    logits = table[row, 2 + side * bins : 2 + (side + 1) * bins].astype(np.float64)
                    share = np.exp(logits) / np.exp(logits).sum()
                    sides.append(stride * sum(n * share[n] for n in range(bins)))
                cx, cy = (x + origin) * stride, (y + origin) * stride
                if scores.max() > 0.8:
                    box = [cx - sides[0], cy - sides[1], cx + sides[2], cy + sides[3]]
                    expected.append((box, float(scores.max()), int(scores.argmax())))
                row += 1
    found = head("nanodet", (1, *table.shape), size, Metadata(names)).decode([table], size, 0.8)
    check(found, expected)


@pytest.mark.parametrize("name", UNDESCRIBED)
def test_nothing_found_is_empty_and_of_the_right_kind(name: str) -> None:
    size = (416, 416)
    shape = {
        "yolov8": (84, 3549),
        "yolov5": (3 * 3549, 85),
        "end-to-end": (300, 6),
        "nanodet": (3549, 124),
        "yolox": (3549, 85),
    }[name]
    found = head(name, (1, *shape), size).decode([np.zeros(shape, np.float32)], size, 0.25)
    assert found.xyxy.shape == (0, 4)
    assert found.scores.shape == found.class_id.shape == (0,)
