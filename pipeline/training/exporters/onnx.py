"""ONNX files, for ONNX Runtime and whatever else reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from pipeline.errors import MissingExtra
from pipeline.training.exporters.exporter import Exporter, Order, Precision
from pipeline.training.exporters.quantisation import Operation, output_layers, quantised
from pipeline.training.portable import to_onnx, with_notes


class OnnxExporter(Exporter):
    """Takes images in single precision whatever it computes in. ONNX Runtime has no bf16 on CPUs."""

    name: ClassVar[str] = "onnx"
    suffix: ClassVar[str] = ".onnx"
    precisions: ClassVar[tuple[Precision, ...]] = ("fp32", "fp16", "int8")

    def write(self, order: Order, path: Path) -> None:
        """Write one file with its metadata in it."""
        network = to_onnx(order.model, order.path)
        if order.precision == "fp16":
            network = _halved(network)
        elif order.precision == "int8":
            network = quantised_onnx(network, order)
        path.write_bytes(with_notes(network, order.notes).SerializeToString(deterministic=True))


def quantised_onnx(network: Any, order: Order) -> Any:
    """An onnx.ModelProto with pairs of QuantizeLinear and DequantizeLinear where runtimes compute in 8 bits."""
    graph = network.graph
    names = {feed.name for feed in graph.input} - {tensor.name for tensor in graph.initializer}
    (feed,) = names
    for n, node in enumerate(graph.node):
        node.name = node.name or f"{node.op_type}_{n}"
    kept = output_layers(*_operations(network)) if order.scheme == "outputs kept" else []
    return quantised(network, order.inputs, lambda batch: {feed: batch}, kept)


def _operations(network: Any) -> tuple[dict[str, Operation], list[str]]:
    graph = network.graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    makers = {output: node.name for node in graph.node for output in node.output}
    operations = {}
    for node in graph.node:
        kernel = shapes.get(node.input[1], ())[2:] if node.op_type == "Conv" else ()
        before = tuple(makers[name] for name in node.input if name in makers)
        operations[node.name] = Operation(max(kernel, default=1) > 1, before)
    return operations, [makers[output.name] for output in graph.output]


def _halved(network: Any) -> Any:
    try:
        from onnxruntime.transformers.float16 import convert_float_to_float16
    except ImportError as error:
        raise MissingExtra("fp16 exports", "export") from error
    return convert_float_to_float16(network, keep_io_types=True)
