"""Charts of training and evaluation: curves over epochs, bars by condition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline import charts


def curves(rows: Sequence[Mapping[str, float]], path: Path) -> None:
    """Draw each column over the first one, a panel each.

    Args:
        rows: one an epoch, their first column what the others are drawn over.

    Raises:
        MissingExtra: matplotlib is not installed.
        FramechainError: the picture cannot be written.
    """
    over, *names = dict.fromkeys(name for row in rows for name in row)
    columns = min(3, max(len(names), 1))
    lines = -(-max(len(names), 1) // columns)
    figure = charts.figure(4 * columns, 3 * lines)
    for n, name in enumerate(names):
        panel = figure.add_subplot(lines, columns, n + 1)
        points = [(row[over], row[name]) for row in rows if name in row]
        panel.plot(*zip(*points, strict=True), marker=".", linewidth=1.2)
        panel.set(title=name, xlabel=over)
        panel.grid(alpha=0.3)
    charts.save(figure, path)


def bars(groups: Mapping[str, Mapping[str, float]], label: str, path: Path) -> None:
    """Draw a group of bars for each condition, a bar in it for each series.

    Args:
        groups: series → condition → value in 0..1.
        label: of the values.

    Raises:
        MissingExtra, FramechainError: as `curves`.
    """
    conditions = list(dict.fromkeys(name for values in groups.values() for name in values))
    figure = charts.figure(1.6 + 1.1 * len(conditions), 3.6)
    panel = figure.add_subplot()
    width = 0.8 / len(groups)
    for n, (series, values) in enumerate(groups.items()):
        places = [k + (n - (len(groups) - 1) / 2) * width for k, name in enumerate(conditions) if name in values]
        drawn = panel.bar(places, list(values.values()), width * 0.92, label=series)
        panel.bar_label(drawn, fmt="%.2f", fontsize=7)
    panel.set(ylim=(0, 1.05), ylabel=label, xticks=range(len(conditions)), xticklabels=conditions)
    panel.legend(fontsize=8, loc="lower right")
    charts.save(figure, path)
