"""PyTorch: Ultralytics checkpoints and TorchScript, both .pt."""

from __future__ import annotations

import json
import logging
import os
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, TextIO

import cv2
import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from pipeline.errors import MissingExtra, UsageError
from pipeline.inference.checkpoint import owner
from pipeline.inference.graphs import Graphs, recorder
from pipeline.inference.installed import gpus, imported
from pipeline.inference.lanes import Lanes
from pipeline.inference.metadata import Metadata
from pipeline.inference.model import Arithmetic, BrokenDevice, Model, Probe, admitted, not_a_network, shortened
from pipeline.inference.views import Views

_AnySize = tuple[int | None, ...]

# The first to load a checkpoint by a list of what it may contain (torch.load with weights_only). `safe_only` is older,
# but let all of `builtins` through: 8.4.66 runs an exec pickled with protocol 4. On an older PyTorch it does nothing.
_SAFE_ULTRALYTICS = (8, 4, 67)
_SAFE_TORCH = (2, 6)


class TorchModel(Model):
    """A network in PyTorch, channels last; on a GPU it prepares its input there, and is replayed as a CUDA graph.

    Attributes:
        module: the network itself, in evaluation mode.
    """

    name: ClassVar[str] = "torch"
    label: ClassVar[str] = "PyTorch"

    def __init__(
        self, module: Any, device: str, precision: Arithmetic, input_shape: _AnySize, metadata: Metadata
    ) -> None:
        import torch

        self._torch = torch
        self.module = module
        self._dtype = _dtype(precision)
        # Ultralytics' heads remember the anchors of the last input's shape, so calls take turns.
        self._lanes = Lanes(device)
        self._graphs = None if device == "cpu" else Graphs(self._forward, recorder(module, device), self.label)
        self.device = device
        self.batches = device != "cpu"
        self.input_shape = input_shape
        self.metadata = metadata

    @classmethod
    def reads(cls, path: Path) -> bool:
        """Any .pt, .pth or .torchscript file."""
        return path.suffix.lower() in (".pt", ".pth", ".torchscript") and path.is_file()

    @classmethod
    def portable(cls, path: Path) -> bool:
        """Checkpoints of Ultralytics, which hold a network of any size of input."""
        return owner(path) == "other"

    @classmethod
    def devices(cls) -> list[str]:
        """CUDA devices, those as well that the driver shows and PyTorch cannot use after all; and the processor."""
        torch, usable = import_torch(), torch_devices()
        shown = gpus() if torch.version.cuda else []
        return usable if len(usable) > 1 else [*shown, *usable]

    @classmethod
    def precisions(cls, device: str, path: Path) -> tuple[Arithmetic, ...]:
        """Halves on a GPU, bf16 from Ampere on; bf16 on a processor that multiplies it."""
        del path
        torch = import_torch()
        if device != "cpu":
            if device not in torch_devices():
                return ("fp32",)
            # not `is_bf16_supported`, which asks the GPU that is current
            modern = torch.cuda.get_device_capability(device)[0] >= 8
            return ("fp32", "fp16", "bf16") if modern else ("fp32", "fp16")
        multiplies = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
        return ("fp32", "bf16") if multiplies is not None and multiplies() else ("fp32",)

    @classmethod
    def load(cls, path: Path, device: str, precision: Arithmetic | None = None, requests: int | None = None) -> Self:
        """Load a TorchScript module, or an Ultralytics checkpoint through Ultralytics, running no code from either."""
        del requests
        torch, precision = import_torch(), precision or "fp32"
        module, input_shape, metadata = _torchscript(path) if _is_torchscript(path) else _ultralytics(path)
        try:
            module = module.to(device, _dtype(precision)).to(memory_format=torch.channels_last)
            return cls(module.eval(), device, precision, input_shape, metadata)
        except (RuntimeError, AssertionError) as error:  # of a PyTorch without CUDA it is an assertion that fails
            raise BrokenDevice(f"PyTorch cannot use '{device}' ({shortened(error)}); use --device cpu") from error

    @classmethod
    def probe(cls) -> list[Probe]:
        """Add two matrices on every device."""
        torch = import_torch()
        found = []
        for device in cls.devices():
            try:
                x = torch.ones(2, 2, device=device)
                works = bool((x + x == 2).all())
                what = (
                    torch.backends.cpu.get_cpu_capability() if device == "cpu" else torch.cuda.get_device_name(device)
                )
                found.append(Probe(device, works, f"{what}, {torch.__version__}"))
            except Exception as error:
                found.append(Probe(device, False, shortened(error)))
        return found

    def gradient(self, batch: NDArray[np.float32], loss: Callable[[Any], Any]) -> NDArray[np.float32]:
        """How a loss changes with each number of the input.

        Args:
            batch: (N, 3, H, W). loss: from the network's first output, a tensor, to a tensor, summed.

        Returns:
            of the shape of `batch`.
        """
        torch = self._torch
        with self._lanes.turn(), torch.enable_grad():
            given = torch.from_numpy(batch).to(self.device).requires_grad_()
            results = self.module(given.to(self._dtype))
            loss(results[0] if isinstance(results, tuple | list) else results).sum().backward()
            return np.asarray(given.grad.float().cpu().numpy(), np.float32)

    def _infer(self, batch: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        if self._graphs is not None:
            return self._lanes.run(batch, self._on_gpu)
        torch = self._torch
        # not inference_mode: the anchors that a head keeps from one call could not be used by `gradient`
        with self._lanes.turn(), torch.no_grad():
            # Channels last is what GPUs want, and convolutions of a CPU too: YOLO11n takes 62 ms, else 85.
            tensor = torch.from_numpy(batch).to(self._dtype, memory_format=torch.channels_last)
            return [part.float().numpy() for part in self._forward(tensor)]

    def _infer_views(self, views: Views) -> list[NDArray[np.float32]]:
        # a network for exactly so many images is filled up by the plain way
        if self._graphs is None or self.input_shape[0] not in (None, len(views)):
            return super()._infer_views(views)
        return self._lanes.run_views(views, self._on_gpu)

    def _on_gpu(self, images: Any) -> Sequence[Any]:
        assert self._graphs is not None
        return self._graphs(images.to(self._dtype, memory_format=self._torch.channels_last))

    def _forward(self, images: Any) -> list[Any]:
        results = self.module(images)
        # besides its output, a module made for training gives its raw maps, in lists and dictionaries
        tensors = results if isinstance(results, tuple | list) else [results]
        return [part for part in tensors if isinstance(part, self._torch.Tensor)]

    def _let_go(self) -> None:
        if self._graphs is not None:
            with self._lanes.turn():
                self._graphs.clear()
            self._torch.cuda.empty_cache()


def torch_devices() -> list[str]:
    """PyTorch's names of the devices there are: "cuda:0", "cpu"."""
    torch = import_torch()
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return [*(f"cuda:{n}" for n in range(count)), "cpu"]


def choose_device(device: str) -> str:
    """PyTorch's name of a device: "cpu" or "cuda:0"; raises UsageError where there is no such device."""
    return admitted("PyTorch", torch_devices(), device)[0]


def _dtype(precision: Arithmetic) -> Any:
    import torch

    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _torchscript(path: Path) -> tuple[Any, _AnySize, Metadata]:
    """A module, and what Ultralytics' export writes beside it: the one size it was traced for."""
    import torch

    files = {"config.txt": ""}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # TorchScript is on its way out, its files are not
            module = torch.jit.load(str(path), map_location="cpu", _extra_files=files)
    except Exception as error:
        raise not_a_network(path, "a TorchScript network", error) from error
    try:
        raw = json.loads(files["config.txt"] or "{}")
    except ValueError:
        raw = {}
    metadata = Metadata.parse(raw)
    if metadata.image_size is None or raw.get("dynamic"):
        return module, (None, 3, None, None), metadata
    return module, (raw.get("batch", 1), 3, *metadata.image_size), metadata


def _ultralytics(path: Path) -> tuple[Any, _AnySize, Metadata]:
    with contained("ultralytics"):
        try:
            import torch
            import ultralytics
            from ultralytics.nn.tasks import torch_safe_load
        except ImportError as error:
            raise MissingExtra("Ultralytics weights", "torch") from error
        if _release(ultralytics.__version__) < _SAFE_ULTRALYTICS or _release(torch.__version__) < _SAFE_TORCH:
            raise UsageError(
                f"Ultralytics {ultralytics.__version__} with PyTorch {torch.__version__} would run any code in {path}; "
                f"run: pip install --upgrade ultralytics torch torchvision"
            )
        try:
            checkpoint, _ = torch_safe_load(str(path.resolve()), safe_only=True)
            module = (checkpoint.get("ema") or checkpoint["model"]).float().fuse()
            arguments = checkpoint.get("train_args") or {}
            raw = {
                "names": module.names,
                "task": getattr(module, "task", None) or arguments.get("task", ""),
                "imgsz": arguments.get("imgsz"),
                "stride": int(max(module.stride)),
                "head": type(module.model[-1]).__name__,
            }
        except Exception as error:
            raise not_a_network(path, "an Ultralytics checkpoint", error) from error
    return module, (None, 3, None, None), Metadata.parse(raw)


def _release(version: str) -> tuple[int, ...]:
    """The numbers of a version, to compare: (2, 6, 0) of "2.6.0+cpu"."""
    return tuple(map(int, re.findall(r"\d+", version.split("+", maxsplit=1)[0])[:3]))


@contextmanager
def contained(library: str, log: TextIO | None = None) -> Iterator[None]:
    """A library may not ask servers, install packages or print; what its import changes is put back.

    Args:
        library: "ultralytics" or another that names its logger after itself.
        log: where what it logs goes; nowhere if None.
    """
    threads = cv2.getNumThreads()
    logger = logging.getLogger(library)
    ours: logging.Handler = logging.StreamHandler(log) if log else logging.NullHandler()
    theirs, level = logger.handlers, logger.level
    logger.handlers = [ours]  # libreyolo adds one that prints where there is none
    logger.setLevel(logging.INFO if log else logging.CRITICAL)
    loud = logger.level

    def heard(_record: logging.LogRecord) -> bool:
        return log is not None  # Ultralytics sets its own level, and a handler, when it is first imported

    logger.addFilter(heard)
    try:  # Ultralytics looks at these two when it is first imported
        with np.printoptions(), _environment(YOLO_OFFLINE="true", YOLO_AUTOINSTALL="false"):
            yield
    finally:
        logger.removeFilter(heard)
        logger.handlers = [*theirs, *(handler for handler in logger.handlers if handler is not ours)]
        if logger.level == loud:
            logger.setLevel(level)
        cv2.setNumThreads(threads)


def import_torch() -> Any:
    """PyTorch; raises MissingExtra without it."""
    # OpenMP's idle threads spin unless told not to before it is loaded. They take the cores from whatever runs at the
    # same time: YOLO11n at 640×480 with two threads on two busy cores took 327 ms, without spinning 105.
    with _environment(OMP_WAIT_POLICY=os.environ.get("OMP_WAIT_POLICY", "passive")):
        return imported("torch", MissingExtra(".pt weights", "torch"))


@contextmanager
def _environment(**settings: str) -> Iterator[None]:
    """These variables within; afterwards all are as they were, whatever was changed meanwhile."""
    before = dict(os.environ)
    os.environ.update(settings)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)
