"""`framechain train embedder`: metric learning on crops of known identities."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pipeline.cli.chain import Debug
from pipeline.cli.train.progress import TrainingProgress
from pipeline.errors import Interrupted

if TYPE_CHECKING:
    from pipeline.training.distributed import Process
    from pipeline.training.embedder_training import EmbedderSettings
    from pipeline.training.identities import Identities


def train_embedder(
    data: Annotated[
        list[str],
        typer.Argument(
            metavar="DATA...",
            help="a folder with a folder of images for each identity, images named as in Market-1501, a MOTChallenge "
            "sequence, VIDEO=TRACKS (TRACKS from framechain run --mot), or persons in YOLO format",
        ),
    ],
    out: Annotated[Path, typer.Option(help="folder of the run")] = Path("runs/embedder"),
    val: Annotated[
        list[str] | None, typer.Option(help="data to validate on [default: a fifth of the identities, kept out]")
    ] = None,
    made_for: Annotated[
        str, typer.Option("--class", help="detector's class that the crops show; others are not embedded with it")
    ] = "person",
    teacher: Annotated[
        str | None, typer.Option(help="embedder whose similarities are matched as well (.onnx, OpenVINO)")
    ] = None,
    backbone: Annotated[
        str, typer.Option(help="imagenet, none, a MobileNetV2's weights, or a run's best.pt")
    ] = "imagenet",
    blocks: Annotated[int, typer.Option(min=2, max=19, help="blocks of MobileNetV2: fewer are faster")] = 18,
    dimension: Annotated[int, typer.Option(min=8, max=2048, help="length of the vectors")] = 256,
    epochs: Annotated[int, typer.Option(min=1, help="at most")] = 40,
    batches: Annotated[int, typer.Option(min=0, help="batches an epoch; 0: as many as show each crop once")] = 0,
    identities: Annotated[int, typer.Option(min=2, help="identities a batch")] = 16,
    crops: Annotated[int, typer.Option(min=2, help="crops of each of them")] = 4,
    most: Annotated[int, typer.Option(min=2, help="crops kept of an identity, evenly spaced in time")] = 60,
    rate: Annotated[float, typer.Option(min=1e-7, max=1, help="highest learning rate")] = 1e-3,
    freeze: Annotated[int, typer.Option(min=0, help="epochs before the backbone is trained as well")] = 2,
    frozen_blocks: Annotated[int, typer.Option(min=0, help="first blocks that never are")] = 4,
    coarse: Annotated[float, typer.Option(min=0, max=1, help="share of the epochs on crops of half the size")] = 0.5,
    augmentation: Annotated[
        Literal["none", "light", "strong", "blended"],
        typer.Option(help="preset; blended lays people over one another: for a teacher that sees the same"),
    ] = "strong",
    teacher_sees: Annotated[
        Literal["original", "same"], typer.Option(help="crops before augmentation, or the same as the student")
    ] = "original",
    precision: Annotated[Literal["fp32", "bf16"], typer.Option(help="bf16: mixed precision")] = "bf16",
    ema: Annotated[float, typer.Option(min=0, max=0.99999, help="share that the average of weights keeps")] = 0.995,
    patience: Annotated[int, typer.Option(min=1, help="epochs without gain in mAP before stopping")] = 10,
    triplet_weight: Annotated[float, typer.Option(min=0, help="of the batch-hard triplet loss")] = 1.0,
    identity_weight: Annotated[float, typer.Option(min=0, help="of the identity loss")] = 1.0,
    teacher_weight: Annotated[float, typer.Option(min=0, help="of the difference from the teacher")] = 100.0,
    seed: Annotated[int, typer.Option(min=0, help="of everything drawn")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1")] = "auto",
    workers: Annotated[int, typer.Option(min=1, max=64, help="threads that prepare batches")] = 2,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="print nothing but errors")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="go on with an interrupted run")] = False,
    debug: Debug = False,
) -> None:
    """Train an appearance embedder by metric learning; several GPUs or machines: start it with torchrun."""
    from pipeline.training.embedder_training import EmbedderSettings
    from pipeline.training.identities import read_identities

    settings = EmbedderSettings(
        backbone=backbone,
        blocks=blocks,
        dimension=dimension,
        epochs=epochs,
        batches=batches,
        identities=identities,
        crops=crops,
        rate=rate,
        freeze=freeze,
        frozen_blocks=frozen_blocks,
        coarse=coarse,
        augmentation=augmentation,
        precision=precision,
        ema=ema,
        patience=patience,
        triplet=triplet_weight,
        identity=identity_weight,
        teacher=teacher_weight,
        teacher_sees=teacher_sees,
        seed=seed,
    )

    def read(_process: Process) -> tuple[Identities, Identities]:
        given = read_identities(data, crops=most)
        return (given, read_identities(val, crops=most)) if val else given.split(0.2, seed)

    described = {"class": made_for, "data": data, "val": val, "taught_by": teacher, "most": most}
    run_training(out, settings, described, read, teacher, device, workers, resume, quiet)


def run_training(
    out: Path,
    settings: EmbedderSettings,
    described: Mapping[str, object],
    read: Callable[[Process], tuple[Identities, Identities]],
    teacher: str | None,
    device: str,
    workers: int,
    resume: bool,
    quiet: bool,
) -> None:
    """Read what to train and to validate on, train, show how it goes, and export the best epoch.

    Raises:
        Interrupted: by Ctrl-C.
    """
    from pipeline.training import embedder_training as training
    from pipeline.training.distributed import joined
    from pipeline.training.embedder_teacher import Teacher
    from pipeline.training.run_folder import RunFolder

    with joined(device) as process, TrainingProgress(settings.epochs, quiet or not process.leads) as progress:
        train, validation = read(process)
        settings = settings.for_crops(len(train))
        progress.begin(settings.batches)
        progress.problems(dict.fromkeys([*train.problems, *validation.problems]))
        progress.say(
            f"{len(train)} crops of {train.count} identities to train on, "
            f"{len(validation)} of {validation.count} to validate, {process.world} × {process.device}"
        )
        taught_by = Teacher(Path(teacher), train, device) if teacher else None
        state = training.EmbedderTraining(settings, train, validation, taught_by, process, workers)
        everything = {**described, **asdict(settings)}
        everything["batches"] = everything.pop("batches")  # depends on others: those are named first if they differ
        folder = RunFolder(out, everything, resume=resume) if process.leads else None
        if resume:
            state.restore((folder or RunFolder(out, everything, resume=True)).load(training.LAST))
        try:
            training.train(state, folder, progress)
        except KeyboardInterrupt:
            if folder is None or state.epoch == 0:
                raise Interrupted("in the first epoch; there is nothing to go on with") from None
            raise Interrupted(f"after {state.epoch} epochs; go on with the same command and --resume") from None
        if folder is not None:
            path = training.finish(folder, settings, str(described["class"]))
            progress.say(
                f"best mAP {state.best:.3f} of {state.epoch} epochs; wrote {path}: use it with --embedder {path}"
            )
