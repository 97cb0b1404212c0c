"""OpenVINO directories, for Intel processors and GPUs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import yaml

from pipeline.errors import MissingExtra
from pipeline.inference.openvino import OpenVinoModel
from pipeline.training.exporters.exporter import Exporter, Order, Precision
from pipeline.training.exporters.quantisation import Operation, output_layers, quantised
from pipeline.training.portable import to_onnx


class OpenVinoExporter(Exporter):
    """A directory of an .xml, its .bin, and a metadata.yaml in the words of Ultralytics' exports."""

    name: ClassVar[str] = "openvino"
    suffix: ClassVar[str] = "_openvino_model"
    precisions: ClassVar[tuple[Precision, ...]] = ("fp32", "fp16", "bf16", "int8")

    def write(self, order: Order, path: Path) -> None:
        """Write the three files; what computes in 16 bits is stored in 16 bits."""
        try:
            import openvino
        except ImportError as error:
            raise MissingExtra("OpenVINO exports", "export") from error
        core = openvino.Core()
        if isinstance(order.model, OpenVinoModel):
            file = order.path if order.path.is_file() else next(order.path.glob("*.xml"))
            network = core.read_model(str(file))
        else:
            network = core.read_model(to_onnx(order.model, order.path).SerializeToString())
        if order.precision == "int8":
            kept = output_layers(*_operations(network)) if order.scheme == "outputs kept" else []
            network = quantised(network, order.inputs, lambda batch: batch, kept)
        path.mkdir()
        half = order.precision in ("fp16", "bf16")
        openvino.save_model(network, str(path / f"{path.name.removesuffix(self.suffix)}.xml"), compress_to_fp16=half)
        (path / "metadata.yaml").write_text(yaml.safe_dump(order.notes, sort_keys=False), encoding="utf-8")


def _operations(network: Any) -> tuple[dict[str, Operation], list[str]]:
    operations = {}
    for node in network.get_ordered_ops():
        kernel: list[int] = []
        if node.get_type_name() in ("Convolution", "GroupConvolution"):
            kernel = [side.get_length() for side in list(node.input_value(1).get_partial_shape())[-2:]]
        if node.get_type_name() not in ("Constant", "Parameter", "Result"):
            before = tuple(value.get_node().get_friendly_name() for value in node.input_values())
            operations[node.get_friendly_name()] = Operation(max(kernel, default=1) > 1, before)
    ends = [result.input_value(0).get_node().get_friendly_name() for result in network.get_results()]
    return operations, ends
