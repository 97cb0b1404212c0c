"""What is searched, and how a search goes on, without any tracker run where that can be."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import pytest

import trackers
from trackers import tuning
from trackers.evaluate import Figures
from trackers.mot_format import MotRows
from trackers.sequences import Found, TrackedSequence, parse
from trackers.tracker import Choice, Range, Tracker, options, registry
from trackers.tuning import Dimension, Trial, Tuner, dimensions, score, written


class Odd(Tracker):
    """Every kind of option there is; cannot be run.

    Args:
        zero: nothing. share: nothing bounded. low: starts beyond its quarter. count: whole. mode: chosen. path: free.
    """

    name = "odd"

    def __init__(
        self,
        *,
        zero: Annotated[float, Range(0)] = 0.0,
        share: Annotated[float, Range(0, 0.5)] = 0.0,
        low: Annotated[float, Range(0.9, 1)] = 0.9,
        count: Annotated[int, Range(1)] = 3,
        mode: Annotated[str, Choice(("a", "b"))] = "a",
        path: str = "",
        flag: bool = True,
        fixed: Annotated[float, Range(2, 2)] = 2.0,
        **common: Any,
    ) -> None:
        super().__init__(**common)


def test_every_kind_of_option_has_its_range() -> None:
    assert dimensions(Odd) == [
        Dimension("zero", 0.0, 1.0),
        Dimension("share", 0, 0.5),
        Dimension("low", 0.9, 1),
        Dimension("count", 1, 12, whole=True),
        Dimension("mode", choices=("a", "b")),
        Dimension("flag", choices=(False, True)),
    ]
    assert [one.name for one in dimensions(Odd, held=("zero", "mode", "flag"))] == ["share", "low", "count"]
    assert dimensions(Odd, ["count=2..5", "class_policy"]) == [
        Dimension("count", 2, 5, whole=True),
        Dimension("class_policy", choices=("vote", "separate", "ignore")),
    ]
    with pytest.raises(ValueError, match="declares no choices"):
        dimensions(Odd, ["path"])


@pytest.mark.parametrize("name", trackers.available())
def test_every_tracker_can_be_searched_within_its_bounds(name: str) -> None:
    kind, rng = registry.load(name), np.random.default_rng(0)
    searched = dimensions(kind)
    assert searched
    assert not {"class_policy", "frame_period"} & {one.name for one in searched}
    for one in searched:
        for value in (one.low, one.high) if not one.choices else one.choices:
            options(kind)[one.name].check(value)
        for _ in range(20):
            value = one.rounded(one.drawn(rng))
            assert value in one
            options(kind)[one.name].check(value)
    values = {one.name: one.rounded(one.drawn(rng)) for one in searched}
    assert parse(written(name, values)) == (name, values)


def test_mean_is_that_of_hota_and_idf1() -> None:
    figures = Figures(**{**dict.fromkeys(Figures.__slots__, 0), "HOTA": 0.4, "IDF1": 0.6, "DetA": 0.1})
    assert [score(figures, name) for name in ("hota", "idf1", "deta", "mean")] == [0.4, 0.6, 0.1, 0.5]
    assert all(isinstance(score(figures, name), float) for name in tuning.METRICS)


def test_what_is_refused_is_left_and_what_is_of_no_use_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Better the longer it waits, up to 0.3 s; refused above; the rest has no effect."""
    pytest.importorskip("optuna")
    tried = []

    def judged(tracker: str, sequences: object, hidden: bool, values: dict[str, Any]) -> Figures | None:
        tried.append(tuple(values.items()))
        coast = values.get("max_coast", 0.1)
        if coast > 0.3:
            return None
        return Figures(**{**dict.fromkeys(Figures.__slots__, 0), "HOTA": coast})

    monkeypatch.setattr(tuning, "judged", judged)
    told: list[Trial] = []
    tuner = Tuner("sort", [], dimensions(registry.load("sort")))
    tuner.run(40, told=told.append)
    assert told == tuner.trials
    assert len(told) >= 40
    assert tuner.before.options == {}
    assert any(trial.figures is None for trial in told)
    assert set(tuner.changed(tuner.best)) == {"max_coast"}
    assert 0.2 < tuner.best.options["max_coast"] <= 0.3
    assert len(set(tried)) == len(tried), "nothing is tried twice"
    assert next(iter(tuner.importance())) == "max_coast"


def test_an_interrupted_search_has_its_best_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("optuna")

    def judged(tracker: str, sequences: object, hidden: bool, values: dict[str, Any]) -> Figures:
        if len(tuner.trials) == 6:
            raise KeyboardInterrupt
        return Figures(**{**dict.fromkeys(Figures.__slots__, 0), "HOTA": values.get("max_coast", 0.1)})

    monkeypatch.setattr(tuning, "judged", judged)
    tuner = Tuner("sort", [], dimensions(registry.load("sort"), ["max_coast"]))
    with pytest.raises(KeyboardInterrupt):
        tuner.run(40)
    assert len(tuner.trials) == 6
    assert tuner.best.score == max(trial.score for trial in tuner.trials)
    assert tuner.importance() == {}


def test_nothing_to_search_is_said() -> None:
    pytest.importorskip("optuna")
    with pytest.raises(ValueError, match="no options left to search"):
        Tuner("sort", [], [])


def test_a_process_that_dies_is_noticed() -> None:
    pytest.importorskip("trackeval")
    sequence = TrackedSequence("none", 10.0, [Dying(np.zeros((0, 4)), np.zeros(0))], MotRows())
    with tuning.judge("sort", [sequence], True, 2) as figures_of, pytest.raises(RuntimeError, match="died"):
        list(figures_of([{}, {}]))


class Dying(Found):
    """Ends the process that unpickles it."""

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os._exit, (1,)
