"""`framechain eval`: how good a model is, on clean and on damaged pictures."""

from __future__ import annotations

import typer

from pipeline.cli.evaluate import detector, embedder

app = typer.Typer(help="Measure a model against ground truth, on clean and on damaged pictures.", no_args_is_help=True)
app.command("detector")(detector.eval_detector)
app.command("embedder")(embedder.eval_embedder)
