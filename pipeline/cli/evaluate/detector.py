"""`framechain eval detector`: does it find what is there, and through what."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from pipeline import charts
from pipeline.cli.chain import Debug
from pipeline.cli.train.progress import tell_problems
from pipeline.errors import UsageError
from pipeline.files.output import check_reports, replace_file
from pipeline.models import DETECTOR
from trackers.registry import nearest

if TYPE_CHECKING:
    from pipeline.training.average_precision import Precision
    from pipeline.training.evaluate_detector import Evaluation


def eval_detector(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="folder with images/ and labels/ in YOLO's format, its data.yaml, a MOTChallenge sequence (its "
            "pedestrians count), or VIDEO=TRUTH with such a sequence or its gt.txt",
        ),
    ],
    weights: Annotated[
        list[str] | None, typer.Option(help="detector; may be repeated to compare several [default: the bundled one]")
    ] = None,
    classes: Annotated[list[str] | None, typer.Option(help="classes to compare, by name: person,car")] = None,
    names: Annotated[
        str, typer.Option(help="names of the labels' classes, from number 0 on, where the data has none: person,car")
    ] = "",
    split: Annotated[str, typer.Option(help="train, val or test of data in YOLO's format [default: all]")] = "",
    visible: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="ignore pedestrians of whom the MOTChallenge ground truth says less is visible [default: 0.25]",
        ),
    ] = None,
    image_size: Annotated[int | None, typer.Option(help="detector input: pixels of the longer side")] = None,
    corruptions: Annotated[
        str, typer.Option(help="kinds of damage to try: all, or some of occlusion,darkness,noise,blur,jpeg")
    ] = "all",
    clean: Annotated[
        bool, typer.Option("--clean", help="on the images as they are only: no damage, no attack")
    ] = False,
    every: Annotated[int, typer.Option(min=1, help="use every n-th image only")] = 1,
    limit: Annotated[int | None, typer.Option(min=1, help="use no more than so many images")] = None,
    seed: Annotated[int, typer.Option(min=0, help="of what is done to the images")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1")] = "auto",
    as_json: Annotated[Path | None, typer.Option("--json", help="write the figures here")] = None,
    plot: Annotated[Path | None, typer.Option(help="write a bar chart here: .png, .svg or .pdf")] = None,
    debug: Debug = False,
) -> None:
    """Measure average precision as COCO does, on clean images and on damaged and attacked ones."""
    from pipeline.stages.detect import Detect
    from pipeline.training.corruptions import CORRUPTIONS
    from pipeline.training.detection_data import read_detection_data
    from pipeline.training.evaluate_detector import LEAST_SCORE, MOST, evaluate
    from pipeline.training.plots import bars

    check_reports({"--json": as_json, "--plot": plot}, [data, *(weights or [])])
    charts.check(plot)
    kinds = tuple(CORRUPTIONS) if corruptions == "all" else _words(corruptions)
    for kind in kinds:
        if kind not in CORRUPTIONS:
            raise UsageError(f"there is no corruption '{kind}'{nearest(kind, CORRUPTIONS)}")
    wanted = [name for group in classes or () for name in _words(group)]
    examples = read_detection_data(data, _words(names), split=split, every=every, limit=limit, visible=visible)
    found: dict[str, Evaluation] = {}
    try:
        for name in dict.fromkeys(weights or [DETECTOR]):
            stage = Detect(
                weights=Path(name),
                confidence=LEAST_SCORE,
                max_detections=MOST,
                image_size=image_size,
                device=device,
                runtime="native",  # figures are of the file, and the same on every machine
            )
            stage.open()
            console = Console(stderr=True)
            with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
                task = progress.add_task(Path(name).name, total=len(examples))
                found[name] = evaluate(
                    stage,
                    examples,
                    wanted,
                    () if clean else kinds,
                    attack=not clean,
                    seed=seed,
                    tick=lambda: progress.advance(task),  # noqa: B023
                )
            stage.close()
    finally:  # they may be the reason why it failed
        tell_problems(dict.fromkeys(examples.problems))
    for note in dict.fromkeys(note for one in found.values() for note in one.notes):
        print(f"framechain: {note}", file=sys.stderr)
    _show(found, clean)
    if as_json is not None:
        plain = {name: asdict(one) for name, one in found.items()}
        replace_file(as_json, json.dumps(plain, indent=2) + "\n")
    if plot is not None:
        heights = {
            label: {kind: scores.mean.ap50 for kind, scores in one.conditions.items()}
            for label, one in zip(_labels(found), found.values(), strict=True)
        }
        bars(heights, "AP50", plot)


def _show(found: dict[str, Evaluation], clean: bool) -> None:
    from pipeline.training.evaluate_detector import ATTACK, CLEAN

    console = Console(highlight=False)
    first = next(iter(found.values()))
    ignored = f", {first.ignored} more ignored" if first.ignored else ""
    console.print(f"{first.images} images, {first.objects} objects{ignored}")
    table = _table("detector", "images")
    for name, one in zip(_labels(found), found.values(), strict=True):
        rows = {kind: _figures(scores.mean) for kind, scores in one.conditions.items()}
        if not clean:
            rows.setdefault(ATTACK, ["—"] * 3)  # the network gives no gradient
        for n, (kind, figures) in enumerate(rows.items()):
            table.add_row(name if n == 0 else "", kind, *figures)
    console.print(table)
    if all(len(one.conditions[CLEAN].classes) < 2 for one in found.values()):
        return
    console.print()
    table = _table("detector", "class, clean")
    for name, one in zip(_labels(found), found.values(), strict=True):
        for n, (label, precision) in enumerate(one.conditions[CLEAN].classes.items()):
            table.add_row(name if n == 0 else "", label, *_figures(precision))
    console.print(table)


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold", max_width=26)
    for heading in ("AP50-95", "AP50", "AP75"):
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _figures(precision: Precision) -> list[str]:
    return [f"{value:.3f}" for value in (precision.ap, precision.ap50, precision.ap75)]


def _labels(weights: Iterable[str]) -> list[str]:
    """File names; the paths as given where two files are called alike."""
    names = {one: Path(one).name for one in weights}
    alike = Counter(names.values())
    return [name if alike[name] == 1 else one for one, name in names.items()]


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())
