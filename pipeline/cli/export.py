"""`framechain export`: a network in another format or precision, with what that costs and gains."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from pipeline.cli.chain import Debug

if TYPE_CHECKING:
    from pipeline.training.export import Report


def export(
    weights: Annotated[str, typer.Argument(help=".pt, .onnx, TorchScript, OpenVINO, or a name from framechain models")],
    kind: Annotated[
        Literal["onnx", "openvino", "tensorrt", "torchscript"], typer.Option("--format", help="of the new file")
    ] = "onnx",
    precision: Annotated[
        Literal["fp32", "fp16", "bf16", "int8"], typer.Option(help="that it computes in; int8 takes --calibration")
    ] = "fp32",
    calibration: Annotated[
        str,
        typer.Option(
            help="video or folder of images like those it will see: int8 is calibrated with every other frame"
        ),
    ] = "",
    calibration_frames: Annotated[int, typer.Option(min=1, help="at most")] = 128,
    data: Annotated[
        str | None,
        typer.Option(
            help="labelled images, as framechain eval detector takes them, to tell accuracy by; without: agreement "
            "with the original on the frames of --calibration that were left over"
        ),
    ] = None,
    names: Annotated[str, typer.Option(help="names of the labels' classes, where the data has none: person,car")] = "",
    max_loss: Annotated[
        float, typer.Option(min=0, help="points of AP50-95 (of cosine, for an embedder) that may be lost")
    ] = 1.5,
    force: Annotated[bool, typer.Option("--force", help="keep it whatever it lost")] = False,
    rounds: Annotated[int, typer.Option(min=1, help="rounds that speed is measured in")] = 40,
    out: Annotated[
        Path | None, typer.Option(help="file or directory to write [default: named after weights and precision]")
    ] = None,
    debug: Debug = False,
) -> None:
    """Convert or quantise a network, and show speed and accuracy before and after."""
    from pipeline import models
    from pipeline.training.calibration import read_frames
    from pipeline.training.detection_data import read_detection_data
    from pipeline.training.export import check
    from pipeline.training.export import export as make
    from pipeline.training.trial import trial_for

    original = models.resolve(weights)
    path = check(original, kind, precision, out)
    with Console(stderr=True).status("reading") as status:
        labelled = read_detection_data(data, names=[word for word in names.split(",") if word]) if data else None
        frames = read_frames(calibration, calibration_frames) if calibration else None
        trial = trial_for(original, frames, labelled)
        report = make(
            original,
            kind,
            precision,
            path,
            trial,
            most=max_loss,
            force=force,
            rounds=rounds,
            tell=status.update,
        )
    _show(report)


def _show(report: Report) -> None:
    console = Console(highlight=False, soft_wrap=True)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("network", overflow="ellipsis", no_wrap=True)
    for heading in ("ms", "MB", *report.columns):
        table.add_column(heading, justify="right")
    for row in report.rows:
        figures = [f"{value:.3f}" for value in row.figures]
        table.add_row(row.name, f"{row.milliseconds:.1f}", f"{row.megabytes:.1f}", *figures)
    console.print(table)
    if report.basis:
        console.print(f"by {report.basis}")
    if report.loss is None:
        console.print("accuracy was not measured: give --data or --calibration")
    else:
        changed = f"falls by {report.loss:.1f}" if report.loss >= 0 else f"rises by {-report.loss:.1f}"
        console.print(
            f"{report.columns[0]} {changed} points; {report.speedup:.2f} times as fast as {report.rows[-2].name}"
        )
    if report.scheme == "outputs kept":
        console.print("the output layers stay in single precision: quantised whole, it lost too much")
    if report.speedup < 1:
        console.print("it is not faster here")
    console.print(f"wrote {report.path}")
