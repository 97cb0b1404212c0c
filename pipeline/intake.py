"""Intake: brings the frames of all sources into one line, the same line every time for files."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Container
from dataclasses import dataclass, field

from pipeline import reasons
from pipeline.channel import Aborted
from pipeline.checkpoint.checkpoints import Checkpoints
from pipeline.checkpoint.mark import Mark
from pipeline.frame import Frame
from pipeline.source import SourceInfo
from pipeline.window import Window


@dataclass(slots=True, eq=False)
class Item:
    """A frame inside the engine, with the times the metrics need.

    Attributes:
        entered: perf_counter when it was read. queued: since when it waits: when the part before was done with it.
        undelivered: sinks that have not written it yet.
        live: whether it may be dropped when it is late. waited: seconds, in all queues that it was taken from.
    """

    frame: Frame
    entered: float
    queued: float
    undelivered: int = 0
    live: bool = False
    waited: float = 0.0


@dataclass(frozen=True, slots=True)
class Begin:
    """In line before a source's first frame."""

    source: SourceInfo


@dataclass(slots=True, eq=False)
class End:
    """In line after a source's last frame.

    Attributes:
        undelivered: sinks that have not been told yet.
    """

    source: str
    undelivered: int = 0


Entry = Item | Begin | End | Mark


@dataclass(slots=True, eq=False)
class _Lane:
    info: SourceInfo
    order: int
    frames: deque[Item] = field(default_factory=deque)
    begun: bool = True
    ended: bool = False
    gap: bool = False  # a frame that came first after a gap was dropped: the next one is that now
    full: bool = False  # its reader waits for room
    joined: float = 0.0  # where the line was when it joined: media time, seconds
    turn: int = 0  # when it last had one


class Intake:
    """Where readers put frames and the first stage takes them.

    While every open source is a file, frames are taken by media time (ties: in the order of the sources), so
    the line, and with it every output, is the same on each run. As soon as one is live, they are taken in
    turns: nobody waits for a camera, and a chain that is too slow for all of them is shared by them. (By time of
    arrival, one of eight equal cameras had 19 of 20 turns.)

    A file's reader waits for room. A live source's does not: its oldest waiting frame gives way to the
    newest, and one that waited longer than `staleness` is not started on at all. Who takes batches gets live frames
    as the window says.

    Args:
        capacity: frames that wait per source.
        staleness: seconds that a live frame may wait.
        drop: called with source and reason for every frame that is not handed on.
        window: how long a batch is held open for other cameras.
        checkpoints: gives the marks that go into the line; None: there are none.
        stopping: tells whether nothing more is read. Then no source ends in the line before the last mark.
        unwanted: sources of which nothing is handed on.
    """

    def __init__(
        self,
        capacity: int,
        staleness: float,
        drop: Callable[[str, str], None],
        window: Window,
        checkpoints: Checkpoints | None = None,
        stopping: Callable[[], bool] = lambda: False,
        unwanted: Container[str] = frozenset(),
    ) -> None:
        self._capacity = capacity
        self._staleness = staleness
        self._drop = drop
        self._window = window
        self._checkpoints = checkpoints
        self._stopping = stopping
        self._unwanted = unwanted
        self._lanes: dict[str, _Lane] = {}
        self._notices: deque[Begin | End | Mark] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._aborted = False
        self._taken = 0
        self._order = 0
        self._turns = 0
        # media time of the last frame of a file that was handed on
        self._line = 0.0 if checkpoints is None else checkpoints.line
        self._over = False

    def begin(self, source: SourceInfo) -> None:
        """A source will give frames. A file that joins others in their midst is lined up with what they give then."""
        with self._changed:
            saved = self._checkpoints
            joined = self._line if saved is None else saved.begin(source.id, self._line)
            self._lanes[source.id] = _Lane(source, self._place(source), joined=joined, turn=self._turns)
            self._window.begin(source)
            self._notices.append(Begin(source))
            self._changed.notify_all()

    def expect(self, source: SourceInfo) -> None:
        """A source may begin later; the line does not end before it has ended.

        Raises:
            Aborted: the line has ended.
        """
        with self._changed:
            if self._over or self._aborted:
                raise Aborted
            self._lanes[source.id] = _Lane(source, self._place(source), begun=False)

    def _place(self, source: SourceInfo) -> int:
        if source.id in self._lanes:
            return self._lanes[source.id].order
        self._order += 1
        return self._order

    def put(self, item: Item) -> None:
        """Add a frame of a source that has begun.

        Raises:
            Aborted: nobody takes frames any more, or none of this source.
        """
        with self._changed:
            lane = self._lanes.get(item.frame.source)
            if lane is None or lane.ended:
                raise Aborted
            if lane.info.live:
                while len(lane.frames) >= self._capacity:
                    lane.gap |= lane.frames.popleft().frame.discontinuity
                    self._lose(lane.info.id, reasons.QUEUE_FULL)
            else:
                while len(lane.frames) >= self._capacity and not self._aborted:
                    lane.full = True
                    self._changed.wait()
                lane.full = False
            if self._aborted:
                raise Aborted
            item.live = lane.info.live
            lane.frames.append(item)
            self._window.arrived(lane.info.id, item.entered)
            self._changed.notify_all()

    def end(self, source: str) -> None:
        """A source has given its last frame."""
        with self._changed:
            if source in self._lanes:
                self._lanes[source].ended = True
            self._window.end(source)
            self._changed.notify_all()

    def full(self, source: str) -> bool:
        """Whether the reader of a source waits for room."""
        with self._changed:
            return source in self._lanes and self._lanes[source].full

    def close(self) -> None:
        """No more sources will begin."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def abort(self) -> None:
        """Wake and stop everyone."""
        with self._changed:
            self._aborted = True
            self._changed.notify_all()

    @property
    def depth(self) -> int:
        """Frames waiting now."""
        return sum(len(lane.frames) for lane in tuple(self._lanes.values()))

    def take(self, limit: int) -> tuple[int, list[Entry]]:
        """As `Channel.take`: at least one entry unless all sources have ended, at most `limit`."""
        with self._changed:
            while True:
                if self._aborted:
                    raise Aborted
                if (pause := self._pause(limit)) > 0:
                    self._changed.wait(pause)
                    continue
                entries = self._ready(limit)
                self._over = not entries and self._closed and not self._lanes
                if entries or self._over:
                    ticket = self._taken
                    self._taken += bool(entries)
                    self._changed.notify_all()
                    return ticket, entries
                self._changed.wait(None if self._checkpoints is None else self._checkpoints.wait())

    def _pause(self, limit: int) -> float:
        """Seconds to wait for more frames of other cameras."""
        if limit == 1 or self._notices:
            return 0.0
        frames = ((name, item.entered) for name, lane in self._lanes.items() for item in lane.frames)
        return self._window.pause(frames, limit, time.perf_counter())

    def _ready(self, limit: int) -> list[Entry]:
        entries: list[Entry] = []
        while len(entries) < limit:
            if self._notices:
                entries.append(self._notices.popleft())
                continue
            self._retire()
            self._mark()
            if self._notices:
                continue
            lane = self._next_lane()
            if lane is None:
                break
            item = lane.frames.popleft()
            if lane.info.id in self._unwanted:
                self._lose(lane.info.id, reasons.REMOVED)
                self._changed.notify_all()  # there is room for what its reader still holds
                continue
            item.waited = time.perf_counter() - item.queued
            if item.live and item.waited > self._staleness:
                lane.gap |= item.frame.discontinuity
                self._lose(lane.info.id, reasons.STALE)
                continue
            self._turns += 1
            lane.turn = self._turns
            if not lane.info.live:
                self._line = max(self._line, lane.joined + item.frame.timestamp)
            item.frame.discontinuity |= lane.gap
            lane.gap = False
            entries.append(item)
            if self._checkpoints is not None:
                self._checkpoints.taken(item.frame, self._line)
        return entries

    def _mark(self) -> None:
        """Put a mark into the line if it is time for one, and after everything."""
        if self._checkpoints is not None and not self._notices:
            over = self._closed and not self._lanes
            if (mark := self._checkpoints.last() if over else self._checkpoints.due()) is not None:
                self._notices.append(mark)

    def _lose(self, source: str, reason: str) -> None:
        self._drop(source, reason)
        if self._checkpoints is not None:
            self._checkpoints.dropped(source, reason)

    def _retire(self) -> None:
        over = [name for name, lane in self._lanes.items() if lane.ended and not lane.frames]
        if self._checkpoints is not None and over and self._stopping():
            if len(over) < len(self._lanes):
                return
            if (mark := self._checkpoints.last()) is not None:
                self._notices.append(mark)
        for source in over:
            if self._lanes.pop(source).begun:
                self._notices.append(End(source))
            if self._checkpoints is not None:
                self._checkpoints.end(source)

    def _next_lane(self) -> _Lane | None:
        waiting = [lane for lane in self._lanes.values() if lane.frames]
        if not waiting:
            return None
        if any(lane.info.live for lane in self._lanes.values()):
            return min(waiting, key=lambda lane: (lane.turn, lane.frames[0].entered))
        if len(waiting) < sum(1 for lane in self._lanes.values() if lane.frames or not lane.ended):
            return None  # a file that has not been decoded so far might hold an earlier frame
        return min(waiting, key=lambda lane: (lane.joined + lane.frames[0].frame.timestamp, lane.order))
