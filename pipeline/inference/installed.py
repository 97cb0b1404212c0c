"""What is installed: packages that may be absent, or there and broken; and GPUs, as the driver shows them."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from pipeline.errors import MissingExtra, UsageError


class MissingPackage(MissingExtra):
    """A package that no extra brings is needed and is not installed.

    >>> str(MissingPackage("its GPUs", "pip install gpu"))
    'its GPUs need packages that are not installed; run: pip install gpu'
    """

    def __init__(self, what: str, command: str) -> None:
        UsageError.__init__(self, f"{what} need packages that are not installed; run: {command}")


class BrokenRuntime(UsageError):
    """A package is installed and cannot be used at all."""


def imported(package: str, missing: MissingExtra) -> Any:
    """A package.

    Raises:
        MissingExtra: it is not installed.
        BrokenRuntime: it is, and does not load: half an update, a library that it links is not there, another Python.
    """
    try:
        return importlib.import_module(package)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name == package:
            raise missing from error
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:160]
        raise BrokenRuntime(
            f"the package {package} is installed and does not load ({reason}); "
            f"run: pip install --force-reinstall {package}"
        ) from error


def cuda_may_be_here(root: Path = Path("/")) -> bool:
    """Whether anything of this machine could be CUDA to a runtime; asks none of them.

    The driver's files say so on Linux, in a container, on Jetson and in WSL; AMD's is CUDA to PyTorch.
    """
    if not sys.platform.startswith("linux"):
        return sys.platform != "darwin"
    signs = ("proc/driver/nvidia/gpus/*", "dev/nvidia*", "dev/nvhost*", "dev/dxg", "dev/kfd")
    return any(next(root.glob(sign), None) is not None for sign in signs)


def gpus(driver: Path = Path("/proc/driver/nvidia/gpus")) -> list[str]:
    """NVIDIA's GPUs that the driver shows, "cuda:0" and so on, whether or not anything can use them."""
    return [f"cuda:{n}" for n in range(len(list(driver.glob("*"))))]
