"""Exporter: writes a network in one format; and the registry of formats."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.inference.model import Model
from trackers.registry import Registry

Precision = Literal["fp32", "fp16", "bf16", "int8"]

Scheme = Literal["whole", "outputs kept"]
"""What is quantised: everything that gains by it, or all but the layers after the last spatial convolution, whose
outputs are scores and distances."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be written.

    Attributes:
        model: the network, loaded. path: its file.
        precision: that it will compute in.
        inputs: (N, 3, H, W) float32 each, to calibrate with; empty unless int8.
        scheme: how it is quantised, if it is.
        notes: what the file is to say about itself.
    """

    model: Model
    path: Path
    precision: Precision
    inputs: Sequence[NDArray[np.float32]]
    scheme: Scheme
    notes: dict[str, Any]


class Exporter(ABC):
    """A format of files.

    Attributes:
        suffix: what the name of the file or directory ends with.
        precisions: those it can hold so that a runtime computes in them.
    """

    name: ClassVar[str]
    suffix: ClassVar[str]
    precisions: ClassVar[tuple[Precision, ...]]

    @abstractmethod
    def write(self, order: Order, path: Path) -> None:
        """Write it to `path`, which does not exist.

        Raises:
            UsageError: it cannot be made from this network.
            MissingExtra: a package that it takes is not installed.
        """


exporters: Registry[Exporter] = Registry("format", Exporter, "pipeline.training.exporters", "framechain.exporters")  # type: ignore[type-abstract]
