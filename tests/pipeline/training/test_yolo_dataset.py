"""Labels as people make them: what is wrong is named, and the rest is used."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.errors import UsageError
from pipeline.training.yolo_dataset import read_yolo


def put(root: Path, name: str, labels: str | None, split: str = "") -> Path:
    """An image of 100×50 pixels with its labels, or without a file of them."""
    image = root / "images" / split / f"{name}.png"
    text = root / "labels" / split / f"{name}.txt"
    for folder in (image.parent, text.parent):
        folder.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(image), np.full((50, 100, 3), 90, np.uint8))
    if labels is not None:
        text.write_text(labels)
    return image


def test_boxes_are_corners_as_fractions(tmp_path: Path) -> None:
    put(tmp_path, "a", "1 0.5 0.25 0.2 0.5\n0 0.9 0.9 0.2 0.2 0.77\n")
    (image,) = read_yolo(tmp_path, ["person", "car"]).images
    assert image.class_id.tolist() == [1, 0]
    np.testing.assert_allclose(image.xyxy, [[0.4, 0, 0.6, 0.5], [0.8, 0.8, 1, 1]], atol=1e-6)


def test_an_image_without_labels_has_no_objects(tmp_path: Path) -> None:
    put(tmp_path, "empty", "")
    put(tmp_path, "none", None)
    dataset = read_yolo(tmp_path)
    assert [image.xyxy.shape for image in dataset.images] == [(0, 4), (0, 4)]
    assert dataset.problems == ()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("0 0.5 0.5 0.1", "not 'class x y width height'"),
        ("0 a b c d", "not 'class x y width height'"),
        ("-1 0.5 0.5 0.1 0.1", "not 'class x y width height'"),
        ("0.5 0.5 0.5 0.1 0.1", "not 'class x y width height'"),
        ("0 0.5 nan 0.1 0.1", "not 'class x y width height'"),
        ("7 0.5 0.5 0.1 0.1", "class 7 of 2 classes"),
        ("0 1.5 0.5 0.1 0.1", "without area inside the image"),
        ("0 0.5 0.5 0 0.1", "without area inside the image"),
        ("0 0.99 0.5 0.2 0.2", "reaches outside the image; cut"),
    ],
)
def test_a_bad_line_is_named_and_the_others_are_used(tmp_path: Path, line: str, said: str) -> None:
    put(tmp_path, "a", f"1 0.5 0.5 0.2 0.2\n{line}\n")
    dataset = read_yolo(tmp_path, ["person", "car"])
    (problem,) = dataset.problems
    assert "a.txt, line 2" in problem
    assert said in problem
    assert len(dataset.images[0].class_id) == (2 if "cut" in said else 1)
    assert (dataset.images[0].xyxy <= 1).all()


def test_damaged_files_are_named(tmp_path: Path) -> None:
    put(tmp_path, "good", "0 0.5 0.5 0.2 0.2")
    put(tmp_path, "image", "0 0.5 0.5 0.2 0.2").write_bytes(b"\x89PNG not really")
    put(tmp_path, "text", "").parents[1].joinpath("labels", "text.txt").write_bytes(b"\xff\xfe\x00")
    dataset = read_yolo(tmp_path)
    assert [image.path.stem for image in dataset.images] == ["good", "text"]
    assert any("image.png" in line and "left out" in line for line in dataset.problems)
    assert any("text.txt" in line for line in dataset.problems)


def test_data_yaml_gives_names_and_parts(tmp_path: Path) -> None:
    put(tmp_path, "a", "0 0.5 0.5 0.2 0.2", "train")
    put(tmp_path, "b", "0 0.5 0.5 0.2 0.2", "val")
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/val\nnames: {0: person, 1: unicorn}\n")
    assert [image.path.stem for image in read_yolo(tmp_path).images] == ["a", "b"]
    dataset = read_yolo(tmp_path / "data.yaml", split="val")
    assert [image.path.stem for image in dataset.images] == ["b"]
    assert dataset.names == ("person", "unicorn")
    assert any("no object of class unicorn" in line for line in dataset.problems)


@pytest.mark.parametrize("given", ["absent", "empty", "list.yaml", "pictures"])
def test_nothing_usable_is_one_line(tmp_path: Path, given: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "list.yaml").write_text("- a\n")
    put(tmp_path / "pictures", "a", None).write_bytes(b"nothing")
    with pytest.raises(UsageError) as error:
        read_yolo(tmp_path / given)
    assert "\n" not in str(error.value)
    assert given in str(error.value)


def test_the_real_data_can_be_read(data: Path) -> None:
    dataset = read_yolo(data / "train" / "coco")
    assert len(dataset.images) == 128
    assert sum(len(image.class_id) for image in dataset.images) > 800
