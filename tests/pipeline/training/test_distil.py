"""Distillation: which frames a teacher labels and how, whose classes count, and a student that comes of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.errors import FramechainError, UsageError
from pipeline.frame import Frame
from pipeline.stages.detect import Detect
from pipeline.training.detector_data import read_data
from pipeline.training.distil import Labelled, Labelling, class_names, label_videos, student_data
from pipeline.training.yolo_dataset import read_yolo
from tests.end_to_end.command import complaint, framechain

COCO = ("person", "bicycle", "car")


@pytest.fixture(scope="module")
def teacher(data: Path) -> Detect:
    stage = Detect(runtime="native", weights=data / "weights" / "nanodet_g.onnx", confidence=0.4, device="cpu")
    stage.open()
    return stage


@pytest.fixture(scope="module")
def frames(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six frames of a street, the fourth to sixth almost the third: noise apart, nothing moved."""
    folder = tmp_path_factory.mktemp("frames") / "street"
    folder.mkdir()
    video, noise = cv2.VideoCapture(str(data / "video" / "vtest.avi")), np.random.default_rng(0)
    image = None
    for n in range(6):
        if n < 3:
            video.set(cv2.CAP_PROP_POS_FRAMES, 60 * n)
            image = video.read()[1]
        noisy = np.clip(image + noise.normal(0, 2, image.shape), 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / f"{n}.png"), noisy)
    return folder


def test_frames_that_look_alike_are_labelled_once(teacher: Detect, frames: Path, tmp_path: Path) -> None:
    done = label_videos(teacher, Labelling((str(frames),), every=1), COCO, tmp_path / "labelled")
    assert (done.frames, done.known, done.kept) == (6, 3, 3)
    assert done.objects > 10
    assert len(list((tmp_path / "labelled" / "images").iterdir())) == 3


def test_the_labels_are_what_the_teacher_finds(teacher: Detect, frames: Path, tmp_path: Path) -> None:
    label_videos(teacher, Labelling((str(frames),), every=2), ("car", "person"), tmp_path / "labelled")
    back = read_yolo(tmp_path / "labelled")
    assert back.names == ("car", "person")
    assert not [line for line in back.problems if "left out" in line]
    frame = Frame(np.asarray(cv2.imread(str(frames / "0.png")), np.uint8))
    teacher.process([frame])
    people = frame.detections.class_id == 0
    labelled = back.images[0]
    assert people.sum() >= 3
    np.testing.assert_allclose(
        labelled.xyxy[labelled.class_id == 1] * [768, 576, 768, 576], frame.detections.xyxy[people], atol=0.01
    )


def test_what_is_complete_is_not_labelled_again(teacher: Detect, frames: Path, tmp_path: Path) -> None:
    how = Labelling((str(frames),), every=1)
    done = label_videos(teacher, how, COCO, tmp_path / "labelled")
    shutil.rmtree(tmp_path / "labelled" / "images")
    assert label_videos(teacher, how, COCO, tmp_path / "labelled") == done
    (tmp_path / "labelled" / "labelled.json").unlink()  # as an interruption leaves it
    assert label_videos(teacher, how, COCO, tmp_path / "labelled") == done
    assert isinstance(done, Labelled)


def test_a_teacher_that_finds_nothing(frames: Path, teacher: Detect, tmp_path: Path) -> None:
    with pytest.raises(FramechainError, match="found nothing in 6 frames"):
        label_videos(teacher, Labelling((str(frames),), every=1), ("toothbrush",), tmp_path / "labelled")


def given(folder: Path, names: str = "", frames: int = 10) -> Path:
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    for n in range(frames):
        cv2.imwrite(str(folder / "images" / f"{n}.png"), np.full((64, 64, 3), n * 10, np.uint8))
        (folder / "labels" / f"{n}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    if names:
        (folder / "data.yaml").write_text(f"train: images\nnames: [{names}]\n")
    return folder


def test_the_classes_are_those_of_the_data_then_those_asked_for_then_all(tmp_path: Path) -> None:
    named, bare = given(tmp_path / "named", "car, person"), given(tmp_path / "bare")
    asked = Labelling(("v.mp4",), classes=("person",))
    assert class_names(COCO, Labelling(("v.mp4",)), None, "", 0) == (COCO, None)
    assert class_names(COCO, asked, None, "", 0) == (("person",), None)
    assert class_names(COCO, asked, bare, "", 0)[0] == ("person",)
    assert class_names(COCO, Labelling(("v.mp4",)), named, "", 0)[0] == ("car", "person")
    assert class_names(COCO, Labelling(("v.mp4",)), bare, "", 0)[0] == COCO


def test_classes_that_do_not_match(tmp_path: Path) -> None:
    other = given(tmp_path / "other", "zebra, lion")
    with pytest.raises(UsageError, match=r"none of the classes of .*other \(zebra, lion\)"):
        class_names(COCO, Labelling(("v.mp4",)), other, "", 0)
    with pytest.raises(UsageError, match="the teacher knows no class 'dog'; it knows: person, bicycle, car"):
        class_names(COCO, Labelling(("v.mp4",), classes=("dog",)), None, "", 0)
    with pytest.raises(UsageError, match="do not name its classes"):
        class_names((), Labelling(("v.mp4",)), None, "", 0)


def test_the_given_labels_alone_are_validated_on(tmp_path: Path) -> None:
    labelled, own = given(tmp_path / "labelled", "person", frames=20), given(tmp_path / "own", "person")
    alone = student_data(labelled, ("person",), None)
    assert (len(alone.train), len(alone.validation)) == (18, 2)
    mixed = student_data(labelled, ("person",), read_data(own, "0.2", 0))
    assert (len(mixed.train), len(mixed.validation)) == (28, 2)
    assert all(own in image.path.parents for image in mixed.validation)
    with pytest.raises(FramechainError, match="only one frame was kept"):
        student_data(given(tmp_path / "one", "person", frames=1), ("person",), None)


def test_the_command_gives_a_student_that_runs(data: Path, frames: Path, tmp_path: Path) -> None:
    pytest.importorskip("libreyolo")
    teacher = data / "weights" / "nanodet_g.onnx"
    flags = ["--student", "yolox-n", "--classes", "person", "--image-size", "96", "--batch", "2", "--device", "cpu"]
    done = framechain(
        "train", "distil", frames, "--teacher", teacher, *flags, "--every", "1", "--epochs", "1",
        "--out", "run", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "labelled 3 of 6 frames" in done.stderr
    assert "best of 1 epochs" in done.stderr
    with Detect(runtime="native", weights=tmp_path / "run" / "best.onnx", device="cpu") as student:
        assert student.names == ("person",)
    absent = framechain("train", "distil", "absent.mp4", "--teacher", teacher, *flags, cwd=tmp_path)
    assert "absent.mp4" in complaint(absent, 2)
    assert not (tmp_path / "runs").exists()
