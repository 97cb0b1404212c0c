"""ONNX Runtime with TensorRT: .onnx files on NVIDIA GPUs, as engines that ONNX Runtime builds and keeps."""

from __future__ import annotations

import importlib
import logging
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from typing_extensions import Self

from pipeline.inference import cache
from pipeline.inference.installed import MissingPackage
from pipeline.inference.model import Arithmetic, Probe
from pipeline.inference.onnxruntime import (
    OnnxModel,
    import_onnxruntime,
    number,
    onnxruntime_gpus,
    open_session,
    probe_provider,
)
from pipeline.inference.shapes import profile

logger = logging.getLogger("framechain")

_TENSORRT = "TensorrtExecutionProvider"
_WORKSPACE = 4 << 30  # bytes


class OnnxTensorRtModel(OnnxModel):
    """A network in ONNX Runtime, the parts that TensorRT takes in TensorRT.

    The first time a network is loaded, that takes minutes: engines are built, and kept with the conversions.
    """

    name: ClassVar[str] = "onnxruntime-tensorrt"
    label: ClassVar[str] = "ONNX Runtime with TensorRT"
    instead_of: ClassVar[str] = "tensorrt"

    @classmethod
    def reads(cls, path: Path) -> bool:
        """Nothing: .onnx files are made for ONNX Runtime as such."""
        del path
        return False

    @classmethod
    def devices(cls) -> list[str]:
        """The GPUs, where onnxruntime-gpu is installed."""
        if _TENSORRT not in import_onnxruntime().get_available_providers():
            raise MissingPackage(
                "TensorRT engines of ONNX Runtime", "pip uninstall onnxruntime && pip install onnxruntime-gpu tensorrt"
            )
        return onnxruntime_gpus()

    @classmethod
    def precisions(cls, device: str, path: Path) -> tuple[Arithmetic, ...]:
        """Full and half precision."""
        del device, path
        return ("fp32", "fp16")

    @classmethod
    def load(cls, path: Path, device: str, precision: Arithmetic | None = None, requests: int | None = None) -> Self:
        """Load a file, and build its engines where that has not been done."""
        return cls.load_for(path, device, precision, requests, (640, 640))

    @classmethod
    def load_for(
        cls, path: Path, device: str, precision: Arithmetic | None, requests: int | None, size: tuple[int, int]
    ) -> Self:
        """The engines are built for sizes up to that, or the one that the network was made for."""
        del requests
        _find_libraries()
        plain = OnnxModel.load(path, "cpu")
        name, shape, metadata = plain._input, plain.input_shape, plain.metadata
        plain.close()
        folder = cache.folder()
        folder.mkdir(parents=True, exist_ok=True)
        sizes = profile(shape, metadata, size)
        prefix = f"{cache.digest(path)}.{cache.FORMAT}.{precision or 'fp32'}.{max(sizes[2])}.onnxruntime"
        options: dict[str, Any] = {
            "device_id": number(device),
            "trt_fp16_enable": precision == "fp16",
            "trt_max_workspace_size": _WORKSPACE,
            "trt_engine_cache_enable": True,
            "trt_engine_cache_path": str(folder),
            "trt_engine_cache_prefix": prefix,
        }
        if None in shape:  # else it builds anew for each size that comes
            for which, sides in zip(("min", "opt", "max"), sizes, strict=True):
                options[f"trt_profile_{which}_shapes"] = f"{name}:{'x'.join(map(str, sides))}"
        providers = {_TENSORRT: options, "CUDAExecutionProvider": {"device_id": number(device)}}
        kept = list(folder.glob(f"{prefix}*"))
        if not kept:
            logger.info(
                "%s: ONNX Runtime builds TensorRT engines in %s for %s, once; this takes minutes",
                path.name,
                precision or "fp32",
                device,
            )
        try:
            session = open_session(path, device, providers)
        except Exception:
            if not kept:
                raise
            for file in kept:  # half written, or of another version: they are built once more
                file.unlink(missing_ok=True)
            session = open_session(path, device, providers)
        model = cls(session, device)
        if model.input_shape[0] is None:
            model._fitting = sizes[2][0]
        return model

    @classmethod
    def probe(cls) -> list[Probe]:
        """Add two matrices with it."""
        cls.devices()
        _find_libraries()
        return [replace(probe_provider(_TENSORRT), device="cuda")]


def _find_libraries() -> None:
    """TensorRT's own package loads its libraries from where pip puts them, which the system's loader does not know."""
    with suppress(Exception):
        importlib.import_module("tensorrt")
