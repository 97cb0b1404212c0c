"""OpenVINO: networks as .xml or the directory that Ultralytics exports, on Intel processors and GPUs."""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar
from xml.etree import ElementTree

import numpy as np
import yaml
from numpy.typing import NDArray
from typing_extensions import Self

from pipeline.errors import MissingExtra
from pipeline.inference.installed import imported
from pipeline.inference.metadata import Metadata
from pipeline.inference.model import (
    Arithmetic,
    BrokenDevice,
    Model,
    Probe,
    check_image_input,
    not_a_network,
    shortened,
)

_HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
_MOST_SIZES = 24  # a letterbox of 640 pixels and stride 32 has at most 39
_MOST_PARALLEL = 8  # calls at once: on many cores it would take dozens, each with a frame and its own buffers

_Shape = tuple[int, ...]


class OpenVinoModel(Model):
    """A network in OpenVINO, compiled anew for each size of a single image that it is given."""

    name: ClassVar[str] = "openvino"
    label: ClassVar[str] = "OpenVINO"

    def __init__(self, network: Any, compile: Callable[[Any], Any], device: str, metadata: Metadata) -> None:
        self._network, self._compile = network, compile
        self._sizes: OrderedDict[_Shape, Any] = OrderedDict()
        self._compiling = threading.RLock()
        self._looking = threading.Lock()  # at what is compiled
        self._requests = threading.local()  # a request holds its tensors; one for each thread that runs
        compiled = compile(network)
        self._any_size: Any | None = compiled
        self.device = device
        self.batches = device != "cpu"
        self._at_once = min(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"), _MOST_PARALLEL)
        # one more than it computes at once is prepared meanwhile: 4 to 9 % more of YOLO11n on two cores
        self.parallel = self._at_once + 1
        self.input_shape = tuple(map(_side, compiled.input(0).get_partial_shape()))
        self.metadata = metadata

    @classmethod
    def reads(cls, path: Path) -> bool:
        """An .xml file, or a directory that holds exactly one."""
        return _network_file(path) is not None

    @classmethod
    def takes(cls, path: Path) -> bool:
        """Any .onnx file."""
        return path.suffix.lower() == ".onnx"

    @classmethod
    def devices(cls) -> list[str]:
        """GPUs, NPUs and the processor, as OpenVINO names them in small letters."""
        return sorted((name.lower() for name in _core().available_devices), key="cpu".__eq__)

    @classmethod
    def precisions(cls, device: str, path: Path) -> tuple[Arithmetic, ...]:
        """What the device says it is good at."""
        del path
        capable = _core().get_property(device.upper(), "OPTIMIZATION_CAPABILITIES")
        # a processor may convert fp16, and compute in something wider
        halves: tuple[Arithmetic, ...] = ("bf16",) if device == "cpu" else ("bf16", "fp16")
        return ("fp32", *(half for half in halves if half.upper() in capable))

    @classmethod
    def load(cls, path: Path, device: str, precision: Arithmetic | None = None, requests: int | None = None) -> Self:
        """Load a network and compile it for the device."""
        core = _core()
        file = _network_file(path) or path
        config = {
            # one call at a time is done soonest by all cores; for several each has its own: 19.3 instead of 21.8 ms
            # for YOLO11n in bf16 on two cores, and the same bits
            "PERFORMANCE_HINT": "LATENCY" if requests == 1 else "THROUGHPUT",
        }
        if requests is not None:
            config["PERFORMANCE_HINT_NUM_REQUESTS"] = str(requests)
        try:
            if file.suffix.lower() == ".xml":
                _check_root(file)
            network = core.read_model(str(file))
            metadata = _metadata(file, network)
            # Left alone, OpenVINO computes in bf16 where the processor can: boxes move by up to a pixel.
            # The integer kernels of a quantised network stay integer with this hint.
            config["INFERENCE_PRECISION_HINT"] = _HINTS.get(precision or metadata.precision, "f32")
            shapes = [feed.get_partial_shape() for feed in network.inputs]
        except Exception as error:
            raise not_a_network(path, "an OpenVINO network", error) from error
        check_image_input(path, [[_side(side) for side in shape] for shape in shapes])
        try:
            return cls(network, lambda made: core.compile_model(made, device.upper(), config), device, metadata)
        except RuntimeError as error:
            if device == "cpu":
                raise not_a_network(path, "a network that OpenVINO computes", error) from error
            raise BrokenDevice(f"OpenVINO cannot use '{device}' ({shortened(error)}); use --device cpu") from error

    @classmethod
    def probe(cls) -> list[Probe]:
        """Add two matrices on every device."""
        core = _core()
        import openvino
        from openvino import opset13

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

    def output_shapes(self, height: int, width: int) -> list[tuple[int, ...]]:
        """As `Model.output_shapes`; compiles nothing for a size that may not come again."""
        if self.input_shape[2:] == (height, width):
            return super().output_shapes(height, width)
        request = self._for_any_size().create_infer_request()
        results = request.infer([np.zeros((1, 3, height, width), np.float32)])
        return [tuple(result.shape) for result in results.to_tuple()]

    def _infer(self, batch: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        if len(batch) > 1 and not self.batches and self.input_shape[0] is None:
            return self._one_by_one(batch)
        results = self._request(batch.shape).infer([batch], share_inputs=True)
        return [np.asarray(result, np.float32) for result in results.to_tuple()]

    def _one_by_one(self, batch: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Images one a call, as many calls at once as are computed.

        A network compiled for any number of crops took a third more processor time, and memory for each number that
        came; and what comes out for a crop would depend on how many there were.
        """
        compiled = self._compiled((1, *batch.shape[1:]))
        requests, made_for = self._requests.__dict__.get("several", ([], None))
        if made_for is not compiled:
            requests = [compiled.create_infer_request() for _ in range(self._at_once)]
            self._requests.several = requests, compiled
        found: list[list[NDArray[np.float32]]] = []

        def finish(n: int) -> None:
            request = requests[n % self._at_once]
            request.wait()
            found.append([np.array(output.data, np.float32) for output in request.output_tensors])

        # Without callbacks, for which OpenVINO's threads would need the interpreter, also while they are ended.
        images = [batch[n : n + 1] for n in range(len(batch))]
        try:
            for n, image in enumerate(images):
                if n >= self._at_once:
                    finish(n - self._at_once)
                requests[n % self._at_once].start_async([image], share_inputs=True)
            for n in range(max(0, len(images) - self._at_once), len(images)):
                finish(n)
        except BaseException:
            del self._requests.several  # some are still at work
            raise
        return [np.concatenate(outputs) for outputs in zip(*found, strict=True)]

    def _request(self, shape: _Shape) -> Any:
        """This thread's own request for inputs of that shape."""
        requests: dict[_Shape, tuple[Any, Any]] = self._requests.__dict__.setdefault("by_shape", {})
        compiled = self._compiled(shape)
        request, made_for = requests.get(shape, (None, None))
        if made_for is not compiled:
            if len(requests) >= _MOST_SIZES:
                requests.clear()
            request = compiled.create_infer_request()
            requests[shape] = request, compiled
        return request

    def _compiled(self, shape: _Shape) -> Any:
        """The network for that one shape where it holds one image, else for any.

        On YOLO11n in bf16 that is 5 to 10 % faster, and 0.3 s to compile: crops come in too many numbers for it.
        """
        if shape[0] != 1 or None not in self.input_shape:
            return self._for_any_size()
        with self._looking:
            if (compiled := self._sizes.get(shape)) is not None:
                self._sizes.move_to_end(shape)
                return compiled
        with self._compiling:  # others compute with what is there meanwhile
            if (compiled := self._sizes.get(shape)) is None:
                network = self._network.clone()
                try:
                    network.reshape(list(shape))
                    compiled = self._compile(network)
                    self._any_size = None  # 20 to 50 MB; it has served to see what the outputs are
                except RuntimeError:  # a graph that pins its sizes somewhere: as it was before
                    compiled = self._for_any_size()
            with self._looking:
                self._sizes[shape] = compiled
                if len(self._sizes) > _MOST_SIZES:
                    self._sizes.popitem(last=False)
        return compiled

    def _for_any_size(self) -> Any:
        if (compiled := self._any_size) is None:
            with self._compiling:
                if (compiled := self._any_size) is None:
                    compiled = self._any_size = self._compile(self._network)
        return compiled


def import_openvino(missing: MissingExtra | None = None) -> Any:
    """OpenVINO; raises `missing` without it, BrokenRuntime where it does not load.

    It comes with a package by which it reports to its maker each time that it is imported, under an id that it keeps in
    the user's home. That package is kept from loading; whoever wants it imports it before.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    return imported("openvino", missing or MissingExtra("OpenVINO networks", "openvino"))


def _core() -> Any:
    return import_openvino().Core()


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


def _metadata(file: Path, network: Any) -> Metadata:
    """What stands beside a network of OpenVINO's own, or in an ONNX file."""
    if file.suffix.lower() == ".onnx":
        notes = network.get_rt_info(["framework"]).value if network.has_rt_info(["framework"]) else {}
        return Metadata.of_texts({key: network.get_rt_info(["framework", key]).astype(str) for key in notes})
    try:
        loaded = yaml.safe_load(file.with_name("metadata.yaml").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return Metadata()
    return Metadata.parse(loaded) if isinstance(loaded, dict) else Metadata()
