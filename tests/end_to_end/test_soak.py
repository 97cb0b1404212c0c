"""The judge of a soak: it finds a run that leaks, slows down or loses frames. CI runs a soak itself, too."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benchmarks.soak.run import Sample
from benchmarks.soak.verdict import judge_accounts, judge_growth, p99

LIMITS = (*(0.05 * 2 ** (step / 2) for step in range(16)), float("inf"))


def samples(minutes: float = 60, leak: float = 0.0, slower: float = 0.0, held: int = 0) -> list[Sample]:
    """A sample every ten seconds, memory noisy by 5 MB; `leak` in bytes an hour, the rest gained by the end."""
    random, made, within = np.random.default_rng(0), [], np.zeros(len(LIMITS))
    for at in np.arange(0, 60 * minutes, 10.0):
        share = at / (60 * minutes)
        memory = int(800e6 + leak * at / 3600 + random.normal(0, 5e6))
        latencies = random.exponential(0.05, 200) * (1 + slower * share)
        within = within + [np.sum(latencies <= limit) for limit in LIMITS]
        kept = int(held * share)
        made.append(
            Sample(
                at=float(at),
                resident=memory,
                anonymous=memory,
                threads=59 + kept + int(random.integers(3)),
                descriptors=24 + kept + int(random.integers(9)),
                live=4 if random.random() < 0.7 else 3,
                finished=dict.fromkeys(("street", "corner", "yard", "gate"), int(at)),
                within=list(zip(LIMITS, within.astype(int).tolist(), strict=True)),
            )
        )
    return made


def wrong(made: list[Sample]) -> set[str]:
    return {verdict.what for verdict in judge_growth(made) if not verdict.well}


def test_what_grows_is_found() -> None:
    assert wrong(samples()) == set()
    assert all(type(verdict.well) is bool for verdict in judge_growth(samples())), "as JSON knows it"
    assert wrong(samples(leak=8e6)) == {"resident memory", "anonymous memory"}
    assert wrong(samples(minutes=5, leak=2e9)) == {"resident memory", "anonymous memory"}
    assert wrong(samples(held=10)) == {"threads", "descriptors"}
    assert wrong(samples(slower=40)) == {"p99 latency"}


def test_the_tail_of_the_latency_between_two_samples() -> None:
    first, *_, last = samples()
    assert p99(first, last) == pytest.approx(0.05 * np.log(100), rel=0.15), "of an exponential distribution"
    assert np.isnan(p99(last, last)), "no frame was finished"


def test_what_is_missing_is_found() -> None:
    frames = [("street", index) for index in range(10)]
    source = {"id": "street", "captured": 13, "finished": 10, "in_flight": 0, "dropped": {"stale": 3}, "connections": 1}
    sink = {"name": "sink:webhook", "pending": 1, "dropped": {}}

    def missing(lines: Any = frames, rows: Any = frames, sent: int = 14, **changes: Any) -> set[str]:
        report = {"metrics": {"sources": [source | changes], "stages": [sink]}}
        verdicts = judge_accounts(report, lines, rows, set(frames[:-1]), {"street": sent})
        return {verdict.what for verdict in verdicts if not verdict.well}

    assert missing() == set()
    assert missing(captured=14) == {"accounts of street"}
    assert missing(lines=frames[:-1]) == {"jsonl"}
    assert missing(rows=[*frames[:-1], frames[0]]) == {"sqlite"}, "one twice, one never"
    assert missing(sent=40) == {"pictures of street"}


def test_a_moment_without_all_cameras_is_not_compared() -> None:
    made = samples(minutes=10)
    away = [replace(one, live=3, descriptors=4) if 400 < one.at < 450 else one for one in made]
    assert wrong(away) == set()
