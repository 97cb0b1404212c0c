"""`framechain eval`: how good a model or a tracker is."""

from __future__ import annotations

import typer

from pipeline.cli.evaluate import detector, embedder, tracker

app = typer.Typer(help="Measure a model or a tracker against ground truth.", no_args_is_help=True)
app.command("detector")(detector.eval_detector)
app.command("embedder")(embedder.eval_embedder)
app.command("tracker")(tracker.eval_tracker)
