"""PyTorch: Ultralytics checkpoints and TorchScript, both .pt."""

from __future__ import annotations

import importlib
import logging
import os
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from pipeline.errors import MissingExtra, UsageError
from pipeline.inference.model import Model, Precision, Probe, not_a_network


class TorchModel(Model):
    """A network in PyTorch: half precision and channels last on a GPU, fp32 on a CPU."""

    name: ClassVar[str] = "torch"
    extra: ClassVar[str | None] = "torch"

    def __init__(self, module: Any, device: str, half: bool, metadata: dict[str, Any]) -> None:
        import torch

        self._module, self._half = module, half
        # Ultralytics' heads remember the anchors of the last input's shape, so two threads may not share a call.
        self._lock = threading.Lock()
        self._torch = torch
        self.device = device
        self.batches = device != "cpu"
        self.input_shape = (None, 3, None, None)
        self.metadata = metadata

    @classmethod
    def reads(cls, path: Path) -> bool:
        """Any .pt or .pth file."""
        return path.suffix.lower() in (".pt", ".pth", ".torchscript") and path.is_file()

    @classmethod
    def load(cls, path: Path, device: str, precision: Precision) -> Self:
        """Load a TorchScript module, or an Ultralytics checkpoint through Ultralytics in its safe mode."""
        try:
            import torch
        except ImportError as error:
            raise MissingExtra(".pt weights", "torch") from error
        where = _device(device)
        half = where != "cpu" and precision == "auto"
        metadata: dict[str, Any] = {}
        if _is_torchscript(path):
            try:
                module = torch.jit.load(str(path), map_location=where).eval()
            except Exception as error:
                raise not_a_network(path, "a TorchScript network", error) from error
        else:
            module, metadata = _ultralytics(path)
        module = module.to(where, memory_format=torch.channels_last) if where != "cpu" else module
        return cls(module.half() if half else module.float(), where, half, metadata)

    @classmethod
    def probe(cls) -> list[Probe]:
        """Add two matrices on every device."""
        try:
            import torch
        except ImportError as error:
            raise MissingExtra(".pt weights", "torch") from error
        found = []
        for device in ["cpu", *(f"cuda:{n}" for n in range(torch.cuda.device_count()))]:
            try:
                x = torch.ones(2, 2, device=device)
                name = (
                    torch.cuda.get_device_name(device) if device != "cpu" else torch.backends.cpu.get_cpu_capability()
                )
                found.append(Probe(device, bool((x + x == 2).all()), f"{name}, {torch.__version__}"))
            except Exception as error:
                found.append(Probe(device, False, " ".join(str(error).split())[:160]))
        return found

    def run(self, batch: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """All outputs for a batch that are tensors."""
        torch = self._torch
        with self._lock, torch.inference_mode():
            tensor = torch.from_numpy(batch)
            if self.device != "cpu":
                tensor = tensor.to(self.device, non_blocking=True, memory_format=torch.channels_last)
            results = self._module(tensor.half() if self._half else tensor)
            tensors = results if isinstance(results, tuple | list) else [results]
            # a training module gives its raw maps as well, in lists and dictionaries
            return [part.float().cpu().numpy() for part in tensors if isinstance(part, torch.Tensor)]


def _device(device: str) -> str:
    import torch

    if device == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        return "cpu"
    kind, _, number = device.partition(":")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if kind != "cuda" or not (number or "0").isdigit() or int(number or 0) >= count:
        there = ", ".join(["cpu", *(f"cuda:{n}" for n in range(count))])
        raise UsageError(f"PyTorch has no device '{device}' here; use --device with one of: {there}")
    return f"cuda:{number or 0}"


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name for name in archive.namelist())


def _ultralytics(path: Path) -> tuple[Any, dict[str, Any]]:
    with _offline():
        try:
            from ultralytics.nn.tasks import load_checkpoint
        except ImportError as error:
            raise MissingExtra("Ultralytics weights", "torch") from error
        try:
            # an absolute path, because Ultralytics would look a bare name up on its servers
            module, _ = load_checkpoint(str(path.resolve()), device="cpu", fuse=True)
        except Exception as error:
            raise not_a_network(path, "an Ultralytics checkpoint", error) from error
    arguments = getattr(module, "args", None) or {}
    return module, {
        "names": module.names,
        "stride": int(max(module.stride)),
        "imgsz": arguments.get("imgsz", 640) if isinstance(arguments, dict) else 640,
        "task": getattr(module, "task", "detect"),
    }


@contextmanager
def _offline() -> Iterator[None]:
    """Ultralytics must not install packages, ask servers, run code from a pickle, or print."""
    settings = {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "ULTRALYTICS_SAFE_LOAD": "1"}
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    logger = logging.getLogger("ultralytics")
    level = logger.level
    try:
        with suppress(ImportError):  # it sets its own level when it is first imported
            importlib.import_module("ultralytics.utils")
        logger.setLevel(logging.ERROR)
        yield
    finally:
        logger.setLevel(level)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
