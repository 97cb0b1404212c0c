"""`framechain eval embedder`: does it know somebody again, and through what."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from pipeline import charts
from pipeline.cli.chain import Debug
from pipeline.cli.train.progress import tell_problems
from pipeline.files.output import check_reports, replace_file
from pipeline.models import EMBEDDER

if TYPE_CHECKING:
    from pipeline.training.evaluate_embedder import Retrieval


def eval_embedder(
    data: Annotated[
        list[str],
        typer.Argument(
            metavar="DATA...",
            help="a folder with a folder of images for each identity, images named as in Market-1501, a MOTChallenge "
            "sequence, or VIDEO=TRACKS",
        ),
    ],
    weights: Annotated[
        list[str] | None, typer.Option(help="embedder; may be repeated to compare several [default: the bundled one]")
    ] = None,
    most: Annotated[int, typer.Option(min=2, help="crops of an identity, evenly spaced in time")] = 60,
    clean: Annotated[bool, typer.Option("--clean", help="on the crops as they are only")] = False,
    seed: Annotated[int, typer.Option(min=0, help="of what is done to the crops")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1")] = "auto",
    as_json: Annotated[Path | None, typer.Option("--json", help="write the figures here")] = None,
    plot: Annotated[Path | None, typer.Option(help="write a bar chart here: .png, .svg or .pdf")] = None,
    debug: Debug = False,
) -> None:
    """Measure retrieval: rank-1, rank-5, mAP and AUC, on clean crops and on damaged ones."""
    from pipeline.training.evaluate_embedder import evaluate
    from pipeline.training.identities import read_identities
    from pipeline.training.plots import bars

    check_reports({"--json": as_json, "--plot": plot}, [*data, *(weights or [])])
    charts.check(plot)
    crops = read_identities(data, crops=most)
    found: dict[str, dict[str, Retrieval]] = {}
    for name in weights or [EMBEDDER]:
        with Console(stderr=True).status(name):
            found[name] = evaluate(name, crops, device, seed, clean_only=clean)
    tell_problems(crops.problems)
    _show(found, f"{len(crops)} crops of {crops.count} identities")
    if as_json is not None:
        plain = {name: {kind: asdict(figures) for kind, figures in kinds.items()} for name, kinds in found.items()}
        replace_file(as_json, json.dumps(plain, indent=2) + "\n")
    if plot is not None:
        bars({name: {kind: r.mean_ap for kind, r in kinds.items()} for name, kinds in found.items()}, "mAP", plot)


def _show(found: dict[str, dict[str, Retrieval]], title: str) -> None:
    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("embedder", "crops"):
        table.add_column(heading)
    for heading in ("rank-1", "rank-5", "mAP", "AUC", "queries"):
        table.add_column(heading, justify="right")
    for name, kinds in found.items():
        for n, (kind, r) in enumerate(kinds.items()):
            figures = (f"{value:.3f}" for value in (r.rank[1], r.rank[5], r.mean_ap, r.auc))
            table.add_row(Path(name).name if n == 0 else "", kind, *figures, str(r.queries))
    console.print(title)
    console.print(table)
