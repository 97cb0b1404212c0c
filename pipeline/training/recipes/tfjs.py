"""TensorFlow.js graph models as ONNX: the operations of a convolutional detector, in NCHW and without transposes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from pipeline.errors import FramechainError

Operation = Mapping[str, Any]

_STORED: dict[str, np.dtype[Any]] = {"float16": np.dtype("<f2"), "float32": np.dtype("<f4"), "int32": np.dtype("<i4")}
_VALID = "VkFMSUQ="  # "VALID" in base64: no padding but what a Pad has put there
_MOVES = {False: [0, 2, 3, 1], True: [0, 3, 1, 2]}  # what takes channels last, and back


@dataclass(frozen=True, slots=True)
class Value:
    """An image-like value, which ONNX computes as (N, C, H, W) whatever the graph says.

    Attributes:
        name: in the ONNX graph.
        height: in the input size that the graph was written for.
        channels_last: the graph has it as (N, H, W, C) at this point.
        pads: top, left, bottom, right: padding that the next convolution or maximum takes in.
        filler: what that padding is made of.
    """

    name: str
    height: int
    channels_last: bool = False
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    filler: float = 0.0


class Graph:
    """A graph model read from its two files, and its translation as far as asked for.

    Attributes:
        constants: by name, floating point ones as float32.
        nodes, stored: of the ONNX graph so far.
    """

    def __init__(self, topology: bytes, weights: bytes) -> None:
        """Read the model.

        Args:
            topology: the .json file. weights: the .bin file.

        Raises:
            FramechainError: the weights are not all there.
        """
        document = json.loads(topology)
        self._operations: dict[str, Operation] = {node["name"]: node for node in document["modelTopology"]["node"]}
        self.constants = dict(_constants(document["weightsManifest"][0]["weights"], weights))
        self.nodes: list[NodeProto] = []
        self.stored: list[TensorProto] = []
        self._values: dict[str, Value] = {}

    def find(self, kind: str) -> list[Operation]:
        """All operations of that kind, in the order of the file."""
        return [operation for operation in self._operations.values() if operation["op"] == kind]

    def operation(self, name: str) -> Operation:
        """The operation of that name."""
        return self._operations[name]

    def value(self, name: str) -> Value:
        """What an operation gives, translated together with all that it is computed from.

        Raises:
            FramechainError: that takes something which is not known here.
        """
        if name not in self._values:
            operation = self._operations[name]
            if operation["op"] not in _TRANSLATIONS:
                raise _unknown(operation, "is of a kind")
            self._values[name] = _TRANSLATIONS[operation["op"]](self, operation)
        return self._values[name]

    def add(self, kind: str, inputs: Sequence[str], outputs: int = 1, **attributes: Any) -> str:
        """Append an ONNX node; returns the name of its output, or of the first of several (`NAME`, `NAME_1` ...)."""
        name = f"{kind.lower()}{len(self.nodes)}"
        names = [name, *(f"{name}_{n}" for n in range(1, outputs))]
        self.nodes.append(helper.make_node(kind, list(inputs), names, name=name, **attributes))
        return name

    def store(self, array: NDArray[Any]) -> str:
        """Keep a constant; returns its name."""
        name = f"constant{len(self.stored)}"
        self.stored.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def weight(self, array: NDArray[np.float32]) -> str:
        """Keep a float32 constant as float16 where that loses nothing; returns the name of the float32 it becomes.

        Runtimes fold the Cast when they load the file, and compute in full precision.
        """
        half = array.astype(np.float16)
        if (half.astype(np.float32) != array).any():
            return self.store(array)
        return self.add("Cast", [self.store(half)], to=TensorProto.FLOAT)


def _constants(manifest: Sequence[Mapping[str, Any]], raw: bytes) -> Iterator[tuple[str, NDArray[Any]]]:
    start = 0
    for entry in manifest:
        stored = _STORED[entry.get("quantization", entry)["dtype"]]
        count = int(np.prod(entry["shape"], dtype=np.int64))
        if start + count * stored.itemsize > len(raw):
            raise FramechainError(f"the weights end before {entry['name']}; get both files of the model again")
        array = np.frombuffer(raw, stored, count, start).reshape(entry["shape"])
        yield entry["name"], array.astype(np.float32) if stored.kind == "f" else array
        start += count * stored.itemsize


def _unknown(operation: Operation, what: str) -> FramechainError:
    return FramechainError(f"{operation['name']} ({operation['op']}) {what} that cannot be translated yet")


def _plain(graph: Graph, name: str, operation: Operation) -> Value:
    """A value around which no padding waits."""
    value = graph.value(name)
    if any(value.pads):
        raise _unknown(operation, "has padding around an input")
    return value


def _channels_last(graph: Graph, name: str, operation: Operation) -> Value:
    value = graph.value(name)
    if not value.channels_last:
        raise _unknown(operation, "takes channels first,")
    return value


def _placeholder(_: Graph, operation: Operation) -> Value:
    return Value(operation["name"], int(operation["attr"]["shape"]["shape"]["dim"][2]["size"]))


def _transpose(graph: Graph, operation: Operation) -> Value:
    source, order = operation["input"]
    value = graph.value(source)
    if graph.constants[order].tolist() != _MOVES[value.channels_last]:
        raise _unknown(operation, "is an order")
    return replace(value, channels_last=not value.channels_last)


def _pad(graph: Graph, operation: Operation) -> Value:
    source, widths, *filler = operation["input"]
    value = _plain(graph, source, operation)
    table = graph.constants[widths].tolist()
    (top, bottom), (left, right) = table[1:3] if value.channels_last else table[2:]
    constant = float(graph.constants[filler[0]]) if filler else 0.0
    return replace(value, pads=(top, left, bottom, right), filler=constant)


def _add(graph: Graph, operation: Operation) -> Value:
    first, second = operation["input"]
    if second in graph.constants:
        if graph.operation(first)["op"] != "Conv2D":
            raise _unknown(operation, "adds a constant in a place")
        return _convolution(graph, graph.operation(first), [graph.constants[second]])
    one, other = _plain(graph, first, operation), _plain(graph, second, operation)
    if one.channels_last != other.channels_last:
        raise _unknown(operation, "adds two layouts in a way")
    return replace(one, name=graph.add("Add", [one.name, other.name]))


def _convolution(graph: Graph, operation: Operation, bias: Sequence[NDArray[np.float32]] = ()) -> Value:
    source, kernel = operation["input"]
    value = _channels_last(graph, source, operation)
    dilations = operation["attr"]["dilations"]["list"]["i"]
    if value.filler or any(int(step) != 1 for step in dilations):
        raise _unknown(operation, "has a padding or dilation")
    weights = graph.constants[kernel].transpose(3, 2, 0, 1)  # (H, W, in, out) to (out, in, H, W)
    inputs = [value.name, *(graph.weight(constant) for constant in (weights, *bias))]
    return _windowed(graph, "Conv", operation, inputs, value, weights.shape[2:])


def _max_pool(graph: Graph, operation: Operation) -> Value:
    value = _channels_last(graph, operation["input"][0], operation)
    if any(value.pads) and value.filler != -np.inf:  # ONNX leaves the padding out of the maximum
        raise _unknown(operation, "has a padding")
    size = [int(side) for side in operation["attr"]["ksize"]["list"]["i"][1:3]]
    return _windowed(graph, "MaxPool", operation, [value.name], value, size)


def _windowed(
    graph: Graph, kind: str, operation: Operation, inputs: Sequence[str], value: Value, size: Sequence[int]
) -> Value:
    if operation["attr"]["padding"]["s"] != _VALID:
        raise _unknown(operation, "has a padding")
    strides = [int(step) for step in operation["attr"]["strides"]["list"]["i"][1:3]]
    name = graph.add(kind, inputs, kernel_shape=list(size), strides=strides, pads=list(value.pads))
    height = (value.height + value.pads[0] + value.pads[2] - size[0]) // strides[0] + 1
    return Value(name, height, channels_last=True)


def _leaky_relu(graph: Graph, operation: Operation) -> Value:
    value = _plain(graph, operation["input"][0], operation)
    return replace(value, name=graph.add("LeakyRelu", [value.name], alpha=float(operation["attr"]["alpha"]["f"])))


def _concatenate(graph: Graph, operation: Operation) -> Value:
    *sources, axis = operation["input"]
    values = [_plain(graph, source, operation) for source in sources]
    if {int(graph.constants[axis])} != {3 if value.channels_last else 1 for value in values}:
        raise _unknown(operation, "joins along a side")
    return replace(values[0], name=graph.add("Concat", [value.name for value in values], axis=1))


def _resize(graph: Graph, operation: Operation) -> Value:
    """To a size that is written into the graph: by the factor that this is, so that inputs may have any size."""
    source, target = operation["input"]
    value = _channels_last(graph, source, operation)
    attributes = operation["attr"]
    if any(value.pads) or attributes["align_corners"]["b"] or not attributes["half_pixel_centers"]["b"]:
        raise _unknown(operation, "places pixels in a way")
    height = int(graph.constants[target][0])
    scales = graph.store(np.array([1, 1, height / value.height, height / value.height], np.float32))
    how = "half_pixel"
    name = graph.add("Resize", [value.name, "", scales], mode="linear", coordinate_transformation_mode=how)
    return replace(value, name=name, height=height)


_TRANSLATIONS = {
    "Placeholder": _placeholder,
    "Transpose": _transpose,
    "Pad": _pad,
    "PadV2": _pad,
    "Conv2D": _convolution,
    "Add": _add,
    "MaxPool": _max_pool,
    "LeakyRelu": _leaky_relu,
    "ConcatV2": _concatenate,
    "ResizeBilinear": _resize,
}
