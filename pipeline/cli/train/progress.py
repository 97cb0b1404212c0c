"""How a training goes: a bar on a terminal, a line an epoch elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from typing_extensions import Self

_SHOWN = 5  # problems told one by one


class TrainingProgress:
    """Shows epochs, batches and figures on standard error; a process that does not lead shows nothing."""

    def __init__(self, epochs: int, leads: bool) -> None:
        self._epochs, self._leads = epochs, leads
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        columns = (
            TextColumn("epoch {task.fields[epoch]}/" + str(epochs)),
            BarColumn(20),
            TextColumn("{task.completed}/{task.total}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}"),
        )
        self._bar = Progress(*columns, console=self._console, disable=not (leads and self._console.is_terminal))
        self._task = self._bar.add_task("", total=None, epoch=1, figures="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        """A line above the bar."""
        if self._leads:
            self._console.print(text, markup=False)

    def begin(self, batches: int) -> None:
        """It is known how many batches an epoch has."""
        self._bar.update(self._task, total=batches)

    def batch(self, epoch: int, number: int) -> None:
        """A batch of an epoch (from 1) is done."""
        self._bar.update(self._task, completed=number, epoch=epoch)

    def epoch(self, figures: Mapping[str, Any]) -> None:
        """An epoch is done."""
        shown = "  ".join(f"{name} {value:.3g}" for name, value in figures.items() if name != "epoch")
        self._bar.update(self._task, figures=shown)
        if not self._console.is_terminal and self._leads:
            print(f"epoch {figures['epoch']:.0f}/{self._epochs}: {shown}", file=sys.stderr, flush=True)


def tell_problems(lines: Collection[str]) -> None:
    """What was wrong with the data: the first few by name, the rest counted."""
    for line in list(lines)[:_SHOWN]:
        print(f"framechain: {line}", file=sys.stderr)
    if len(lines) > _SHOWN:
        print(f"framechain: and {len(lines) - _SHOWN} more problems with the data", file=sys.stderr)
