"""Small networks whose results are known by heart, as the files that tests need; built, not mocked."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

Side = int | str


def averages(path: Path, shape: Sequence[Side], half: bool = False, **metadata: str) -> Path:
    """An .onnx network from images to the mean of each channel: (N, C, H, W) to (N, C)."""
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT16 if half else onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["x", "axes"], ["y"], keepdims=0)],
        "averages",
        [helper.make_tensor_value_info("x", kind, list(shape))],
        [helper.make_tensor_value_info("y", kind, list(shape[:2]))],
        [helper.make_tensor("axes", onnx.TensorProto.INT64, [2], [2, 3])],
    )
    return _saved(path, graph, metadata)


def constant(path: Path, shape: Sequence[Side], output: Sequence[int], **metadata: str) -> Path:
    """An .onnx network that gives zeros of one shape whatever the image."""
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    zeros = helper.make_tensor("value", kind, [1], [0.0])
    graph = helper.make_graph(
        [helper.make_node("ConstantOfShape", ["shape"], ["y"], value=zeros)],
        "constant",
        [helper.make_tensor_value_info("x", kind, list(shape))],
        [helper.make_tensor_value_info("y", kind, list(output))],
        [helper.make_tensor("shape", onnx.TensorProto.INT64, [len(output)], list(output))],
    )
    return _saved(path, graph, metadata)


def _saved(path: Path, graph: object, metadata: Mapping[str, str]) -> Path:
    onnx = pytest.importorskip("onnx")
    network = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8)
    onnx.helper.set_model_props(network, dict(metadata))
    onnx.checker.check_model(network)
    onnx.save(network, str(path))
    return path


def exported(weights: Path, folder: Path, **options: object) -> Path:
    """Ultralytics' own export of a checkpoint, written into an empty folder."""
    ultralytics = pytest.importorskip("ultralytics")
    folder.mkdir(parents=True)
    copy = folder / weights.name
    copy.write_bytes(weights.read_bytes())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what tracing has to say of their code
        return Path(ultralytics.YOLO(copy).export(device="cpu", verbose=False, **options))
