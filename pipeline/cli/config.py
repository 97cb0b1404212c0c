"""`framechain config`: check a configuration, print the schema for editors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from pipeline.config import Document, schema

app = typer.Typer(help="Check a configuration file, or print its JSON Schema.", no_args_is_help=True)


@app.command("check")
def check(file: Annotated[Path, typer.Argument(help="the YAML file")]) -> None:
    """Check a configuration file without opening a source or loading a model."""
    chain = Document.read(file).build()
    parts = [*(stage.name for stage in chain.stages), *(sink.name for sink in chain.sinks)]
    print(f"{file}: {len(chain.sources)} sources → {' → '.join(parts)}")


@app.command("schema")
def print_schema() -> None:
    """Print the JSON Schema of configuration files, with every component that is installed."""
    print(json.dumps(schema(), indent=2))
