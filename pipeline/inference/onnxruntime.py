"""ONNX Runtime: .onnx files on any processor, and on NVIDIA GPUs with onnxruntime-gpu."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

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
        import onnxruntime

        return [*(_gpus() if _CUDA in onnxruntime.get_available_providers() else []), "cpu"]

    @classmethod
    def load(cls, path: Path, device: str, precision: Arithmetic | None = None, requests: int | None = None) -> Self:
        """Load a file."""
        del precision, requests  # it computes in what the file says, and its threads serve all calls
        import onnxruntime

        providers: list[Any] = ["CPUExecutionProvider"]
        if device != "cpu":
            providers.insert(0, (_CUDA, {"device_id": int(device.partition(":")[2])}))
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3 if device == "cpu" else 4  # what a GPU lacks is told below, in a line
        # Idle threads that spin take the cores from decoding, tracking and encoding, which run at the same time.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        except Exception as error:
            raise not_a_network(path, "an ONNX network", error) from error
        check_image_input(path, [feed.shape for feed in session.get_inputs()])
        if device != "cpu" and session.get_providers()[0] != _CUDA:  # it steps back to the CPU without a word
            raise BrokenDevice(f"ONNX Runtime cannot use '{device}': its CUDA libraries do not load; use --device cpu")
        return cls(session, device)

    @classmethod
    def probe(cls) -> list[Probe]:
        """Add two matrices on every provider."""
        import onnxruntime

        found = []
        for provider in onnxruntime.get_available_providers():
            if provider == "AzureExecutionProvider":  # sends inputs to a server; not a device
                continue
            try:
                session = onnxruntime.InferenceSession(_ADDITION, providers=[provider])
                total = session.run(None, {"x": np.ones((2, 2), np.float32)})[0]
                works = bool((total == 2).all()) and session.get_providers()[0] == provider
                detail = onnxruntime.__version__ if works else "its libraries do not load"
            except Exception as error:
                works, detail = False, shortened(error)
            found.append(Probe(provider.removesuffix("ExecutionProvider"), works, detail))
        return found

    def _infer(self, batch: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        outputs = self._session.run(None, {self._input: batch.astype(self._dtype, copy=False)})
        return [np.asarray(output, np.float32) for output in outputs]


def _gpus() -> list[str]:
    """The GPUs that the driver shows; ONNX Runtime itself does not tell how many there are."""
    shown = len(list(Path("/proc/driver/nvidia/gpus").glob("*"))) or 1
    return [f"cuda:{n}" for n in range(shown)]


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
