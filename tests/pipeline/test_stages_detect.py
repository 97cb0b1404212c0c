"""Detect gives Ultralytics' boxes from the same weights on real video, in every format, whatever the batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from networks import constant, exported
from numpy.typing import NDArray

from pipeline import coco
from pipeline.detections import Detections
from pipeline.errors import UsageError
from pipeline.frame import Frame
from pipeline.geometry import iou
from pipeline.stages.detect import Detect
from trackers.mot_format import read

Image = NDArray[np.uint8]

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")


def every(path: Path, step: int, most: int = 1000) -> Iterator[Image]:
    video = cv2.VideoCapture(str(path))
    index = 0
    while most and video.grab():
        if index % step == 0:
            yield np.asarray(video.retrieve()[1], np.uint8)
            most -= 1
        index += 1


@pytest.fixture(scope="module")
def clip(data: Path) -> list[Image]:
    return list(every(data / "video" / "vtest.avi", 40))


@pytest.fixture(scope="module")
def mixed(data: Path, clip: list[Image]) -> list[Image]:
    """Frames of five sizes, never two of a size in a row."""
    other = list(every(data / "video" / "TUD-Stadtmitte.mp4", 60))
    wide = list(every(data / "video" / "car-detection.mp4", 60, 2))
    tall = [np.ascontiguousarray(image[:, 100:400]) for image in clip[:2]]
    odd = [image[3:308, 5:466] for image in clip[:2]]  # views: not contiguous
    return [image for group in zip(clip, other, wide, tall, odd, strict=False) for image in group]


@pytest.fixture(scope="module")
def checkpoint(data: Path) -> Path:
    return data / "weights" / "yolo11n.pt"


@pytest.fixture(scope="module")
def weights(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same network in every format, for any size and for 640×640 only; its int8 form, and NanoDet."""
    folder = tmp_path_factory.mktemp("weights")
    return {
        "pt": checkpoint,
        "nanodet": checkpoint.with_name("nanodet_g.onnx"),
        "openvino-int8": checkpoint.with_name("yolo11n_int8_openvino_model"),
        "onnx": exported(checkpoint, folder / "a", format="onnx", simplify=False, dynamic=True),
        "openvino": exported(checkpoint, folder / "b", format="openvino", dynamic=True),
        "onnx-640": exported(checkpoint, folder / "c", format="onnx", simplify=False),
        "openvino-640": exported(checkpoint, folder / "d", format="openvino"),
        "onnx-640-batch-4": exported(checkpoint, folder / "e", format="onnx", simplify=False, batch=4),
        "torchscript-640": exported(checkpoint, folder / "f", format="torchscript"),
        "onnx-640-nms": exported(checkpoint, folder / "g", format="onnx", simplify=False, nms=True),
    }


FORMATS = [
    "pt", "onnx", "openvino", "onnx-640", "openvino-640", "onnx-640-batch-4", "torchscript-640", "onnx-640-nms",
]  # fmt: skip


@pytest.fixture(scope="module")
def ultralytics_boxes(checkpoint: Path, clip: list[Image]) -> dict[bool, list[Any]]:
    """What `YOLO.predict` finds in the clip, letterboxed to a rectangle and to the square."""
    network = pytest.importorskip("ultralytics").YOLO(checkpoint)
    return {
        rect: [network.predict(image, rect=rect, verbose=False)[0].boxes.cpu().numpy() for image in clip]
        for rect in (True, False)
    }


def detect(stage: Detect, images: Sequence[Image], batch: int = 1) -> list[Detections]:
    frames = [Frame(image, index=n) for n, image in enumerate(images)]
    for start in range(0, len(frames), batch):
        stage.process(frames[start : start + batch])
    return [frame.detections for frame in frames]


def as_bytes(found: Sequence[Detections]) -> list[bytes]:
    return [one.xyxy.tobytes() + one.confidence.tobytes() + one.class_id.tobytes() for one in found]


@pytest.mark.parametrize("kind", FORMATS)
def test_the_boxes_are_those_of_ultralytics(
    kind: str, weights: dict[str, Path], clip: list[Image], ultralytics_boxes: dict[bool, list[Any]]
) -> None:
    step = 4 if "batch-4" in kind else 1  # computes four images for one
    found = detect(Detect(runtime="native", weights=weights[kind], device="cpu"), clip[::step])
    expected = ultralytics_boxes["640" not in kind][::step]
    assert sum(map(len, expected)) > 100 / step
    for ours, theirs in zip(found, expected, strict=True):
        overlap = np.where(ours.class_id[:, None] == theirs.cls[None], iou(ours.xyxy, theirs.xyxy), 0)
        pairs = overlap.argmax(axis=1)
        assert sorted(pairs.tolist()) == list(range(len(theirs)))
        assert (overlap.max(axis=1) > 0.99).all()
        np.testing.assert_allclose(ours.confidence, theirs.conf[pairs], atol=0.01)
        assert (np.diff(ours.confidence) <= 0).all()
        assert ours.names == coco.NAMES


@pytest.mark.parametrize("kind", ["pt", "onnx", "openvino", "nanodet", "openvino-int8"])
def test_the_bytes_do_not_depend_on_batches_and_workers(
    kind: str, weights: dict[str, Path], mixed: list[Image]
) -> None:
    with Detect(runtime="native", weights=weights[kind], device="cpu", confidence=0.1) as stage:
        expected = as_bytes(detect(stage, mixed))
        assert as_bytes(detect(stage, mixed, batch=8)) == expected
        assert as_bytes(detect(stage, mixed[::-1], batch=3))[::-1] == expected
        with ThreadPoolExecutor(2) as pool:
            parts = pool.map(lambda image: detect(stage, [image]), mixed * 2)
            assert as_bytes(list(chain.from_iterable(parts))) == expected * 2


@pytest.mark.parametrize("kind", ["pt", "onnx", "onnx-640"])
def test_batches_as_a_gpu_gets_them_find_the_same(kind: str, weights: dict[str, Path], mixed: list[Image]) -> None:
    with Detect(runtime="native", weights=weights[kind], device="cpu") as stage:
        alone = detect(stage, mixed)
        assert stage._detector is not None
        stage._detector.model.batches = True  # on a CPU nothing else asks for whole batches
        together = detect(stage, mixed, batch=len(mixed))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one.xyxy, other.xyxy, atol=0.05)
        np.testing.assert_allclose(one.confidence, other.confidence, atol=1e-4)
        np.testing.assert_array_equal(one.class_id, other.class_id)


def test_a_shape_that_differs_from_frame_to_frame_leaves_nothing_behind(checkpoint: Path, mixed: list[Image]) -> None:
    """Each frame alone in a fresh stage: what an earlier size leaves in the network must not show."""
    expected = [
        as_bytes(detect(Detect(runtime="native", weights=checkpoint, device="cpu"), [image]))[0] for image in mixed[:5]
    ]
    assert as_bytes(detect(Detect(runtime="native", weights=checkpoint, device="cpu"), mixed[:5])) == expected


@pytest.fixture(scope="module")
def nanodet(data: Path) -> Path:
    return data / "weights" / "nanodet_g.onnx"


def test_nanodet_needs_no_flags_and_finds_the_people_of_the_ground_truth(nanodet: Path, data: Path) -> None:
    truth = read(data / "mot" / "MOT15" / "PETS09-S2L1" / "gt" / "gt.txt")
    assert truth is not None
    indices = range(0, 795, 40)
    frames = list(every(data / "video" / "vtest.avi", 40))
    found = detect(Detect(runtime="native", weights=nanodet, classes=("person",), confidence=0.4), frames)
    hits = there = given = 0
    for index, ours in zip(indices, found, strict=True):
        boxes = truth.xyxy[truth.frame == index + 1]
        overlap = iou(ours.xyxy, boxes)
        hits += int((overlap.max(axis=0, initial=0) > 0.5).sum())
        there, given = there + len(boxes), given + len(ours)
    assert hits / there > 0.8
    assert hits / given > 0.8


def test_nanodet_against_the_plain_way(nanodet: Path, clip: list[Image]) -> None:
    """Read, resize, subtract, divide, run, and nothing else; of the boxes only the best of each frame."""
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(str(nanodet), providers=["CPUExecutionProvider"])
    for image, ours in zip(clip[::4], detect(Detect(runtime="native", weights=nanodet), clip[::4]), strict=True):
        picture = np.zeros((416, 416, 3))
        scaled = cv2.resize(image, (416, 312)).astype(np.float64)
        picture[:312] = (scaled - [103.53, 116.28, 123.675]) / [57.375, 57.12, 58.395]
        (table,) = session.run(None, {session.get_inputs()[0].name: picture.transpose(2, 0, 1)[None].astype("f")})
        row = int(table[0, :, :80].max(axis=1).argmax())
        stride, first, width = next(
            (s, f, 416 // s) for s, f, n in ((8, 0, 2704), (16, 2704, 676), (32, 3380, 169)) if f <= row < f + n
        )
        logits = table[0, row, 80:].reshape(4, 11).astype(np.float64)
        sides = (np.exp(logits) / np.exp(logits).sum(1, keepdims=True) @ np.arange(11)) * stride
        x, y = ((row - first) % width + 0.5) * stride, ((row - first) // width + 0.5) * stride
        box = np.array([x - sides[0], y - sides[1], x + sides[2], y + sides[3]]) * 768 / 416
        np.testing.assert_allclose(ours.xyxy[0], np.clip(box, 0, [768, 576, 768, 576]), atol=0.05)
        assert ours.confidence[0] == pytest.approx(table[0, row, :80].max(), abs=1e-5)
        assert ours.class_id[0] == table[0, row, :80].argmax()


def test_classes_confidence_and_most_detections(nanodet: Path, clip: list[Image]) -> None:
    some = clip[::5]
    everything = detect(Detect(runtime="native", weights=nanodet, confidence=0.05), some)
    people = detect(Detect(runtime="native", weights=nanodet, confidence=0.05, classes=("Person", 2)), some)
    sure = detect(Detect(runtime="native", weights=nanodet, confidence=0.5), some)
    few = detect(Detect(runtime="native", weights=nanodet, confidence=0.05, max_detections=3), some)
    for all_, two, best, three in zip(everything, people, sure, few, strict=True):
        assert {*all_.class_id.tolist()} > {0} == {*two.class_id.tolist()} - {2}
        assert as_bytes([two]) == as_bytes([all_[np.isin(all_.class_id, [0, 2])]])
        assert as_bytes([best]) == as_bytes([all_[all_.confidence > 0.5]])
        assert as_bytes([three]) == as_bytes([all_[:3]])


def test_nothing_to_find(nanodet: Path, checkpoint: Path) -> None:
    black = np.zeros((120, 160, 3), np.uint8)
    for weights in (nanodet, checkpoint):
        (found,) = detect(Detect(runtime="native", weights=weights, confidence=0.9), [black])
        assert len(found) == 0
        assert found.xyxy.shape == (0, 4)
        assert found.names[0] == "person"


def test_a_stage_used_alone_opens_itself_and_opens_again(nanodet: Path, clip: list[Image]) -> None:
    stage = Detect(runtime="native", weights=nanodet)
    stage.process([])
    first = as_bytes(detect(stage, clip[:1]))
    stage.close()
    stage.close()
    assert as_bytes(detect(stage, clip[:1])) == first


def test_a_larger_image_size_sees_more(checkpoint: Path, clip: list[Image]) -> None:
    small = detect(Detect(runtime="native", weights=checkpoint, image_size=160), clip[:4])
    # 650 is made 672, the next multiple of 32
    large = detect(Detect(runtime="native", weights=checkpoint, image_size=650), clip[:4])
    assert sum(map(len, large)) > sum(map(len, small))


def refused(**options: Any) -> str:
    with pytest.raises(UsageError) as error:
        Detect(**options).open()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_class_that_does_not_exist(nanodet: Path) -> None:
    assert refused(weights=nanodet, classes=("persn",)).endswith("knows no class 'persn'; did you mean 'person'?")


def test_a_size_that_a_fixed_network_does_not_take(nanodet: Path) -> None:
    assert "only takes 416×416 pixels, not 640" in refused(weights=nanodet, image_size=640)
    Detect(runtime="native", weights=nanodet, image_size=416).open()


def test_what_detects_nothing(data: Path, tmp_path: Path) -> None:
    embedder = refused(weights=data / "weights" / "osnet_x0_25_msmt17.onnx")
    classifier = refused(weights=constant(tmp_path / "classifier.onnx", [1, 3, 224, 224], [1, 1000]))
    segmenter = refused(weights=constant(tmp_path / "s.onnx", [1, 3, 64, 64], [1, 116, 84], task="segment"))
    assert "(1, 512) for 128×256 pixels; known are" in embedder
    assert "(1, 1000) for 224×224 pixels; known are" in classifier
    assert "yolov8 (1, 4 + classes, cells)" in classifier
    assert "is made to segment, not to detect" in segmenter


@pytest.mark.parametrize("architecture", ["yolo11n-cls.yaml", "yolo11n-seg.yaml"])
def test_a_checkpoint_that_does_not_detect(architecture: str, tmp_path: Path) -> None:
    ultralytics = pytest.importorskip("ultralytics")
    network = ultralytics.YOLO(architecture, verbose=False)
    network.save(tmp_path / "other.pt")
    assert "not to detect" in refused(weights=tmp_path / "other.pt")


@pytest.mark.parametrize(
    "architecture",
    [
        "yolov3-tinyu.yaml", "yolov5nu.yaml", "yolov9t.yaml", "yolov10n.yaml", "yolo12n.yaml", "yolo26n.yaml",
        "yolov8n-p2.yaml", "yolov8n-p6.yaml",
    ],
)  # fmt: skip
def test_other_architectures_are_recognised(architecture: str, tmp_path: Path, clip: list[Image]) -> None:
    """With random weights, which find random boxes: the same ones as Ultralytics finds."""
    ultralytics = pytest.importorskip("ultralytics")
    ultralytics.YOLO(architecture, verbose=False).save(tmp_path / "random.pt")
    theirs = ultralytics.YOLO(tmp_path / "random.pt").predict(clip[0], conf=1e-6, max_det=5, verbose=False)[0].boxes
    (ours,) = detect(
        Detect(runtime="native", weights=tmp_path / "random.pt", confidence=1e-6, max_detections=5), clip[:1]
    )
    assert len(ours) == len(theirs) > 0
    np.testing.assert_allclose(ours.confidence, theirs.conf.numpy(), rtol=1e-3)
    np.testing.assert_allclose(ours.xyxy, theirs.xyxy.numpy(), atol=0.1)


RT_DETR = """
nc: 3
backbone:
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, Conv, [32, 3, 2]]
  - [-1, 1, Conv, [32, 3, 2]]
  - [-1, 1, Conv, [32, 3, 2]]
  - [-1, 1, Conv, [32, 3, 2]]
head:
  - [[2, 3, 4], 1, RTDETRDecoder, [nc]]
"""


def test_rt_detr_sees_the_image_stretched(tmp_path: Path, clip: list[Image]) -> None:
    ultralytics = pytest.importorskip("ultralytics")
    import torch

    torch.manual_seed(0)
    (tmp_path / "small.yaml").write_text(RT_DETR)
    ultralytics.RTDETR(tmp_path / "small.yaml").save(tmp_path / "random.pt")
    theirs = ultralytics.RTDETR(tmp_path / "random.pt").predict(clip[0], conf=0.1, max_det=20, verbose=False)[0].boxes
    for weights in (
        tmp_path / "random.pt",
        exported(tmp_path / "random.pt", tmp_path / "onnx", format="onnx", simplify=False),
    ):
        (ours,) = detect(
            Detect(runtime="native", weights=weights, confidence=0.1, max_detections=20, device="cpu"), clip[:1]
        )
        assert len(ours) == len(theirs) > 5
        expected = np.column_stack([theirs.xyxy.numpy().clip(0, [768, 576, 768, 576]), 1000 * theirs.conf.numpy()])
        found = np.column_stack([ours.xyxy, 1000 * ours.confidence])
        # scores of random weights are almost equal, and so their order is anybody's
        apart = np.abs(found[:, None] - expected[None]).max(axis=2)
        assert sorted(apart.argmin(axis=1)) == list(range(len(expected)))
        assert apart.min(axis=1).max() < 0.5


def test_the_int8_network_agrees_with_the_one_it_was_made_from(
    data: Path, clip: list[Image], ultralytics_boxes: dict[bool, list[Any]]
) -> None:
    directory = data / "weights" / "yolo11n_int8_openvino_model"
    found = detect(Detect(runtime="native", weights=directory, classes=("person",), confidence=0.4), clip)
    near = [iou(o.xyxy, t.xyxy).max(axis=1, initial=0) for o, t in zip(found, ultralytics_boxes[False], strict=True)]
    assert np.mean(np.concatenate(near) > 0.8) > 0.95
