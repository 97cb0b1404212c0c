"""Charts: figures of matplotlib, made and written the same way everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.errors import MissingExtra, UsageError
from pipeline.files.output import cannot_write

_KINDS = (".png", ".svg", ".pdf")


def figure(width: float, height: float) -> Any:
    """An empty figure, in inches.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure  # the object interface: no window, no global state
    except ImportError as error:
        raise MissingExtra("charts", "eval") from error
    return Figure(figsize=(width, height), layout="constrained")


def check(path: Path | None) -> None:
    """See, before anything is measured, that a chart can be made and its file is of a kind that can be written.

    Raises:
        UsageError: the file's name ends in something else. MissingExtra: matplotlib is not installed.
    """
    if path is None:
        return
    if path.suffix.lower() not in _KINDS:
        raise UsageError(f"--plot {path} is no picture that can be drawn; end its name in {', '.join(_KINDS)}")
    figure(1, 1)


def save(chart: Any, path: Path) -> None:
    """Write a figure at once: whoever reads the file sees the old one or the new.

    Raises:
        FramechainError: it cannot be written.
    """
    path = path.expanduser()
    partial = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        chart.savefig(partial, dpi=110)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise cannot_write(path, error) from error
