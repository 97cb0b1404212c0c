"""Building TensorRT engines of ONNX graphs, for the GPU that builds them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pipeline.errors import FramechainError, UsageError
from pipeline.inference.portable import halved
from pipeline.inference.shapes import Shape
from pipeline.inference.tensorrt import complaints, import_tensorrt
from pipeline.inference.torch import import_torch

_WORKSPACE = 4 << 30  # bytes
_FLAGS = {"fp16": ("FP16",), "bf16": ("BF16",), "int8": ("INT8", "FP16")}


def build(
    network: Any,
    precision: Literal["fp32", "fp16", "bf16", "int8"],
    sizes: Sequence[Shape],
    notes: Mapping[str, Any],
    device: str,
) -> bytes:
    """An engine behind what it says about itself: a length of four bytes and JSON, as Ultralytics writes them.

    Args:
        network: an onnx.ModelProto; for int8 with the ranges in it. TensorRT needs no calibrator then.
        sizes: the least, the usual and the largest input.
        notes: what it is to say about itself.

    Raises:
        UsageError: this version of TensorRT does not build in that precision.
        FramechainError: it does not build the network.
        MissingExtra: it is not installed.
    """
    tensorrt, torch = import_tensorrt(), import_torch()
    weakly = hasattr(tensorrt.BuilderFlag, "FP16")  # until 10; from 11 on a network is computed in the types it has
    if not weakly and precision == "bf16":
        raise UsageError(f"TensorRT {tensorrt.__version__} builds no bf16 from this network; use --precision fp16")
    if not weakly and precision == "fp16":
        network = halved(network)
    said = complaints(tensorrt)
    with torch.cuda.device(device):
        builder = tensorrt.Builder(said.logger)
        graph = builder.create_network(0)
        parser = tensorrt.OnnxParser(graph, said.logger)
        if not parser.parse(network.SerializeToString()):
            raise FramechainError(f"TensorRT cannot read this network: {parser.get_error(0).desc()}")
        config = builder.create_builder_config()
        config.set_memory_pool_limit(tensorrt.MemoryPoolType.WORKSPACE, _WORKSPACE)
        for flag in _FLAGS.get(precision, ()) if weakly else ():
            config.set_flag(getattr(tensorrt.BuilderFlag, flag))
        profile = builder.create_optimization_profile()
        profile.set_shape(graph.get_input(0).name, *sizes)
        config.add_optimization_profile(profile)
        engine = builder.build_serialized_network(graph, config)
    if engine is None:
        raise FramechainError(f"TensorRT does not build an engine of this network: {said.taken() or 'it says no more'}")
    head = json.dumps(dict(notes)).encode()
    return len(head).to_bytes(4, "little") + head + bytes(engine)
