"""`framechain models`: what ships, what is cached, whether it is whole, and fetching more."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table

from pipeline import download
from pipeline.errors import FramechainError
from pipeline.models import bundled, cache_folder, named, public

app = typer.Typer(help="List the models that have names, verify them, fetch more.", invoke_without_command=True)


@app.callback()
def models(context: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="as JSON")] = False) -> None:
    """List what ships with Framechain, what is cached and where, and what can be fetched; or verify, or get."""
    if context.invoked_subcommand:
        return
    known = (*bundled(), *public())
    if as_json:
        entries = [{**asdict(model), "path": str(model.path), "there": model.path.exists()} for model in known]
        print(json.dumps(entries, indent=2, default=str))
        return
    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("name", "for", "", "MB", "what", "licence"):
        table.add_column(column, justify="right" if column == "MB" else "left")
    for model in known:
        there = model.path.exists()
        state = "ships" if model.bundled else "cached" if there else "to get"
        size = f"{model.path.stat().st_size / 1e6:.1f}" if there else ""
        table.add_row(
            model.name, model.task, state, size, model.description, model.licence, style="" if there else "dim"
        )
    console.print(table)
    console.print(f"ships in {bundled()[0].folder}\ncached in {cache_folder()}", markup=False, soft_wrap=True)


@app.command("verify")
def verify() -> int:
    """Compare the checksums of all models that are here; exits with 1 where one is damaged."""
    damaged = 0
    for model in (*bundled(), *public()):
        if not model.bundled and not model.path.exists():
            continue
        try:
            model.check()
        except FramechainError as error:
            damaged += 1
            print(error)
            continue
        whose = "" if model.sha256 else " (as it was when fetched; no checksum is known)"
        print(f"{model.name} is whole: {model.path}{whose}")
    return int(damaged > 0)


@app.command("get")
def get(
    name: Annotated[str, typer.Argument(help="of the model; framechain models lists them")],
    source: Annotated[
        str | None, typer.Option("--from", metavar="FILE_OR_URL", help="take it from here, not from its publisher")
    ] = None,
) -> None:
    """Fetch a public model into the cache and verify its checksum."""
    model = named(name)
    with _shown(model.file) as progress:
        actual = model.get(source, progress)
    print(f"{model.path}\nlicence of the weights: {model.licence}\nuse it: --{_FLAGS[model.task]} {model.name}")
    if model.sha256 is None:
        print(f"no checksum is known; its sha256 is {actual}, keep it")


_FLAGS = {"detect": "weights", "embed": "embedder"}


@contextmanager
def _shown(what: str) -> Iterator[download.Progress]:
    """A bar on a terminal, nothing elsewhere."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
