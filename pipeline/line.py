"""Line: the queue between two parts of the chain. Live frames in it stay fresh, and files lose none."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Container

from pipeline import reasons
from pipeline.channel import Channel
from pipeline.checkpoint.mark import Mark
from pipeline.intake import Begin, End, Entry, Item
from pipeline.metrics import ENDED
from pipeline.window import Window


class Freshness:
    """Judges live frames by how long they have waited, in all queues so far, and keeps account of those that it drops.

    Waiting is what counts, not age: a chain whose work takes longer than that still finishes frames, and one that is
    late catches up, as the next frame finds its queues empty. So from reading to the end a frame takes `staleness`
    at most besides the work on it, and the call that goes on when its turn comes.

    Args:
        staleness: seconds that a live frame may wait.
        drop: called with source and reason for every frame that is dropped.
        unwanted: sources, live or not, of which nothing is gone on with.
        marks: whether marks come by, which are told of them.
    """

    def __init__(
        self,
        staleness: float,
        drop: Callable[[str, str], None],
        unwanted: Container[str] = frozenset(),
        marks: bool = False,
    ) -> None:
        self._staleness = staleness
        self._drop = drop
        self._unwanted = unwanted
        self._marks = marks
        self._dropped: Counter[tuple[str, str]] = Counter()  # by source and reason
        self._gaps: set[str] = set()  # a frame that came first after a gap was dropped: the next one is that now

    def admits(self, item: Item) -> bool:
        """Whether an item whose turn has come is gone on with; if not, it is dropped and counted."""
        source = item.frame.source
        item.waited += time.perf_counter() - item.queued
        late = item.live and item.waited > self._staleness
        if late or source in self._unwanted:
            if item.frame.discontinuity:
                self._gaps.add(source)
            reason = reasons.STALE if late else reasons.REMOVED
            if self._marks:
                self._dropped[source, reason] += 1
            self._drop(source, reason)
            return False
        if source in self._gaps:
            self._gaps.remove(source)
            item.frame.discontinuity = True
        return True

    def tell(self, mark: Mark) -> None:
        """A mark comes by: what was dropped before it."""
        for source, reason in [key for key in self._dropped if key[0] not in (ENDED, *mark.sources)]:
            self._dropped[ENDED, reason] += self._dropped.pop((source, reason))
        for (source, reason), count in self._dropped.items():
            mark.lost(source, reason, count)

    def forget(self, source: str) -> None:
        """A source has ended."""
        self._gaps.discard(source)


class Line(Channel[Entry]):
    """A channel in which one live frame of each source waits at most, and is dropped where it has waited too long.

    All live frames together get half of the room: more of them would only grow old, and what came before would have
    worked in vain. Who takes batches gets live frames as the window says.

    Args:
        capacity: entries held before `put` blocks.
        freshness: None: nothing is dropped.
        window: how long a batch is held open for other cameras; None: it is not.
    """

    def __init__(self, capacity: int, freshness: Freshness | None = None, window: Window | None = None) -> None:
        super().__init__(capacity)
        self._freshness = freshness
        self._window = window
        self._live: set[str] = set()  # sources of which a live frame waits

    def _full(self, item: Entry) -> bool:
        if isinstance(item, Item) and item.live:
            return item.frame.source in self._live or len(self._items) >= max(1, self._capacity // 2)
        return super()._full(item)

    def _added(self, item: Entry) -> None:
        if isinstance(item, Item) and item.live:
            self._live.add(item.frame.source)
        if self._window is None:
            return
        if isinstance(item, Begin):
            self._window.begin(item.source)
        elif isinstance(item, End):
            self._window.end(item.source)
        elif isinstance(item, Item):
            self._window.arrived(item.frame.source, item.entered)

    def _next(self, limit: int) -> list[Entry]:
        entries: list[Entry] = []
        while len(entries) < limit and self._items:
            entry = self._items.popleft()
            if isinstance(entry, Item) and entry.live:
                self._live.discard(entry.frame.source)
            if self._freshness is not None:
                if isinstance(entry, Item) and not self._freshness.admits(entry):
                    continue
                if isinstance(entry, Mark):
                    self._freshness.tell(entry)
                elif isinstance(entry, End):
                    self._freshness.forget(entry.source)
            entries.append(entry)
        return entries

    def _pause(self, limit: int) -> float:
        if self._window is None or self._crowded or not all(isinstance(entry, Item) for entry in self._items):
            return 0.0
        frames = ((item.frame.source, item.entered) for item in self._items if isinstance(item, Item))
        return self._window.pause(frames, limit, time.perf_counter())
