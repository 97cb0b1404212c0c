"""Half precision on disk: weights take half the room; arithmetic stays in single precision."""

from __future__ import annotations

from typing import Any

import numpy as np

_SMALLEST = 64  # numbers; smaller tensors are not worth a node


def halve_weights(model: Any) -> None:
    """Store the large weights of an ONNX model as float16, each cast to float32 where it is used.

    Runtimes fold the casts when they load the file, so that nothing is slower for it.

    Args:
        model: an onnx.ModelProto, changed in place.
    """
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(tensor)
        if values.size < _SMALLEST or np.abs(values).max() > np.finfo(np.float16).max:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], name=f"{name}.cast", to=TensorProto.FLOAT))
    for cast in reversed(casts):
        model.graph.node.insert(0, cast)
