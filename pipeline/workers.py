"""Workers: the threads that read sources, run stages and write sinks, and how they unwind when one fails.

Everything flows one way. A part that ends closes what it feeds, so that its readers finish what is left. A part
that fails aborts what feeds it, so that its writers stop; what had already passed it goes on to the end.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, Literal, Protocol

from pipeline import reasons
from pipeline.channel import Aborted, Channel, Sequencer
from pipeline.checkpoint.mark import Mark
from pipeline.checkpoint.progress import Onward
from pipeline.errors import StageError
from pipeline.frame import Frame
from pipeline.intake import Begin, End, Entry, Intake, Item
from pipeline.line import Freshness
from pipeline.live.supervisor import Begin as BeginSource
from pipeline.live.supervisor import Supervisor
from pipeline.metrics import ENDED, Metrics, StageMetrics
from pipeline.sink import Sink, StopRun
from pipeline.stage import Dispatch, Stage
from pipeline.trace import Trace

logger = logging.getLogger("framechain")

_UNTRACED = nullcontext()

_RESTARTS = 5
"""Of a stage within a minute; a stage that fails more often is not helped by it."""

_MINUTE = 60.0


class Inbox(Protocol):
    """Where a stage takes entries from: the intake or a channel."""

    @property
    def depth(self) -> int:
        """Entries waiting now."""

    def take(self, limit: int) -> tuple[int, list[Entry]]:
        """A ticket and the next entries; none at the end."""

    def abort(self) -> None:
        """Stop everyone upstream."""


class Outbox(Protocol):
    """Where a stage puts entries: a channel or a fan of them."""

    def put(self, entry: Entry) -> None:
        """Add an entry, waiting for room."""

    def close(self) -> None:
        """No more will come."""


class Control:
    """What all workers of a run share: whether to stop, what failed, and what to do about failures."""

    def __init__(
        self,
        metrics: Metrics,
        keep_going: bool,
        trace: Trace | None = None,
        on_failure: Literal["end", "skip", "restart"] | None = None,
    ) -> None:
        self.metrics = metrics
        self.keep_going = keep_going
        self.on_failure = on_failure or ("skip" if keep_going else "end")
        self.trace = trace
        self.stopping = threading.Event()
        self.failure: StageError | None = None
        self.gone: Callable[[str], None] = lambda _: None
        """Told of a source once all ends of the chain are done with it."""
        self.sizes: Callable[[], Collection[tuple[int, int]]] = tuple
        """(width, height) of the sources there are."""
        self.marks = False
        """Whether checkpoints are made, which want to know what failed since the beginning."""
        self._lock = threading.Lock()
        self._told: set[str] = set()

    def report(self, error: StageError) -> None:
        """A part failed: end the run (the first failure is the one that is raised), or log it and go on.

        Where the run goes on, the first failure of each part is logged; the metrics count them all.
        """
        goes_on = self.keep_going if error.stage == "reading" else self.on_failure != "end"
        if not goes_on:
            self.fail(error)
            return
        with self._lock:
            first = error.stage not in self._told
            self._told.add(error.stage)
        if first:
            logger.warning("%s; going on, further failures of %s are only counted", error, error.stage)

    def fail(self, error: StageError) -> None:
        """A part failed, and the run ends with it."""
        with self._lock:
            self.failure = self.failure or error
        self.stopping.set()

    def finished(self, item: Item) -> None:
        """One of the ends of the chain is done with a frame; the last one completes it."""
        with self._lock:
            item.undelivered -= 1
            complete = item.undelivered <= 0
        if complete:
            self.metrics.finished(item.frame.source, item.entered)
            if self.trace is not None:
                self.trace.passed(item.frame, item.entered)

    def ended(self, end: End) -> None:
        """One of the ends of the chain is done with a source."""
        with self._lock:
            end.undelivered -= 1
            complete = end.undelivered <= 0
        if complete:
            self.gone(end.source)

    def lost(self, source: str, reason: str) -> None:
        """A frame left the chain before its end."""
        self.metrics.lost(source, reason)
        if self.trace is not None:
            self.trace.lost(source, reason)

    def tracing(self, part: str, frames: Sequence[Frame]) -> AbstractContextManager[None]:
        """The body is a part's work on these frames, to be traced if anything is."""
        return _UNTRACED if self.trace is None else self.trace.span(part, frames)


class Fan:
    """The end of the chain: every entry goes to all sinks, and to the user's loop where there is one.

    A frame is finished when the last sink has written it; without sinks, when it gets here. All ends get the same
    frames: one that has waited too long for the slowest of them is dropped for all.
    """

    def __init__(
        self,
        sinks: Sequence[Channel[Entry]],
        results: Channel[Entry] | None,
        control: Control,
        freshness: Freshness,
    ) -> None:
        self._sinks = sinks
        self._channels = [*sinks, results] if results else list(sinks)
        self._control = control
        self._freshness = freshness

    def put(self, entry: Entry) -> None:
        """Hand one entry on to all."""
        if isinstance(entry, Item):
            for channel in self._channels:
                channel.await_room(entry)
            if not self._freshness.admits(entry):
                return
            entry.undelivered = len(self._sinks)
            if not self._sinks:
                self._control.finished(entry)
        elif isinstance(entry, Mark):
            self._freshness.tell(entry)
            entry.expect(len(self._channels))
        elif isinstance(entry, End):
            self._freshness.forget(entry.source)
            entry.undelivered = len(self._sinks)
            if not self._sinks:
                self._control.ended(entry)
        for channel in self._channels:
            channel.put(entry)

    def close(self) -> None:
        """Let all of them finish."""
        for channel in self._channels:
            channel.close()


Reading = tuple[Supervisor, str, Intake, StageMetrics, Control, BeginSource, Onward | None]
"""The arguments of `read_source`."""


def read_source(
    supervisor: Supervisor,
    name: str,
    intake: Intake,
    metrics: StageMetrics,
    control: Control,
    begin: BeginSource,
    onward: Onward | None = None,
) -> None:
    """Thread body: have one source read to its end, from where it is gone on with, into the intake; then close it."""
    index = -1 if onward is None else onward.index

    def deliver(frame: Frame, start: float) -> None:
        nonlocal index
        entered = time.perf_counter()
        metrics.served(entered - start, 1)
        if onward is not None and onward.lead:
            onward.shift(frame)
        index = frame.index
        frame.source = name
        control.metrics.given(name)
        if control.trace is not None:
            control.trace.worked(metrics.name, start, [frame])
        try:
            intake.put(Item(frame, entered, entered))
        except Aborted:
            control.lost(name, reasons.ABORTED)
            raise

    try:
        supervisor.run(deliver, control.stopping, begin, onward)
    except Aborted:
        pass
    except BaseException as error:
        supervisor.end(error)
        metrics.served(0.0, 0, 1)
        if not control.stopping.is_set():  # else nothing more was wanted of it
            control.report(StageError("reading", name, index + 1, error))
    finally:
        intake.end(name)
        if _close(supervisor, "reading", control) is False:
            logger.warning("%s does not answer; its reader is left behind", name)


class Calls:
    """Lets either any number of calls go on, or one thread be alone."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._count = 0
        self._alone = False

    @contextmanager
    def call(self) -> Iterator[None]:
        """The body is a call; it waits while somebody is alone."""
        with self._changed:
            self._changed.wait_for(lambda: not self._alone)
            self._count += 1
        try:
            yield
        finally:
            with self._changed:
                self._count -= 1
                self._changed.notify_all()

    @contextmanager
    def none(self) -> Iterator[None]:
        """The body is alone; it waits for the calls that go on."""
        with self._changed:
            self._changed.wait_for(lambda: not self._alone)
            self._alone = True
            self._changed.wait_for(lambda: not self._count)
        try:
            yield
        finally:
            with self._changed:
                self._alone = False
                self._changed.notify_all()


class Crew:
    """The workers of one stage: take a batch, process it, hand it on in order."""

    def __init__(
        self,
        stage: Stage,
        dispatch: Dispatch,
        inbox: Inbox,
        outbox: Outbox,
        metrics: StageMetrics,
        control: Control,
    ) -> None:
        self._stage, self._dispatch, self._inbox, self._outbox = stage, dispatch, inbox, outbox
        self._metrics, self._control = metrics, control
        # one finished batch per worker may wait for its turn: enough to keep all of them busy, and bounded
        self._sequencer: Sequencer[Entry | StageError] = Sequencer(self._deliver, ahead=dispatch.workers)
        self._lock = threading.Lock()
        self._working = dispatch.workers
        self._failed: Counter[str] = Counter()
        self._calls = Calls()
        self._restarts: deque[float] = deque()

    def threads(self) -> list[threading.Thread]:
        """One thread a worker, not started."""
        return [
            threading.Thread(target=self._run, name=f"{self._metrics.name}-{n}", daemon=True)
            for n in range(self._dispatch.workers)
        ]

    def _run(self) -> None:
        try:
            while True:
                ticket, entries = self._inbox.take(self._dispatch.batch)
                if not entries:
                    break
                now = time.perf_counter()
                waits = [now - entry.queued for entry in entries if isinstance(entry, Item)]
                self._metrics.waited(waits, self._inbox.depth)
                self._sequencer.emit(ticket, self._handle(entries))
        except Aborted:
            self._inbox.abort()
            self._sequencer.abort()
        except BaseException as error:  # a mistake of ours must not leave the others waiting for this worker
            self._control.fail(StageError(self._metrics.name, "", -1, error))
            self._inbox.abort()
            self._sequencer.abort()
        finally:
            with self._lock:
                self._working -= 1
                last = not self._working
            if last:
                self._outbox.close()
                _close(self._stage, self._metrics.name, self._control)

    def _handle(self, entries: list[Entry]) -> list[Entry | StageError]:
        done: list[Entry | StageError] = []
        frames: list[Item] = []
        for entry in entries:
            if isinstance(entry, Item):
                frames.append(entry)
                continue
            done += self._process(frames)
            frames = []
            if isinstance(entry, End):
                self._forget(entry.source)
            elif isinstance(entry, Mark) and self._dispatch.workers == 1:
                entry.add(self._metrics.name, self._stage.state_dict)
            done.append(entry)
        return done + self._process(frames)

    def expect(self, width: int, height: int) -> None:
        """Have the stage get ready for frames of a size, though not while it is being restarted. Any thread may."""
        with self._calls.call():
            self._stage.expect(width, height)

    def _forget(self, source: str) -> None:
        try:
            with self._calls.call(), self._metrics.watching():
                self._stage.forget(source)
        except BaseException as error:
            self._control.report(StageError(self._metrics.name, source, -1, error))
            if self._control.on_failure == "end":
                raise Aborted from error

    def _process(self, items: list[Item]) -> list[Entry | StageError]:
        """Run the stage; a frame it fails on becomes a StageError in its place."""
        if not items:
            return []
        divisible = self._stage.stateless and len(items) > 1
        try:
            frames = [item.frame for item in items]
            tracing = self._control.tracing(self._metrics.name, frames)
            with self._calls.call(), self._metrics.timing(len(items), tried_again=divisible), tracing:
                self._stage.process(frames)
        except BaseException as error:
            if divisible:  # one by one, to find the frame that it fails on
                return [result for item in items for result in self._process([item])]
            if self._control.on_failure == "restart":
                self._restart(StageError(self._metrics.name, items[0].frame.source, items[0].frame.index, error))
            return [StageError(self._metrics.name, item.frame.source, item.frame.index, error) for item in items]
        done = time.perf_counter()
        for item in items:
            item.queued = done
        return list(items)

    def _restart(self, error: StageError) -> None:
        """Close the stage and open it again, with what it remembers; the run ends where that does not help."""
        with self._calls.none():
            now = time.monotonic()
            while self._restarts and now - self._restarts[0] > _MINUTE:
                self._restarts.popleft()
            if len(self._restarts) >= _RESTARTS:
                logger.warning("%s was restarted %d times within a minute; the run ends", error.stage, _RESTARTS)
                self._control.fail(error)
                return
            self._restarts.append(now)
            self._metrics.fault("restarts")
            state = self._remembered()
            try:
                self._stage.close()
                self._stage.open()
                if state:
                    self._stage.load_state_dict(state)
                for width, height in self._control.sizes():
                    self._stage.expect(width, height)
            except BaseException as failure:
                self._control.fail(StageError(self._metrics.name, "restarting", -1, failure))
                return
        kept = "with what it remembered" if state else "what it remembered is gone, tracks begin anew"
        logger.warning("%s; it is restarted, %s", error, kept)

    def _remembered(self) -> dict[str, Any]:
        """What the stage knows of all sources, if it can tell, and after a failure still does."""
        try:
            state: dict[str, Any] = self._stage.state_dict()
        except BaseException as error:
            logger.warning("%s does not tell what it remembers: %s", self._metrics.name, error)
            return {}
        return state

    def _deliver(self, batch: list[Entry | StageError]) -> None:
        for entry in batch:
            if isinstance(entry, StageError):
                self._control.report(entry)
                self._control.lost(entry.source, reasons.failed(entry.stage))
                if self._control.on_failure == "end" or self._control.failure is not None:
                    raise Aborted
                if self._control.marks:
                    self._failed[entry.source] += 1
                continue
            if isinstance(entry, Mark):
                for source in [source for source in self._failed if source not in (ENDED, *entry.sources)]:
                    self._failed[ENDED] += self._failed.pop(source)
                for source, count in self._failed.items():
                    entry.lost(source, reasons.failed(self._metrics.name), count)
            self._outbox.put(entry)


def write_sink(sink: Sink, inbox: Channel[Entry], metrics: StageMetrics, control: Control) -> None:
    """Thread body: write all that arrives into one sink, then close it."""
    source, index = "", -1
    marks: deque[tuple[Mark, Callable[[], bool]]] = deque()
    try:
        while entries := inbox.take(1)[1]:
            for entry in entries:
                index = -1
                try:
                    if isinstance(entry, Begin):
                        source = entry.source.id
                        with metrics.watching():
                            sink.begin(entry.source)
                    elif isinstance(entry, End):
                        source = entry.source
                        with metrics.watching():
                            sink.end(entry.source)
                        control.ended(entry)
                    elif isinstance(entry, Mark):
                        entry.add(metrics.name, partial(_of_sink, sink))
                        marks.append((entry, entry.asks(sink.put_down, lambda: True)))
                    else:
                        source, index = entry.frame.source, entry.frame.index
                        metrics.waited([time.perf_counter() - entry.queued], inbox.depth)
                        with metrics.timing(1), control.tracing(metrics.name, [entry.frame]):
                            sink.write(entry.frame)
                        control.finished(entry)
                except StopRun:
                    control.stopping.set()
                except BaseException as error:
                    control.report(StageError(metrics.name, source, index, error))
                    if control.on_failure == "end":
                        raise Aborted from error
                    if isinstance(entry, Item):
                        control.finished(entry)
                    elif isinstance(entry, End):
                        control.ended(entry)
                while marks:
                    mark, is_down = marks[0]
                    if not mark.asks(is_down, True):
                        break
                    marks.popleft()
                    mark.passed()
    except Aborted:
        inbox.abort()
        marks.clear()
    except BaseException as error:  # a mistake of ours must not leave the others waiting for this sink
        control.fail(StageError(metrics.name, "", -1, error))
        inbox.abort()
        marks.clear()
    finally:
        _close(sink, metrics.name, control)
        for mark, _ in marks:
            mark.passed()


def _of_sink(sink: Sink) -> dict[str, Any]:
    return {"state": sink.state_dict(), "dropped": dict(sink.dropped)}


def _close(part: Supervisor | Stage | Sink, name: str, control: Control) -> bool | None:
    try:
        return part.close()
    except BaseException as error:
        control.report(StageError(name, "closing", -1, error))
    return None
