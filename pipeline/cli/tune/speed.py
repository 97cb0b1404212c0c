"""`framechain tune speed`: the fastest settings of a chain within a loss of accuracy or a latency."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.table import Table

from pipeline.cli.chain import (
    ChainFlags,
    Classes,
    Confidence,
    Config,
    Debug,
    Device,
    Embedder,
    ImageSize,
    NoEmbed,
    NoText,
    Precision,
    Runtime,
    Tracker,
    Weights,
)
from pipeline.cli.tracked import files_of, told_in_a_line
from pipeline.errors import Interrupted, MissingExtra, UsageError
from pipeline.files.output import check_reports, replace_file

if TYPE_CHECKING:
    from pipeline.tuning import SpeedTuner, Trial
    from trackers.mot_format import MotRows


def tune_speed(
    video: Annotated[
        str,
        typer.Argument(
            metavar="VIDEO[=SEQUENCE]", help="a video, and the MOTChallenge sequence that says who is where in it"
        ),
    ],
    out: Annotated[Path, typer.Option(help="configuration to write, for framechain run --config")],
    loss: Annotated[float, typer.Option(min=0, help="points of HOTA that may be lost")] = 1.0,
    latency: Annotated[float | None, typer.Option(min=0.001, help="seconds that p99 latency must be within")] = None,
    frames: Annotated[int, typer.Option(min=10, help="frames of the video that are used")] = 300,
    config: Config = None,
    weights: Weights = None,
    embedder: Embedder = None,
    classes: Classes = None,
    confidence: Confidence = None,
    image_size: ImageSize = None,
    tracker: Tracker = None,
    device: Device = None,
    precision: Precision = None,
    runtime: Runtime = None,
    no_embed: NoEmbed = False,
    no_text: NoText = False,
    as_json: Annotated[Path | None, typer.Option("--json", help="write all that was tried here")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="no progress")] = False,
    debug: Debug = False,
) -> None:
    """Search workers, batch, image size and work left out for the fastest chain that loses no more than is allowed."""
    source, _, folder = video.rpartition("=") if "=" in video else (video, "", "")
    check_reports({"--out": out, "--json": as_json}, [source, *(files_of([video]) if folder else ())])
    try:
        import trackeval  # noqa: F401
    except ImportError as error:
        raise MissingExtra("judging tracks", "eval") from error
    from pipeline.tuning import SpeedTuner

    flags = ChainFlags(
        config,
        weights,
        embedder,
        classes,
        confidence,
        image_size,
        tracker,
        device,
        no_embed=no_embed,
        no_text=no_text,
        precision=precision,
        runtime=runtime,
    )
    document = flags.document([source])
    document.set_sources({"max_frames": frames})
    document.build()
    truth = _truth(Path(folder)) if folder else None
    tuner = SpeedTuner(document, truth, loss=loss, latency=latency, told=lambda trial: None if quiet else _tell(trial))
    try:
        tuner.run()
    except KeyboardInterrupt:
        if not tuner.trials:
            raise Interrupted("in the first trial; nothing is written") from None
        _write(tuner, video, out, as_json)
        raise Interrupted(f"after {len(tuner.trials)} trials; wrote the best of them to {out}") from None
    if latency is not None and tuner.best.p99 > latency:
        raise UsageError(
            f"nothing was found with p99 latency within {1000 * latency:.0f} ms: {1000 * tuner.best.p99:.0f} ms is the "
            f"least; give a smaller detector, or more --loss"
        )
    _write(tuner, video, out, as_json)
    _show(tuner, truth is not None, out)


def _truth(folder: Path) -> MotRows:
    from trackers import mot_format, sequences

    with told_in_a_line():
        (path, *others) = sequences.sequence_folders(folder)
        if others:
            raise UsageError(f"{folder} holds {1 + len(others)} sequences; give the one of this video")
        return mot_format.read(path / "gt" / "gt.txt")


def _tell(trial: Trial) -> None:
    last = f"{trial.changes[-1]}: " if trial.changes else ""
    print(f"{last}{trial.fps:.1f} FPS, HOTA {100 * trial.figures.HOTA:.1f}, {trial.verdict}", file=sys.stderr)


def _write(tuner: SpeedTuner, video: str, out: Path, as_json: Path | None) -> None:
    first, best = tuner.trials[0], tuner.best
    data: dict[str, Any] = {key: value for key, value in tuner.document(best.changes).data.items() if key != "sources"}
    truth = "against ground truth" if "=" in video else "against the chain as it was"
    comment = (
        f"# tuned for speed on {video}\n"
        f"# {first.fps:.1f} → {best.fps:.1f} FPS, p99 latency {1000 * first.p99:.0f} → {1000 * best.p99:.0f} ms, "
        f"HOTA {100 * first.figures.HOTA:.1f} → {100 * best.figures.HOTA:.1f} {truth}\n"
        f"#   framechain run VIDEO --config {out}\n"
    )
    replace_file(out, comment + yaml.safe_dump(data, sort_keys=False, allow_unicode=True))
    if as_json is not None:
        replace_file(as_json, json.dumps([_plain(trial) for trial in tuner.trials], indent=2) + "\n")


def _plain(trial: Trial) -> dict[str, Any]:
    told = ("fps", "p99", "ratio", "loss", "verdict")
    return {
        "changes": [asdict(change) for change in trial.changes],
        **{name: getattr(trial, name) for name in told},
        "figures": asdict(trial.figures),
    }


def _show(tuner: SpeedTuner, measured: bool, out: Path) -> None:
    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("change")
    for heading in ("FPS", "times", "HOTA", "IDF1", "p99 ms"):
        table.add_column(heading, justify="right")
    table.add_column("")
    for trial in tuner.trials:
        figures = f"{100 * trial.figures.HOTA:.1f}", f"{100 * trial.figures.IDF1:.1f}", f"{1000 * trial.p99:.0f}"
        name = str(trial.changes[-1]) if trial.changes else "the chain as it was"
        style = "bold" if trial.verdict == "taken" else ""
        table.add_row(name, f"{trial.fps:.1f}", f"{trial.ratio:.2f}", *figures, trial.verdict, style=style)
    console.print(table)
    if not measured:
        console.print("HOTA is against the chain as it was; VIDEO=SEQUENCE judges by ground truth", markup=False)
    first, best = tuner.trials[0], tuner.best
    taken = ", ".join(map(str, best.changes)) or "nothing"
    console.print(f"taken: {taken}: {first.fps:.1f} → {best.fps:.1f} FPS", markup=False, soft_wrap=True)
    console.print(f"wrote {out}; framechain run VIDEO --config {out}", markup=False, soft_wrap=True)
