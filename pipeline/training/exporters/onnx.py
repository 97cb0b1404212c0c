"""ONNX files, for ONNX Runtime and whatever else reads them."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pipeline.inference.portable import halved, to_onnx, with_notes
from pipeline.training.exporters.exporter import Exporter, Order, Precision
from pipeline.training.exporters.quantisation import by_onnxruntime


class OnnxExporter(Exporter):
    """Takes images in single precision whatever it computes in. ONNX Runtime has no bf16 on CPUs."""

    name: ClassVar[str] = "onnx"
    suffix: ClassVar[str] = ".onnx"
    precisions: ClassVar[tuple[Precision, ...]] = ("fp32", "fp16", "int8")

    def write(self, order: Order, path: Path) -> None:
        """Write one file with its metadata in it."""
        network = to_onnx(order.model, order.path)
        if order.precision == "fp16":
            network = halved(network)
        elif order.precision == "int8":
            network = by_onnxruntime(network, order.inputs, order.scheme)
        path.write_bytes(with_notes(network, order.notes).SerializeToString(deterministic=True))
