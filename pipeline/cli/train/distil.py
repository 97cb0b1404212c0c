"""`framechain train distil`: a small model that learns from a large one, on videos that nobody labelled."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

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
    shown,
)


def distil(
    videos: Annotated[list[str], typer.Argument(metavar="VIDEO...", help="video files, or folders of images")],
    teacher: Annotated[str, typer.Option(help="detector that labels: whatever framechain run --weights takes")],
    student: Annotated[
        str, typer.Option(help="detector that learns: a checkpoint, or an architecture as in train detector")
    ] = "yolo9-t",
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
) -> int:
    """Label videos with a teacher, and train a student on that, and on given labels where there are any."""
    settings = settings_of(
        data, student, val, epochs, freeze_epochs, image_size, batch, learning_rate, augment, balanced, precision,
        ema, patience, seed,
    )  # fmt: skip
    from pipeline.stages.detect import Detect
    from pipeline.training.detector import train_detector
    from pipeline.training.detector_data import DetectorData
    from pipeline.training.distil import Labelling, check_videos, class_names, label_videos, student_data
    from pipeline.training.distributed import joined

    wanted = tuple(name.strip() for group in classes or () for name in group.split(",") if name.strip())
    how = Labelling(tuple(videos), every, confidence, wanted, novelty)
    with joined(device) as process, shown(epochs, quiet or not process.leads) as show:
        check_videos(how)  # nothing is written before all that was asked for is known to be there
        stage = Detect(weights=teacher, confidence=confidence, device=device)
        stage.open()
        names, given = class_names(stage.names, how, data, val, seed)

        def make(folder: Path) -> DetectorData:
            done = label_videos(stage, how, names, folder / "labelled", show.labelling)
            stage.close()
            show.say(f"labelled {done.kept} of {done.frames} frames, {done.objects} objects; {done.known} looked alike")
            return student_data(folder / "labelled", names, given)

        return concluded(
            lambda: train_detector(
                settings,
                out,
                resume=resume,
                process=process,
                data=make,
                origin={"teacher": teacher, "labelling": asdict(how)},
                on_problems=show.problems,
                on_epoch=show.epoch,
            ),
            show,
            out,
        )
