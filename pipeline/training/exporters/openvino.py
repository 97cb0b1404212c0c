"""OpenVINO directories, for Intel processors and GPUs."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import yaml

from pipeline.errors import MissingExtra
from pipeline.inference.openvino import OpenVinoModel, import_openvino
from pipeline.inference.portable import to_onnx
from pipeline.training.exporters.exporter import Exporter, Order, Precision
from pipeline.training.exporters.quantisation import by_nncf


class OpenVinoExporter(Exporter):
    """A directory of an .xml, its .bin, and a metadata.yaml in the words of Ultralytics' exports."""

    name: ClassVar[str] = "openvino"
    suffix: ClassVar[str] = "_openvino_model"
    precisions: ClassVar[tuple[Precision, ...]] = ("fp32", "fp16", "bf16", "int8")

    def write(self, order: Order, path: Path) -> None:
        """Write the three files; what computes in 16 bits is stored in 16 bits."""
        openvino = import_openvino(MissingExtra("OpenVINO exports", "export"))
        core = openvino.Core()
        if isinstance(order.model, OpenVinoModel):
            file = order.path if order.path.is_file() else next(order.path.glob("*.xml"))
            network = core.read_model(str(file))
        else:
            network = core.read_model(to_onnx(order.model, order.path).SerializeToString())
        if order.precision == "int8":
            network = by_nncf(network, order.inputs, order.scheme)
        path.mkdir()
        half = order.precision in ("fp16", "bf16")
        openvino.save_model(network, str(path / f"{path.name.removesuffix(self.suffix)}.xml"), compress_to_fp16=half)
        (path / "metadata.yaml").write_text(yaml.safe_dump(order.notes, sort_keys=False), encoding="utf-8")
