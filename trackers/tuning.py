"""Options of a tracker searched on sequences with ground truth: a tree-structured Parzen estimator, by Optuna."""

from __future__ import annotations

import math
import multiprocessing
import signal
import time
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from trackers.evaluate import Figures, evaluate
from trackers.lifecycle import KalmanTracker
from trackers.registry import nearest
from trackers.sequences import TrackedSequence, run
from trackers.tracker import Option, Tracker, options, registry

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Options = Mapping[str, Any]
Judge = Callable[[Sequence[Options]], Iterator[Figures | None]]

METRICS = ("hota", "deta", "assa", "idf1", "mota", "mean")
"""What can be tuned for; "mean" is that of HOTA and IDF1."""

ROUND = 4
"""Trials that are drawn together and may be tried at the same time: so many always, so that what is found does not
depend on how many processes look."""

_AT_ONCE = 3
"""Options that an early trial changes on average. Drawn all anew, twenty options that suit one another are nearly
always worse than they were, and the search has nothing to begin with."""

_SPAN = 4.0
"""An option is searched from a quarter of its default to four times of it."""

_WIDE = 10.0
"""From this ratio of its ends on a range is searched on a logarithmic scale."""


@dataclass(frozen=True, slots=True)
class Dimension:
    """Where one option is searched: in low..high, both included, or among choices."""

    name: str
    low: float = 0.0
    high: float = 1.0
    whole: bool = False
    choices: tuple[Any, ...] = ()

    @property
    def logarithmic(self) -> bool:
        """Whether values are drawn on a logarithmic scale."""
        return self.low > 0 and self.high >= _WIDE * self.low

    def __contains__(self, value: object) -> bool:
        if self.choices:
            return value in self.choices
        return isinstance(value, int | float) and self.low <= value <= self.high

    def drawn(self, rng: np.random.Generator) -> Any:
        """A value at random."""
        if self.choices:
            return self.choices[int(rng.integers(len(self.choices)))]
        if self.whole:
            return int(rng.integers(int(self.low), int(self.high) + 1))
        if self.logarithmic:
            return float(np.clip(math.exp(rng.uniform(math.log(self.low), math.log(self.high))), self.low, self.high))
        return float(rng.uniform(self.low, self.high))

    def rounded(self, value: Any) -> Any:
        """A value as it is tried: numbers have three significant digits.

        >>> Dimension("gate", 0.05, 0.5).rounded(0.123456)
        0.123
        """
        if self.choices or self.whole:
            return value
        return min(max(float(f"{value:.3g}"), self.low), self.high)

    def distribution(self) -> BaseDistribution:
        """The same for Optuna."""
        from optuna import distributions

        if self.choices:
            return distributions.CategoricalDistribution(self.choices)
        if self.whole:
            return distributions.IntDistribution(int(self.low), int(self.high), log=self.logarithmic)
        return distributions.FloatDistribution(self.low, self.high, log=self.logarithmic)


def dimensions(tracker: type[Tracker], chosen: Sequence[str] = (), held: Collection[str] = ()) -> list[Dimension]:
    """Where a tracker's options are searched.

    Numbers from a quarter of the default to four times of it, within their bounds; from 0 to 1 where the default is 0;
    true or false; the choices of a text. Left out unless chosen are options that every tracker has, which say what
    the data are; texts without declared choices always.

    Args:
        chosen: `name` or `name=low..high` of the options to search; all if empty. held: names to leave out.

    >>> from trackers.sort import SORT
    >>> [one.name for one in dimensions(SORT)]
    ['max_coast', 'min_hits', 'iou_threshold', 'number_at_birth']
    >>> dimensions(SORT, ["max_coast=0.1..2"])
    [Dimension(name='max_coast', low=0.1, high=2.0, whole=False, choices=())]

    Raises:
        ValueError: the tracker has no such option, or it cannot be searched there.
    """
    known = options(tracker)
    if not chosen:
        common = options(KalmanTracker)  # type: ignore[type-abstract]
        found = [_default_dimension(one) for name, one in known.items() if name not in (*common, *held)]
        return [one for one in found if one is not None]
    found_chosen: dict[str, Dimension] = {}
    for text in chosen:
        name, equals, span = (part.strip() for part in text.partition("="))
        if name not in known:
            raise ValueError(f"{tracker.name} has no option '{name}'{nearest(name, known)}")
        if name in found_chosen:
            raise ValueError(f"option '{name}' is given more than once; give it once")
        dimension = _dimension(known[name], span) if equals else _default_dimension(known[name])
        if dimension is None:
            raise ValueError(f"option '{name}' declares no choices, so there is nothing to search; leave it out")
        found_chosen[name] = dimension
    return list(found_chosen.values())


def _default_dimension(option: Option) -> Dimension | None:
    if option.type is bool:
        return Dimension(option.name, choices=(False, True))
    if option.type not in (int, float):
        return Dimension(option.name, choices=option.choices) if option.choices else None
    if option.default:
        low, high = sorted((option.default / _SPAN, option.default * _SPAN))
    elif math.isfinite(option.low) and math.isfinite(option.high):
        low, high = option.low, option.high
    else:
        low, high = 0.0, 1.0
    whole = option.type is int
    low, high = (math.floor(low), math.ceil(high)) if whole else (float(f"{low:.3g}"), float(f"{high:.3g}"))
    low, high = max(low, option.low), min(high, option.high)
    return Dimension(option.name, low, high, whole) if low < high else None


def _dimension(option: Option, span: str) -> Dimension:
    """An option in the range that a text names."""
    if option.type not in (int, float):
        raise ValueError(f"option '{option.name}' is no number and has no range; give its name alone")
    ends, kind = span.split(".."), option.type
    try:
        low, high = (kind(end) for end in ends)
    except ValueError:
        what = "whole numbers" if kind is int else "numbers"
        raise ValueError(f"'{option.name}={span}' is no range of {what}; write {option.name}=LOW..HIGH") from None
    for end in (low, high):
        option.check(end)
        if math.isinf(end):
            raise ValueError(f"option '{option.name}' cannot be searched without end; give a number for {end:g}")
    if not low < high:
        raise ValueError(f"'{option.name}={span}' is an empty range; write the lower end first")
    return Dimension(option.name, low, high, kind is int)


def written(tracker: str, values: Options) -> str:
    """A tracker with options as text, as `sequences.parse` reads it.

    >>> written("sort", {"min_hits": 2, "number_at_birth": True})
    'sort:min_hits=2,number_at_birth=true'
    """
    pairs = [f"{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in values.items()]
    return f"{tracker}:{','.join(pairs)}" if pairs else tracker


def score(figures: Figures, metric: str) -> float:
    """The figure that is tuned for, one of METRICS."""
    if metric == "mean":
        return (figures.HOTA + figures.IDF1) / 2
    return float(getattr(figures, {"deta": "DetA", "assa": "AssA"}.get(metric, metric.upper())))


def judged(tracker: str, sequences: Sequence[TrackedSequence], hidden: bool, values: Options) -> Figures | None:
    """Figures of a tracker with these options over all sequences together; None if it refuses them.

    Raises:
        ImportError: TrackEval is not installed.
        ValueError: the sequences cannot be evaluated.
    """
    try:
        made = registry.load(tracker)(**values)
    except ValueError:  # options that do not go together
        return None
    return evaluate({one.name: (one.truth, run(made, one, hidden=hidden)) for one in sequences})[0]


@contextmanager
def judge(tracker: str, sequences: Sequence[TrackedSequence], hidden: bool, jobs: int) -> Iterator[Judge]:
    """A function that finds the figures of several settings of a tracker, in this process or in `jobs` others.

    Raises:
        RuntimeError: one of those processes died.
    """
    of = partial(judged, tracker, sequences, hidden)
    if jobs == 1:
        yield lambda settings: map(of, settings)
        return
    # Spawned, as a fork copies locks that threads of the parent may hold. Ctrl-C is the parent's to answer.
    with multiprocessing.get_context("spawn").Pool(jobs, signal.signal, (signal.SIGINT, signal.SIG_IGN)) as pool:
        started = {process.pid for process in multiprocessing.active_children()}

        def of_all(settings: Sequence[Options]) -> Iterator[Figures | None]:
            results = pool.imap(of, settings)
            for _ in settings:
                while True:
                    try:
                        found = results.next(1.0)
                        break
                    except multiprocessing.TimeoutError:
                        # a pool replaces a process that died, and waits for ever for what that one was at
                        if not started <= {process.pid for process in multiprocessing.active_children()}:
                            raise RuntimeError(
                                "a process that tried options died, perhaps for want of memory"
                            ) from None
                yield found

        yield of_all


@dataclass(frozen=True, slots=True)
class Trial:
    """Options that were tried.

    Attributes:
        number: from 0, the start. options: all that differ from the tracker's defaults.
        figures: over all sequences; None if the tracker refused these options. score: what is tuned for.
    """

    number: int
    options: Options
    figures: Figures | None
    score: float


class Tuner:
    """The search for better options of a tracker on some sequences.

    It begins with the options there are, so that the best is never worse than they are; goes on with some that
    differ from them in a few options, then with what a tree-structured Parzen estimator (Bergstra et al. 2011) expects
    to be good; at last, each option of the best goes back to where it began if nothing is lost by that. The
    same seed finds the same, whatever the number of processes; only a timeout makes a difference.

    Args:
        tracker: its name. sequences: what it is judged on, all together.
        searched: the options, see `dimensions`. start: options to begin with, and to keep where they are not searched.
        metric: one of METRICS. hidden: count also where tracks are believed to be, see `sequences.run`.
        seed: of all that is drawn.

    Attributes:
        trials: all that were tried, in order. best: the best of them.

    Raises:
        ImportError: Optuna is not installed.
        UnknownName: there is no such tracker.
        ValueError: `start` is nothing the tracker takes, or there is nothing to search.
    """

    def __init__(
        self,
        tracker: str,
        sequences: Sequence[TrackedSequence],
        searched: Iterable[Dimension],
        *,
        start: Options | None = None,
        metric: str = "hota",
        hidden: bool = True,
        seed: int = 0,
    ) -> None:
        import optuna

        kind = registry.load(tracker)
        self._tracker, self._sequences, self._hidden = tracker, sequences, hidden
        self._metric, self._seed = metric, seed
        self._searched = {one.name: one for one in searched}
        if not self._searched:
            raise ValueError(f"{tracker} has no options left to search; name some")
        self._defaults = {name: option.default for name, option in options(kind).items()}
        self._start = {**self._defaults, **(start or {})}
        kind(**self._start)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
        self._distributions = {name: one.distribution() for name, one in self._searched.items()}
        self._known: dict[tuple[tuple[str, Any], ...], Figures | None] = {}
        self.trials: list[Trial] = []

    @property
    def before(self) -> Trial:
        """The options there were."""
        return self.trials[0]

    @property
    def best(self) -> Trial:
        """The best so far; of several the one that changes the fewest options, then the earliest."""
        return max(self.trials, key=lambda trial: (trial.score, -len(self.changed(trial)), -trial.number))

    def run(
        self,
        trials: int,
        *,
        timeout: float | None = None,
        jobs: int = 1,
        told: Callable[[Trial], object] = lambda trial: None,
    ) -> None:
        """Search. A KeyboardInterrupt ends it too: `best` is then that of the trials so far.

        Args:
            trials: how many options are tried; a few more are to take back what has no effect.
            timeout: seconds after which no more are begun. jobs: processes.
            told: called after each trial.

        Raises:
            ImportError: TrackEval is not installed.
            RuntimeError: one of the processes died.
            ValueError: the sequences cannot be evaluated.
        """
        import optuna

        end = math.inf if timeout is None else time.monotonic() + timeout
        with judge(self._tracker, self._sequences, self._hidden, min(jobs, ROUND)) as figures_of:
            if not self.trials:
                self._begin(figures_of, told)
            while len(self.trials) < trials and time.monotonic() < end:
                count = min(ROUND, trials - len(self.trials))
                asked = [self._study.ask(self._distributions) for _ in range(count)]
                settings = [self._rounded(trial.params) for trial in asked]
                for trial, done in zip(asked, self._tried(settings, figures_of, told), strict=True):
                    if math.isfinite(done.score):
                        self._study.tell(trial, done.score)
                    else:
                        self._study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            for name in self._searched:
                best = self.best
                if name in self.changed(best) and time.monotonic() < end:
                    back = {**self._defaults, **best.options, name: self._start[name]}
                    list(self._tried([back], figures_of, told))

    def changed(self, trial: Trial) -> dict[str, tuple[Any, Any]]:
        """What a trial has other than the start: (before, after) by the option's name."""
        after = {**self._defaults, **trial.options}
        return {name: (old, after[name]) for name, old in self._start.items() if after[name] != old}

    def importance(self) -> dict[str, float]:
        """Shares in 0..1 of what each option does to the score, the greatest first (PED-ANOVA, Watanabe et al. 2023).

        Empty if too little was tried to tell.
        """
        from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

        scores = [trial.score for trial in self.trials if math.isfinite(trial.score)]
        if len(scores) < max(2 * ROUND, len(self._searched)) or len(set(scores)) < 2:
            return {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it calls itself experimental
            shares = get_param_importances(self._study, evaluator=PedAnovaImportanceEvaluator())
        return {name: float(share) for name, share in sorted(shares.items(), key=lambda pair: -pair[1])}

    def _begin(self, figures_of: Judge, told: Callable[[Trial], object]) -> None:
        """Try the start, and line up trials that differ from it in a few options."""
        import optuna

        (first,) = self._tried([self._start], figures_of, told)
        start = {name: self._start[name] for name in self._searched}
        if all(value in self._searched[name] for name, value in start.items()) and math.isfinite(first.score):
            self._study.add_trial(
                optuna.trial.create_trial(params=start, distributions=self._distributions, value=first.score)
            )
        rng = np.random.default_rng(self._seed)
        for _ in range(max(10, len(start))):
            moved = rng.random(len(start)) < _AT_ONCE / len(start)
            moved[rng.integers(len(start))] = True
            self._study.enqueue_trial(
                {
                    name: one.drawn(rng) if move or start[name] not in one else start[name]
                    for move, (name, one) in zip(moved, self._searched.items(), strict=True)
                }
            )

    def _rounded(self, params: Options) -> dict[str, Any]:
        """All options of a trial; those at their start are exactly there."""
        values = {name: self._searched[name].rounded(value) for name, value in params.items()}
        kept = {name: self._start[name] for name, value in params.items() if value == self._start[name]}
        return {**self._start, **values, **kept}

    def _tried(
        self, settings: Sequence[Options], figures_of: Judge, told: Callable[[Trial], object]
    ) -> Iterator[Trial]:
        """Each of some settings, once it is tried and noted; what was tried before is not tried again."""
        keys = [
            tuple((name, value) for name, value in values.items() if value != self._defaults[name])
            for values in settings  # all have all options in the same order
        ]
        found = figures_of([dict(key) for key in dict.fromkeys(keys) if key not in self._known])
        for key in keys:
            if key not in self._known:
                self._known[key] = next(found)
            figures = self._known[key]
            points = -math.inf if figures is None else score(figures, self._metric)
            trial = Trial(len(self.trials), dict(key), figures, points if math.isfinite(points) else -math.inf)
            self.trials.append(trial)
            told(trial)
            yield trial
