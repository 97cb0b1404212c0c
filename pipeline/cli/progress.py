"""Progress of a run: a bar on a terminal, plain lines now and then elsewhere, nothing when quiet."""

from __future__ import annotations

import itertools
import sys
import time
from collections import Counter, deque
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from pydantic import PrivateAttr
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from pipeline.engine import Pipeline
from pipeline.frame import Frame
from pipeline.metrics import ENDED, SourceSnapshot
from pipeline.sink import Sink

_LINE_EVERY = 5.0

_REMEMBERED = 1024  # sources that ended, with counts of their own


class Tally(Sink):
    """Counts the objects of each class that each source showed, by track id.

    Of very many sources that ended, those before the last ones are counted together.
    """

    name = "tally"

    _seen: dict[str, int] = PrivateAttr(default_factory=dict)
    _objects: dict[str, Counter[str]] = PrivateAttr(default_factory=dict)
    _ended: deque[str] = PrivateAttr(default_factory=deque)

    def write(self, frame: Frame) -> None:
        """Count the tracks whose id is new."""
        # ids are given in order from 1, so the highest so far tells the new ones, in constant memory
        highest = self._seen.get(frame.source, 0)
        tracks = frame.tracks
        for track_id, class_id in zip(tracks.id.tolist(), tracks.class_id.tolist(), strict=True):
            if track_id > highest:
                name = frame.detections.class_name(class_id)
                self._objects.setdefault(frame.source, Counter())[name] += 1
                self._seen[frame.source] = max(self._seen.get(frame.source, 0), track_id)

    def state_dict(self) -> dict[str, Any]:
        """The counts."""
        return {"seen": dict(self._seen), "objects": {source: dict(one) for source, one in self._objects.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Count on."""
        self._seen = {source: int(highest) for source, highest in state["seen"].items()}
        self._objects = {
            source: Counter({str(name): int(count) for name, count in one.items()})
            for source, one in state["objects"].items()
        }
        self._ended.extend(source for source in self._objects if source not in self._seen and source != ENDED)

    def end(self, source: str) -> None:
        """The source gives no more."""
        self._seen.pop(source, None)
        if source in self._objects:
            self._ended.append(source)
        if len(self._ended) > _REMEMBERED:
            self._objects.setdefault(ENDED, Counter()).update(self._objects.pop(self._ended.popleft()))

    @property
    def objects(self) -> dict[str, dict[str, int]]:
        """Objects by source and class so far."""
        return {source: dict(counts.most_common()) for source, counts in tuple(self._objects.items())}

    def total(self) -> str:
        """All sources together, in words: "12 person, 3 car"."""
        total: Counter[str] = Counter()
        for counts in tuple(self._objects.values()):
            total.update(Counter(counts))  # a copy, as the sink may add to it
        return ", ".join(f"{count} {name}" for name, count in total.most_common(4))


def follow(pipeline: Pipeline, tally: Tally, quiet: bool) -> None:
    """Show a running pipeline's progress on standard error until it ends."""
    console = Console(stderr=True)
    if quiet:
        pipeline.join()
    elif console.is_terminal:
        _bar(pipeline, tally, console)
    else:
        _lines(pipeline, tally)


def _bar(pipeline: Pipeline, tally: Tally, console: Console) -> None:
    columns = (
        TextColumn("{task.percentage:>3.0f} %"),
        BarColumn(20),
        TextColumn("{task.completed:,.0f}/{task.fields[expected]} frames"),
        TextColumn("{task.fields[fps]:.1f} FPS"),
        TextColumn("{task.fields[left]}"),
        TextColumn("{task.fields[objects]}"),
        TextColumn("{task.fields[away]}"),
    )
    expected = _expected(pipeline)
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(
            "", total=expected, expected=f"{expected:,}" if expected else "?", **_figures(pipeline, tally)
        )
        over = False
        while not over:
            over = pipeline.join(0.1)
            progress.update(task, **_figures(pipeline, tally))


def _lines(pipeline: Pipeline, tally: Tally) -> None:
    while not pipeline.join(_LINE_EVERY):
        expected, figures = _expected(pipeline), _figures(pipeline, tally)
        frames = figures["completed"]
        parts = (
            f"{frames}/{expected} frames" if expected else f"{frames} frames",
            f"{figures['fps']:.1f} FPS",
            figures["left"],
            figures["objects"],
            figures["away"],
        )
        with suppress(OSError):  # the disk of a log may be full, and the run matters more
            print(", ".join(str(part) for part in parts if part), file=sys.stderr, flush=True)


def _figures(pipeline: Pipeline, tally: Tally) -> dict[str, Any]:
    snapshot = pipeline.metrics.snapshot()
    finished = sum(source.finished for source in snapshot.sources)
    expected = _expected(pipeline)
    left = ""
    if expected and snapshot.fps:
        seconds = round(max(0, expected - finished) / snapshot.fps)
        left = f"{seconds // 60}:{seconds % 60:02d} left"
    told = {"objects": tally.total(), "away": _away(snapshot.sources)}
    return {"completed": finished, "fps": snapshot.fps, "left": left, **told}


def _away(sources: list[SourceSnapshot]) -> str:
    """The sources that give no frames, in few words: "gate stalled 3 s", or "2 backing off, 1 stalled"."""
    here = ("live", "reading", "ended")
    away = [source for source in sources if source.state not in here]
    if len(away) != 1:
        return ", ".join(f"{count} {state}" for state, count in Counter(source.state for source in away).items())
    gone = list(itertools.takewhile(lambda change: change.state not in here, reversed(away[0].changes)))
    return f"{away[0].id} {away[0].state} {max(0.0, time.time() - gone[-1].at):.0f} s"


def _expected(pipeline: Pipeline) -> int | None:
    """Frames that all sources together will give, if every one of them knows."""
    counts = [info.frame_count for info in pipeline.infos]
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None
