"""YOLOX and the heads that only a description tells apart, against their formulas written out."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.heads.head import Head, cells, recognise
from pipeline.inference.metadata import Metadata

SIZE = (64, 96)
NAMES = ("person", "car")


def head(shapes: list[tuple[int, ...]], said: str = "", names: tuple[str, ...] = NAMES) -> Head:
    found = recognise(shapes, SIZE, Metadata(names=names, head=said))
    assert found is not None
    return found


def table(columns: int) -> NDArray[np.float32]:
    random = np.random.default_rng(0)
    values = random.normal(0, 0.7, (cells(SIZE, (8, 16, 32)), columns)).astype(np.float32)
    values[:, 4:] = random.uniform(0, 1, (len(values), columns - 4))
    return values


def test_yolox_in_units_of_the_grid() -> None:
    values, expected, row = table(7), [], 0
    for stride in (8, 16, 32):
        for y in range(SIZE[0] // stride):
            for x in range(SIZE[1] // stride):
                dx, dy, w, h, there, *scores = map(float, values[row])
                score = there * max(scores)
                if score > 0.6:
                    cx, cy = (x + dx) * stride, (y + dy) * stride
                    width, height = np.exp(w) * stride, np.exp(h) * stride
                    box = [cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2]
                    expected.append((box, score, scores.index(max(scores))))
                row += 1
    kind = head([(1, *values.shape)])
    found = kind.decode([values], SIZE, 0.6)
    assert kind.name == "yolox"
    assert len(found.scores) == len(expected) > 5
    np.testing.assert_allclose(found.xyxy, [one[0] for one in expected], rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(found.scores, [one[1] for one in expected], rtol=1e-5)
    assert found.class_id.tolist() == [one[2] for one in expected]


def test_yolox_as_libreyolo_exports_it_is_in_pixels() -> None:
    values = table(7)
    kind = head([(1, *values.shape)], "libreyolo:yolox")
    found = kind.decode([values], SIZE, 0.0)
    assert kind.name == "yolox-decoded"
    np.testing.assert_allclose(found.xyxy[:, 2:] - found.xyxy[:, :2], values[:, 2:4], atol=1e-5)
    np.testing.assert_allclose((found.xyxy[:, 2:] + found.xyxy[:, :2]) / 2, values[:, :2], atol=1e-5)


def test_rt_detr_gives_fractions_of_the_image() -> None:
    values = np.array([[[0.5, 0.25, 0.5, 0.5, 0.3, 1], [0.25, 0.5, 0.5, 1, 0.9, 0], [0, 0, 0, 0, 0.1, 0]]], np.float32)
    kind = head([(1, 3, 6)], "RTDETRDecoder")
    found = kind.decode([values[0]], SIZE, 0.2)
    np.testing.assert_allclose(found.xyxy, [[0, 0, 48, 64], [24, 0, 72, 32]])
    assert found.class_id.tolist() == [0, 1]
    assert kind.preprocessing.fit == "stretch"


def test_a_box_of_detr_counts_once_for_each_likely_class() -> None:
    logits = np.array([[2.0, 1.0], [-5.0, 3.0]], np.float32)
    boxes = np.array([[0.5, 0.5, 1, 1], [0.25, 0.25, 0.5, 0.5]], np.float32)
    found = head([(1, 2, 2), (1, 2, 4)], "libreyolo:dfine").decode([logits, boxes], SIZE, 0.5)
    np.testing.assert_allclose(found.scores, 1 / (1 + np.exp([-3.0, -2.0, -1.0])), rtol=1e-6)
    assert found.class_id.tolist() == [1, 0, 1]
    np.testing.assert_allclose(found.xyxy, [[0, 0, 48, 32], [0, 0, 96, 64], [0, 0, 96, 64]])


def test_a_cell_of_libreyolo_counts_once_for_each_likely_class() -> None:
    values = np.zeros((6, 126), np.float32)
    values[:, 3] = [1, 2, 30, 40, 0.6, 0.9]
    values[:, 5] = [5, 6, 50, 60, 0.4, 0.7]
    found = head([(1, 6, 126)], "libreyolo:yolo9").decode([values], SIZE, 0.5)
    assert sorted(zip(found.xyxy.tolist(), found.scores.tolist(), found.class_id.tolist(), strict=True)) == [
        ([1, 2, 30, 40], pytest.approx(0.6), 0),
        ([1, 2, 30, 40], pytest.approx(0.9), 1),
        ([5, 6, 50, 60], pytest.approx(0.7), 1),
    ]


@pytest.mark.parametrize(
    ("shapes", "said", "name"),
    [
        ([(1, 126, 7)], "", "yolox"),
        ([(1, 126, 7)], "libreyolo:yolox", "yolox-decoded"),
        ([(1, 126, 2 + 44)], "", "nanodet"),
        ([(1, 6, 126)], "Detect", "yolov8"),
        ([(1, 6, 126)], "libreyolo:yolo9", "libreyolo-yolo9"),
        ([(1, 300, 6)], "Detect", "end-to-end"),
        ([(1, 300, 6)], "RTDETRDecoder", "rt-detr"),
        ([(1, 300, 6)], "boxes", "boxes"),
        ([(1, 300, 2), (1, 300, 4)], "libreyolo:rtdetrv2", "detr"),
    ],
)
def test_what_the_file_says_decides_between_equal_shapes(shapes: list[tuple[int, ...]], said: str, name: str) -> None:
    assert head(shapes, said).name == name


def test_a_family_of_libreyolo_that_is_not_known_is_not_guessed() -> None:
    assert recognise([(1, 6, 126)], SIZE, Metadata(names=NAMES, head="libreyolo:picodet")) is None
