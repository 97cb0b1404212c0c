"""The picture of a soak."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from benchmarks.soak.run import Sample
from benchmarks.soak.site import Fault
from benchmarks.soak.verdict import p99, warm_up
from pipeline import charts

_PIECES = 60
"""Of which latency and frames a second are drawn."""


def plot(samples: Sequence[Sample], faults: Sequence[Fault], path: Path) -> None:
    """Memory, threads and descriptors, latency, and frames a second, over minutes."""
    chart = charts.figure(9, 8)
    memory, counts, latency, rates = chart.subplots(4, 1, sharex=True)
    minutes = [sample.at / 60 for sample in samples]
    memory.plot(minutes, [sample.resident / 2**20 for sample in samples], label="resident")
    memory.plot(minutes, [sample.anonymous / 2**20 for sample in samples], label="of it anonymous")
    memory.set_ylabel("MiB")
    memory.set_ylim(0)
    for what in ("threads", "descriptors"):
        counts.plot(minutes, [getattr(sample, what) for sample in samples], label=what, linewidth=0.8)
    counts.set_ylim(0)
    pieces = min(_PIECES, len(samples) - 1)
    picked = [samples[place] for place in np.linspace(0, len(samples) - 1, pieces + 1).astype(int)]
    pairs = list(pairwise(picked))
    middle = [(before.at + after.at) / 120 for before, after in pairs]
    latency.plot(middle, [1000 * p99(before, after) for before, after in pairs], label="p99 latency")
    latency.set_ylabel("ms")
    latency.set_ylim(0)
    for source in samples[-1].finished:
        rate = [
            (after.finished[source] - before.finished.get(source, 0)) / (after.at - before.at)
            for before, after in pairs
        ]
        rates.plot(middle, rate, label=source, linewidth=0.8)
    rates.set_ylabel("frames a second")
    rates.set_ylim(0)
    rates.set_xlabel("minutes; grey: something was away or sent nonsense")
    for axes in (memory, counts, latency, rates):
        axes.axvline(warm_up(samples) / 60, color="black", linestyle=":", linewidth=0.8)
        for fault in faults:
            axes.axvspan(fault.at / 60, (fault.at + fault.seconds) / 60, color="grey", alpha=0.12, linewidth=0)
        axes.legend(loc="lower right", ncols=4, fontsize="small")
        axes.margins(x=0)
    charts.save(chart, path)
