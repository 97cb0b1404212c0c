"""Classes by name: found whatever the case, refused with the nearest."""

from __future__ import annotations

import pytest

from pipeline import coco
from pipeline.classes import class_ids
from pipeline.errors import UsageError


def test_names_and_numbers() -> None:
    assert class_ids(["Person", " traffic light ", 2, "5"], coco.NAMES, "it").tolist() == [0, 9, 2, 5]
    assert class_ids([], coco.NAMES, "it").tolist() == []


def test_without_names_there_are_numbers_only() -> None:
    assert class_ids([7, "3"], (), "it").tolist() == [7, 3]
    with pytest.raises(UsageError, match="by number"):
        class_ids(["car"], (), "it")


def test_a_name_that_several_classes_have_means_all_of_them() -> None:
    assert class_ids(["car"], ["car", "bus", "Car"], "it").tolist() == [0, 2]


def test_a_class_that_is_called_a_number() -> None:
    assert class_ids(["0"], ["9", "0"], "it").tolist() == [1]


@pytest.mark.parametrize(
    ("asked", "cure"),
    [("persn", "did you mean 'person'"), (80, "a number below 80"), ("99", "below 80"), ("²", "there are"), (-1, "-1")],
)
def test_a_class_that_does_not_exist(asked: str | int, cure: str) -> None:
    with pytest.raises(UsageError, match="yolo knows no class") as error:
        class_ids([asked], coco.NAMES, "yolo")
    assert cure in str(error.value)


def test_the_classes_of_coco_are_those_of_a_real_model() -> None:
    assert len(set(coco.NAMES)) == 80
    yaml = pytest.importorskip("yaml")
    package = pytest.importorskip("ultralytics")
    path = f"{package.__path__[0]}/cfg/datasets/coco.yaml"
    with open(path, encoding="utf-8") as file:
        assert tuple(yaml.safe_load(file)["names"].values()) == coco.NAMES
