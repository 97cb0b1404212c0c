"""What a soak came to: slopes with their errors, and whether anything is missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.soak.run import Sample
from benchmarks.soak.site import RATE

WARM_UP = 0.2
"""Share of the time that is left out: allocators, caches and galleries fill; ten minutes at most."""

_BLOCKS, _SHORTEST = 12, 60.0
"""Pieces that the rest is cut into, and seconds of each at least. A slope goes through their medians, so that a peak
does not count. Outputs rotate once a minute, and memory rises then: shorter pieces would tell where in a minute they
lie."""

_MOST_GROWTH = 1e6
"""Bytes an hour, in a run of half an hour at least."""

_TELLING = 1800.0
"""Seconds. In less a slope drowns in the last caches that fill, and in what else the machine does meanwhile."""

_MOST_GAIN = 0.1
"""Of the memory after the warm-up, in a shorter run."""

_MOST_HELD, _MOST_HELD_SOON = 1, 4
"""Threads, or descriptors, that may be in use beyond the first half's: in a run of half an hour, and in a shorter one.
A leak at each fault would be hundreds, and dozens."""

_MOST_DRIFT, _MOST_DRIFT_SOON = 0.1, 0.5
"""Of p99 latency, over such a run and over a shorter one."""

_BUDGET = 1.0
"""Seconds of p99 latency that are always well: twice the staleness budget, as frames inside take their time, too."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One thing that was looked at: whether it is well, and the figures in words."""

    what: str
    well: bool
    words: str


def warm_up(samples: Sequence[Sample]) -> float:
    """Seconds from the beginning that are left out."""
    return min(600.0, WARM_UP * samples[-1].at)


def blocks(samples: Sequence[Sample]) -> list[list[Sample]]:
    """The samples after the warm-up, in pieces of equal time."""
    first, last = warm_up(samples), samples[-1].at
    count = max(3, min(_BLOCKS, int((last - first) / _SHORTEST)))
    edges = np.linspace(first, last, count + 1)
    pieces: list[list[Sample]] = [[] for _ in range(count)]
    for sample in samples:
        if sample.at >= first:
            pieces[min(count - 1, int(np.searchsorted(edges, sample.at, "right")) - 1)].append(sample)
    return [piece for piece in pieces if piece]


def slope(times: Sequence[float], values: Sequence[float]) -> tuple[float, float]:
    """Least squares: the slope a second, and its standard error."""
    x, y = np.asarray(times, float), np.asarray(values, float)
    x = x - x.mean()
    value = float(x @ y / (x @ x))
    rest = y - y.mean() - value * x
    return value, float(np.sqrt(rest @ rest / max(1, len(x) - 2) / (x @ x)))


def p99(before: Sample, after: Sample) -> float:
    """Seconds that 99 of 100 frames were within, of those that were finished between two samples; nan if none was."""
    earlier = dict(before.within)
    limits = [limit for limit, _ in after.within]
    counts = np.array([count - earlier.get(limit, 0) for limit, count in after.within], float)
    if not counts[-1]:
        return float("nan")
    rank = 0.99 * counts[-1]
    place = int(np.searchsorted(counts, rank))
    low, below = (limits[place - 1], counts[place - 1]) if place else (0.0, 0.0)
    high = limits[place] if np.isfinite(limits[place]) else 2 * low
    return float(low + (high - low) * (rank - below) / max(1.0, counts[place] - below))


def judge_growth(samples: Sequence[Sample]) -> list[Verdict]:
    """Memory, threads, descriptors and latency."""
    pieces, long = blocks(samples), samples[-1].at >= _TELLING
    times = [float(np.median([sample.at for sample in piece])) for piece in pieces]
    verdicts = []
    for what, key in (("resident memory", "resident"), ("anonymous memory", "anonymous")):
        level = [float(np.median([getattr(sample, key) for sample in piece])) for piece in pieces]
        growth, error = (3600 * figure for figure in slope(times, level))
        words = f"{growth / 1e6:+.2f} ± {error / 1e6:.2f} MB/h at {level[-1] / 1e6:.0f} MB"
        bounded = growth - 2 * error < _MOST_GROWTH
        if not long:
            words += f", {(level[-1] - level[0]) / 1e6:+.0f} MB since the warm-up"
            bounded = level[-1] - level[0] < _MOST_GAIN * level[0]
        verdicts.append(Verdict(what, bounded, words))
    triples = zip(samples, samples[1:], samples[2:], strict=False)
    calm = [triple[-1] for triple in triples if all(one.live == len(one.finished) for one in triple)]
    half = (warm_up(samples) + samples[-1].at) / 2
    halves = [one for one in calm if warm_up(samples) <= one.at < half], [one for one in calm if one.at >= half]
    for what in ("threads", "descriptors"):
        # the least ones: outputs that rotate and messages on their way hold some for a moment
        first, second = (int(np.quantile([getattr(one, what) for one in half], 0.1)) for half in halves)
        most = max(getattr(sample, what) for sample in samples)
        words = f"{first} → {second} with all cameras live, at most {most}"
        verdicts.append(Verdict(what, second - first <= (_MOST_HELD if long else _MOST_HELD_SOON), words))
    tails = [p99(piece[0], piece[-1]) for piece in pieces]
    known = [(time, tail) for time, tail in zip(times, tails, strict=True) if np.isfinite(tail)]
    drift, error = (figure * (times[-1] - times[0]) for figure in slope(*zip(*known, strict=True)))
    middle = float(np.median([tail for _, tail in known]))
    words = f"{1000 * middle:.0f} ms ({1000 * min(tails):.0f} to {1000 * max(tails):.0f}), "
    words += f"over the run {1000 * drift:+.0f} ± {1000 * error:.0f} ms"
    most = (_MOST_DRIFT if long else _MOST_DRIFT_SOON) * middle
    verdicts.append(Verdict("p99 latency", max(tails) < _BUDGET or drift - 2 * error < most, words))
    return verdicts


def judge_accounts(
    report: dict[str, Any],
    lines: Iterable[tuple[str, int]],
    rows: Iterable[tuple[str, int]],
    received: set[tuple[str, int]],
    sent: dict[str, int],
) -> list[Verdict]:
    """Frames counted by the run against those in its outputs, and those that its cameras sent.

    Args:
        report: of the run. lines: (source, index) of its JSON lines. rows: of its database. received: by its peer.
        sent: pictures that cameras without faults sent, by source.
    """
    sources, sinks = report["metrics"]["sources"], report["metrics"]["stages"]
    verdicts, finished = [], {source["id"]: source["finished"] for source in sources}
    for source in sources:
        dropped = sum(source["dropped"].values())
        exact = source["captured"] == source["finished"] + dropped and not source["in_flight"]
        words = f"captured {source['captured']} = processed {source['finished']} + dropped {dropped} "
        words += f"({', '.join(f'{reason} {count}' for reason, count in sorted(source['dropped'].items()))}); "
        verdicts.append(Verdict(f"accounts of {source['id']}", exact, words + f"{source['connections']} connections"))
    for source in sources:
        if source["id"] in sent:
            # those of a second may be on their way when the run ends
            rest = sent[source["id"]] - source["captured"]
            words = f"{rest} more sent than captured"
            verdicts.append(Verdict(f"pictures of {source['id']}", 0 <= rest <= RATE, words))
    kept = next(sink for sink in sinks if sink["name"] == "sink:webhook")
    held = kept["pending"] + sum(kept["dropped"].values())
    for what, frames, missing in (("jsonl", lines, 0), ("sqlite", rows, 0), ("webhook", received, held)):
        found = list(frames)
        count, twice = Counter(source for source, _ in found), len(found) - len(set(found))
        well = not twice and sum(finished.values()) == len(found) + missing
        words = f"{len(found)} of {sum(finished.values())} frames, {twice} twice"
        words += f", {missing} waiting or dropped" if missing else ""
        verdicts.append(Verdict(what, well and (bool(missing) or count == Counter(finished)), words))
    return verdicts
