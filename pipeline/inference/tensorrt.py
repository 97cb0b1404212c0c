"""TensorRT: engines as .engine and .plan files, and .onnx files that are built into engines, on NVIDIA GPUs."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from pipeline.errors import FramechainError, MissingExtra, UsageError
from pipeline.inference import cache
from pipeline.inference.installed import imported
from pipeline.inference.lanes import Lanes
from pipeline.inference.metadata import Metadata
from pipeline.inference.model import Arithmetic, BrokenDevice, Model, Probe, out_of_memory, shortened
from pipeline.inference.shapes import profile
from pipeline.inference.torch import TorchModel, import_torch
from pipeline.inference.views import Views

logger = logging.getLogger("framechain")

_LONGEST = 1 << 20  # bytes of metadata before an engine
_LEAST = 1 << 10  # bytes of an engine; the smallest network's has ten times as many
_PRECISIONS: tuple[Arithmetic, ...] = ("fp32", "fp16", "bf16")


class TensorRtModel(Model):
    """A network in TensorRT, in memory that PyTorch manages; it prepares its input on the GPU."""

    name: ClassVar[str] = "tensorrt"
    label: ClassVar[str] = "TensorRT"

    def __init__(self, engine: Any, said: Complaints, device: str, metadata: Metadata) -> None:
        self._lanes = Lanes(device)
        self._engine = Engine(engine, said, device)
        self.device = device
        self.batches = True
        self.input_shape = self._engine.input_shape
        self.metadata = metadata
        if self.input_shape[0] is None:
            self._fitting = self._engine.largest[0]

    @classmethod
    def reads(cls, path: Path) -> bool:
        """Any .engine, .plan or .trt file."""
        return path.suffix.lower() in (".engine", ".plan", ".trt") and path.is_file()

    @classmethod
    def takes(cls, path: Path) -> bool:
        """Any .onnx file, of which it builds an engine."""
        return path.suffix.lower() == ".onnx"

    @classmethod
    def check(cls, path: Path) -> None:
        """Refuse what is too short or text: engines are neither."""
        _, engine = parted(_head(path))
        if len(engine) < _LEAST or 0 not in engine[:_LEAST]:
            raise UsageError(f"{path} is not a TensorRT engine; get the file again or give another")

    @classmethod
    def devices(cls) -> list[str]:
        """The GPUs that PyTorch knows; none where there is only the processor."""
        import_tensorrt()
        return [device for device in TorchModel.devices() if device != "cpu"]

    @classmethod
    def precisions(cls, device: str, path: Path) -> tuple[Arithmetic, ...]:
        """Of an engine the one that it is built in; else full and half precision."""
        if cls.reads(path):
            said = described_by(parted(_head(path))[0]).precision
            return tuple(one for one in _PRECISIONS if one == said) or ("fp32",)
        # GPUs multiply bf16 at the rate of fp16 and less exactly, one engine more takes minutes, and 11 builds none
        return tuple(one for one in TorchModel.precisions(device, path) if one != "bf16")

    @classmethod
    def load(cls, path: Path, device: str, precision: Arithmetic | None = None, requests: int | None = None) -> Self:
        """Load an engine; of an .onnx file it is built where that has not been done, which takes minutes."""
        return cls.load_for(path, device, precision, requests, (640, 640))

    @classmethod
    def load_for(
        cls, path: Path, device: str, precision: Arithmetic | None, requests: int | None, size: tuple[int, int]
    ) -> Self:
        """What is built is built for sizes up to that, or the one that the network was made for."""
        del requests
        tensorrt, torch = import_tensorrt(), import_torch()
        try:
            name = torch.cuda.get_device_name(device)
        except (RuntimeError, AssertionError) as error:
            raise BrokenDevice(f"TensorRT cannot use '{device}' ({shortened(error)}); use --device cpu") from error
        if cls.reads(path):
            return cls._loaded(path, device)
        precision = precision or "fp32"
        capability = torch.cuda.get_device_capability(device)
        here = hashlib.sha256(json.dumps([name, capability, tensorrt.__version__, size]).encode()).hexdigest()[:16]
        kept = f"{cache.digest(path)}.{cache.FORMAT}.{precision}.{here}.engine"
        engine = cache.kept(kept, lambda: _built(path, device, precision, size))
        try:
            return cls._loaded(engine, device)
        except BrokenDevice:
            raise
        except UsageError:
            engine.unlink(missing_ok=True)  # damaged, or of a GPU of the same name that is another
            return cls._loaded(cache.kept(kept, lambda: _built(path, device, precision, size)), device)

    @classmethod
    def _loaded(cls, path: Path, device: str) -> Self:
        tensorrt, torch = import_tensorrt(), import_torch()
        notes, plan = parted(path.read_bytes())
        said = complaints(tensorrt)
        with torch.cuda.device(device):
            said.runtime = tensorrt.Runtime(said.logger)
            engine = said.runtime.deserialize_cuda_engine(plan)
            if engine is None:
                raise refused(path, said.taken())
            try:
                return cls(engine, said, device, described_by(notes))
            except UnfitEngine as error:
                raise UsageError(f"{path} {error}; give another") from error

    @classmethod
    def probe(cls) -> list[Probe]:
        """Whether the library starts on every GPU."""
        tensorrt, torch = import_tensorrt(), import_torch()
        found = []
        for device in cls.devices():
            said = complaints(tensorrt)
            try:
                with torch.cuda.device(device):
                    works = tensorrt.Builder(said.logger) is not None
                name = torch.cuda.get_device_name(device)
                found.append(Probe(device, works, f"{name}, {tensorrt.__version__}" if works else said.taken()))
            except Exception as error:
                found.append(Probe(device, False, said.taken() or shortened(error)))
        return found or [Probe("cuda", False, f"{tensorrt.__version__} is installed, and there is no GPU to use it on")]

    def _infer(self, batch: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        return self._lanes.run(batch, self._engine)

    def _infer_views(self, views: Views) -> list[NDArray[np.float32]]:
        # an engine for exactly so many images is filled up by the plain way
        if self.input_shape[0] not in (None, len(views)):
            return super()._infer_views(views)
        return self._lanes.run_views(views, self._engine)


class UnfitEngine(Exception):
    """An engine is none from images to arrays of known sizes. The message follows the name of its file."""


class Engine:
    """An engine with its context: from images on its device to its outputs. One caller at a time.

    Attributes:
        input_shape: (N, 3, H, W), None where it is built for a range of sizes. largest: what it takes at most.
    """

    def __init__(self, engine: Any, said: Complaints, device: str) -> None:
        import torch

        self._torch, self._said, self._device = torch, said, device
        names = [engine.get_tensor_name(n) for n in range(engine.num_io_tensors)]
        inputs = [name for name in names if engine.get_tensor_mode(name).name == "INPUT"]
        shape = tuple(engine.get_tensor_shape(inputs[0])) if len(inputs) == 1 else ()
        if len(shape) != 4 or shape[1] != 3:
            there = ", ".join(str(tuple(engine.get_tensor_shape(name))) for name in inputs) or "none"
            raise UnfitEngine(f"does not take images: its inputs are {there}, not one (N, 3, H, W)")
        self._input = inputs[0]
        self._outputs = [name for name in names if name not in inputs]
        self._dtypes = {name: _dtype(torch, engine.get_tensor_dtype(name).name) for name in names}
        self.input_shape = tuple(None if side < 0 else side for side in shape)
        self._least, _, self.largest = (tuple(sides) for sides in engine.get_tensor_profile_shape(self._input, 0))
        self._engine = engine  # it must outlive its context
        self._context = engine.create_execution_context()
        if self._context is None:
            raise FramechainError(f"TensorRT does not start on {device}: {said.taken()}; end what else uses it")

    def __call__(self, images: Any) -> Sequence[Any]:
        """Its outputs, in new memory.

        Args:
            images: (N, 3, H, W), on its device; the current stream is the one it runs in.

        Raises:
            UsageError: it is not built for that size.
        """
        torch, context = self._torch, self._context
        images = images.to(self._dtypes[self._input]).contiguous()  # the planes one after the other
        if not context.set_input_shape(self._input, tuple(images.shape)):
            self._said.taken()
            raise UsageError(
                f"this TensorRT engine takes inputs from {tuple(self._least)} to {self.largest} and not "
                f"{tuple(images.shape)}; choose another image_size, or build it for that"
            )
        outputs = []
        for name in self._outputs:
            shape = tuple(context.get_tensor_shape(name))
            if min(shape, default=0) < 0:
                raise UsageError(
                    f"the output '{name}' of this TensorRT engine has another size for each image; export the network "
                    f"without its own suppression of overlapping boxes"
                )
            outputs.append(torch.empty(shape, dtype=self._dtypes[name], device=images.device))
            context.set_tensor_address(name, outputs[-1].data_ptr())
        context.set_tensor_address(self._input, images.data_ptr())
        stream = torch.cuda.current_stream(images.device) if images.is_cuda else None
        if not context.execute_async_v3(stream.cuda_stream if stream else 0):
            raise RuntimeError(f"TensorRT: {self._said.taken() or 'it was not executed'}")
        return outputs


class Complaints:
    """What TensorRT says is wrong; it returns no errors, but nothing, and logs the reason.

    Attributes:
        logger: to be given to it. runtime: that uses it; both must outlive the engine.
    """

    def __init__(self) -> None:
        self.logger: Any = None
        self.runtime: Any = None
        self._lines: list[str] = []

    def hear(self, severity: str, line: str) -> None:
        """Note it where it is an error; the last few are kept."""
        if severity in ("ERROR", "INTERNAL_ERROR"):
            self._lines = [*self._lines[-3:], line]

    def taken(self) -> str:
        """All since it was asked last, on one line."""
        lines, self._lines = self._lines, []
        return shortened(Exception("; ".join(lines)))


def complaints(tensorrt: Any) -> Complaints:
    """A new list, with a logger that fills it."""
    said = Complaints()

    class Logger(tensorrt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            tensorrt.ILogger.__init__(self)

        def log(self, severity: Any, msg: str) -> None:
            said.hear(severity.name, msg)

    said.logger = Logger()
    return said


def import_tensorrt() -> Any:
    """TensorRT; raises MissingExtra without it, BrokenRuntime where it does not load."""
    return imported("tensorrt", MissingExtra("TensorRT engines", "tensorrt"))


def parted(data: bytes) -> tuple[dict[str, Any], bytes]:
    """What a file says about its engine, and the engine: Ultralytics writes a length of four bytes and JSON before it.

    >>> parted((2).to_bytes(4, "little") + b"{}" + b"engine"), parted(b"engine")
    (({}, b'engine'), ({}, b'engine'))
    """
    length = int.from_bytes(data[:4], "little")
    if length <= min(_LONGEST, len(data) - 4):
        try:
            notes = json.loads(data[4 : 4 + length])
        except ValueError:
            notes = None
        if isinstance(notes, dict):
            return notes, data[4 + length :]
    return {}, data


def described_by(notes: dict[str, Any]) -> Metadata:
    """What is known of an engine by what stands before it."""
    arguments = notes.get("args")  # Ultralytics has no word for the precision, but notes its arguments
    if isinstance(arguments, dict) and "precision" not in notes:
        notes = {**notes, "precision": "int8" if arguments.get("int8") else "fp16" if arguments.get("half") else ""}
    return Metadata.parse(notes)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_LONGEST + _LEAST)


def refused(path: Path, reason: str) -> UsageError:
    """TensorRT does not take the engine: why, as far as it says so, and what to do."""
    if out_of_memory(Exception(reason)):
        return BrokenDevice(f"there is no memory on the GPU for {path} ({reason}); end what else uses it")
    if "magic" in reason.lower():
        return UsageError(f"{path} is not a TensorRT engine ({reason}); get the file again or give another")
    return UsageError(
        f"{path} was built for another GPU or another version of TensorRT ({reason or 'it does not say which'}); build "
        f"it on this machine: framechain export WEIGHTS --format tensorrt, or give the .onnx or .pt file itself"
    )


def _built(path: Path, device: str, precision: Arithmetic, size: tuple[int, int]) -> bytes:
    from pipeline.inference.onnxruntime import OnnxModel
    from pipeline.inference.portable import described, to_onnx
    from pipeline.inference.tensorrt_build import build

    logger.info("%s: building a TensorRT engine in %s for %s, once; this takes minutes", path.name, precision, device)
    model = OnnxModel.load(path, "cpu")
    try:
        notes = described(model.metadata) | {"precision": precision}
        sizes = profile(model.input_shape, model.metadata, size)
        return build(to_onnx(model, path), precision, sizes, notes, device)
    finally:
        model.close()


def _dtype(torch: Any, name: str) -> Any:
    """PyTorch's type for one of TensorRT's."""
    known = {"FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16", "BOOL": "bool"}
    found = getattr(torch, known.get(name, name.lower()), None)
    if found is None:
        raise UnfitEngine(f"gives numbers of a kind that is not known here, {name}")
    return found
