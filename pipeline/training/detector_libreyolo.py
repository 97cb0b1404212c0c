"""Train a detector of libreyolo (MIT): YOLOv9, YOLOX, RT-DETR, D-FINE and others, by that library's own trainer."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

from pipeline.errors import MissingExtra, UsageError
from pipeline.inference.libreyolo import read_checkpoint
from pipeline.inference.torch import contained
from pipeline.training.detector_phase import Augmentation, Epoch, OnEpoch, Phase
from trackers.registry import nearest

# Only the options that a family has are given to it: transformers know no mosaic.
_AUGMENT: dict[Augmentation, dict[str, Any]] = {
    "none": {
        "mosaic_prob": 0.0, "mixup_prob": 0.0, "hsv_prob": 0.0, "flip_prob": 0.0, "degrees": 0.0, "translate": 0.0,
        "shear": 0.0,
    },
    "light": {
        "mosaic_prob": 0.0, "mixup_prob": 0.0, "hsv_prob": 0.5, "flip_prob": 0.5, "degrees": 0.0, "translate": 0.1,
        "shear": 0.0,
    },
    "strong": {
        "mosaic_prob": 1.0, "mixup_prob": 0.1, "hsv_prob": 1.0, "flip_prob": 0.5, "degrees": 5.0, "translate": 0.1,
        "shear": 1.0,
    },
}  # fmt: skip


class LibreYoloTrainer:
    """Runs phases of training in libreyolo."""

    @staticmethod
    def check(processes: int, ema: bool) -> None:
        """It can do all that is asked of it."""

    @staticmethod
    def names(model: str) -> tuple[str, ...]:
        """The classes that weights know; empty for an architecture without weights."""
        with contained("libreyolo"):
            if not Path(model).is_file():
                _trained(_architecture(model)[0])
                return ()
            network = read_checkpoint(Path(model), "cpu")
        _trained(type(network))
        return tuple(str(network.names[number]) for number in sorted(network.names))

    @staticmethod
    def image_size(model: str) -> int:
        """Pixels of the input's side that it was made for."""
        with contained("libreyolo"):
            size = _network(model, "cpu").input_size
        return int(max(size) if isinstance(size, tuple | list) else size)

    @staticmethod
    def train(phase: Phase, on_epoch: OnEpoch) -> None:
        """Train one phase to its end, or until `patience` epochs brought nothing better."""
        import torch

        torch.manual_seed(phase.seed)
        network = _network(str(phase.resume or phase.weights), phase.device)
        known = {field.name for field in dataclasses.fields(network.TRAIN_CONFIG)}
        options = {
            "workers": phase.workers,
            "seed": phase.seed,
            "amp": phase.bf16,
            "amp_dtype": "bfloat16",
            "ema": phase.ema,
            "patience": phase.patience,
            "freeze": "backbone" if phase.frozen else None,
            "eval_interval": 1,
            "save_period": 0,
            # the libraries' own numbers are made for 300 epochs
            "warmup_epochs": min(3, phase.epochs // 5),
            "no_aug_epochs": min(15, phase.epochs // 5),
            **_AUGMENT[phase.augment],
        }
        if phase.device == "cpu":
            options["sync_bn"] = False  # several processes cannot share batch statistics there
        if phase.learning_rate is not None:
            options["lr0"] = phase.learning_rate

        def told(event: Any) -> None:
            figures = event.val_metrics
            on_epoch(
                Epoch(
                    event.epoch,
                    event.train_loss,
                    float(figures.get("metrics/mAP50-95", 0.0)),
                    float(figures.get("metrics/mAP50", 0.0)),
                    dict(event.train_loss_items),
                    phase.folder / "libreyolo" / "weights" / "last.pt",
                )
            )

        network.train(
            data=str(phase.data),
            epochs=phase.epochs,
            batch=phase.batch,
            imgsz=phase.image_size,
            device=phase.device,
            project=str(phase.folder),
            name="libreyolo",
            exist_ok=True,
            resume=str(phase.resume) if phase.resume else False,
            callbacks=told,
            **{option: value for option, value in options.items() if option in known},
        )

    @staticmethod
    def export(weights: Path) -> Path:
        """The network as ONNX beside its weights, which lose what only training needs."""
        network = read_checkpoint(weights, "cpu")
        network.save(str(weights))
        return Path(network.export(format="onnx", output_path=str(weights.with_suffix(".onnx")), simplify=False))


def is_architecture(name: str) -> bool:
    """Whether a name has the form of an architecture of libreyolo: yolo9-t, yolox-n, dfine-s, rtdetr-r18."""
    return re.fullmatch(r"[a-z]+[a-z0-9_]*-[a-z0-9]+", name) is not None


def _network(model: str, device: str) -> Any:
    """From a checkpoint, or an architecture with random weights."""
    if Path(model).is_file():
        return read_checkpoint(Path(model), device)
    kind, size = _architecture(model)
    try:
        return kind(None, size=size, device=device)
    except OSError as error:
        raise UsageError(
            f"libreyolo starts {model} from a backbone that cannot be downloaded ({error}); give --model a checkpoint, "
            f"or an architecture that starts from nothing, such as yolo9-t"
        ) from error


def _architecture(model: str) -> tuple[Any, str]:
    """The class and the size that a name such as yolo9-t stands for."""
    kinds = _families()
    family, _, size = model.rpartition("-")
    if family not in kinds:
        raise UsageError(f"libreyolo has no detector '{family}'{nearest(family, kinds)}")
    sizes = kinds[family].INPUT_SIZES
    if size not in sizes:
        raise UsageError(f"libreyolo has no {family} of size '{size}'; there are: {', '.join(sizes)}")
    return kinds[family], size


def _trained(kind: Any) -> None:
    """Refuse a family that the library only runs."""
    if kind.TRAIN_CONFIG is None:
        can = sorted(family for family, other in _families().items() if other.TRAIN_CONFIG is not None)
        raise UsageError(f"libreyolo runs {kind.FAMILY} and does not train it; it trains: {', '.join(can)}")


def _families() -> dict[str, Any]:
    try:
        import libreyolo.models  # noqa: F401  # registers them
        from libreyolo.models.base import BaseModel
    except ImportError as error:
        raise MissingExtra("training a detector of libreyolo", "libreyolo") from error
    return {kind.FAMILY: kind for kind in BaseModel._registry if kind.FAMILY and "detect" in kind.SUPPORTED_TASKS}
