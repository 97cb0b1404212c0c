"""Exports are used as anyone would use them: made by the command, run by the chain, judged by the original."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.cli import main
from pipeline.errors import UsageError
from pipeline.frame import Frame
from pipeline.geometry import iou
from pipeline.inference.model import load
from pipeline.models import DETECTOR
from pipeline.stages.detect import Detect
from pipeline.training.calibration import read_frames
from pipeline.training.exporters.exporter import exporters
from pipeline.training.exporters.quantisation import Operation, output_layers

pytest.importorskip("onnx")


def ended(command: str, *arguments: str | Path) -> int:
    few = ("--rounds", "2") if command == "export" else ()
    with pytest.raises(SystemExit) as done:
        main([command, *map(str, arguments), *few])
    return int(done.value.code or 0)


def complaint(capsys: pytest.CaptureFixture[str], code: int, *arguments: str | Path) -> str:
    assert ended("export", *arguments) == code
    (line,) = [line for line in capsys.readouterr().err.strip().splitlines() if "fastest" not in line]
    return line


@pytest.fixture
def clip(data: Path) -> Path:
    return data / "video" / "TUD-Stadtmitte.mp4"


@pytest.fixture
def few(data: Path, tmp_path: Path) -> Path:
    """Four labelled images."""
    for image in sorted((data / "train" / "coco" / "images").rglob("*.jpg"))[:4]:
        for kind, name in (("images", image.name), ("labels", f"{image.stem}.txt")):
            (tmp_path / "few" / kind).mkdir(parents=True, exist_ok=True)
            found = next((data / "train" / "coco" / kind).rglob(name))
            shutil.copy(found, tmp_path / "few" / kind / name)
    return tmp_path / "few"


def agree(original: Path | str, made: Path, images: list[np.ndarray], least: float) -> None:
    """Every object that the original is sure of is found in the same place."""
    before, after = (Detect(runtime="native", weights=Path(weights), confidence=0.3) for weights in (original, made))
    seen = 0
    for image in images:
        frames = [Frame(image), Frame(image)]
        before.process(frames[:1])
        after.process(frames[1:])
        sure = frames[0].detections.confidence > 0.6
        overlaps = iou(frames[0].detections.xyxy[sure], frames[1].detections.xyxy)
        assert (overlaps.max(axis=1, initial=0) > least).all()
        assert frames[1].detections.names == frames[0].detections.names
        seen += int(sure.sum())
    assert seen


@pytest.mark.parametrize(
    ("kind", "precision", "least"),
    [("onnx", "fp32", 0.999), ("onnx", "fp16", 0.97), ("openvino", "bf16", 0.8), ("openvino", "fp16", 0.97)],
)
def test_the_bundled_detector_in_other_precisions(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, precision: str, least: float
) -> None:
    pytest.importorskip("openvino")
    made = tmp_path / f"out{exporters.load(kind).suffix}"
    options = ("--precision", precision, "--calibration", clip, "--calibration-frames", "2", "--out", made)
    assert ended("export", DETECTOR, "--format", kind, *options) == 0, capsys.readouterr().err
    shown = capsys.readouterr().out
    assert "agreement AP50-95" in shown
    assert f"{kind} {precision}" in shown
    assert [path.name for path in tmp_path.iterdir()] == [made.name]
    metadata, own = load(made).metadata, load(DETECTOR).metadata
    assert metadata.precision == precision
    assert (metadata.names, metadata.confidence, metadata.stride) == (own.names, own.confidence, own.stride)
    agree(DETECTOR, made, list(read_frames(str(clip), 2).compare), least)


@pytest.mark.parametrize("kind", ["onnx", "openvino"])
def test_int8_computes_in_int8_and_runs_in_the_chain(
    clip: Path, few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    if kind == "openvino":
        pytest.importorskip("nncf")
    made = tmp_path / f"small{exporters.load(kind).suffix}"
    options = ("--calibration", clip, "--calibration-frames", "8", "--data", few, "--max-loss", "5", "--out", made)
    assert ended("export", DETECTOR, "--format", kind, "--precision", "int8", *options) == 0, capsys.readouterr().err
    shown = capsys.readouterr().out
    for word in ("AP50-95", "4 labelled images", f"{kind} fp32", f"{kind} int8", "times as fast"):
        assert word in shown
    assert integers(made) >= 15  # of 34 convolutions; the output layers may be kept
    agree(DETECTOR, made, list(read_frames(str(clip), 2).compare), 0.7)
    assert ended("run", clip, "--weights", made, "--no-text", "--jsonl", tmp_path / "found.jsonl", "-q") == 0
    assert '"person"' in (tmp_path / "found.jsonl").read_text()


def integers(made: Path) -> int:
    """Convolutions that the runtime computes in 8 bits."""
    if made.is_file():
        import onnx

        graph = onnx.load(str(made)).graph
        makers = {name: node.op_type for node in graph.node for name in node.output}
        inputs = ([makers.get(name) for name in node.input[:2]] for node in graph.node if node.op_type == "Conv")
        return sum(kinds == ["DequantizeLinear"] * 2 for kinds in inputs)
    compiled = load(made)._any_size  # type: ignore[attr-defined]
    nodes = (node.get_rt_info() for node in compiled.get_runtime_model().get_ops())
    kinds = [(str(info["layerType"].value), str(info["runtimePrecision"].value)) for info in nodes]
    return sum(layer == "Convolution" and precision in ("i8", "u8") for layer, precision in kinds)


def test_bf16_computes_in_bf16(clip: Path, tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino")
    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this processor does not compute in bf16")
    made = tmp_path / "half_openvino_model"
    assert ended("export", DETECTOR, "--format", "openvino", "--precision", "bf16", "--out", made) == 0
    compiled = load(made)._any_size  # type: ignore[attr-defined]
    assert "bfloat16" in str(compiled.get_property("INFERENCE_PRECISION_HINT"))


@pytest.mark.parametrize("kind", ["torchscript", "onnx"])
def test_an_ultralytics_checkpoint(
    data: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    pytest.importorskip("ultralytics")
    weights = data / "weights" / "yolo11n.pt"
    made = tmp_path / f"yolo{exporters.load(kind).suffix}"
    assert ended("export", weights, "--format", kind, "--out", made) == 0, capsys.readouterr().err
    assert "accuracy was not measured" in capsys.readouterr().out
    images = [*read_frames(str(clip), 1).compare, cv2.imread(str(next((data / "train" / "coco").rglob("*.jpg"))))]
    agree(weights, made, images, 0.99)  # of several sizes: the traced network follows them


def test_an_embedder_is_judged_by_its_vectors_and_refused_when_they_change(
    data: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("nncf")
    osnet, made = data / "weights" / "osnet_x0_25_msmt17.onnx", tmp_path / "osnet_openvino_model"
    made.mkdir()
    (made / "old.xml").write_text("old")
    options = ("--format", "openvino", "--precision", "int8", "--calibration", clip, "--calibration-frames", "1")
    line = complaint(capsys, 1, osnet, *options, "--max-loss", "0", "--out", made)
    assert re.search(r"cosine falls by \d+\.\d points, from 1.000 to 0.\d+", line)
    assert (made / "old.xml").read_text() == "old"  # what was there stays
    assert [path.name for path in tmp_path.iterdir()] == [made.name]  # and nothing else is left behind
    plain = ("--format", "openvino", "--calibration", clip, "--calibration-frames", "1")
    assert ended("export", osnet, *plain, "--max-loss", "0", "--force", "--out", made) == 0
    assert "cosine" in capsys.readouterr().out
    assert [path.name for path in made.glob("*.xml")] == ["osnet.xml"]  # the old one is gone
    assert load(made).run(np.zeros((1, 3, 256, 128), np.float32))[0].shape == (1, 512)


def test_layers_after_the_last_spatial_convolution_are_found() -> None:
    graph = {
        "stem": Operation(True, ()),
        "neck": Operation(False, ("stem",)),
        "boxes": Operation(True, ("neck",)),
        "scores": Operation(True, ("neck",)),
        "distances": Operation(False, ("boxes", "constant")),
        "sigmoid": Operation(False, ("scores",)),
        "join": Operation(False, ("distances", "sigmoid")),
    }
    assert output_layers(graph, ["join"]) == ["distances", "join", "sigmoid"]


def test_bad_input_is_one_line(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ("--out", tmp_path / "out.onnx")
    osnet = data / "weights" / "osnet_x0_25_msmt17.onnx"
    (tmp_path / "one").mkdir()
    cv2.imwrite(str(tmp_path / "one" / "a.png"), np.zeros((9, 9, 3), np.uint8))
    (tmp_path / "other.onnx").mkdir()
    assert "no weights at" in complaint(capsys, 2, tmp_path / "none.pt", *out)
    assert "--calibration a video" in complaint(capsys, 2, DETECTOR, "--precision", "int8", *out)
    assert "choose --precision fp32 or fp16 or int8" in complaint(capsys, 2, DETECTOR, "--precision", "bf16", *out)
    assert "ends with .onnx" in complaint(capsys, 2, DETECTOR, "--out", tmp_path / "out.bin")
    assert "something else" in complaint(capsys, 2, DETECTOR, "--out", tmp_path / "other.onnx")
    assert "what is exported from" in complaint(capsys, 2, osnet, "--out", osnet)
    assert "cannot write" in complaint(capsys, 2, DETECTOR, "--out", "/proc/out.onnx")
    assert "at least two" in complaint(capsys, 2, DETECTOR, "--calibration", tmp_path / "one", *out)
    assert "no PyTorch network" in complaint(
        capsys, 2, DETECTOR, "--format", "torchscript", "--out", tmp_path / "out.torchscript"
    )
    assert "leave --data out" in complaint(capsys, 2, osnet, "--data", data / "train" / "coco", *out)
    assert not (tmp_path / "out.onnx").exists()


def test_tensorrt_says_what_it_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        import tensorrt  # noqa: F401
    except ImportError:
        line = complaint(capsys, 2, DETECTOR, "--format", "tensorrt", "--out", tmp_path / "a.engine")
        assert "framechain[tensorrt]" in line
        assert list(tmp_path.iterdir()) == []
    else:
        pytest.skip("TensorRT is installed")


def test_half_of_the_frames_are_kept_apart(clip: Path, tmp_path: Path) -> None:
    for n in range(10):
        cv2.imwrite(str(tmp_path / f"{n}.png"), np.full((8, 8, 3), n, np.uint8))
    frames = read_frames(str(tmp_path), 2)
    assert [int(image[0, 0, 0]) for image in frames.calibrate] == [0, 4]
    assert [int(image[0, 0, 0]) for image in frames.compare] == [2, 6]
    with pytest.raises(UsageError):
        read_frames(str(tmp_path / "none"), 2)
