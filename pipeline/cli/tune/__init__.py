"""`framechain tune`: settings that suit one's own scenes and machine."""

from __future__ import annotations

import typer

from pipeline.cli.tune import speed, tracker

app = typer.Typer(
    help="Search the options of a tracker that suit your scenes, or the settings that make a chain fastest here.",
    no_args_is_help=True,
)
app.command("tracker")(tracker.tune_tracker)
app.command("speed")(speed.tune_speed)
