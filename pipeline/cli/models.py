"""Being written."""

import typer

app = typer.Typer()


@app.command("list")
def show() -> None:
    """Being written."""
