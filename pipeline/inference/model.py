"""Model: a network in some runtime, behind one interface; and the registry of runtimes."""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from pipeline import models
from pipeline.errors import FramechainError, UsageError
from pipeline.inference.metadata import Metadata
from pipeline.inference.views import Views
from trackers.registry import Registry

Arithmetic: TypeAlias = Literal["fp32", "bf16", "fp16"]
"""What a network's floating-point numbers are computed in; integers of a quantised network stay integers."""

logger = logging.getLogger("framechain")

_NO_MEMORY = (  # what CUDA, its libraries, ONNX Runtime, TensorRT and OpenCL say, in small letters
    "out of memory",
    "outofmemory",
    "failed to allocate memory",
    "smaller than requested bytes",
    "alloc_failed",
    "out_of_resources",
    "bad_alloc",
)


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
        parallel: how many calls at once keep the device busy; more only wait.
        batches: whether the device gains from batches. Where it does not (CPUs), callers give images one by
            one: convolution kernels chosen by batch size differ in the last bit, and results must not depend
            on which frames happened to wait together.
        input_shape: (N, 3, H, W), None where any size will do.
        metadata: what the file says about itself.
    """

    name: ClassVar[str]
    """Of the runtime."""
    label: ClassVar[str]
    """Its name in messages."""
    instead_of: ClassVar[str] = ""
    """Another that computes the same in less time; where that is installed, this one is only taken by name."""

    device: str
    parallel: int = 2  # while one call computes, the next is prepared
    batches: bool
    input_shape: tuple[int | None, ...]
    metadata: Metadata
    _fitting: int | None = None  # images a call that its memory holds, where that was found out

    @classmethod
    @abstractmethod
    def reads(cls, path: Path) -> bool:
        """Whether this runtime loads such a file or directory: told by its name, and where several libraries write
        files of that name by the words in it; nothing is executed."""

    @classmethod
    def takes(cls, path: Path) -> bool:
        """Whether it also computes such a file, made for another runtime."""
        del path
        return False

    @classmethod
    def portable(cls, path: Path) -> bool:
        """Whether this file, which it reads, can be made into an ONNX file for other runtimes."""
        del path
        return False

    @classmethod
    def check(cls, path: Path) -> None:
        """Refuse a file that it reads by its name and that is plainly something else; the runtime is not needed for it.

        Raises:
            UsageError: it is none.
        """

    @classmethod
    @abstractmethod
    def devices(cls) -> list[str]:
        """Devices of this machine that it can use, GPUs first: "cuda:0", "cpu".

        Raises:
            MissingExtra: the runtime is not installed.
            BrokenRuntime: it is, and does not load.
        """

    @classmethod
    def precisions(cls, device: str, path: Path) -> tuple[Arithmetic, ...]:
        """What it can compute a file in there and gains from: full precision, and halves where there are any."""
        del device, path
        return ("fp32",)

    @classmethod
    @abstractmethod
    def load(cls, path: Path, device: str, precision: Arithmetic | None = None, requests: int | None = None) -> Self:
        """Load a network.

        Args:
            path: an existing file or directory.
            device: one of `devices()`.
            precision: one of `precisions(device, path)`; if None: what the file was exported for, else full precision.
            requests: calls that will be made at once; if None: as many as suit it.

        Raises:
            UsageError: the file is not a network of this kind.
            BrokenDevice: the runtime cannot use the device after all.
            MissingExtra: the runtime is not installed.
        """

    @classmethod
    def load_for(
        cls, path: Path, device: str, precision: Arithmetic | None, requests: int | None, size: tuple[int, int]
    ) -> Self:
        """`load`, with the (height, width) of the largest input that will come, where the network leaves it open."""
        del size
        return cls.load(path, device, precision, requests)

    @classmethod
    @abstractmethod
    def probe(cls) -> list[Probe]:
        """Try every device of this runtime with a small computation.

        Raises:
            MissingExtra: the runtime is not installed.
        """

    def run(self, batch: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """All outputs for any number of images, at least one.

        Where the memory of the device does not hold so many, they are computed in halves, now and from now on.

        Args:
            batch: (N, 3, H, W), C-contiguous.

        Returns:
            arrays whose first dimension is N, their memory their own.

        Raises:
            FramechainError: the memory does not even hold one image.
        """

        def infer(rows: slice) -> list[NDArray[np.float32]]:
            images, room = batch[rows], self.input_shape[0]
            if room is None or room == len(images):
                return self._infer(images)
            full = np.zeros((room, *images.shape[1:]), np.float32)  # exported for exactly so many: the rest is empty
            full[: len(images)] = images
            return self._infer(full)

        return self._in_parts(len(batch), infer)

    def run_views(self, views: Views) -> list[NDArray[np.float32]]:
        """All outputs for any number of views, at least one, prepared where the network computes.

        Returns, raises: as `run`.
        """
        return self._in_parts(len(views), lambda rows: self._infer_views(views[rows]))

    def _in_parts(self, count: int, infer: Callable[[slice], list[NDArray[np.float32]]]) -> list[NDArray[np.float32]]:
        """The outputs of as many calls as it takes, each with no more than the network takes and its memory holds."""
        parts: list[list[NDArray[np.float32]]] = []
        start = 0
        while start < count:
            most = min(self.input_shape[0] or count, self._fitting or count)
            stop = min(start + most, count)
            try:
                parts.append([out[: stop - start] for out in infer(slice(start, stop))])
            except Exception as error:
                if not out_of_memory(error):
                    raise
                fault = shortened(error)  # the error itself holds on to all that was computed so far
            else:
                start = stop
                continue
            self._make_do(stop - start, fault)
        return parts[0] if len(parts) == 1 else [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]

    def _make_do(self, count: int, fault: str) -> None:
        """Its device had no memory for so many images at once: it gets half from now on."""
        self._let_go()
        if count == 1 or self.input_shape[0] is not None:
            raise FramechainError(
                f"{self.label} has no memory left on {self.device} for a call of {self.input_shape[0] or count} images "
                f"({fault}); end what else uses it, choose a smaller image_size or network, or use --device cpu"
            )
        half = count // 2
        if self._fitting is None or half < self._fitting:  # else another thread has said so
            self._fitting = half
            logger.warning(
                "%s: %d images at once do not fit into the memory of %s (%s); going on with %d",
                self.label,
                count,
                self.device,
                fault,
                half,
            )

    def _let_go(self) -> None:
        """Give back what memory of the device is only kept to be faster."""

    def _infer_views(self, views: Views) -> list[NDArray[np.float32]]:
        """All outputs for no more views than the network takes; here they are prepared on the processor."""
        shape = (self.input_shape[0] or len(views), 3, *views.size)
        batch: NDArray[np.float32] | None = getattr(self._buffers, "input", None)
        if batch is None or batch.shape != shape:
            batch = self._buffers.input = np.empty(shape, np.float32)
        views.write(batch[: len(views)])
        batch[len(views) :] = 0
        return self._infer(batch)

    @cached_property
    def _buffers(self) -> threading.local:
        """Each thread's memory for an input; what was in it last may still be there."""
        return threading.local()

    def output_shapes(self, height: int, width: int) -> list[tuple[int, ...]]:
        """Shapes of all outputs for one image of that size, found by computing an empty one."""
        return [out.shape for out in self.run(np.zeros((1, 3, height, width), np.float32))]

    @abstractmethod
    def _infer(self, batch: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """All outputs for a batch of just the size that the network takes."""

    def close(self) -> None:
        """Release it."""


runtimes: Registry[Model] = Registry("runtime", Model, "pipeline.inference", "framechain.runtimes")  # type: ignore[type-abstract]


def load(weights: str | Path, device: str = "auto") -> Model:
    """Load a network in the runtime that its file is made for, in full precision.

    Args:
        weights: the file or directory; the name of a bundled or fetched model (`pipeline.models`); or torchvision: and
            the name of one of its detectors.
        device: "auto", "cpu", "cuda" or "cuda:0", or another that the runtime has.

    Raises:
        UsageError: there is no such file, it is empty, no runtime reads it, it is not what its name says, or there is
            no such device.
        MissingExtra: the runtime that reads it is not installed.
        FramechainError: a bundled or fetched model is damaged.
    """
    path = models.resolve(weights)
    runtime = native(path)
    found = admitted(runtime.label, homes(runtime, path), device)
    for where, other in pairwise(found):
        try:
            return runtime.load(path, where)
        except BrokenDevice as error:
            logger.warning("%s; going on with %s", error, other)
    return runtime.load(path, found[-1])


def native(path: Path) -> type[Model]:
    """The runtime that the file is made for.

    Raises:
        UsageError: there is no such file, it is empty, or no runtime reads it.
    """
    if path.is_file() and path.stat().st_size == 0:
        raise UsageError(f"the weights {path} are an empty file; get them again")
    for _, runtime in runtimes.kinds():
        if runtime.reads(path):
            runtime.check(path)
            return runtime
    if not path.exists():
        raise UsageError(f"there are no weights at {path}, and no model has that name{models.similar(path)}")
    if path.is_dir():
        raise UsageError(f"the directory {path} holds no OpenVINO network (one .xml file with its .bin); give another")
    raise UsageError(
        f"{path} is no network; give an .onnx, .pt, .safetensors or .engine file, an OpenVINO .xml or its directory"
    )


def homes(runtime: type[Model], path: Path) -> list[str]:
    """The devices on which a runtime can compute a file that is made for it, at least one.

    Raises:
        UsageError: there is none.
        MissingExtra: it is not installed.
    """
    found = runtime.devices()
    if not found:
        raise UsageError(
            f"{path} is made for {runtime.label}, which finds no device here that it can use; give the .onnx or .pt "
            f"file that it was made from"
        )
    return found


def admitted(label: str, devices: Sequence[str], asked: str) -> list[str]:
    """The devices of a runtime that are meant.

    Raises:
        UsageError: there is none of that name.
    """
    found = matching(devices, asked)
    if not found:
        there = ", ".join(devices)
        raise UsageError(f"{label} has no device '{asked}' here; use --device auto or one of: {there}")
    return found


def matching(devices: Sequence[str], asked: str) -> list[str]:
    """Those that "auto", or a device with or without a number, stands for; the first of several alike.

    >>> matching(["cuda:0", "cuda:1", "cpu"], "auto"), matching(["cuda:0", "cuda:1", "cpu"], "cuda")
    (['cuda:0', 'cpu'], ['cuda:0'])
    """
    first: dict[str, str] = {}
    for device in devices:
        first.setdefault(device.partition(":")[0], device)
    if asked == "auto":
        return list(first.values())
    return [asked] if asked in devices else [device for kind, device in first.items() if kind == asked]


class BrokenDevice(UsageError):
    """A runtime is installed and names a device that it then cannot use."""


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


def out_of_memory(error: Exception) -> bool:
    """Whether a runtime says that its device has no memory left; each has its own words for it.

    >>> out_of_memory(RuntimeError("CUDA error: out of memory")), out_of_memory(RuntimeError("CUDA error: bad address"))
    (True, False)
    """
    said = str(error).lower()
    return type(error).__name__ == "OutOfMemoryError" or any(words in said for words in _NO_MEMORY)


def shortened(error: Exception) -> str:
    """What a native library says, on one line and no longer than one can read."""
    reason = " ".join(str(error).split())
    return reason if len(reason) <= 160 else f"{reason[:157]}..."
