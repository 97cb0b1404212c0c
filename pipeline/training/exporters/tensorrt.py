"""TensorRT engines, for the NVIDIA GPU on which they are built."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

from pipeline.errors import FramechainError, UsageError
from pipeline.inference.portable import to_onnx
from pipeline.training.exporters.exporter import Exporter, Order, Precision
from pipeline.training.exporters.quantisation import by_onnxruntime

_MOST = 16  # images a call
_WORKSPACE = 4 << 30  # bytes


class TensorRtExporter(Exporter):
    """An engine behind its metadata: a length of four bytes and JSON, as Ultralytics writes them."""

    name: ClassVar[str] = "tensorrt"
    suffix: ClassVar[str] = ".engine"
    precisions: ClassVar[tuple[Precision, ...]] = ("fp32", "fp16", "bf16", "int8")

    def write(self, order: Order, path: Path) -> None:
        """Build the engine on this machine's GPU."""
        try:
            import tensorrt  # type: ignore[import-not-found]
        except ImportError as error:
            raise UsageError(
                "TensorRT engines need the package tensorrt and an NVIDIA GPU; run: pip install tensorrt"
            ) from error
        network = to_onnx(order.model, order.path)
        if order.precision == "int8":
            # TensorRT takes the ranges from the graph, and needs no calibrator
            network = by_onnxruntime(network, order.inputs, order.scheme, symmetric=True)
        logger = tensorrt.Logger(tensorrt.Logger.ERROR)
        builder = tensorrt.Builder(logger)
        graph = builder.create_network(0)
        parser = tensorrt.OnnxParser(graph, logger)
        if not parser.parse(network.SerializeToString()):
            raise FramechainError(f"TensorRT cannot read this network: {parser.get_error(0).desc()}")
        config = builder.create_builder_config()
        config.set_memory_pool_limit(tensorrt.MemoryPoolType.WORKSPACE, _WORKSPACE)
        flags = {"fp16": ["FP16"], "bf16": ["BF16"], "int8": ["INT8", "FP16"]}
        for flag in flags.get(order.precision, []):
            config.set_flag(getattr(tensorrt.BuilderFlag, flag))
        profile = builder.create_optimization_profile()
        profile.set_shape(graph.get_input(0).name, *_shapes(order))
        config.add_optimization_profile(profile)
        engine = builder.build_serialized_network(graph, config)
        if engine is None:
            raise FramechainError("TensorRT did not build an engine of this network; its own messages are above")
        notes = json.dumps(order.notes).encode()
        path.write_bytes(len(notes).to_bytes(4, "little") + notes + bytes(engine))


def _shapes(order: Order) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """The least, the usual and the largest input; all the same where the network takes one size only."""
    count, _, height, width = order.model.input_shape
    usual = order.model.metadata.image_size or (640, 640)
    stride = order.model.metadata.stride
    least = (count or 1, 3, height or stride, width or stride)
    typical = (count or 1, 3, height or usual[0], width or usual[1])
    return least, typical, (count or _MOST, 3, height or max(usual), width or max(usual))
