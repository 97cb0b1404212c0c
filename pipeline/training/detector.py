"""Training of a detector: data checked, backbone frozen and then freed, epochs logged, the best kept and exported."""

from __future__ import annotations

import errno
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

from pipeline.errors import FramechainError, UsageError
from pipeline.files.output import cannot_write
from pipeline.inference.checkpoint import owner
from pipeline.inference.model import shortened
from pipeline.inference.torch import choose_device, contained, import_torch
from pipeline.training.detector_data import DetectorData, read_data, write_data
from pipeline.training.detector_libreyolo import LibreYoloTrainer, is_architecture
from pipeline.training.detector_phase import Augmentation, Epoch, OnEpoch, Phase
from pipeline.training.detector_ultralytics import UltralyticsTrainer
from pipeline.training.distributed import Process
from pipeline.training.run_folder import RunFolder

LAST, BEST, LOG = "last.pt", "best.pt", "library.log"

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FULL_IN_TORCH = ("file write failed", "unexpected pos", "PytorchStreamWriter")  # what its writer says


@dataclass(frozen=True, slots=True)
class DetectorSettings:
    """All that the trained detector depends on.

    Attributes:
        data: YOLO-format folder or data.yaml. validation: share, folder or empty, as `read_data` takes it.
        model: a checkpoint of libreyolo or Ultralytics, an architecture of libreyolo (yolo9-t) or a .yaml of
            Ultralytics with random weights.
        epochs: in all. freeze_epochs: of these, the first in which the backbone stays as it is.
        image_size: pixels of the input's side; None for the model's own.
        balanced: show images of rare classes more often.
        patience: epochs without anything better after which a phase ends.
    """

    data: str
    model: str
    validation: str = ""
    epochs: int = 100
    freeze_epochs: int = 0
    image_size: int | None = None
    batch: int = 16
    learning_rate: float | None = None
    augment: Augmentation = "strong"
    balanced: bool = True
    precision: Literal["fp32", "bf16"] = "fp32"
    ema: bool = True
    patience: int = 30
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training left.

    Attributes:
        best: checkpoint of the best epoch. exported: the same as ONNX. ap, ap50: on the validation images.
        epochs: how many were trained.
    """

    best: Path
    exported: Path
    ap: float
    ap50: float
    epochs: int


class Trainer(Protocol):
    """A library that trains detectors."""

    def check(self, processes: int, ema: bool) -> None:
        """Refuse so many processes, or to do without a moving average, where the library cannot; raises UsageError."""

    def names(self, model: str) -> tuple[str, ...]:
        """The classes that weights know."""

    def image_size(self, model: str) -> int:
        """Pixels of the input's side that a model was made for."""

    def train(self, phase: Phase, on_epoch: OnEpoch) -> None:
        """Train one phase."""

    def export(self, weights: Path) -> Path:
        """Finished weights as ONNX."""


def trainer_of(model: str) -> Trainer:
    """The library that trains a model: told from the name of an architecture, or from what a checkpoint holds.

    Raises:
        UsageError: it is neither.
    """
    path = Path(model).expanduser()
    if path.suffix == ".yaml":
        return UltralyticsTrainer()
    if path.is_file():
        kind = owner(path)
        if kind == "torchscript" or path.suffix.lower() not in (".pt", ".pth", ".safetensors"):
            raise UsageError(
                f"{path} cannot be trained, it only computes; give a checkpoint of libreyolo or Ultralytics"
            )
        return UltralyticsTrainer() if kind == "other" else LibreYoloTrainer()
    if is_architecture(model):
        return LibreYoloTrainer()
    raise UsageError(
        f"there is no model '{model}'; give a checkpoint (.pt), an architecture of libreyolo such as yolo9-t, "
        f"or one of Ultralytics such as yolo11n.yaml"
    )


def train_detector(
    settings: DetectorSettings,
    out: Path,
    *,
    resume: bool,
    process: Process,
    data: Callable[[Path], DetectorData] | None = None,
    origin: Mapping[str, Any] | None = None,
    on_problems: Callable[[tuple[str, ...]], None] = lambda _: None,
    on_epoch: Callable[[Mapping[str, float]], None] = lambda _: None,
) -> Trained:
    """Train, and leave best.pt, best.onnx, last.pt, config.yaml, metrics.csv and curves.png in `out`.

    Args:
        settings: what to train, and how.
        out: directory of the run.
        resume: go on with the run that is there.
        process: this one among those that train together.
        data: makes what to train on instead of `settings.data`, given the run's directory.
        origin: what that is made of, as plain data; part of the run's settings.
        on_problems: told what is wrong with the data, before training begins.
        on_epoch: told the figures of each epoch.

    Raises:
        UsageError: settings or data that cannot be trained.
        FramechainError: the library stopped; what was trained is kept.
        KeyboardInterrupt: likewise.
    """
    import_torch()
    if settings.freeze_epochs >= settings.epochs:
        raise UsageError(
            f"--freeze-epochs {settings.freeze_epochs} leaves nothing of {settings.epochs} epochs; give less"
        )
    trainer = trainer_of(settings.model)
    trainer.check(process.world, settings.ema)
    known = trainer.names(settings.model)
    size = settings.image_size or trainer.image_size(settings.model)
    folder, device = out.expanduser(), choose_device(process.device)
    if settings.precision == "bf16" and device == "cpu":
        raise UsageError("the training libraries compute in bf16 on GPUs only; use --precision fp32")
    file, rows = folder / "data" / "data.yaml", []
    if process.leads:
        own = None if data else read_data(Path(settings.data), settings.validation, settings.seed, known)
        run = RunFolder(folder, {**asdict(settings), **(origin or {})}, resume=resume)
        rows = run.rows
        found = own or (data and data(folder))
        assert found
        on_problems(found.problems)
        write_data(found, folder / "data", balanced=settings.balanced, seed=settings.seed)
    done = int(process.agree(rows[-1]["epoch"] if rows else 0))
    began = time.perf_counter()

    def log(offset: int, epoch: Epoch) -> None:
        nonlocal began
        better = epoch.ap >= max((row["ap"] for row in run.rows), default=0.0)
        for name in (LAST, BEST) if better else (LAST,):
            _copy(epoch.checkpoint, folder / name)
        now = time.perf_counter()
        figures = {"epoch": offset + epoch.number, "loss": epoch.loss, **epoch.parts}
        run.log({**figures, "ap": epoch.ap, "ap50": epoch.ap50, "seconds": now - began})
        began = now
        on_epoch(run.rows[-1])

    with _explained(folder):
        offset, weights = 0, settings.model
        for length, frozen in ((settings.freeze_epochs, True), (settings.epochs - settings.freeze_epochs, False)):
            if done < offset + length:
                phase = Phase(
                    weights=weights,
                    resume=folder / LAST if done > offset else None,
                    data=file,
                    folder=folder / "library",
                    epochs=length,
                    frozen=frozen,
                    image_size=size,
                    batch=settings.batch,
                    workers=0 if device == "cpu" else 8,
                    learning_rate=settings.learning_rate,
                    augment=settings.augment,
                    bf16=settings.precision == "bf16",
                    ema=settings.ema,
                    patience=settings.patience,
                    seed=settings.seed,
                    device=device,
                )
                trainer.train(phase, partial(log, offset))
                process.agree(0)  # nobody reads the best checkpoint before the leader has written it
            if length:
                weights = str(folder / BEST)
            offset += length
        if not process.leads:
            return Trained(folder / BEST, folder / BEST, 0.0, 0.0, 0)
        exported = trainer.export(folder / BEST)
    shutil.rmtree(folder / "library", ignore_errors=True)
    best = max(run.rows, key=lambda row: row["ap"])
    return Trained(folder / BEST, exported, best["ap"], best["ap50"], len(run.rows))


def _copy(source: Path, target: Path) -> None:
    """Copy a checkpoint; the one that is there stays until the new one is whole."""
    partial = target.with_name(f".{target.name}.part")
    try:
        shutil.copyfile(source, partial)
        partial.replace(target)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise cannot_write(target, error) from error


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """What the library prints goes into a file; what it raises becomes one line."""
    try:
        log = (folder / LOG).open("a")
    except OSError as error:
        raise cannot_write(folder / LOG, error) from error
    try:
        with (
            log,
            redirect_stdout(log),
            redirect_stderr(log),
            warnings.catch_warnings(),
            contained("ultralytics", log),
            contained("libreyolo", log),
        ):
            warnings.simplefilter("ignore")
            yield
    except FramechainError:
        raise
    except Exception as error:
        if getattr(error, "errno", None) in _FULL or any(words in str(error) for words in _FULL_IN_TORCH):
            raise FramechainError(
                f"there is no space for a checkpoint in {folder}; make room, then go on with --resume"
            ) from error
        raise FramechainError(
            f"the training library stopped: {shortened(error) or type(error).__name__}; {folder / LOG} has what it "
            f"said, --resume goes on"
        ) from error
