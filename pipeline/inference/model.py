"""Model: a network in some runtime, behind one interface; and the registry of runtimes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from pipeline import models
from pipeline.errors import UsageError
from pipeline.inference.metadata import Metadata
from trackers.registry import Registry

Precision = Literal["fp32", "auto"]
"""fp32: full precision. auto: what the runtime finds fastest on the device (bf16 or fp16 where it has them)."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What came of trying one device of a runtime.

    Attributes:
        device: as the runtime calls it. works: whether a small computation came out right.
        detail: name of the device and version of the runtime, or the reason why it does not work.
    """

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
        metadata: what the file says about itself.
    """

    name: ClassVar[str]
    """Of the runtime."""

    device: str
    batches: bool
    input_shape: tuple[int | None, ...]
    metadata: Metadata

    @classmethod
    @abstractmethod
    def reads(cls, path: Path) -> bool:
        """Whether this runtime loads such a file or directory: told by its name, and where several libraries write
        files of that name by the words in it; nothing is executed."""

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

    def run(self, batch: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """All outputs for any number of images, at least one.

        Args:
            batch: (N, 3, H, W), C-contiguous.

        Returns:
            arrays whose first dimension is N, their memory their own.
        """
        room = self.input_shape[0]
        if room is None or room == len(batch):
            return self._infer(batch)
        # exported for exactly `room` images: as many calls as it takes, the last one filled up
        parts: list[list[NDArray[np.float32]]] = []
        for start in range(0, len(batch), room):
            part = batch[start : start + room]
            full = np.zeros((room, *batch.shape[1:]), np.float32)
            full[: len(part)] = part
            parts.append([out[: len(part)] for out in self._infer(full)])
        return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]

    @abstractmethod
    def _infer(self, batch: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """All outputs for a batch of just the size that the network takes."""

    def close(self) -> None:
        """Release it."""


runtimes: Registry[Model] = Registry("runtime", Model, "pipeline.inference", "framechain.runtimes")  # type: ignore[type-abstract]


def load(weights: str | Path, device: str = "auto", precision: Precision = "fp32") -> Model:
    """Load a network by the kind of its file: .onnx, .pt, .safetensors, .xml or an OpenVINO directory.

    Args:
        weights: the file or directory; the name of a bundled or fetched model (`pipeline.models`); or torchvision: and
            the name of one of its detectors.

    Raises:
        UsageError: there is no such file, it is empty, no runtime reads it, or it is not what its name says.
        MissingExtra: the runtime that reads it is not installed.
        FramechainError: a bundled or fetched model is damaged.
    """
    path = models.resolve(weights)
    if path.is_file() and path.stat().st_size == 0:
        raise UsageError(f"the weights {path} are an empty file; get them again")
    for name in runtimes.names():
        runtime = runtimes.load(name)
        if runtime.reads(path):
            return runtime.load(path, device, precision)
    if not path.exists():
        raise UsageError(f"there are no weights at {path}, and no model has that name{models.similar(path)}")
    if path.is_dir():
        raise UsageError(f"the directory {path} holds no OpenVINO network (one .xml file with its .bin); give another")
    raise UsageError(
        f"{path} is no network; give an .onnx, .pt or .safetensors file, an OpenVINO .xml or its directory"
    )


def not_a_network(path: Path, kind: str, error: Exception) -> UsageError:
    """The file cannot be loaded: one line, however much the runtime had to say."""
    return UsageError(f"{path} is not {kind} ({shortened(error)}); get the file again or give another")


def check_image_input(path: Path, shapes: Sequence[Sequence[Any]]) -> None:
    """Refuse a network that does not take a batch of images.

    Args:
        shapes: of all its inputs, an int or anything else for each side.

    Raises:
        UsageError: it has several inputs, or one that is not (N, 3, H, W).
    """
    shape = shapes[0] if len(shapes) == 1 else ()
    if len(shape) != 4 or (isinstance(shape[1], int) and shape[1] != 3):
        there = ", ".join(str(tuple(sides)) for sides in shapes) or "none"
        raise UsageError(f"{path} does not take images: its inputs are {there}, not one (N, 3, H, W); give another")


def shortened(error: Exception) -> str:
    """What a native library says, on one line and no longer than one can read."""
    reason = " ".join(str(error).split())
    return reason if len(reason) <= 160 else f"{reason[:157]}..."
