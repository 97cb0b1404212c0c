"""`framechain cache`: what was made of networks for this machine, and deleting it."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from pipeline.errors import UsageError
from pipeline.inference import cache as files
from pipeline.inference.choice import remembered

app = typer.Typer(help="List what was made of networks for this machine, or delete it.", invoke_without_command=True)


@app.callback()
def cache(context: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="as JSON")] = False) -> None:
    """List the networks that were converted, and the runtime that was chosen for each, with the times it took."""
    if context.invoked_subcommand:
        return
    _check()
    entries, choices = list(files.entries()), list(remembered())
    if as_json:
        found = {
            "folder": str(files.folder()),
            "choices": [asdict(choice) for _, choice in choices],
            "files": [{"path": str(entry.path), "size": entry.size} for entry in entries],
        }
        print(json.dumps(found, indent=2))
        return
    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("weights", "computed by", "ms", "tried as well"):
        table.add_column(column, justify="right" if column == "ms" else "left")
    for _, choice in choices:
        timed = sorted(choice.others, key=lambda one: one.seconds or float("inf"))
        others = ", ".join(f"{one} {1000 * one.seconds:.1f}" if one.seconds else f"{one}: {one.fault}" for one in timed)
        table.add_row(choice.weights, str(choice.chosen), f"{1000 * (choice.chosen.seconds or 0):.1f}", others)
    if choices:
        console.print(table)
    total = sum(entry.size for entry in entries)
    console.print(
        f"{len(entries)} file{'s' * (len(entries) != 1)}, {total / 1e6:.1f} MB in {files.folder()}",
        markup=False,
        soft_wrap=True,
    )


@app.command("clear")
def clear() -> None:
    """Delete all of it: networks are converted, and runtimes tried, when they are next used."""
    _check()
    count, size = files.clear()
    print(f"deleted {count} file{'s' * (count != 1)}, {size / 1e6:.1f} MB, from {files.folder()}")


def _check() -> None:
    folder = files.folder()
    for part in (folder, *folder.parents):
        if part.exists():
            if not part.is_dir():
                raise UsageError(f"the cache cannot be in {folder}: {part} is a file; set FRAMECHAIN_CACHE to a folder")
            return
