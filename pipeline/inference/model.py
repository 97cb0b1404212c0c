"""Model: a network in some runtime, behind one interface; and the registry of runtimes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from pipeline.errors import UsageError
from trackers.registry import Registry

Precision = Literal["fp32", "auto"]
"""fp32: full precision everywhere. auto: what the runtime finds fastest on the device (bf16, fp16)."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What came of trying one device of a runtime."""

    device: str
    works: bool
    detail: str


class Model(ABC):
    """A network with one image input (N, 3, H, W) float32. `run` may be called from several threads at once.

    A subclass is one runtime: it loads the files that it `reads`.

    Attributes:
        device: where it runs, e.g. "cpu" or "cuda:0".
        batches: whether the device gains from batches. Where it does not (CPUs), callers give images one by
            one: convolution kernels chosen by batch size differ in the last bit, and results must not depend
            on which frames happened to wait together.
        input_shape: (N, 3, H, W), None where any size will do.
        metadata: what the file says about itself: names, stride, imgsz, task ...
    """

    name: ClassVar[str]
    """Of the runtime."""

    extra: ClassVar[str | None] = None
    """The extra that installs it; None where it always is installed."""

    device: str
    batches: bool
    input_shape: tuple[int | None, ...]
    metadata: Mapping[str, Any]

    @classmethod
    @abstractmethod
    def reads(cls, path: Path) -> bool:
        """Whether this runtime loads such a file or directory; told by name, not by content."""

    @classmethod
    @abstractmethod
    def load(cls, path: Path, device: str, precision: Precision) -> Self:
        """Load a network.

        Args:
            path: an existing file or directory.
            device: "auto", "cpu", "cuda" or "cuda:0".

        Raises:
            UsageError: the file is not a network of this kind, or there is no such device.
            MissingExtra: the runtime is not installed.
        """

    @classmethod
    @abstractmethod
    def probe(cls) -> list[Probe]:
        """Try every device of this runtime with a small computation.

        Raises:
            MissingExtra: the runtime is not installed.
        """

    @abstractmethod
    def run(self, batch: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """(N, 3, H, W) in; all outputs out, N first."""

    def close(self) -> None:
        """Release it."""


runtimes: Registry[Model] = Registry("runtime", Model, "pipeline.inference", "framechain.runtimes")  # type: ignore[type-abstract]


def load(weights: str | Path, device: str = "auto", precision: Precision = "fp32") -> Model:
    """Load a network by the kind of its file: .onnx, .pt, .xml or an OpenVINO directory.

    Raises:
        UsageError: there is no such file, it is empty, no runtime reads it, or it is not what its name says.
        MissingExtra: the runtime that reads it is not installed.
    """
    path = Path(weights).expanduser()
    if not path.exists():
        raise UsageError(f"there are no weights at {path}; check the path")
    if path.is_file() and path.stat().st_size == 0:
        raise UsageError(f"the weights {path} are an empty file; get them again")
    for name in runtimes.names():
        runtime = runtimes.load(name)
        if runtime.reads(path):
            return runtime.load(path, device, precision)
    raise UsageError(
        f"{path} is no network; give an .onnx or .pt file, an OpenVINO .xml or the directory that holds it"
    )


def not_a_network(path: Path, kind: str, error: Exception) -> UsageError:
    """The file cannot be loaded: one line, however much the runtime had to say."""
    reason = " ".join(str(error).split())
    short = reason if len(reason) <= 160 else f"{reason[:157]}..."
    return UsageError(f"{path} is not {kind} ({short}); get the file again or give another")
