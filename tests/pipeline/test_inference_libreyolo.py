"""Detectors of libreyolo behind the Detect stage find what the library itself finds; random weights do for that."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.errors import MissingExtra, UsageError
from pipeline.frame import Frame
from pipeline.inference.checkpoint import owner
from pipeline.inference.model import load
from pipeline.source import open_source
from pipeline.stages.detect import Detect

torch = pytest.importorskip("torch")
libreyolo = pytest.importorskip("libreyolo")

FAMILIES = {"yolox": ("LibreYOLOX", "n"), "yolo9": ("LibreYOLO9", "t"), "dfine": ("LibreDFINE", "n")}


@pytest.fixture(scope="module")
def image(data: Path) -> NDArray[np.uint8]:
    with open_source(str(data / "video" / "vtest.avi")) as source:
        return next(iter(source)).image


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory, image: NDArray[np.uint8]) -> dict[str, Path]:
    """Random networks that find something in the image, and their own exports."""
    folder, found = tmp_path_factory.mktemp("libreyolo"), {}
    for family, (name, size) in FAMILIES.items():
        torch.manual_seed(7)
        network = getattr(libreyolo, name)(None, size=size, device="cpu")
        if family != "dfine":
            _settle(network.model, image / (1 if family == "yolox" else 255))
        found[family] = folder / f"{family}.pt"
        network.save(str(found[family]))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found[f"{family}-onnx"] = Path(network.export(format="onnx", output_path=str(folder / f"{family}.onnx")))
    return found


def _settle(module: Any, image: NDArray[np.float64]) -> None:
    """Batch normalisation to the image, or what a random network says is not finite; classes that differ."""
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.momentum = 1.0
    module.train()
    with torch.no_grad():
        module(torch.from_numpy(image[:416, :416].copy()).float().permute(2, 0, 1)[None])
        for key, tensor in module.state_dict().items():
            if key.startswith("head") and tensor.shape == (80,) and key.endswith("bias"):
                tensor.uniform_(-4, -1)
            elif key.startswith("head") and tensor.dim() == 4 and tensor.shape[2] == 1:
                tensor.mul_(0.01 if tensor.shape[0] == 80 else 0.1)
    module.eval()


def predicted(weights: Path, image: NDArray[np.uint8], confidence: float, most: int) -> Any:
    network = libreyolo.LibreYOLO(str(weights), device="cpu")
    boxes = network.predict(image, conf=confidence, max_det=most, color_format="bgr").boxes
    order = np.argsort(-boxes.conf.numpy(), kind="stable")
    return boxes.xyxy.numpy()[order], boxes.conf.numpy()[order], boxes.cls.numpy()[order]


def clipped(xyxy: NDArray[np.float32], image: NDArray[np.uint8]) -> NDArray[np.float32]:
    height, width = image.shape[:2]
    return np.clip(xyxy, 0, [width, height, width, height])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_checkpoint_finds_the_boxes_of_the_library(
    family: str, checkpoints: dict[str, Path], image: NDArray[np.uint8]
) -> None:
    with Detect(runtime="native", weights=checkpoints[family], confidence=0.01, device="cpu") as stage:
        frame = Frame(image)
        stage.process([frame])
    xyxy, scores, classes = predicted(checkpoints[family], image, 0.001, 300)
    rows = scores > 0.01
    xyxy, scores, classes = xyxy[rows], scores[rows], classes[rows]
    solid = (clipped(xyxy, image)[:, 2:] > clipped(xyxy, image)[:, :2]).all(axis=1)
    assert solid.sum() > 20
    np.testing.assert_allclose(frame.detections.confidence, scores[solid], rtol=1e-5)
    np.testing.assert_allclose(frame.detections.xyxy, clipped(xyxy, image)[solid], atol=1e-3)
    np.testing.assert_array_equal(frame.detections.class_id, classes[solid])
    assert frame.detections.names[0] == "person"


@pytest.mark.parametrize(("family", "size"), [("yolox", (416, 312)), ("yolo9", (640, 480)), ("dfine", (640, 640))])
def test_its_export_finds_them_too(
    family: str, size: tuple[int, int], checkpoints: dict[str, Path], image: NDArray[np.uint8]
) -> None:
    """By our own letterbox and decoding; the image needs no scaling, which libreyolo leaves to Pillow."""
    image = np.asarray(cv2.resize(image, size), np.uint8)
    xyxy, scores, classes = predicted(checkpoints[family], image, 0.01, 50)
    with Detect(
        runtime="native", weights=checkpoints[f"{family}-onnx"], confidence=0.01, iou=0.45, device="cpu"
    ) as stage:
        frame = Frame(image)
        stage.process([frame])
    ours, hits = frame.detections, 0
    for box, score, number in zip(clipped(xyxy, image), scores, classes, strict=True):
        same = (ours.class_id == number) & (np.abs(ours.xyxy - box).max(axis=1) < 0.05)
        hits += int((same & (np.abs(ours.confidence - score) < 1e-3)).any())
    assert hits >= 0.8 * len(scores) > 20  # of nearly equal scores either may be the one that stays


def test_the_bytes_do_not_depend_on_batches(checkpoints: dict[str, Path], image: NDArray[np.uint8]) -> None:
    images = [image, image[::-1].copy(), image[:400, :500].copy(), image[:, ::-1].copy()]
    with Detect(runtime="native", weights=checkpoints["yolox"], confidence=0.01, device="cpu") as stage:
        alone, together = [Frame(one) for one in images], [Frame(one) for one in images]
        for frame in alone:
            stage.process([frame])
        stage.process(together)
    for one, other in zip(alone, together, strict=True):
        assert one.detections.xyxy.tobytes() == other.detections.xyxy.tobytes()
        assert one.detections.confidence.tobytes() == other.detections.confidence.tobytes()


def test_safetensors(checkpoints: dict[str, Path], tmp_path: Path, image: NDArray[np.uint8]) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    state = torch.load(checkpoints["yolox"], weights_only=True)["model"]
    safetensors.save_file(
        {key: tensor.contiguous() for key, tensor in state.items()}, tmp_path / "LibreYOLOXn.safetensors"
    )
    frames = [Frame(image), Frame(image)]
    for frame, weights in zip(frames, (checkpoints["yolox"], tmp_path / "LibreYOLOXn.safetensors"), strict=True):
        with Detect(runtime="native", weights=weights, confidence=0.01, device="cpu") as stage:
            stage.process([frame])
    np.testing.assert_allclose(frames[0].detections.xyxy, frames[1].detections.xyxy, atol=1e-4)


class Trap:
    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_hostile_checkpoint_runs_nothing(protocol: int, checkpoints: dict[str, Path], tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    state = torch.load(checkpoints["yolox"], weights_only=True)
    torch.save({**state, "names": Trap(str(sprung))}, tmp_path / "trap.pt", pickle_protocol=protocol)
    assert owner(tmp_path / "trap.pt") == "libreyolo"
    with pytest.raises(UsageError, match=r"trap\.pt is not a checkpoint of libreyolo") as error:
        load(tmp_path / "trap.pt", "cpu")
    assert "\n" not in str(error.value)
    assert not sprung.exists()
    torch.load(tmp_path / "trap.pt", weights_only=False)  # the trap does work
    assert sprung.exists()


def test_whose_a_checkpoint_is(checkpoints: dict[str, Path], data: Path, tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(2)}, tmp_path / "tensors.pt")
    torch.save({"a": torch.zeros(2)}, tmp_path / "tensors4.pt", pickle_protocol=4)
    (tmp_path / "text.pt").write_text("no checkpoint")
    assert owner(checkpoints["yolo9"]) == "libreyolo"
    assert owner(tmp_path / "tensors.pt") == owner(tmp_path / "tensors4.pt") == "tensors"
    assert owner(data / "weights" / "yolo11n.pt") == owner(tmp_path / "text.pt") == "other"


def refused(weights: Path, **options: Any) -> str:
    with pytest.raises(UsageError) as error:
        Detect(runtime="native", weights=weights, device="cpu", **options).open()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_bad_input_is_said_in_a_line(
    checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save({"a": torch.zeros(2)}, tmp_path / "tensors.pt")
    whole = checkpoints["yolox"].read_bytes()
    (tmp_path / "half.pt").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "bad.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{]")
    assert "tensors.pt is not a checkpoint of libreyolo" in refused(tmp_path / "tensors.pt")
    assert "half.pt is not" in refused(tmp_path / "half.pt")
    assert "bad.safetensors is not a checkpoint of libreyolo" in refused(tmp_path / "bad.safetensors")
    assert "leave image_size out" in refused(checkpoints["yolox"], image_size=320)
    monkeypatch.setitem(__import__("sys").modules, "libreyolo", None)
    with pytest.raises(MissingExtra, match=r"framechain\[libreyolo\]"):
        load(checkpoints["yolox"], "cpu")
