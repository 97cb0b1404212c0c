"""`framechain train detector`: a detector on one's own images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias, cast, get_args

import typer

from pipeline.cli.train.progress import TrainingProgress
from pipeline.errors import Interrupted, UsageError

if TYPE_CHECKING:
    from pipeline.training.detector import DetectorSettings, Trained

Model: TypeAlias = Annotated[
    str,
    typer.Option(
        help="checkpoint of libreyolo or Ultralytics to start from; or, with random weights, an architecture of "
        "libreyolo (yolo9-t, yolox-n, dfine-n) or a .yaml of Ultralytics"
    ),
]
Out: TypeAlias = Annotated[Path, typer.Option(help="directory of the run: checkpoints, metrics.csv, curves.png")]
Epochs: TypeAlias = Annotated[int, typer.Option(min=1, help="most epochs, frozen ones included")]
FreezeEpochs: TypeAlias = Annotated[
    int, typer.Option(min=0, help="first epochs in which only the head learns (transfer learning)")
]
ImageSize: TypeAlias = Annotated[
    int | None, typer.Option(min=32, help="pixels of the input's side, a multiple of 32; if empty: the model's own")
]
Batch: TypeAlias = Annotated[int, typer.Option(min=1, help="images a step, over all processes")]
LearningRate: TypeAlias = Annotated[
    float | None, typer.Option(min=0, help="highest learning rate; if empty: the library's own for the model")
]
Augment: TypeAlias = Annotated[
    str, typer.Option(help="none; light: flips, colour, small shifts; strong: mosaic, mixup and rotation too")
]
Balanced: TypeAlias = Annotated[
    bool, typer.Option("--balanced/--unbalanced", help="show images of rare classes more often")
]
Precision: TypeAlias = Annotated[str, typer.Option(help="fp32, or bf16: mixed precision on a GPU")]
Ema: TypeAlias = Annotated[
    bool, typer.Option("--ema/--no-ema", help="keep a moving average of the weights, and validate that")
]
Patience: TypeAlias = Annotated[int, typer.Option(min=1, help="epochs without a better result after which it ends")]
Validation: TypeAlias = Annotated[
    str,
    typer.Option(
        "--val", help="validate on this share (0.1) or folder; if empty: the data's own val part, else a tenth"
    ),
]
Seed: TypeAlias = Annotated[int, typer.Option(min=0, help="of everything random")]
Device: TypeAlias = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:0; several: start it by torchrun")]
Resume: TypeAlias = Annotated[bool, typer.Option("--resume", help="go on with the interrupted run in --out")]
Quiet: TypeAlias = Annotated[bool, typer.Option("--quiet", "-q", help="print nothing but errors")]


def train_detector(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="folder with images/ and labels/, or a data.yaml")],
    model: Model = "yolo9-t",
    out: Out = Path("runs/detector"),
    epochs: Epochs = 100,
    freeze_epochs: FreezeEpochs = 0,
    image_size: ImageSize = None,
    batch: Batch = 16,
    learning_rate: LearningRate = None,
    augment: Augment = "strong",
    balanced: Balanced = True,
    precision: Precision = "fp32",
    ema: Ema = True,
    patience: Patience = 30,
    val: Validation = "",
    seed: Seed = 0,
    device: Device = "auto",
    resume: Resume = False,
    quiet: Quiet = False,
    debug: Annotated[bool, typer.Option("--debug", help="show tracebacks")] = False,
) -> None:
    """Train a detector on images labelled in YOLO's format, by libreyolo or Ultralytics."""
    settings = settings_of(
        data, model, val, epochs, freeze_epochs, image_size, batch, learning_rate, augment, balanced, precision, ema,
        patience, seed,
    )  # fmt: skip
    from pipeline.training.detector import train_detector as train
    from pipeline.training.distributed import joined

    with joined(device) as process, TrainingProgress(settings.epochs, quiet or not process.leads) as progress:
        concluded(
            lambda: train(
                settings, out, resume=resume, process=process, on_problems=progress.problems, on_epoch=progress.epoch
            ),
            progress,
            out,
        )


def settings_of(
    data: Path | None,
    model: str,
    val: str,
    epochs: int,
    freeze_epochs: int,
    image_size: int | None,
    batch: int,
    learning_rate: float | None,
    augment: str,
    balanced: bool,
    precision: str,
    ema: bool,
    patience: int,
    seed: int,
) -> DetectorSettings:
    """The settings that these flags ask for.

    Raises:
        UsageError: a word that is not among its choices, or a size that no detector takes.
    """
    from pipeline.training.detector import DetectorSettings
    from pipeline.training.detector_phase import Augmentation

    _choice("--augment", augment, get_args(Augmentation))
    _choice("--precision", precision, ("fp32", "bf16"))
    if image_size and image_size % 32:
        raise UsageError(f"an image size of {image_size} does not fit the strides of detectors; give a multiple of 32")
    return DetectorSettings(
        data=str(data or ""),
        model=str(Path(model).expanduser()) if Path(model).suffix else model,
        validation=val,
        epochs=epochs,
        freeze_epochs=freeze_epochs,
        image_size=image_size,
        batch=batch,
        learning_rate=learning_rate,
        augment=cast(Augmentation, augment),
        balanced=balanced,
        precision=cast(Literal["fp32", "bf16"], precision),
        ema=ema,
        patience=patience,
        seed=seed,
    )


def concluded(train: Callable[[], Trained], progress: TrainingProgress, out: Path) -> None:
    """Train, and say what came of it.

    Raises:
        Interrupted: by Ctrl-C.
    """
    try:
        trained = train()
    except KeyboardInterrupt:
        raise Interrupted(f"after {progress.epochs} epochs; go on with --resume --out {out}") from None
    progress.say(
        f"best of {trained.epochs} epochs: AP50 {trained.ap50:.3f}, AP {trained.ap:.3f} on the validation images\n"
        f"wrote {trained.best} and {trained.exported}; try it: framechain run VIDEO --weights {trained.exported}"
    )


def _choice(flag: str, given: str, choices: tuple[str, ...]) -> None:
    if given not in choices:
        raise UsageError(f"{flag} is '{given}'; give one of: {', '.join(choices)}")
