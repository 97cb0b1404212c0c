"""TensorRT engines, for the NVIDIA GPU on which they are built."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pipeline.inference.model import admitted, homes
from pipeline.inference.portable import to_onnx
from pipeline.inference.shapes import profile
from pipeline.inference.tensorrt import TensorRtModel
from pipeline.inference.tensorrt_build import build
from pipeline.training.exporters.exporter import Exporter, Order, Precision
from pipeline.training.exporters.quantisation import by_onnxruntime


class TensorRtExporter(Exporter):
    """An engine behind its metadata, as Ultralytics writes it."""

    name: ClassVar[str] = "tensorrt"
    suffix: ClassVar[str] = ".engine"
    precisions: ClassVar[tuple[Precision, ...]] = ("fp32", "fp16", "bf16", "int8")

    def write(self, order: Order, path: Path) -> None:
        """Build the engine on this machine's GPU."""
        device = admitted(TensorRtModel.label, homes(TensorRtModel, path), "cuda")[0]
        network = to_onnx(order.model, order.path)
        if order.precision == "int8":
            network = by_onnxruntime(network, order.inputs, order.scheme, symmetric=True)
        sizes = profile(order.model.input_shape, order.model.metadata)
        path.write_bytes(build(network, order.precision, sizes, order.notes, device))
