"""Phase: one stretch of a detector's training by a library, and what the library tells after each epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Augmentation = Literal["none", "light", "strong"]


@dataclass(frozen=True, slots=True)
class Phase:
    """What a library is asked to do.

    Attributes:
        weights: what to start from: a checkpoint, or the name of an architecture with random weights.
        resume: a checkpoint of this very phase to go on with; None to start it.
        data: a data.yaml. folder: for what the library writes.
        frozen: only the head learns, the backbone stays as it is.
        learning_rate: at its highest; None for the library's own.
        device: "cpu", "cuda:0".
    """

    weights: str
    resume: Path | None
    data: Path
    folder: Path
    epochs: int
    frozen: bool
    image_size: int
    batch: int
    workers: int
    learning_rate: float | None
    augment: Augmentation
    bf16: bool
    ema: bool
    patience: int
    seed: int
    device: str


@dataclass(frozen=True, slots=True)
class Epoch:
    """What came of one epoch.

    Attributes:
        number: within the phase, from 1. loss: mean of the training loss.
        ap, ap50: on the validation images: mean over IoU 0.50 to 0.95, and at 0.50.
        parts: of the loss, by name. checkpoint: the file that the library just wrote.
    """

    number: int
    loss: float
    ap: float
    ap50: float
    parts: Mapping[str, float]
    checkpoint: Path


OnEpoch = Callable[[Epoch], None]
