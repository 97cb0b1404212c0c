"""Train a detector of Ultralytics (AGPL-3.0), by that library's own trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.errors import MissingExtra, UsageError
from pipeline.inference.torch import TorchModel
from pipeline.training.detector_phase import Augmentation, Epoch, OnEpoch, Phase

_AUGMENT: dict[Augmentation, dict[str, float]] = {
    "none": {
        "mosaic": 0, "mixup": 0, "hsv_h": 0, "hsv_s": 0, "hsv_v": 0, "fliplr": 0, "translate": 0, "scale": 0,
        "degrees": 0,
    },
    "light": {"mosaic": 0, "mixup": 0, "fliplr": 0.5, "translate": 0.1, "scale": 0.25, "degrees": 0},
    "strong": {"mosaic": 1, "mixup": 0.1, "fliplr": 0.5, "translate": 0.1, "scale": 0.5, "degrees": 5},
}  # fmt: skip


class UltralyticsTrainer:
    """Runs phases of training in Ultralytics."""

    @staticmethod
    def check(processes: int, ema: bool) -> None:
        """Refuse what it cannot do."""
        if processes > 1:
            raise UsageError(
                "Ultralytics does not train in processes that torchrun starts; start it without, on one GPU"
            )
        if not ema:
            raise UsageError("Ultralytics always averages weights (EMA); leave --no-ema out")

    @staticmethod
    def names(model: str) -> tuple[str, ...]:
        """The classes that weights know; empty for an architecture without weights."""
        if Path(model).suffix == ".yaml":
            return ()
        return TorchModel.load(Path(model), "cpu", "fp32").metadata.names

    @staticmethod
    def image_size(model: str) -> int:
        """Pixels of the input's side that it was made for."""
        if Path(model).suffix == ".yaml":
            return 640
        size = TorchModel.load(Path(model), "cpu", "fp32").metadata.image_size
        return max(size) if size else 640

    @staticmethod
    def train(phase: Phase, on_epoch: OnEpoch) -> None:
        """Train one phase to its end, or until `patience` epochs brought nothing better."""
        network = _network(str(phase.resume or phase.weights))

        def told(trainer: Any) -> None:
            parts = {
                name.removeprefix("train/"): value for name, value in trainer.label_loss_items(trainer.tloss).items()
            }
            on_epoch(
                Epoch(
                    trainer.epoch + 1,
                    float(sum(parts.values())),
                    float(trainer.metrics.get("metrics/mAP50-95(B)", 0.0)),
                    float(trainer.metrics.get("metrics/mAP50(B)", 0.0)),
                    {name: float(value) for name, value in parts.items()},
                    Path(trainer.last),
                )
            )

        network.add_callback("on_model_save", told)  # the epoch's last call, and none after the final validation
        options: dict[str, Any] = {**_AUGMENT[phase.augment]}
        if phase.learning_rate is not None:
            options |= {"lr0": phase.learning_rate, "optimizer": "SGD"}  # by itself it would not heed the rate
        if phase.frozen:
            options["freeze"] = len(network.model.yaml["backbone"])
        network.train(
            data=str(phase.data),
            epochs=phase.epochs,
            batch=phase.batch,
            imgsz=phase.image_size,
            device=phase.device.removeprefix("cuda:"),
            workers=phase.workers,
            seed=phase.seed,
            patience=phase.patience,
            amp="bf16" if phase.bf16 else False,
            warmup_epochs=min(3, phase.epochs // 5),
            close_mosaic=min(10, phase.epochs // 5),
            save_dir=str(phase.folder.resolve() / "ultralytics"),
            exist_ok=True,
            plots=False,
            verbose=False,
            resume=str(phase.resume) if phase.resume else False,
            **options,
        )

    @staticmethod
    def export(weights: Path) -> Path:
        """The network as ONNX beside its weights, which lose what only training needs."""
        TorchModel.load(weights, "cpu", "fp32")
        from ultralytics.utils.torch_utils import strip_optimizer

        strip_optimizer(weights)
        return Path(
            _network(str(weights)).export(format="onnx", device="cpu", simplify=False, dynamic=True, verbose=False)
        )


def _network(model: str) -> Any:
    try:
        import ultralytics
    except ImportError as error:
        raise MissingExtra("training a detector of Ultralytics", "torch") from error
    if Path(model).suffix != ".yaml":
        TorchModel.load(Path(model), "cpu", "fp32")  # Ultralytics itself would run what a checkpoint hides
    return (ultralytics.RTDETR if "rtdetr" in Path(model).name else ultralytics.YOLO)(model)
