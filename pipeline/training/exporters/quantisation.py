"""Quantisation to int8 after training, by NNCF."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import MissingExtra


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


def quantised(
    network: Any, inputs: Sequence[NDArray[np.float32]], feed: Callable[[NDArray[np.float32]], Any], kept: Sequence[str]
) -> Any:
    """The network with weights a channel and activations a tensor in 8 bits.

    Args:
        network: an openvino.Model or onnx.ModelProto.
        inputs: to calibrate with. feed: from one of them to what the network is run on.
        kept: operations that stay as they are.

    Raises:
        MissingExtra: NNCF is not installed.
    """
    with _quiet():
        try:
            import nncf
        except ImportError as error:
            raise MissingExtra("int8 exports", "export") from error
        return nncf.quantize(
            network,
            nncf.Dataset(inputs, feed),
            # activations of SiLU and leaky ReLU lie mostly on one side of zero: they need their own zero point
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(inputs),
            ignored_scope=nncf.IgnoredScope(names=list(kept), validate=False),
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """NNCF tells of each operation that it leaves alone, and draws bars on standard output."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)
