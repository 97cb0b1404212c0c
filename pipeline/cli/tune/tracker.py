"""`framechain tune tracker`: search the options of a tracker that suit one's own scenes."""

from __future__ import annotations

import gc
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from typing_extensions import Self

from pipeline.cli.chain import Debug
from pipeline.cli.tracked import (
    DATA,
    Data,
    Measured,
    NoVectors,
    VideoEmbedder,
    VideoWeights,
    files_of,
    read_sequences,
    told_in_a_line,
)
from pipeline.errors import FramechainError, Interrupted, MissingExtra, UsageError
from pipeline.files.output import check_reports, replace_file

if TYPE_CHECKING:
    from trackers.evaluate import Figures
    from trackers.sequences import TrackedSequence
    from trackers.tuning import Trial, Tuner

_SHARES = ("HOTA", "DetA", "AssA", "IDF1", "MOTA")
_TOLD = 5  # options whose importance is told

Pair = tuple["Figures", "Figures"]


def tune_tracker(
    data: Data,
    out: Annotated[Path, typer.Option(help="configuration to write, for framechain run --config")],
    report: Annotated[
        list[str] | None, typer.Option(metavar="DATA", help=f"{DATA}: to report on, not tuned on; may be repeated")
    ] = None,
    tracker: Annotated[
        str | None, typer.Option(help="NAME, or NAME:option=value,... to begin with and to keep; if not given: tether")
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="how many settings are tried")] = 100,
    metric: Annotated[
        Literal["hota", "deta", "assa", "idf1", "mota", "mean"],
        typer.Option(help="what to tune for, over all sequences together; mean: of HOTA and IDF1"),
    ] = "hota",
    option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[=LOW..HIGH]", help="search this option only, in its own range or this; may be repeated"
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="of everything drawn")] = 0,
    timeout: Annotated[float | None, typer.Option(min=0, help="seconds after which no more is tried")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="settings tried at the same time; more than 4 do no more")] = 1,
    measured: Measured = False,
    weights: VideoWeights = None,
    embedder: VideoEmbedder = None,
    no_embed: NoVectors = False,
    as_json: Annotated[Path | None, typer.Option("--json", help="write figures and options here")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="no progress")] = False,
    debug: Debug = False,
) -> None:
    """Search a tracker's options on sequences with ground truth, and say on others what that is worth."""
    read = [*files_of(data), *files_of(report or ())]
    check_reports({"--out": out, "--json": as_json}, [*read, *filter(None, (weights, embedder))])
    try:
        import optuna  # noqa: F401
        import trackeval  # noqa: F401
    except ImportError as error:
        raise MissingExtra("searches for options", "tune") from error
    from trackers import sequences
    from trackers.tracker import DEFAULT, create, registry
    from trackers.tuning import Tuner, dimensions

    with told_in_a_line():
        name, start = sequences.parse(tracker or DEFAULT)
        create(name, **start)
        searched = dimensions(registry.load(name), option or (), start)
        inputs = read_sequences(data, weights, embedder, embed=not no_embed)
        others = read_sequences(report, weights, embedder, embed=not no_embed) if report else []
        if both := {one.name for one in inputs} & {one.name for one in others}:
            raise UsageError(f"{', '.join(sorted(both))} is tuned on as well; give others to --report")
        tuner = Tuner(name, inputs, searched, start=start, metric=metric, hidden=not measured, seed=seed)
    with _Progress(tuner, trials, metric, quiet) as progress:
        stopped = _searched(tuner, trials, timeout, jobs, progress)
    conclusion = _Conclusion(tuner, name, inputs, others, metric, seed, hidden=not measured)
    if not stopped and others:
        conclusion.look_at_the_others()
    replace_file(out, conclusion.config(weights, None if no_embed else embedder or "", out))
    if as_json is not None:
        replace_file(as_json, json.dumps(conclusion.plain(importance=not stopped), indent=2) + "\n")
    if stopped:
        gc.collect()  # the processes' semaphores, in cycles: the hard end that follows would have Python warn of them
        raise Interrupted(
            f"after {len(tuner.trials)} of {trials} trials; wrote the best of them, "
            f"{metric} {_percent(tuner.before.score)} → {_percent(tuner.best.score)}, to {out}"
        )
    conclusion.show(out)


def _searched(tuner: Tuner, trials: int, timeout: float | None, jobs: int, progress: _Progress) -> bool:
    """Search, and say whether Ctrl-C ended it.

    Raises:
        Interrupted: before there was anything to keep.
        FramechainError: a process died.
    """
    try:
        tuner.run(trials, timeout=timeout, jobs=jobs, told=progress.told)
    except KeyboardInterrupt:
        if not tuner.trials:
            raise Interrupted("in the first trial; nothing is written") from None
        return True
    except RuntimeError as error:
        raise FramechainError(f"{error}; give fewer --jobs") from error
    return False


class _Progress:
    """Trials so far on standard error: a bar on a terminal, elsewhere a line for each that is better."""

    def __init__(self, tuner: Tuner, trials: int, metric: str, quiet: bool) -> None:
        self._tuner, self._trials, self._metric, self._quiet = tuner, trials, metric, quiet
        self._console = Console(file=sys.stderr, highlight=False, soft_wrap=True)
        columns = (TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn())
        self._bar = Progress(*columns, console=self._console, disable=quiet or not self._console.is_terminal)
        self._task = self._bar.add_task("trying", total=trials)
        self._best = -math.inf

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._bar.stop()

    def told(self, trial: Trial) -> None:
        """One was tried."""
        better, self._best = trial.score > self._best, max(self._best, trial.score)
        text = f"{self._metric} {_percent(self._tuner.before.score)} → {_percent(self._best)}"
        if trial.number >= self._trials:
            text += ", taking back what is of no use"
        self._bar.update(self._task, completed=min(trial.number + 1, self._trials), description=text)
        if not (self._quiet or self._console.is_terminal) and better:
            self._console.print(f"trial {trial.number + 1}: {text}", markup=False)


class _Conclusion:
    """What came of a search: figures before and after, as a table, a configuration and plain data.

    Args:
        tuner: after its run. name: of the tracker. inputs, others: what was tuned on, and what to report on.
    """

    def __init__(
        self,
        tuner: Tuner,
        name: str,
        inputs: Sequence[TrackedSequence],
        others: Sequence[TrackedSequence],
        metric: str,
        seed: int,
        *,
        hidden: bool,
    ) -> None:
        from trackers.tuning import written

        self._tuner, self._name, self._inputs, self._others = tuner, name, inputs, others
        self._metric, self._seed, self._hidden = metric, seed, hidden
        self._changed = tuner.changed(tuner.best)
        self._text = written(name, tuner.best.options)
        self._on: dict[str, Pair] = {}
        if tuner.before.figures is not None and tuner.best.figures is not None:
            self._on["tuned on"] = tuner.before.figures, tuner.best.figures

    def look_at_the_others(self) -> None:
        """Find the figures on sequences that were not tuned on."""
        from trackers.tuning import judged

        with Console(stderr=True).status("reporting"), told_in_a_line():
            before, after = (
                judged(self._name, self._others, self._hidden, trial.options)
                for trial in (self._tuner.before, self._tuner.best)
            )
        if before is not None and after is not None:
            self._on["not tuned on"] = before, after

    def config(self, weights: str | None, embedder: str | None, out: Path) -> str:
        """A chain with the tracker as it was found, as YAML.

        Args:
            weights, embedder: models for the videos; None: the bundled detector, no embedder; "": the bundled one.
        """
        detect: dict[str, Any] = {"classes": ["person"], **({} if weights is None else {"weights": weights})}
        track: dict[str, Any] = {"tracker": self._name}
        if self._tuner.best.options:
            track["options"] = dict(self._tuner.best.options)
        embed = [{"embed": {"weights": embedder}} if embedder else "embed"] if embedder is not None else []
        stages = [{"detect": detect}, *embed, {"track": track}]
        told = [f"{self._name}, tuned for {self._metric} in {len(self._tuner.trials)} trials, seed {self._seed}"]
        for where, pair in self._on.items():
            names = ", ".join(one.name for one in (self._others if where == "not tuned on" else self._inputs))
            figures = (f"{key} {_arrow(pair, key)}" for key in ("HOTA", "IDF1", "MOTA"))
            told.append(f"{where}: {names}: {', '.join(figures)}")
        told += [f"  framechain run VIDEO --config {out}", f"  framechain eval tracker DATA --tracker {self._text}"]
        comment = "".join(f"# {' '.join(line.split()) if line[0] != ' ' else line}\n" for line in told)
        return comment + yaml.safe_dump({"stages": stages}, sort_keys=False, allow_unicode=True)

    def plain(self, *, importance: bool) -> dict[str, Any]:
        """All of it for JSON."""
        names = {"tuned on": self._inputs, "not tuned on": self._others}
        on = {
            where.replace(" ", "_"): {
                "sequences": [one.name for one in names[where]],
                "before": asdict(before),
                "after": asdict(after),
            }
            for where, (before, after) in self._on.items()
        }
        return {
            "tracker": self._text,
            "options": dict(self._tuner.best.options),
            "changed": {name: {"before": old, "after": new} for name, (old, new) in self._changed.items()},
            "metric": self._metric,
            "seed": self._seed,
            "trials": len(self._tuner.trials),
            "refused": sum(trial.figures is None for trial in self._tuner.trials),
            **on,
            "importance": self._tuner.importance() if importance else {},
        }

    def show(self, out: Path) -> None:
        """Print tables, and what to do with the file."""
        console = Console(highlight=False)
        table = Table(box=None, pad_edge=False, header_style="bold")
        for heading in ("sequences", "options"):
            table.add_column(heading)
        for heading in (*_SHARES, "IDSW"):
            table.add_column(heading, justify="right")
        for where, pair in self._on.items():
            for n, (when, figures) in enumerate(zip(("before", "tuned"), pair, strict=True)):
                shares = (_percent(getattr(figures, key)) for key in _SHARES)
                table.add_row(where if n == 0 else "", when, *shares, str(figures.IDSW))
        console.print(table)
        if not self._others:
            console.print("these figures are of the data that was tuned on; --report DATA tells them of others")
        _show_changes(console, self._changed, self._tuner.importance())
        console.print(f"wrote {out}; framechain run VIDEO --config {out}", markup=False, soft_wrap=True)
        console.print(f"the same elsewhere: --tracker {self._text}", markup=False, soft_wrap=True)


def _show_changes(console: Console, changed: Mapping[str, tuple[Any, Any]], importance: Mapping[str, float]) -> None:
    if not changed:
        console.print("nothing better was found than the options there are")
    else:
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("option")
        for heading in ("before", "tuned"):
            table.add_column(heading, justify="right")
        for name, values in changed.items():
            table.add_row(name, *(f"{value:g}" if isinstance(value, float) else str(value) for value in values))
        console.print(table)
    if importance:
        most = list(importance.items())[:_TOLD]
        console.print("what mattered most: " + ", ".join(f"{name} {share:.0%}" for name, share in most))


def _arrow(pair: Pair, key: str) -> str:
    return " → ".join(_percent(getattr(figures, key)) for figures in pair)


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"
