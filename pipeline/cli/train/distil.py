"""`framechain train distil`: a small model that learns from a large one, on videos that nobody labelled."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.train.detector import (
    Augment,
    Balanced,
    Batch,
    Device,
    Ema,
    Epochs,
    FreezeEpochs,
    ImageSize,
    LearningRate,
    Out,
    Patience,
    Precision,
    Quiet,
    Resume,
    Seed,
    Validation,
    concluded,
    settings_of,
)
from pipeline.cli.train.embedder import run_training
from pipeline.cli.train.progress import TrainingProgress
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from pipeline.training.detector import DetectorSettings


def distil(
    videos: Annotated[list[str], typer.Argument(metavar="VIDEO...", help="video files, or folders of images")],
    teacher: Annotated[
        str, typer.Option(help="detector that labels, or embedder whose similarities are matched: file or name")
    ],
    student: Annotated[
        str | None,
        typer.Option(
            help="detector that learns: a checkpoint, or an architecture as in train detector [default: yolo9-t]; "
            "for an embedder what train embedder takes as its --backbone [default: imagenet]"
        ),
    ] = None,
    data: Annotated[Path | None, typer.Option(help="labelled images in YOLO's format to learn from as well")] = None,
    classes: Annotated[list[str] | None, typer.Option(help="classes to learn, by the teacher's names")] = None,
    every: Annotated[int, typer.Option(min=1, help="look at every n-th frame")] = 10,
    confidence: Annotated[float, typer.Option(min=0, max=1, help="least score of what becomes a label")] = 0.4,
    novelty: Annotated[
        float,
        typer.Option(min=0, max=1, help="share of the picture that must differ from all frames kept lately"),
    ] = 0.02,
    out: Out = Path("runs/distil"),
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
    """Let a large model teach a small one on unlabelled videos: detectors by labels, embedders by similarities."""
    settings = settings_of(
        data, student or "yolo9-t", val, epochs, freeze_epochs, image_size, batch, learning_rate, augment, balanced,
        precision, ema, patience, seed,
    )  # fmt: skip
    from pipeline.training.embedder_distil import is_embedder

    if is_embedder(teacher, device):
        if data or classes or image_size or val:
            raise UsageError(f"{teacher} is an embedder; leave --data, --classes, --image-size and --val out")
        _embedder(videos, teacher, student or "imagenet", settings, out, device, resume, quiet)
        return
    from pipeline.stages.detect import Detect
    from pipeline.training.detector import train_detector
    from pipeline.training.detector_data import DetectorData
    from pipeline.training.distil import Labelling, check_videos, class_names, label_videos, student_data
    from pipeline.training.distributed import joined

    wanted = tuple(name.strip() for group in classes or () for name in group.split(",") if name.strip())
    how = Labelling(tuple(videos), every, confidence, wanted, novelty)
    with joined(device) as process, TrainingProgress(epochs, quiet or not process.leads) as progress:
        check_videos(how)  # nothing is written before all that was asked for is known to be there
        stage = Detect(weights=teacher, confidence=confidence, device=device)
        stage.open()
        names, given = class_names(stage.names, how, data, val, seed)

        def make(folder: Path) -> DetectorData:
            done = label_videos(stage, how, names, folder / "labelled", progress.labelling)
            stage.close()
            progress.say(
                f"labelled {done.kept} of {done.frames} frames, {done.objects} objects; {done.known} looked alike"
            )
            return student_data(folder / "labelled", names, given)

        concluded(
            lambda: train_detector(
                settings,
                out,
                resume=resume,
                process=process,
                data=make,
                origin={"teacher": teacher, "labelling": asdict(how)},
                on_problems=progress.problems,
                on_epoch=progress.epoch,
            ),
            progress,
            out,
        )


def _embedder(
    videos: list[str],
    teacher: str,
    student: str,
    asked: DetectorSettings,
    out: Path,
    device: str,
    resume: bool,
    quiet: bool,
) -> None:
    from pipeline.training.embedder_distil import crops_of
    from pipeline.training.embedder_training import EmbedderSettings

    settings = EmbedderSettings(
        backbone=student,
        epochs=asked.epochs,
        identities=max(2, asked.batch // EmbedderSettings().crops),
        freeze=asked.freeze_epochs,
        augmentation=asked.augment,
        precision=asked.precision,
        patience=asked.patience,
        triplet=0.0,  # a person who was lost and found again has two identities here
        identity=0.0,
        teacher_sees="same",
        seed=asked.seed,
    )
    tracks = out.with_name(f"{out.name}-tracks")
    described = {"class": "person", "videos": videos, "taught_by": teacher}
    read = partial(crops_of, videos, teacher, tracks, asked.seed)
    run_training(out, settings, described, read, teacher, device, 2, resume, quiet)
