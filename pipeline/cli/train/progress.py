"""How a training goes: a bar on a terminal, a line an epoch elsewhere, nothing when quiet."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from typing_extensions import Self

_SHOWN = 20  # problems of the data that are told one by one


class TrainingProgress:
    """Shows epochs, batches and figures on standard error.

    Attributes:
        epochs: how many are done.
    """

    def __init__(self, epochs: int, quiet: bool) -> None:
        self.epochs = 0
        self._quiet, self._most, self._batches = quiet, epochs, 1
        # of the stream as it is now: during training the libraries' output is led elsewhere
        self._console = Console(file=sys.stderr, highlight=False, soft_wrap=True)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(20),
            TextColumn("{task.completed:.1f}/{task.total} epochs"),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, console=self._console, disable=quiet or not self._console.is_terminal)
        self._task = self._bar.add_task("training", total=epochs)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        """A line."""
        if not self._quiet:
            self._console.print(text, markup=False)

    def problems(self, lines: Collection[str]) -> None:
        """What was wrong with the data."""
        if not self._quiet:
            tell_problems(lines)

    def labelling(self, frames: int) -> None:
        """A teacher has looked at so many frames."""
        self._bar.update(self._task, description=f"labelling, {frames} frames")

    def begin(self, batches: int) -> None:
        """It is known how many batches an epoch has."""
        self._batches = batches

    def batch(self, epoch: int, number: int) -> None:
        """A batch of an epoch is done, both from 1."""
        self._bar.update(self._task, completed=epoch - 1 + number / self._batches)

    def epoch(self, figures: Mapping[str, float]) -> None:
        """An epoch is done."""
        self.epochs = int(figures["epoch"])
        text = ", ".join(f"{name} {value:.3g}" for name, value in figures.items() if name != "epoch")
        self._bar.update(self._task, completed=self.epochs, description=text)
        if not self._console.is_terminal:
            self.say(f"epoch {self.epochs}/{self._most}: {text}")


def tell_problems(lines: Collection[str]) -> None:
    """What was wrong with the data: the first few by name, all counted."""
    for line in list(lines)[:_SHOWN]:
        print(f"framechain: {line}", file=sys.stderr)
    if lines:
        more = f", {len(lines) - _SHOWN} of them not shown" if len(lines) > _SHOWN else ""
        print(f"framechain: {len(lines)} problems in the data{more}; what is left is used", file=sys.stderr)
