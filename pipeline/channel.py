"""Channels: the bounded queues between workers. Closing lets the reader finish; aborting stops both sides."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


WAKE = 0.5
"""Seconds after which the main thread looks up from waiting. The system may give a signal to any thread, and Python
runs its handler in the main one, which is not woken for it: SIGTERM was not heeded, once in 22 runs."""


class Aborted(Exception):
    """The other side of the channel is gone; unwind quietly."""


class Channel(Generic[T]):
    """A bounded first-in first-out queue between one or more writers and one or more readers.

    Args:
        capacity: items held before `put` blocks.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._items: deque[T] = deque()
        self._lock = threading.Lock()
        self._filled = threading.Condition(self._lock)
        self._drained = threading.Condition(self._lock)
        self._closed = False
        self._aborted = False
        self._crowded = False  # somebody waits for room
        self._taken = 0

    @property
    def depth(self) -> int:
        """Items waiting now."""
        return len(self._items)

    def put(self, item: T) -> None:
        """Add one item, waiting for room.

        Raises:
            Aborted: the reader gave up.
        """
        with self._lock:
            self._await_room(item)
            self._items.append(item)
            self._added(item)
            self._filled.notify()

    def await_room(self, item: T) -> None:
        """Wait until there is room for an item that the only writer will put.

        Raises:
            Aborted: the reader gave up.
        """
        with self._lock:
            self._await_room(item)

    def _await_room(self, item: T) -> None:
        while self._full(item) and not self._aborted:
            self._crowded = True
            self._filled.notify_all()  # who waits for more takes what is there
            self._drained.wait()
        self._crowded = False
        if self._aborted:
            raise Aborted

    def _full(self, item: T) -> bool:
        """Whether this item has to wait for room."""
        return len(self._items) >= self._capacity

    def take(self, limit: int) -> tuple[int, list[T]]:
        """Wait for at least one item and take what is there (see `_pause`), at most `limit`.

        Returns:
            The batch's ticket (0, 1, 2 ... in the order of the items) and the items; no items when the
            channel is closed and empty.

        Raises:
            Aborted: the channel was aborted.
        """
        with self._lock:
            while True:
                while not self._closed and not self._aborted:
                    pause = self._pause(limit) if self._items else None
                    if pause == 0:
                        break
                    self._filled.wait(WAKE if pause is None else pause)
                if self._aborted:
                    raise Aborted
                items = self._next(limit)
                self._drained.notify_all()
                if items or (self._closed and not self._items):
                    break
            ticket = self._taken
            self._taken += bool(items)
            return ticket, items

    def _added(self, item: T) -> None:
        """An item is in."""

    def _next(self, limit: int) -> list[T]:
        """Take items out, at most `limit`."""
        return [self._items.popleft() for _ in range(min(limit, len(self._items)))]

    def _pause(self, limit: int) -> float:
        """Seconds to wait for more although there are items; asked again with each one that comes."""
        return 0.0

    def close(self) -> None:
        """No more items will come; readers get what is left."""
        with self._lock:
            self._closed = True
            self._filled.notify_all()

    def abort(self) -> None:
        """Wake and stop everyone; what is left is dropped."""
        with self._lock:
            self._aborted = True
            self._items.clear()
            self._filled.notify_all()
            self._drained.notify_all()


class Sequencer(Generic[T]):
    """Hands on the batches that several workers finish in any order, in the order of their tickets.

    Args:
        deliver: called with each batch, in ticket order, by one thread at a time.
        ahead: how many batches may be finished before an earlier one; a worker further ahead waits.
    """

    def __init__(self, deliver: Callable[[list[T]], None], ahead: int) -> None:
        self._deliver = deliver
        self._ahead = ahead
        self._next = 0
        self._finished: dict[int, list[T]] = {}
        self._turn = threading.Condition()
        self._aborted = False

    def emit(self, ticket: int, batch: list[T]) -> None:
        """Take a finished batch and deliver all that are next in line.

        Raises:
            Aborted: delivery failed, here or in another worker.
        """
        with self._turn:
            while ticket > self._next + self._ahead and not self._aborted:
                self._turn.wait()
            if self._aborted:
                raise Aborted
            self._finished[ticket] = batch
            try:
                while self._next in self._finished:
                    self._deliver(self._finished.pop(self._next))
                    self._next += 1
            except BaseException:
                self._aborted = True
                raise
            finally:
                self._turn.notify_all()

    def abort(self) -> None:
        """Wake and stop workers that wait for a batch that will not come."""
        with self._turn:
            self._aborted = True
            self._turn.notify_all()
