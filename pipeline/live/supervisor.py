"""Live: keeps a source going for months: what it hangs in is left behind, and what breaks off is opened again."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import replace

from pipeline import reasons
from pipeline.address import host_id, redacted
from pipeline.checkpoint.progress import Onward
from pipeline.errors import AccessDenied, FramechainError, NotThere, Over, UsageError
from pipeline.frame import Frame
from pipeline.isolation.source import IsolatedSource, Spare
from pipeline.limits import open_files, ran_out, start
from pipeline.live.timeline import Timeline
from pipeline.live.work import Work
from pipeline.metrics import Change, State
from pipeline.source import Source, SourceInfo

logger = logging.getLogger("framechain")

Deliver = Callable[[Frame, float], None]
"""Takes a frame, and since when it was worked on (perf_counter). Raises Aborted where nobody takes frames any more."""

Begin = Callable[[SourceInfo], None]

_GRACE = 1.0
"""Seconds that a source gets beyond its own timeout to say what is wrong, before its thread is left behind."""

FAREWELL = 0.8
"""Seconds that a source that hangs, as a file on a dead disk, gets to let go once nothing more is wanted of it, so that
the whole end takes one at most; then it is left behind. Its thread does not keep the process alive."""

_FIRST_PAUSE = 0.1
"""Seconds before the first attempt to open it again; twice as many before each further one, up to the longest pause."""

_RIVAL = 1.5
"""Seconds after which an attempt that has not answered gets a rival; who gives a frame first wins.

A camera that comes back is not found by an attempt from before: TCP repeats its first packet after 1, 3 and 7 s only,
and a server that was started anew knows nothing of what its predecessor was asked.
"""

_MOST_READERS = 16
"""Threads of a source, those left behind included: enough for a rival every 1.5 s in the 20 s for which the resolver of
names asks two servers that do not answer, twice each."""

_SETTLED = 5.0
"""Seconds of frames after which a connection counts as good, and pauses are short again."""

_ACCESS_PAUSE = 30.0
"""Seconds between attempts with a password that was refused: cameras lock out whoever tries often."""

_POLL = 0.25
"""Seconds between looks at the clock."""

_REMEMBERED = 64
"""Changes of state."""


class Supervisor:
    """Reads one source: a file as it is; a live one in threads of their own, anew when it breaks off.

    Frames of a live source have indices that never repeat, and timestamps that never decrease and go on by the wall
    clock over every gap; the first one after a gap is marked. What is live by its kind is read through copies of it.

    Args:
        source: not opened yet.

    Attributes:
        info: the source as opened; None before.
        connections: how often it was opened and gave a frame.
    """

    def __init__(self, source: Source) -> None:
        self.info: SourceInfo | None = None
        self.connections = 0
        self._source = source
        self._name = source.id
        self._patience = source.patience
        self._spare = Spare()
        self._changed = threading.Condition()
        self._readers: list[Reader] = []  # whose threads have not ended, or that hold the file
        self._wanted: list[Reader] = []  # those of them that were not left behind, in the order of their beginning
        self._current: Reader | None = None  # the one of them that gives frames
        self._first: Reader | None = None
        self._refusal: BaseException | None = None  # what the first one ended with, where that was before a run
        self._file: Source | None = None  # what is opened, if it is not live
        self._deliver: Deliver | None = None
        self._begin: Begin | None = None
        self._awaited = False  # the run has begun without it
        self._over = False
        self._failure: BaseException | None = None

        self._timeline = Timeline()
        self._given = 0
        self._lost: Counter[str] = Counter()  # here, and by readers that have ended
        self._changes: deque[Change] = deque([Change("connecting", time.time())], _REMEMBERED)
        self._failures = 0  # without a frame, in a row
        self._pauses = 0  # since the last good connection
        self._retry_at = 0.0
        self._gone_at: float | None = None  # when the last connection broke off; None while there is one

    @property
    def dropped(self) -> Counter[str]:
        """Frames that were not given, of all connections together, by reason.

        What `Source.dropped` tells, and "starting": before the run began. "abandoned": from a reader that had been left
        behind. "aborted": after the end.
        """
        with self._changed:
            total = Counter(self._lost)
            for reader in self._readers:
                total.update(Counter(reader.source.dropped))  # a copy, as the reader may add to it
            return total

    @property
    def live(self) -> bool:
        """Whether it sets the pace: nobody can slow it down."""
        return self._source.live if self.info is None else self.info.live

    @property
    def changes(self) -> list[Change]:
        """The last changes of state, in order; the last one tells the present."""
        with self._changed:
            return list(self._changes)

    def start(self) -> None:
        """Begin to open it."""
        with self._changed:
            self._first = self._connect()

    def opened(self, stopping: threading.Event, soon: float | None = None) -> SourceInfo | None:
        """Wait for what `start` began; None if it is stopped before.

        Args:
            soon: seconds to wait for one that `run` tries further; it may still answer then.

        Raises:
            FramechainError: it cannot be opened, or does not answer in time.
        """
        if not (self._source.live and self._patience.reconnect):
            soon = None
        with self._changed:
            reader = self._first
            assert reader is not None, "start() comes first"
            while self.info is None and self._refusal is None and not stopping.is_set():
                now = time.monotonic()
                if self._is_late(reader, now):
                    self._leave(reader)
                    raise self._no_answer()
                if soon is not None and now - reader.started >= soon:
                    raise self._no_answer()
                self._changed.wait(_POLL)
            if self.info is None and self._refusal is not None:
                raise self._refusal
            return self.info

    def await_return(self, error: FramechainError) -> SourceInfo | None:
        """It could not be opened: what is known of one that `run` tries further; None for one that it does not."""
        if not (self._source.live and self._patience.reconnect) or isinstance(error, (UsageError, NotThere)):
            return None
        with self._changed:
            self._awaited = True
            self._back_off(error)
            tried = self._first.source.id if self._first is not None else ""
            self._name = self._name or tried or host_id(self._source.uri) or self._source.name
            return SourceInfo(self._name, redacted(self._source.uri), 0, 0, live=True)

    def run(
        self,
        deliver: Deliver,
        stopping: threading.Event,
        begin: Begin = lambda _: None,
        onward: Onward | None = None,
    ) -> None:
        """Give all frames, to the end of the source or until `stopping`.

        Args:
            deliver: takes one frame at a time. Where the source is live it must not wait.
            begin: told how it was opened, before the first frame, if it was not open before.
            onward: what an earlier run was given.

        Raises:
            Aborted: nobody takes frames any more.
            Exception: what reading failed with, if it is not tried again.
        """
        if onward is not None:
            self._given = onward.given
        if self._file is None:
            self._watch(deliver, stopping, begin)
        elif self._awaited and self.info is not None:
            begin(self.info)
        if self._file is not None:
            if onward is not None and not onward.lead:
                self._file.skip(onward.index, onward.given, stopping.is_set)
            self._read(self._file, deliver, stopping)

    def end(self, error: BaseException | None = None) -> None:
        """Give no more frames, because of an error or because nobody wants more."""
        with self._changed:
            self._end(error)

    def close(self, wait: float | None = None) -> bool:
        """Give no more frames and let go of everything, within `wait` seconds, if it is not told otherwise within 0.8.

        Returns:
            Whether no reader is left behind.
        """
        with self._changed:
            self._end()
            if self._file is not None:
                self._file.close()
                return True
            deadline = time.monotonic() + (FAREWELL if wait is None else wait)
            while self._readers and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)
            return not self._readers

    def _read(self, source: Source, deliver: Deliver, stopping: threading.Event) -> None:
        while not (stopping.is_set() or self._over) and self._given != self._source.max_frames:
            work = Work(source)
            frame = source.read()
            if frame is None or self._over:
                break
            self._given += 1
            deliver(frame, work.began())

    def _watch(self, deliver: Deliver, stopping: threading.Event, begin: Begin) -> None:
        with self._changed:
            self._first = None  # may end long before the run does
            self._deliver = deliver
            self._begin = begin if self.info is None or self._awaited else None
            self._changed.notify_all()
            while not (self._over or self._file is not None or stopping.is_set()):
                self._look(time.monotonic())
                if not self._over:
                    due = self._retry_at - time.monotonic()
                    self._changed.wait(due if 0 < due < _POLL else _POLL)
            if self._file is None:
                self._end()
            if self._failure is not None:
                raise self._failure
            if self._file is not None and self.info is not None:
                begin(self.info)

    # What follows is called with the lock held.

    def _look(self, now: float) -> None:
        """Do what is due: leave behind who hangs, notice who is silent, try again."""
        current, limit = self._current, self._patience.reading
        if current is not None and limit is not None:
            silent = current.silent(now)
            if silent >= limit + _GRACE:
                self._give_up(current)
            elif silent >= max(limit / 2, 2 * current.interval):
                self._change("stalled")
        for reader in tuple(self._wanted):
            if self._is_late(reader, now):
                self._give_up(reader)
        quiet = self._current is None or self._changes[-1].state == "stalled"
        pending = [reader for reader in self._wanted if reader is not self._current]
        unanswered = not pending or now - pending[-1].started >= _RIVAL
        room = len(self._readers) < _MOST_READERS
        if not self._over and self._patience.reconnect and quiet and unanswered and now >= self._retry_at and room:
            self._connect()

    def _is_late(self, reader: Reader, now: float) -> bool:
        limit = self._patience.opening
        return limit is not None and not reader.given and now - reader.started >= limit + _GRACE

    def _connect(self) -> Reader:
        if self._current is None:
            self._change("connecting")
        source = self._source
        if source.live:
            source = source.anew()
            source.max_frames = None  # is counted here, over all connections
        if source.isolation == "process":
            source = IsolatedSource.of(source, self._spare)
        reader = Reader(source, self, self._name)
        self._readers.append(reader)
        self._wanted.append(reader)
        try:
            start(reader)
        except FramechainError as error:
            self._readers.remove(reader)
            self._wanted.remove(reader)
            if self._deliver is None:
                self._refusal = error
            else:
                if self._failures == 0:
                    logger.warning("%s; it is tried again", error)
                self._lose(reader, error)
        return reader

    def _leave(self, reader: Reader) -> None:
        reader.source.abandon()
        if reader in self._wanted:
            self._wanted.remove(reader)

    def _give_up(self, reader: Reader) -> None:
        self._leave(reader)
        self._lose(reader, self._no_answer())

    def _lose(self, reader: Reader, error: BaseException) -> None:
        """A connection broke off, or an attempt failed."""
        now = time.monotonic()
        broke_off = reader is self._current
        if broke_off:
            self._current = None
            self._timeline.reconnected(reader.seen)
            self._gone_at = now
            self._pauses = 0 if now - reader.started >= _SETTLED else self._pauses
        else:
            self._failures += 1
        most = self._patience.attempts
        spent = most is not None and self._failures >= most
        if isinstance(error, Over) and (spent or self._is_over(now)):
            self._end()
        elif not self._patience.reconnect or spent:
            self._failure = error
            self._end(error)
        elif self._current is None:
            if broke_off:
                logger.warning("%s; it is tried again", redacted(str(error)))
            self._back_off(error)
        else:  # a rival of one that is silent; that one may still come back
            self._retry_at = now + _RIVAL

    def _is_over(self, now: float) -> bool:
        """Whether one that says that it has ended has had the time to begin anew."""
        return self._gone_at is None or now - self._gone_at >= (self._patience.opening or 0.0)

    def _back_off(self, error: BaseException) -> None:
        pause = min(_FIRST_PAUSE * 2.0 ** min(self._pauses, 32), self._patience.longest_pause)
        if isinstance(error, AccessDenied):
            pause = max(pause, _ACCESS_PAUSE)
        self._pauses += 1
        # half of it is left to chance: cameras that went together shall not all be asked together
        self._retry_at = time.monotonic() + pause * random.uniform(0.5, 1.0)
        self._change("connecting" if self._wanted else "backing off", redacted(str(error)))
        self._changed.notify_all()

    def _end(self, error: BaseException | None = None) -> None:
        self._over = True
        self._change("ended", "" if error is None else redacted(str(error)))
        for reader in self._readers:
            reader.source.abandon()
        self._spare.close()
        self._wanted.clear()
        self._current = None
        self._changed.notify_all()

    def _change(self, state: State, why: str = "") -> None:
        changes = self._changes
        if state == "backing off" and [change.state for change in changes][-2:] == ["backing off", "connecting"]:
            changes.pop()  # of the attempts of an outage only the last is remembered
            changes[-1] = replace(changes[-1], why=why)
        elif changes[-1].state != state:
            changes.append(Change(state, time.time(), why))

    def _no_answer(self) -> FramechainError:
        return FramechainError(f"'{redacted(self._source.uri)}' does not answer; check the camera and the network")

    def _win(self, reader: Reader) -> None:
        """A reader gave its first frame: the others are not needed."""
        for other in tuple(self._wanted):
            if other is not reader:
                self._leave(other)
        if self._current is not None:
            self._timeline.reconnected(self._current.seen)
        self._current = reader
        self._failures = 0
        self.connections += 1
        if self._gone_at is not None:
            logger.info("%s is back after %.1f s", self._name, time.monotonic() - self._gone_at)
        self._gone_at = None

    # What follows is called by readers.

    def entered(self, reader: Reader, info: SourceInfo) -> bool:
        """A reader has opened its source. Returns whether it shall read it."""
        with self._changed:
            if reader not in self._wanted:
                return True  # and is told with its first frame that nobody wants it
            if self.info is None:
                most = self._source.max_frames
                if most is not None:
                    info = replace(info, frame_count=min(most, info.frame_count or most))
                self._name = self._name or info.id
                self.info = replace(info, id=self._name)
                if not info.live:
                    self._file = reader.source
                    self.connections = 1
                    self._change("reading")
                    for other in [one for one in self._wanted if one is not reader]:
                        self._leave(other)
            self._changed.notify_all()
            if self._file is None and not self._source.live:  # it is played, so the run's beginning is its own
                while self._deliver is None and not self._over:
                    self._changed.wait()
            return self._file is not reader.source

    def took(self, reader: Reader, frame: Frame, start: float) -> bool:
        """A reader has a frame, which it worked on since `start`. Returns whether another one is wanted."""
        with self._changed:
            if reader not in self._wanted or self._given == self._source.max_frames:
                self._lost[reasons.ABORTED if self._over else reasons.ABANDONED] += 1
                return False
            now = time.monotonic()
            reader.gave(now)
            if reader is not self._current:
                self._win(reader)
            silence = self._changes[-1].state == "stalled"
            self._change("live")
            self._timeline.place(frame, now, silence)
            if silence:
                for rival in [one for one in self._wanted if one is not reader]:
                    self._leave(rival)
            if self._deliver is None:
                self._lost[reasons.STARTING] += 1
                return True
            try:
                if self._begin is not None and self.info is not None:
                    self._begin(self.info)
                    self._begin = None
                self._given += 1
                self._deliver(frame, start)
            except BaseException as error:
                self._failure = error
            if self._failure is not None or self._given == self._source.max_frames:
                self._end()
            return not self._over

    def left(self, reader: Reader) -> None:
        """A reader's thread ends."""
        with self._changed:
            self._readers.remove(reader)
            self._lost.update(reader.source.dropped)
            # Its traceback leads back to the reader, a circle that would hold the connection until it is looked for.
            failure, reader.failure = reader.failure, None
            if reader in self._wanted:
                self._wanted.remove(reader)
                if failure is None:
                    self._end()
                elif self.info is not None or self._deliver is not None:
                    self._lose(reader, failure)
                else:
                    self._refusal = failure
            self._changed.notify_all()


class Reader(threading.Thread):
    """One attempt: opens a source and reads it for as long as its supervisor wants.

    Attributes:
        failure: what it ended with; None: the source is complete, or nobody wanted more.
        started: monotonic clock. given: frames. interval: the longest seconds between two of the last ones.
    """

    def __init__(self, source: Source, supervisor: Supervisor, name: str) -> None:
        super().__init__(name=f"read-{name or source.name}", daemon=True)
        self.source = source
        self.failure: BaseException | None = None
        self.started = self._heard = time.monotonic()
        self.given = 0
        self.interval = 0.0
        self._supervisor = supervisor
        self._skipped = 0

    @property
    def seen(self) -> int:
        """Frames that it gave, skipped or could not give."""
        return self.given + sum(self.source.dropped.values())

    def silent(self, now: float) -> float:
        """Seconds since the last sign of life. Frames that are skipped or late are one, damaged ones are not."""
        skipped = self.source.dropped[reasons.EVERY] + self.source.dropped[reasons.STALE]
        if skipped != self._skipped:
            self._skipped, self._heard = skipped, now
        return now - self._heard

    def gave(self, now: float) -> None:
        """A frame came. The first one's wait tells nothing."""
        self.interval = max(now - self._heard, 0.9 * self.interval) if self.given else 0.0
        self._heard = now
        self.given += 1

    def run(self) -> None:
        """Open, read, close."""
        try:
            if not self._supervisor.entered(self, self.source.open()):
                return
            work = Work(self.source)
            while (frame := self.source.read()) is not None:
                if not self._supervisor.took(self, frame, work.began()):
                    break
                work = Work(self.source)
            else:
                if not self.source.complete:
                    self.failure = FramechainError(f"'{redacted(self.source.uri)}' hung up")
        except BaseException as error:
            self.failure = error
            if ran_out(error):
                self.failure = FramechainError(
                    f"'{redacted(self.source.uri)}' cannot be opened: this process has as many files open as it may, "
                    f"{open_files()}; raise the limit (ulimit -n, LimitNOFILE of systemd) or name fewer sources"
                )
        try:
            self.source.close()
        except BaseException as error:
            self.failure = self.failure or error
        self._supervisor.left(self)
