"""`framechain train`: models of one's own."""

from __future__ import annotations

import typer

from pipeline.cli.train import detector, distil, embedder

app = typer.Typer(
    help="Train a detector or an embedder on your own data, or distil a large one into a small one.",
    no_args_is_help=True,
)
app.command("embedder")(embedder.train_embedder)
app.command("detector")(detector.train_detector)
app.command("distil")(distil.distil)
