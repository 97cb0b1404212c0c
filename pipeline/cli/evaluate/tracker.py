"""`framechain eval tracker`: how well identities hold."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from pipeline.cli.chain import Debug
from pipeline.errors import MissingExtra, UsageError
from pipeline.output import check_reports, replace_file

if TYPE_CHECKING:
    from trackers.evaluate import Figures
    from trackers.sequences import TrackedSequence

_SHOWN = ("HOTA", "DetA", "AssA", "IDF1", "MOTA")
_COUNTED = ("IDSW", "Frag", "FP", "FN")


def eval_tracker(
    data: Annotated[
        list[str],
        typer.Argument(
            metavar="DATA...",
            help="a MOTChallenge sequence, or a folder of them, with public detections; or VIDEO=SEQUENCE, to detect "
            "on the video",
        ),
    ],
    tracker: Annotated[
        list[str] | None,
        typer.Option(help="NAME or NAME:option=value,...; may be repeated to compare several [default: tether]"),
    ] = None,
    measured: Annotated[
        bool, typer.Option("--measured", help="judge only what frames showed, not where tracks are believed to be")
    ] = False,
    weights: Annotated[str | None, typer.Option(help="detector for videos [default: the bundled one]")] = None,
    embedder: Annotated[str | None, typer.Option(help="embedder for videos [default: the bundled one]")] = None,
    no_embed: Annotated[bool, typer.Option("--no-embed", help="no appearance vectors")] = False,
    as_json: Annotated[Path | None, typer.Option("--json", help="write the figures here")] = None,
    plot: Annotated[Path | None, typer.Option(help="write a bar chart here (.png)")] = None,
    debug: Debug = False,
) -> None:
    """Measure HOTA, CLEAR and IDF1 by TrackEval, of each sequence and of all together; persons only."""
    from trackers import create, sequences
    from trackers.evaluate import evaluate
    from trackers.registry import UnknownName
    from trackers.tracker import DEFAULT

    check_reports({"--json": as_json, "--plot": plot}, [*data, *filter(None, (weights, embedder))])
    made = {}
    try:
        for text in tracker or [DEFAULT]:
            name, options = sequences.parse(text)
            made[text] = create(name, **options)
        inputs = list(_inputs(data, weights, None if no_embed else embedder or ""))
    except (UnknownName, ValueError, OSError) as error:
        raise UsageError(_line(error)) from error
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


def _inputs(data: Sequence[str], weights: str | None, embedder: str | None) -> list[TrackedSequence]:
    from trackers import sequences

    found = []
    for text in data:
        video, equals, folder = text.rpartition("=")
        for path in sequences.sequence_folders(Path(folder)):
            if equals:
                from pipeline.training.tracked_videos import detected

                found.append(detected(video, path, weights, embedder))
            else:
                found.append(sequences.read_sequence(path))
    names = [sequence.name for sequence in found]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise UsageError(f"{', '.join(sorted(twice))} is given more than once; give each sequence once")
    return found


def _line(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename:
        return f"cannot read {error.filename}: {error.strerror}"
    return str(error)


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
