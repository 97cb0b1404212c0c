"""TorchScript files, for PyTorch without the code that made the network."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import ClassVar

from pipeline.errors import UsageError
from pipeline.inference.portable import example_input, module_of
from pipeline.inference.torch import TorchModel
from pipeline.training.exporters.exporter import Exporter, Order, Precision


class TorchScriptExporter(Exporter):
    """In single precision: PyTorch halves it when it is loaded for a GPU (`precision: auto` of the stage)."""

    name: ClassVar[str] = "torchscript"
    suffix: ClassVar[str] = ".torchscript"
    precisions: ClassVar[tuple[Precision, ...]] = ("fp32",)

    def write(self, order: Order, path: Path) -> None:
        """Trace the network, and write what is known of it beside it, as Ultralytics' export does."""
        if not isinstance(order.model, TorchModel):
            raise UsageError(f"{order.path} is no PyTorch network; give a .pt file, or choose another --format")
        import torch

        example = example_input(order.model)
        free = order.model.input_shape[2] is None
        notes = order.notes | {"dynamic": free, "batch": len(example)}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the tracer about shapes, and of what is to follow TorchScript
            module = torch.jit.trace(module_of(order.model), example, check_trace=False)
            torch.jit.save(module, str(path), _extra_files={"config.txt": json.dumps(notes)})
