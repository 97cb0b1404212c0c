"""Trace: every frame on its way through every part, as a file for Perfetto (ui.perfetto.dev) or chrome://tracing."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.files.output import replace_file
from pipeline.frame import Frame

_LIMIT = 1_000_000  # events: some 250 MB of memory, and an hour of one camera
_CHAIN, _FRAMES = 1, 2  # "processes" of the file: the threads of the chain, and the frames


class Trace:
    """Collects what happened; any thread may write. In the file one row is a thread, another a source's frames.

    It follows the Trace Event Format of Chrome (N. Duca and D. Sinclair, 2016): times in microseconds.
    """

    def __init__(self, limit: int = _LIMIT) -> None:
        self._limit = limit
        self._begun = time.perf_counter()
        self._events: list[dict[str, Any]] = []
        self._threads: dict[str, int] = {}
        self._sources: dict[str, int] = {}
        self._left_out = 0

    @contextmanager
    def span(self, part: str, frames: Sequence[Frame]) -> Iterator[None]:
        """The body works on these frames, as this part of the chain."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.worked(part, start, frames)

    def worked(self, part: str, start: float, frames: Sequence[Frame]) -> None:
        """A part has worked on these frames since `start` (perf_counter)."""
        end = time.perf_counter()
        thread = self._threads.setdefault(threading.current_thread().name, len(self._threads) + 1)
        told = ", ".join(f"{frame.source} {frame.index}" for frame in frames)
        times = {"ts": self._at(start), "dur": round(1e6 * (end - start), 1)}
        self._add({"name": part, "ph": "X", **times, "pid": _CHAIN, "tid": thread, "args": {"frames": told}})

    def passed(self, frame: Frame, entered: float) -> None:
        """A frame that entered the chain at `entered` (perf_counter) has left it at its end."""
        row = self._sources.setdefault(frame.source, len(self._sources) + 1)
        told = {"objects": len(frame.tracks) or len(frame.detections), "time": round(frame.timestamp, 6)}
        name, mark = f"frame {frame.index}", {"cat": frame.source, "id": f"{row}.{frame.index}", "pid": _FRAMES}
        self._add({"name": name, "ph": "b", "ts": self._at(entered), "tid": row, "args": told, **mark})
        self._add({"name": name, "ph": "e", "ts": self._at(time.perf_counter()), "tid": row, **mark})

    def lost(self, source: str, reason: str) -> None:
        """A frame of a source left the chain before its end."""
        row = self._sources.setdefault(source, len(self._sources) + 1)
        now = self._at(time.perf_counter())
        self._add({"name": f"lost: {reason}", "ph": "i", "s": "t", "ts": now, "pid": _FRAMES, "tid": row})

    def write(self, path: Path) -> None:
        """Write the file.

        Raises:
            FramechainError: it cannot be written.
        """
        names = [_named(_CHAIN, 0, "process_name", "framechain"), _named(_FRAMES, 0, "process_name", "frames")]
        names += [_named(_CHAIN, thread, "thread_name", name) for name, thread in self._threads.items()]
        names += [_named(_FRAMES, row, "thread_name", source) for source, row in self._sources.items()]
        told = {"left_out": self._left_out} if self._left_out else {}
        document = {"traceEvents": [*names, *self._events], "displayTimeUnit": "ms", "otherData": told}
        replace_file(path, json.dumps(document, separators=(",", ":")) + "\n")

    def _at(self, moment: float) -> float:
        return round(1e6 * (moment - self._begun), 1)

    def _add(self, event: dict[str, Any]) -> None:
        if len(self._events) < self._limit:
            self._events.append(event)  # appending to a list is atomic
        else:
            self._left_out += 1


def _named(process: int, thread: int, what: str, name: str) -> dict[str, Any]:
    return {"name": what, "ph": "M", "pid": process, "tid": thread, "args": {"name": name}}
