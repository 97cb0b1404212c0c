"""`framechain eval tracker`: how well identities hold."""

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
from pipeline.cli.tracked import (
    Data,
    Measured,
    NoVectors,
    VideoEmbedder,
    VideoWeights,
    files_of,
    read_sequences,
    told_in_a_line,
)
from pipeline.errors import MissingExtra
from pipeline.files.output import check_reports, replace_file

if TYPE_CHECKING:
    from trackers.evaluate import Figures

_SHOWN = ("HOTA", "DetA", "AssA", "IDF1", "MOTA")
_COUNTED = ("IDSW", "Frag", "FP", "FN")


def eval_tracker(
    data: Data,
    tracker: Annotated[
        list[str] | None,
        typer.Option(help="NAME or NAME:option=value,...; may be repeated to compare several; if not given: tether"),
    ] = None,
    measured: Measured = False,
    weights: VideoWeights = None,
    embedder: VideoEmbedder = None,
    no_embed: NoVectors = False,
    as_json: Annotated[Path | None, typer.Option("--json", help="write the figures here")] = None,
    plot: Annotated[Path | None, typer.Option(help="write a bar chart here: .png, .svg or .pdf")] = None,
    debug: Debug = False,
) -> None:
    """Measure HOTA, CLEAR and IDF1 by TrackEval, of each sequence and of all together; persons only."""
    from trackers import create, sequences
    from trackers.evaluate import evaluate
    from trackers.tracker import DEFAULT

    check_reports({"--json": as_json, "--plot": plot}, [*files_of(data), *filter(None, (weights, embedder))])
    charts.check(plot)
    made = {}
    with told_in_a_line():
        for text in tracker or [DEFAULT]:
            name, options = sequences.parse(text)
            made[text] = create(name, **options)
    inputs = read_sequences(data, weights, embedder, embed=not no_embed)
    found: dict[str, dict[str, Figures]] = {}
    for text, one in made.items():
        with Console(stderr=True).status(text):
            results = {
                sequence.name: (sequence.truth, sequences.run(one, sequence, hidden=not measured))
                for sequence in inputs
            }
            try:
                total, each = evaluate(results)
            except ImportError as error:
                raise MissingExtra("figures of trackers", "eval") from error
        found[text] = {**each, "all": total} if len(each) > 1 else each
    _show(found)
    if as_json is not None:
        plain = {name: {part: asdict(figures) for part, figures in parts.items()} for name, parts in found.items()}
        replace_file(as_json, json.dumps(plain, indent=2) + "\n")
    if plot is not None:
        from pipeline.training.plots import bars

        bars({name: {part: f.HOTA for part, f in parts.items()} for name, parts in found.items()}, "HOTA", plot)


def _show(found: dict[str, dict[str, Figures]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("tracker", "sequence"):
        table.add_column(heading)
    for heading in (*_SHOWN, *_COUNTED):
        table.add_column(heading, justify="right")
    for name, parts in found.items():
        for n, (part, figures) in enumerate(parts.items()):
            shares = (f"{100 * getattr(figures, key):.1f}" for key in _SHOWN)
            counts = (str(getattr(figures, key)) for key in _COUNTED)
            table.add_row(name if n == 0 else "", part, *shares, *counts)
    Console(highlight=False).print(table)
