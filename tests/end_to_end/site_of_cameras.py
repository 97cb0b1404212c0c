"""A site: cameras in one pipeline, and what came of them."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from chains import Call

from pipeline.detections import Detections
from pipeline.engine import Pipeline
from pipeline.frame import Frame
from pipeline.metrics import Snapshot, SourceSnapshot
from pipeline.source import create_source
from pipeline.stages.gate import Gate
from pipeline.stages.recall import Recall
from pipeline.stages.track import Track

RECOVERY = 2.0
"""Seconds from a camera's return to its first frame through the chain, of those that the machine was there for us."""

_TICK = 0.01
"""Seconds."""


@dataclass(frozen=True)
class Seen:
    """A frame that went through the chain, and when (monotonic clock)."""

    at: float
    index: int
    timestamp: float
    discontinuity: bool
    grey: float
    size: tuple[int, int]
    captured_at: float


class Looker(Call):
    """Stands in for a detector: there is always someone in the middle of the picture."""

    name = "looker"
    provides = frozenset({"detections"})


class Held(threading.Thread):
    """Measures for how long a machine that others use held this process up: a sleep ends later than it was to."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._over = threading.Event()
        self._late = [(time.monotonic(), 0.0)]  # and how late all ticks were until then, together

    def run(self) -> None:
        due = time.monotonic()
        while not self._over.is_set():
            due += _TICK
            self._over.wait(max(0.0, due - time.monotonic()))
            now = time.monotonic()
            self._late.append((now, self._late[-1][1] + max(0.0, now - due - _TICK)))
            due = now

    def between(self, since: float, until: float) -> float:
        """Seconds of it from one moment to another."""
        told = [late for at, late in list(self._late) if since <= at <= until]
        return told[-1] - told[0] if told else 0.0

    def end(self) -> None:
        self._over.set()
        self.join()


class Site:
    """Cameras in one pipeline, and what came of them."""

    def __init__(self) -> None:
        self.held = Held()
        self.held.start()
        self.cameras: dict[str, tuple[str, dict[str, object]]] = {}
        self.seen: defaultdict[str, list[Seen]] = defaultdict(list)

    def add(self, name: str, uri: str, **options: object) -> None:
        self.cameras[name] = uri, options

    def start(self) -> None:
        sources = [create_source(uri, id=name, **options) for name, (uri, options) in self.cameras.items()]
        chain = [Gate(motion=True), Looker(function=self._note), Recall(), Track()]
        self.pipeline = Pipeline(sources, chain, keep_going=True)
        self.pipeline.start()

    def _note(self, frame: Frame) -> None:
        size, grey = (frame.image.shape[1], frame.image.shape[0]), float(frame.image.mean())
        seen = Seen(time.monotonic(), frame.index, frame.timestamp, frame.discontinuity, grey, size, frame.captured_at)
        self.seen[frame.source].append(seen)
        width, height = size
        box = np.array([[0.3 * width, 0.3 * height, 0.7 * width, 0.7 * height]], np.float32)
        frame.detections = Detections(box, np.array([0.9], np.float32), np.zeros(1, np.int64))

    def source(self, name: str) -> SourceSnapshot:
        snapshot = self.pipeline.metrics.snapshot()
        assert balanced(snapshot)
        return next(source for source in snapshot.sources if source.id == name)

    def returned(self, name: str, since: float) -> float:
        """Seconds from `since` to the camera's next frame, without those for which the machine held us up."""
        until(lambda: bool(self.seen[name]) and self.seen[name][-1].at > since, f"{name} comes back")
        back = next(seen.at for seen in self.seen[name] if seen.at > since)
        return back - since - self.held.between(since, back)


def balanced(snapshot: Snapshot) -> bool:
    return all(one.captured == one.finished + one.in_flight + sum(one.dropped.values()) for one in snapshot.sources)


def until(condition: Callable[[], bool], what: str, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: never"
        time.sleep(0.01)
