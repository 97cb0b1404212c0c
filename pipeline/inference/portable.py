"""From a loaded network to an ONNX graph, the form that all other formats are made from."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import MissingExtra, UsageError
from pipeline.inference.metadata import Metadata
from pipeline.inference.model import Model
from pipeline.inference.onnxruntime import OnnxModel
from pipeline.inference.torch import TorchModel

INPUT = "images"


def described(metadata: Metadata) -> dict[str, Any]:
    """What a file says about its network, in the words that `Metadata.parse` reads; what is unknown is left out."""
    raw = {
        "names": dict(enumerate(metadata.names)),
        "task": metadata.task,
        "imgsz": list(metadata.image_size or ()),
        "stride": metadata.stride,
        "head": metadata.head,
        "confidence": metadata.confidence,
    }
    return {key: value for key, value in raw.items() if value not in ({}, "", [], None)}


def to_onnx(model: Model, path: Path) -> Any:
    """The network as an onnx.ModelProto in single precision, with whatever sizes of input it takes.

    Args:
        model: the loaded network. path: its file.

    Raises:
        UsageError: its runtime cannot give it away.
        MissingExtra: the onnx package is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingExtra("exports", "export") from error
    if isinstance(model, OnnxModel):
        network = onnx.load(str(path))
        unfold_casts(network)
    elif isinstance(model, TorchModel):
        network = onnx.load_from_string(_traced(model))
    else:
        raise UsageError(f"{path} runs in {model.name}, from which nothing is exported; give its .onnx or .pt file")
    return network


def halved(network: Any) -> Any:
    """The ONNX graph in half precision; what goes in and comes out stays single.

    Raises:
        MissingExtra: a package that it takes is not installed.
    """
    try:
        from onnxruntime.transformers.float16 import convert_float_to_float16
    except ImportError as error:
        raise MissingExtra("fp16 exports", "export") from error
    return convert_float_to_float16(network, keep_io_types=True)


def with_notes(network: Any, notes: Mapping[str, Any]) -> Any:
    """Write what is known of a network into its ONNX graph, beside what that says already."""
    import onnx

    own = {entry.key: entry.value for entry in network.metadata_props}
    onnx.helper.set_model_props(network, own | {key: str(value) for key, value in notes.items()})
    return network


def module_of(model: TorchModel) -> Any:
    """The network as a torch module from images to its outputs alone, on the CPU and in single precision."""
    import torch

    class Outputs(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.network = model.module.to("cpu", torch.float)

        def forward(self, images: Any) -> Any:
            results = self.network(images)
            parts = results if isinstance(results, tuple | list) else [results]
            # besides its output, a module made for training gives its raw maps, in lists and dictionaries
            tensors = tuple(part for part in parts if isinstance(part, torch.Tensor))
            return tensors if len(tensors) > 1 else tensors[0]

    for part in model.module.modules():
        if hasattr(part, "dynamic") and hasattr(part, "anchors"):
            part.dynamic = True  # Ultralytics' heads: anchors follow the shape of the input instead of the last one's
    return Outputs().eval()


def example_input(model: Model) -> Any:
    """A tensor of the shape that the network takes, of zeros."""
    import torch

    free = model.metadata.image_size or (640, 640)
    height, width = (side or most for side, most in zip(model.input_shape[2:], free, strict=True))
    return torch.zeros(model.input_shape[0] or 1, 3, height, width)


def _traced(model: TorchModel) -> bytes:
    import torch

    batch, _, height, width = model.input_shape
    free = {n: name for n, name in ((0, "batch"), (2, "height"), (3, "width")) if model.input_shape[n] is None}
    del batch, height, width
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracer about shapes, and that the exporter without extras is the older
        torch.onnx.export(
            module_of(model),
            (example_input(model),),
            buffer,
            input_names=[INPUT],
            dynamic_axes={INPUT: free} if free else None,
            opset_version=17,
            dynamo=False,
        )
    return buffer.getvalue()


def unfold_casts(network: Any) -> None:
    """Turn weights that are stored in half precision and cast where they are used into ones in single precision.

    Quantisation looks for the weights at the convolution itself.
    """
    from onnx import numpy_helper

    weights = {tensor.name: tensor for tensor in network.graph.initializer}
    for node in list(network.graph.node):
        if node.op_type == "Cast" and node.input[0] in weights:
            tensor = weights[node.input[0]]
            values = numpy_helper.to_array(tensor)
            if values.dtype == np.float16:
                tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float32), node.output[0]))
                network.graph.node.remove(node)
