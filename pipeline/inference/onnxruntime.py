"""ONNX Runtime: .onnx files on any processor, and on NVIDIA GPUs with onnxruntime-gpu."""

from __future__ import annotations

import ctypes
import io
import os
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from pipeline.inference.installed import MissingPackage, gpus, imported
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

_CUDA = "CUDAExecutionProvider"
_SUFFIX = "ExecutionProvider"


class OnnxModel(Model):
    """A network in ONNX Runtime, computed in the precision it is stored in."""

    name: ClassVar[str] = "onnxruntime"
    label: ClassVar[str] = "ONNX Runtime"

    def __init__(self, session: Any, device: str) -> None:
        self._session = session
        feed = session.get_inputs()[0]
        self._input = feed.name
        self._dtype = np.float16 if feed.type == "tensor(float16)" else np.float32
        self.device = device
        self.batches = device != "cpu"
        self.input_shape = tuple(side if isinstance(side, int) else None for side in feed.shape)
        self.metadata = Metadata.of_texts(session.get_modelmeta().custom_metadata_map)

    @classmethod
    def reads(cls, path: Path) -> bool:
        """Any .onnx file."""
        return path.suffix.lower() == ".onnx" and path.is_file()

    @classmethod
    def takes(cls, path: Path) -> bool:
        """What others are converted into."""
        return path.suffix.lower() == ".onnx"

    @classmethod
    def devices(cls) -> list[str]:
        """The GPUs where onnxruntime-gpu is installed, and the processor."""
        there = import_onnxruntime().get_available_providers()
        return [*(onnxruntime_gpus() if _CUDA in there else []), "cpu"]

    @classmethod
    def load(cls, path: Path, device: str, precision: Arithmetic | None = None, requests: int | None = None) -> Self:
        """Load a file."""
        del precision, requests  # it computes in what the file says, and its threads serve all calls
        providers = {} if device == "cpu" else {_CUDA: {"device_id": number(device)}}
        return cls(open_session(path, device, providers), device)

    @classmethod
    def probe(cls) -> list[Probe]:
        """Add two matrices on the processor and every provider of its kind that has no runtime of its own here."""
        there = import_onnxruntime().get_available_providers()
        # Azure's sends inputs to a server, and is no device
        return [probe_provider(one) for one in there if not one.startswith(("Azure", "Tensorrt"))]

    def _infer(self, batch: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        outputs = self._session.run(None, {self._input: batch.astype(self._dtype, copy=False)})
        return [np.asarray(output, np.float32) for output in outputs]


def import_onnxruntime() -> Any:
    """ONNX Runtime; raises MissingExtra without it, BrokenRuntime where it does not load.

    From 1.29 on its builds for Linux keep an id of the device in the user's cache and report to their maker what
    networks are loaded, unless they are told not to before they load. Whoever wants that sets the variable to 0.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    return imported("onnxruntime", MissingPackage(".onnx networks", "pip install onnxruntime"))


def onnxruntime_gpus() -> list[str]:
    """The GPUs that the driver shows; ONNX Runtime itself does not tell how many there are."""
    return gpus() or ["cuda:0"]


def number(device: str) -> int:
    """Which of its kind: 1 for "cuda:1"."""
    return int(device.partition(":")[2])


def open_session(path: Path, device: str, providers: Mapping[str, Mapping[str, Any]]) -> Any:
    """A session for a network.

    Args:
        providers: that compute on the device, with their options, the best first; the processor has what is left over.

    Raises:
        UsageError: the file is not a network from images.
        BrokenDevice: the first provider cannot be used; ONNX Runtime by itself goes on without it.
    """
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3 if device == "cpu" else 4  # what a GPU lacks is told below, in a line
    # Idle threads that spin take the cores from decoding, tracking and encoding, which run at the same time.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if providers:
        _silenced(onnxruntime)
    given = [*((name, dict(what)) for name, what in providers.items()), f"CPU{_SUFFIX}"]
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=given, enable_fallback=0)
    except Exception as error:
        if providers and _computes_elsewhere(path, options):
            raise _broken(next(iter(providers)), device, shortened(error)) from error
        raise not_a_network(path, "an ONNX network", error) from error
    check_image_input(path, [feed.shape for feed in session.get_inputs()])
    if providers and session.get_providers()[0] != next(iter(providers)):  # it steps back without a word
        raise _broken(next(iter(providers)), device, "")
    return session


def probe_provider(provider: str) -> Probe:
    """Try one of its providers with a small computation."""
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    if provider != f"CPU{_SUFFIX}":
        options.log_severity_level = 4
        _silenced(onnxruntime)
    try:
        session = onnxruntime.InferenceSession(_ADDITION, options, providers=[provider], enable_fallback=0)
        total = session.run(None, {"x": np.ones((2, 2), np.float32)})[0]
        works = bool((total == 2).all()) and session.get_providers()[0] == provider
        detail = onnxruntime.__version__ if works else _lacking(provider)
    except Exception as error:
        works, detail = False, _lacking(provider) if provider != f"CPU{_SUFFIX}" else shortened(error)
    return Probe(provider.removesuffix(_SUFFIX), works, detail)


def _silenced(onnxruntime: Any) -> None:
    """Before a GPU is tried: what it lacks is told in a line of ours; and packages of CUDA's libraries are found."""
    onnxruntime.set_default_logger_severity(4)
    if hasattr(onnxruntime, "preload_dlls"):
        with redirect_stdout(io.StringIO()):  # it prints what it does not find
            onnxruntime.preload_dlls()


def _computes_elsewhere(path: Path, options: Any) -> bool:
    """Whether the file is a network after all, and only the provider failed."""
    import onnxruntime

    try:
        onnxruntime.InferenceSession(str(path), options, providers=[f"CPU{_SUFFIX}"])
    except Exception:
        return False
    return True


def _broken(provider: str, device: str, said: str) -> BrokenDevice:
    kind = provider.removesuffix(_SUFFIX).replace("Tensorrt", "TensorRT")
    return BrokenDevice(
        f"ONNX Runtime cannot use '{device}' with {kind}: {_lacking(provider, said)}; install what it needs, or use "
        f"--device cpu"
    )


def _lacking(provider: str, said: str = "") -> str:
    """Why a provider cannot be used: the library that is not there, as the system's loader names it."""
    import onnxruntime

    file = f"libonnxruntime_providers_{provider.removesuffix(_SUFFIX).lower()}.so"
    library = Path(onnxruntime.__file__).parent / "capi" / file
    if library.exists():
        try:
            ctypes.CDLL(str(library))  # which has failed already, but without a word that can be read
        except OSError as error:
            return f"its libraries do not load ({shortened(error)})"
    return said or "its libraries load, but the driver or the GPU does not suit them"


# The ONNX model y = x + x as a serialised protobuf, to try a provider without a file: opset 13, IR version 8,
# x and y of two dimensions "a" and "b". Written by hand because the onnx package is not a dependency.
def _message(field: int, payload: bytes) -> bytes:
    return bytes([field << 3 | 2, len(payload)]) + payload


def _value(name: bytes) -> bytes:
    dimensions = _message(1, _message(2, b"a")) + _message(1, _message(2, b"b"))
    tensor = bytes([1 << 3, 1]) + _message(2, dimensions)  # element type 1: float
    return _message(1, name) + _message(2, _message(1, tensor))


_NODE = _message(1, b"x") + _message(1, b"x") + _message(2, b"y") + _message(4, b"Add")
_GRAPH = _message(1, _NODE) + _message(2, b"g") + _message(11, _value(b"x")) + _message(12, _value(b"y"))
_ADDITION = bytes([1 << 3, 8]) + _message(7, _GRAPH) + _message(8, _message(1, b"") + bytes([2 << 3, 13]))
