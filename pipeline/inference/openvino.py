"""OpenVINO: networks as .xml or the directory that Ultralytics exports, on Intel processors and GPUs."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, ClassVar
from xml.etree import ElementTree

import numpy as np
import yaml
from numpy.typing import NDArray
from typing_extensions import Self

from pipeline.errors import MissingExtra, UsageError
from pipeline.inference.metadata import Metadata
from pipeline.inference.model import Model, Precision, Probe, check_image_input, not_a_network, shortened

_HINTS = {"bf16": "bf16", "fp16": "f16"}  # of networks that were exported, and measured, for less than full precision


class OpenVinoModel(Model):
    """A network in OpenVINO."""

    name: ClassVar[str] = "openvino"

    def __init__(self, compiled: Any, device: str, metadata: Metadata) -> None:
        self._compiled = compiled
        self._requests = threading.local()  # a request holds its tensors; one for each thread that runs
        self.device = device.lower()
        self.batches = device != "CPU"
        shape = compiled.input(0).get_partial_shape()
        self.input_shape = tuple(map(_side, shape))
        self.metadata = metadata

    @classmethod
    def reads(cls, path: Path) -> bool:
        """An .xml file, or a directory that holds exactly one."""
        return _network_file(path) is not None

    @classmethod
    def load(cls, path: Path, device: str, precision: Precision) -> Self:
        """Load on the CPU, or on the device of that name ("gpu", "npu")."""
        try:
            import openvino
        except ImportError as error:
            raise MissingExtra("OpenVINO networks", "openvino") from error
        core = openvino.Core()
        target = "CPU" if device == "auto" else device.upper()
        if target not in core.available_devices:
            there = ", ".join(name.lower() for name in core.available_devices)
            raise UsageError(f"OpenVINO has no device '{device}' here; use --device auto or one of: {there}")
        file = _network_file(path) or path
        metadata = _metadata(file.with_name("metadata.yaml"))
        hints = {"PERFORMANCE_HINT": "LATENCY"}
        if precision == "fp32":
            # Left alone, OpenVINO computes in bf16 where the processor can: faster, and boxes move by up to a pixel.
            # The integer kernels of a quantised network stay integer with this hint.
            hints["INFERENCE_PRECISION_HINT"] = _HINTS.get(metadata.precision, "f32")
        try:
            _check_root(file)
            network = core.read_model(str(file))
            shapes = [feed.get_partial_shape() for feed in network.inputs]
            compiled = core.compile_model(network, target, hints)
        except Exception as error:
            raise not_a_network(path, "an OpenVINO network", error) from error
        check_image_input(path, [[_side(side) for side in shape] for shape in shapes])
        return cls(compiled, target, metadata)

    @classmethod
    def probe(cls) -> list[Probe]:
        """Add two matrices on every device."""
        try:
            import openvino
            from openvino import opset13
        except ImportError as error:
            raise MissingExtra("OpenVINO networks", "openvino") from error
        core = openvino.Core()
        x = opset13.parameter([2, 2], np.float32)
        network = openvino.Model([opset13.add(x, x)], [x])
        found = []
        for device in core.available_devices:
            try:
                total = core.compile_model(network, device)(np.ones((2, 2), np.float32))[0]
                name = f"{core.get_property(device, 'FULL_DEVICE_NAME')}, {openvino.__version__}"
                found.append(Probe(device.lower(), bool((total == 2).all()), name))
            except Exception as error:
                found.append(Probe(device.lower(), False, shortened(error)))
        return found

    def _infer(self, batch: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        request = getattr(self._requests, "request", None)
        if request is None:
            request = self._requests.request = self._compiled.create_infer_request()
        results = request.infer([batch], share_inputs=True)
        return [np.asarray(results[output], np.float32) for output in self._compiled.outputs]


def _network_file(path: Path) -> Path | None:
    if path.is_file():
        return path if path.suffix.lower() == ".xml" else None
    files = list(path.glob("*.xml"))
    return files[0] if len(files) == 1 else None


def _check_root(file: Path) -> None:
    """OpenVINO tries what it does not know as a network of every other kind, and their readers print."""
    _, root = next(ElementTree.iterparse(file, events=("start",)))
    version = root.get("version", "")
    if root.tag != "net" or not version.isdecimal() or int(version) < 10:
        raise ValueError(f"it starts with <{root.tag} version='{version}'>, not with <net> of version 10 or later")


def _side(side: Any) -> int | None:
    return side.get_length() if side.is_static else None


def _metadata(path: Path) -> Metadata:
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return Metadata()
    return Metadata.parse(loaded) if isinstance(loaded, dict) else Metadata()
