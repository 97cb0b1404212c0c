"""`framechain train detector`: a detector on one's own images."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias, cast, get_args

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from pipeline.errors import UsageError

if TYPE_CHECKING:
    from pipeline.training.detector import DetectorSettings, Trained

_SHOWN = 20  # problems of the data that are shown one by one

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
) -> int:
    """Train a detector on images labelled in YOLO's format, by libreyolo or Ultralytics."""
    settings = settings_of(
        data, model, val, epochs, freeze_epochs, image_size, batch, learning_rate, augment, balanced, precision, ema,
        patience, seed,
    )  # fmt: skip
    from pipeline.training.detector import train_detector as train
    from pipeline.training.distributed import joined

    with joined(device) as process, shown(settings.epochs, quiet or not process.leads) as show:
        return concluded(
            lambda: train(
                settings, out, resume=resume, process=process, on_problems=show.problems, on_epoch=show.epoch
            ),
            show,
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


class Show:
    """What the user sees of a training, on standard error."""

    def __init__(self, epochs: int, quiet: bool) -> None:
        self._quiet = quiet
        # of the stream as it is now: during training the libraries' output is led elsewhere
        self._console = Console(file=sys.stderr, highlight=False, soft_wrap=True)
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total} epochs"),
            TimeRemainingColumn(), console=self._console, disable=quiet or not self._console.is_terminal,
        )  # fmt: skip
        self._task = self._progress.add_task("training", total=epochs)
        self.epochs = 0

    def problems(self, lines: tuple[str, ...]) -> None:
        """Name what is wrong with the data, and count it."""
        if self._quiet or not lines:
            return
        for line in lines[:_SHOWN]:
            self._console.print(f"framechain: {line}", markup=False)
        more = f", {len(lines) - _SHOWN} of them not shown" if len(lines) > _SHOWN else ""
        self._console.print(f"framechain: {len(lines)} problems in the data{more}; training goes on without them")

    def epoch(self, figures: Mapping[str, float]) -> None:
        """Count an epoch."""
        self.epochs = int(figures["epoch"])
        text = f"loss {figures['loss']:.3f}, AP50 {figures['ap50']:.3f}, AP {figures['ap']:.3f}"
        self._progress.update(self._task, completed=self.epochs, description=text)
        if not self._quiet and not self._console.is_terminal:
            self._console.print(f"epoch {self.epochs}: {text}, {figures['seconds']:.0f} s")

    def labelling(self, frames: int) -> None:
        """Count a frame that the teacher looked at."""
        self._progress.update(self._task, description=f"labelling, {frames} frames")

    def start(self) -> None:
        """Show the bar."""
        self._progress.start()

    def stop(self) -> None:
        """Take the bar away."""
        self._progress.stop()

    def say(self, text: str) -> None:
        """A line."""
        if not self._quiet:
            self._console.print(text, markup=False)


@contextmanager
def shown(epochs: int, quiet: bool) -> Iterator[Show]:
    """A bar for the time of a training."""
    show = Show(epochs, quiet)
    show.start()
    try:
        yield show
    finally:
        show.stop()


def concluded(train: Callable[[], Trained], show: Show, out: Path) -> int:
    """Train, and say what came of it; 130 if it was interrupted."""
    try:
        trained = train()
    except KeyboardInterrupt:
        show.stop()
        print(f"framechain: interrupted after {show.epochs} epochs; go on with --resume --out {out}", file=sys.stderr)
        return 130
    show.stop()
    show.say(f"best of {trained.epochs} epochs: AP50 {trained.ap50:.3f}, AP {trained.ap:.3f} on the validation images")
    show.say(f"wrote {trained.best} and {trained.exported}; try it: framechain run VIDEO --weights {trained.exported}")
    return 0


def _choice(flag: str, given: str, choices: tuple[str, ...]) -> None:
    if given not in choices:
        raise UsageError(f"{flag} is '{given}'; give one of: {', '.join(choices)}")
