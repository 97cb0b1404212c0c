"""Quantisation to int8 after training: by NNCF for OpenVINO, by ONNX Runtime's own tool for ONNX."""

from __future__ import annotations

import io
import logging
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import MissingExtra
from pipeline.inference.onnxruntime import import_onnxruntime
from pipeline.training.exporters.exporter import Scheme


class Operation(NamedTuple):
    """A node of a graph: whether it is a convolution over more than one pixel, and the nodes its inputs come from."""

    spatial: bool
    before: tuple[str, ...]


def output_layers(operations: Mapping[str, Operation], outputs: Iterable[str]) -> list[str]:
    """The operations between the last spatial convolutions and the outputs.

    Args:
        operations: all of a graph, by name. outputs: names of those whose results are the network's.

    >>> ends = {"a": Operation(True, ()), "b": Operation(False, ("a",)), "c": Operation(False, ("b",))}
    >>> output_layers(ends, ["c"])
    ['b', 'c']
    """
    found: set[str] = set()
    waiting = list(outputs)
    while waiting:
        name = waiting.pop()
        operation = operations.get(name)
        if operation is None or operation.spatial or name in found:
            continue
        found.add(name)
        waiting += operation.before
    return sorted(found)


def by_nncf(network: Any, inputs: Sequence[NDArray[np.float32]], scheme: Scheme) -> Any:
    """An openvino.Model with weights a channel and activations a tensor in 8 bits.

    Args:
        network: an openvino.Model. inputs: (N, 3, H, W) float32 each, to calibrate with.
        scheme: what is quantised.

    Raises:
        MissingExtra: NNCF is not installed.
    """
    kept = output_layers(*_openvino_operations(network)) if scheme == "outputs kept" else []
    with _quiet():
        try:
            import nncf
        except ImportError as error:
            raise MissingExtra("int8 exports", "export") from error
        return nncf.quantize(
            network,
            nncf.Dataset(inputs),
            # activations of SiLU and leaky ReLU lie mostly on one side of zero: they need their own zero point
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(inputs),
            ignored_scope=nncf.IgnoredScope(names=kept, validate=False),
        )


def by_onnxruntime(
    network: Any, inputs: Sequence[NDArray[np.float32]], scheme: Scheme, *, symmetric: bool = False
) -> Any:
    """An onnx.ModelProto with pairs of QuantizeLinear and DequantizeLinear around what is computed in 8 bits.

    ONNX Runtime's own tool puts them where its kernels want them: after activations as well as before convolutions.
    NNCF's graphs leave leaky ReLUs in floating point there, and run slower than the original.

    Args:
        network: an onnx.ModelProto. inputs: (N, 3, H, W) float32 each, to calibrate with.
        scheme: what is quantised.
        symmetric: zero is zero in activations too, as TensorRT wants it; else each tensor has its own zero point.

    Raises:
        MissingExtra: a package that it takes is not installed.
    """
    with _quiet(), tempfile.TemporaryDirectory() as scratch:
        import_onnxruntime()
        try:
            import onnx
            from onnxruntime import quantization as ort
            from onnxruntime.quantization.shape_inference import quant_pre_process
        except ImportError as error:
            raise MissingExtra("int8 exports", "export") from error

        class Reader(ort.CalibrationDataReader):  # type: ignore[misc]
            """One input at a time: sizes may differ."""

            def __len__(self) -> int:
                return len(inputs)

            def set_range(self, start_index: int, end_index: int) -> None:
                self._waiting = iter(inputs[start_index:end_index])

            def get_next(self) -> dict[str, NDArray[np.float32]] | None:
                values = next(self._waiting, None)
                return None if values is None else {feed: values}

        given, plain, made = (Path(scratch, f"{name}.onnx") for name in ("given", "plain", "made"))
        onnx.save(network, str(given))
        quant_pre_process(str(given), str(plain), skip_symbolic_shape=True)  # folds constants and normalisation
        graph = onnx.load(str(plain)).graph
        (feed,) = {tensor.name for tensor in graph.input} - {tensor.name for tensor in graph.initializer}
        kept = output_layers(*_onnx_operations(graph)) if scheme == "outputs kept" else []
        ort.quantize_static(
            str(plain),
            str(made),
            Reader(),
            per_channel=True,
            activation_type=ort.QuantType.QInt8 if symmetric else ort.QuantType.QUInt8,
            weight_type=ort.QuantType.QInt8,
            nodes_to_exclude=kept,
            calibrate_method=ort.CalibrationMethod.MinMax,
            extra_options={
                "ActivationSymmetric": symmetric,
                "CalibStridedMinMax": 1,  # so many inputs at a time
            },
        )
        return onnx.load(str(made))


def _openvino_operations(network: Any) -> tuple[dict[str, Operation], list[str]]:
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


def _onnx_operations(graph: Any) -> tuple[dict[str, Operation], list[str]]:
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    makers = {output: node.name for node in graph.node for output in node.output}
    operations = {}
    for node in graph.node:
        kernel = shapes.get(node.input[1], ())[2:] if node.op_type == "Conv" else ()
        before = tuple(makers[name] for name in node.input if name in makers)
        operations[node.name] = Operation(max(kernel, default=1) > 1, before)
    return operations, [makers[output.name] for output in graph.output]


@contextmanager
def _quiet() -> Iterator[None]:
    """Both tell of each operation that they leave alone, and print what they are at."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)
