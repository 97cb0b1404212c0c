"""The engine: runs a chain of stages over sources, every part in threads of its own, frames in order."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pipeline.address import redacted
from pipeline.channel import WAKE, Aborted
from pipeline.checkpoint.checkpoints import Checkpoints
from pipeline.checkpoint.mark import Mark
from pipeline.checkpoint.progress import Onward
from pipeline.errors import FramechainError, UsageError
from pipeline.files.output import PLACEHOLDER
from pipeline.frame import Frame
from pipeline.intake import Intake, Item
from pipeline.limits import check_open_files, start
from pipeline.line import Freshness, Line
from pipeline.live.supervisor import FAREWELL, Supervisor
from pipeline.metrics import Metrics, Snapshot, StageMetrics
from pipeline.roster import Member, Names, Part, Roster
from pipeline.sink import Sink
from pipeline.source import Source, SourceInfo, create_source
from pipeline.stage import Stage, check_chain
from pipeline.supervision.memory import Trimmer, use_few_arenas
from pipeline.supervision.watchdog import Watchdog
from pipeline.trace import Trace
from pipeline.window import Window
from pipeline.workers import Control, Crew, Fan, Inbox, Outbox, Reading, read_source, write_sink
from trackers.registry import nearest

logger = logging.getLogger("framechain")

Phase = Literal["starting", "running", "stopping", "ended"]

_POLL = 0.05  # seconds between looks at a source that leaves

_SOON = 2.0
"""Seconds that a run with `keep_going` waits for cameras before it begins without those that do not answer."""


class Pipeline:
    """A chain of stages over sources, into sinks.

    Each source is read, each stage run and each sink written in a thread of its own; bounded queues between
    them hold a few frames. Frames of a source stay in order. `run()` does it all; `start()`, `wait()`, `stop()`
    and `abort()` are its parts; iterating gives the finished frames. A pipeline runs once.

        for frame in Pipeline(["street.mp4"], [Detect(weights="yolo11n.onnx"), Track()]):
            print(frame.index, frame.tracks.id)

    Args:
        sources: uris, or sources that are not opened yet.
        stages, sinks: not opened yet; the pipeline opens and closes all parts.
        keep_going: count a frame on which a stage or sink fails, leave it out, and go on; go on without a source that
            cannot be opened, as long as there is another, and take in a camera once it is there.
        queue: frames that may wait before each part; before one that takes batches, two batches may.
        staleness: seconds that a frame of a live source may wait, in all queues together, before it is dropped.
        trace: collects every frame's way through every part.
        checkpoint: a folder in which what the run remembers is saved every `checkpoint_every` seconds and at its end.
        resume: go on from what is saved there; where nothing is, begin anew. fresh: begin anew whatever is there.
        service: go on without any source, until stopped; else the run ends with its last source.
        on_failure: what to do when a stage or sink fails on a frame: "end" the run; "skip" it and count it; or
            "restart" the stage as well, with what it remembers, at most five times a minute; if not given: "skip" with
            `keep_going`, else "end". Sinks are not restarted.
        max_sources: at once; more are refused, as they are a mistake more often than not.
        watchdog: seconds that a stage or sink may take for one call, and that frames of live sources may wait without
            any; `overdue` tells of what takes longer.

    Attributes:
        metrics: `metrics.snapshot()` tells at any time what has happened so far.
        infos: the sources as opened, ids made unique; one that was not there at first, or is added, joins them later,
            and one that is removed leaves them.
        began: the ids of the sources it was made with, in their order; None for one that was left out.

    Raises:
        UsageError: the chain does not fit together (see `check_chain`), or nothing reads a uri; there are too many
            sources; or there is a checkpoint that cannot be gone on from, or that would be overwritten unasked.
        ValueError: there is no source, and it is not a service; an object is given twice; or an option is none that
            can be.
        TypeError: a source, stage or sink is none.
    """

    def __init__(
        self,
        sources: Sequence[Source | str],
        stages: Sequence[Stage] = (),
        sinks: Sequence[Sink] = (),
        *,
        keep_going: bool = False,
        queue: int = 2,
        staleness: float = 0.5,
        trace: Trace | None = None,
        checkpoint: Path | str | None = None,
        checkpoint_every: float = 5.0,
        resume: bool = False,
        fresh: bool = False,
        service: bool = False,
        on_failure: Literal["end", "skip", "restart"] | None = None,
        watchdog: float | None = 60.0,
        max_sources: int = 256,
    ) -> None:
        _check_are("sources", sources, (Source, str))
        _check_are("stages", stages, Stage)
        _check_are("sinks", sinks, Sink)
        if not (sources or service):
            raise ValueError("a pipeline needs at least one source")
        _check_options(
            keep_going=keep_going,
            queue=queue,
            staleness=staleness,
            checkpoint_every=checkpoint_every,
            on_failure=on_failure,
            watchdog=watchdog,
            max_sources=max_sources,
        )
        check_chain(stages, [(sink.name, sink.requires) for sink in sinks])
        self._max_sources = max_sources
        self._check_count(len(sources))
        self.metrics = Metrics()
        self.infos: list[SourceInfo] = []
        self._sources = [create_source(source) if isinstance(source, str) else source for source in sources]
        self._stages, self._sinks = list(stages), list(sinks)
        self._queue = queue
        self._staleness = staleness
        self._patience = staleness / 2  # a window that long would make frames stale
        self._control = Control(self.metrics, keep_going, trace, on_failure)
        self._watchdog = None if watchdog is None else Watchdog(self.metrics, watchdog)
        self._trimmer = Trimmer()
        self._names = Names()
        self._checkpoints: Checkpoints | None = None
        if checkpoint is not None:
            self._checkpoints = Checkpoints(Path(checkpoint), checkpoint_every, resume, fresh, service, self._names)
            try:
                self._checkpoints.check_chain(self._stages)
            except BaseException:
                self._checkpoints.close()
                raise
        elif resume or fresh:
            raise UsageError("--resume and --fresh are about what --checkpoint DIR saves; give that too")
        self._unwanted: set[str] = set()  # sources that are removed with what is inside
        self._intake = Intake(
            queue,
            staleness,
            self._control.lost,
            Window(self._patience),
            self._checkpoints,
            self._control.stopping.is_set,
            self._unwanted,
        )
        self._channels: list[Line] = []
        self._results: Line | None = None
        self._supervisors: dict[str, Supervisor] = {}  # what it begins with
        self._expected: list[SourceInfo] = []
        self._service = service
        self._roster = Roster()
        self._crews: list[Crew] = []
        self._reading: StageMetrics | None = None
        self._changing = threading.RLock()  # of who is in the run
        self._expecting = threading.Lock()
        self._opened: list[Supervisor | Stage | Sink] = []
        self._ended = threading.Event()
        self._started = self._running = False
        self.began: list[str | None] = []

    def run(self) -> Snapshot:
        """Run to the end of all sources and return the final figures.

        Raises:
            FramechainError: a part could not be opened, or failed while running (StageError).
        """
        self.start()
        try:
            return self.wait()
        finally:  # Ctrl-C: outputs are closed all the same
            if not self._ended.is_set():
                self.abort()
                self.join()

    def start(self) -> None:
        """Open everything and begin. Options and outputs are tried first, then sources, and models are loaded last.

        Raises:
            FramechainError: a part cannot be opened, or the system gives no threads; what was open is closed again.
            RuntimeError: it was started before.
        """
        if self._started:
            raise RuntimeError("a pipeline runs once; make a new one")
        self._started = True
        use_few_arenas()
        try:
            self._open()
        except BaseException:
            self._close_opened()
            raise
        if self._control.stopping.is_set():  # stopped while models were loaded: leave earlier results alone
            self._close_opened()
            return
        readers, workers = self._wire()
        self.metrics.start()
        try:
            if self._checkpoints is not None:
                self._checkpoints.start()
            if self._watchdog is not None:
                self._watchdog.start()
            self._trimmer.start()
            for thread in (*workers, *readers, threading.Thread(target=self._finish, args=(workers,), name="finish")):
                thread.daemon = True
                start(thread)
        except FramechainError:
            self.abort()
            for thread in (*workers, *readers):  # those that were started close their parts
                if thread.ident is not None:
                    thread.join(FAREWELL)
            self._close_opened()
            if self._watchdog is not None:
                self._watchdog.close()
            self._trimmer.close()
            self._ended.set()
            raise
        self._running = True

    def wait(self, timeout: float | None = None) -> Snapshot:
        """Wait for the end and return the final figures.

        Raises:
            FramechainError: a part failed.
            TimeoutError: the run has not ended within `timeout` seconds; it goes on.
        """
        if not self._started:
            raise RuntimeError("nothing was started; call start() first, or run()")
        if not self.join(timeout):
            raise TimeoutError(f"the pipeline has not ended within {timeout} s")
        if self._control.failure is not None:
            raise self._control.failure
        return self.metrics.snapshot()

    def join(self, timeout: float | None = None) -> bool:
        """Wait at most `timeout` seconds for the end; tells whether the run is over and everything closed."""
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        while not self._ended.wait(max(0.0, min(WAKE, deadline - time.monotonic()))):
            if time.monotonic() >= deadline:
                return False
        return True

    def stop(self) -> None:
        """End soon and cleanly: nothing more is read, the frames inside are finished, outputs closed."""
        self._control.stopping.set()

    def abort(self) -> None:
        """End at once: the frames inside are dropped (and counted), outputs closed and valid."""
        self._control.stopping.set()
        self._intake.abort()
        for channel in self._channels:
            channel.abort()
        for sink in self._sinks:
            sink.abort()

    @property
    def checkpoints(self) -> dict[str, int]:
        """How many checkpoints were "saved", and how many "failed"."""
        return {} if self._checkpoints is None else {"saved": 0, "failed": 0, **self._checkpoints.counts}

    def add(self, source: Source | str) -> SourceInfo:
        """Take in another source while the run goes on. Any thread may; it waits until the source is open.

        Returns:
            what is known of it, with the id that it got: no other source of this run has or had it. With `keep_going`
            that may be a camera that is not there yet: its size is 0 × 0, and it joins once it is there. What is gone
            on with from a checkpoint may have come to its end before; nothing more comes of it.

        Raises:
            FramechainError: it cannot be opened, or the run has ended; the others go on.
            UsageError: it is wrong, or a sink has no file for it.
        """
        supervisor = Supervisor(source if isinstance(source, Source) else create_source(source))
        self._check_takes_more()
        supervisor.start()
        try:
            info, begun = self._opening(supervisor)
            self._expect(info.width, info.height)
            with self._changing:
                saved, wanted, onward = self._checkpoints, info.id, None
                info = replace(info, id=self._name(info))
                if saved is not None and saved.ended(info.id):
                    logger.info("%s came to its end in an earlier run", info.id)
                    supervisor.close(0)
                    return info
                try:
                    self._intake.expect(info)
                except Aborted:
                    raise _over() from None
                if saved is not None:
                    saved.join(info.id, info, wanted)
                    onward = saved.onward(info, passing=True)
                member = self._enlist(info.id, supervisor, begun, passing=True, onward=onward)
                if begun:
                    self.infos = [*self.infos, info]
                    self._intake.begin(info)
                try:
                    start(member.thread)
                except FramechainError:
                    self._intake.end(info.id)
                    self._release(member, "reader")
                    raise
        except BaseException:
            supervisor.close(0)
            raise
        return info

    def remove(self, source: str, timeout: float | None = None, drop: bool = False) -> bool:
        """Take a source out while the others go on. Any thread may but those of the chain, and of the loop over it.

        No more is read of it, its frames inside are finished, stages forget it, sinks close what they have of it alone.

        Args:
            source: its id. timeout: seconds to wait for all that; none: as long as it takes.
            drop: its frames inside, but for those that sinks have been given, are dropped and counted ("removed"): it
                is out as soon as the calls that go on are done.

        Returns:
            whether it is out; if not, it leaves later.

        Raises:
            UsageError: no source of the run has that id. TypeError: it is no text.
        """
        if not isinstance(source, str):
            raise TypeError(f"a source is removed by its id, a text, not by {source!r:.80}")
        if self._checkpoints is not None:  # of one that ended by itself, nobody need know any more either
            self._checkpoints.leave(source)
        if (member := self._roster.get(source)) is None:
            raise UsageError(f"no source of this run is called '{source}'{nearest(source, self._roster.names())}")
        member.passing = True
        if drop:
            self._unwanted.add(source)
        member.supervisor.end()
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        hung = time.monotonic() + FAREWELL
        while not member.out.wait(min(_POLL, max(0.0, deadline - time.monotonic()))):
            now = time.monotonic()
            if not member.thread.is_alive() or self._intake.full(source):
                hung = now + FAREWELL
            elif now >= hung:
                self._leave_behind(member)
                hung = math.inf
            if now >= deadline:
                return False
        return True

    @property
    def stopping(self) -> bool:
        """Whether nothing more is read: it was stopped, or something failed."""
        return self._control.stopping.is_set()

    @property
    def phase(self) -> Phase:
        """What it does now; "ended" once everything is closed."""
        if self._ended.is_set():
            return "ended"
        if self.stopping:
            return "stopping"
        return "running" if self._running else "starting"

    @property
    def failure(self) -> FramechainError | None:
        """What ended the run, if anything did."""
        return self._control.failure

    @property
    def overdue(self) -> list[str]:
        """What takes longer now than `watchdog` allows, in words: calls, or frames that wait and nobody takes."""
        return [] if self._watchdog is None else self._watchdog.overdue()

    @property
    def troubles(self) -> list[str]:
        """What sinks wait for now, and that no frame comes through the chain for longer than `watchdog`, in words."""
        vain = [] if self._watchdog is None else self._watchdog.vain
        return vain + [f"sink '{sink.name}': {told}" for sink in self._sinks if (told := sink.trouble)]

    def _name(self, info: SourceInfo) -> str:
        """The id of a source: that of an earlier run, or a new one."""
        return self._names.new(info.id) if self._checkpoints is None else self._checkpoints.name(info)

    def _check_count(self, sources: int) -> None:
        if sources > self._max_sources:
            raise UsageError(
                f"{sources:,} sources are more than max_sources, {self._max_sources:,}; raise it in the configuration "
                "if they are meant, else name fewer, or run them in groups"
            )

    def _check_takes_more(self) -> None:
        if not self._started or self._reading is None or self.stopping or self._ended.is_set():
            raise _over()
        self._check_count(len(self._roster) + 1)
        for sink in self._sinks:
            if sink.per_source and PLACEHOLDER not in str(getattr(sink, "path", PLACEHOLDER)) and self._names.used:
                raise UsageError(
                    f"sink '{sink.name}' writes a file for each source; put {PLACEHOLDER} into its path to add some"
                )

    def _opening(self, supervisor: Supervisor) -> tuple[SourceInfo, bool]:
        """Wait for a source that is added: what is known of it, and whether it is there."""
        try:
            info = supervisor.opened(self._control.stopping, _SOON if self._control.keep_going else None)
        except FramechainError as error:
            expected = supervisor.await_return(error) if self._control.keep_going else None
            if expected is None:
                raise
            logger.warning("%s; it is tried again", redacted(str(error)))
            return expected, False
        if info is None:
            raise _over()
        return info, True

    def __iter__(self) -> Iterator[Frame]:
        """Run, giving each frame as it leaves the chain. Leaving the loop early ends the run."""
        self._results = self._channel(Line(self._queue))
        self.start()
        complete = False
        try:
            while entries := self._results.take(1)[1]:
                for entry in entries:
                    if isinstance(entry, Item):
                        yield entry.frame
                    elif isinstance(entry, Mark):
                        entry.passed()
            complete = True  # sinks finish what they still have
        except Aborted:
            pass
        finally:
            if not complete:
                self.abort()
            self.join()
        self.wait()

    def _close_opened(self) -> None:
        supervisors = [part for part in self._opened if isinstance(part, Supervisor)]
        for part in reversed(self._opened):
            if not isinstance(part, Supervisor):
                part.close()
        for supervisor in supervisors:  # all are told before any is waited for
            supervisor.end()
        deadline = time.monotonic() + FAREWELL
        for supervisor in supervisors:
            supervisor.close(max(0.0, deadline - time.monotonic()))
        if self._checkpoints is not None:
            self._checkpoints.close()
        self._ended.set()

    def _open(self) -> None:
        check_open_files(len(self._sources))
        for stage in self._stages:
            stage.check()
        for sink in self._sinks:
            self._opened.append(sink)
            sink.open()
        supervisors = [Supervisor(source) for source in self._sources]
        self._opened += supervisors
        self.began = [None] * len(supervisors)
        named: dict[str, SourceInfo] = {}
        for supervisor in supervisors:
            supervisor.start()
        for source, supervisor in zip(self._sources, supervisors, strict=True):
            try:
                info = supervisor.opened(self._control.stopping, _SOON if self._control.keep_going else None)
                if info is None:
                    return  # stopped
                infos = self.infos
            except FramechainError as error:
                info = supervisor.await_return(error) if self._control.keep_going else None
                if info is None:
                    nothing = supervisor is supervisors[-1] and not (self._supervisors or self._service)
                    saved = self._checkpoints
                    if not self._control.keep_going or nothing or not (saved is None or saved.await_return(source)):
                        raise
                    logger.warning("%s; the other sources go on", redacted(str(error)))
                    continue
                logger.warning("%s; it is tried again", redacted(str(error)))
                infos = self._expected
            name = self._name(info)
            named[name] = info
            self.began[supervisors.index(supervisor)] = name
            infos.append(replace(info, id=name))
            self._supervisors[name] = supervisor
        if self._checkpoints is not None:
            self._checkpoints.check_sources(named)
        if self._checkpoints is not None:
            self._checkpoints.restore_sinks(self._sinks)
        for stage in self._stages:
            self._opened.append(stage)
            stage.open()
        for width, height in sorted({(info.width, info.height) for info in self.infos}):
            self._expect(width, height)
        if self._checkpoints is not None:
            self._checkpoints.restore_stages(self._stages)

    def _wire(self) -> tuple[list[threading.Thread], list[threading.Thread]]:
        """Connect all parts by queues, from the readers to the sinks; gives the readers' and the others' threads."""
        self._reading = self.metrics.stage("decode", "source", max(1, len(self._supervisors)))
        self._control.gone = self._gone
        self._control.sizes = lambda: {(info.width, info.height) for info in self.infos}
        saved = self._checkpoints
        if saved is not None:
            self._control.marks = True
            if (gone := saved.gone).given or gone.unread:
                self.metrics.ended(gone)
        over = {name for name in self._supervisors if saved is not None and saved.ended(name)}
        onward = {} if saved is None else {info.id: saved.onward(info) for info in (*self.infos, *self._expected)}
        for info in self.infos:
            if info.id not in over:
                self._intake.begin(info)
        for info in self._expected:
            if info.id not in over:
                self._intake.expect(info)
        begun = {info.id for info in self.infos}
        readers = []
        for name, supervisor in self._supervisors.items():
            if name in over:
                assert saved is not None
                self.metrics.source(name, supervisor, saved.follow(name, supervisor))
                supervisor.close()
                continue
            member = self._enlist(name, supervisor, name in begun, onward=onward.get(name))
            readers.append(member.thread)
        if not self._service:
            self._intake.close()

        outlets = [self._channel(Line(self._queue)) for _ in self._sinks]
        end = Fan(outlets, self._results, self._control, self._freshness())
        chain = self._stages or [_Pass()]
        dispatches = [stage.dispatch() for stage in chain]
        # the first stage that takes batches gathers them from all cameras; to those after it they come in one piece
        gathers = next((n for n, dispatch in enumerate(dispatches) if dispatch.batch > 1), 0)
        channels = [self._between(dispatch.batch, n == gathers) for n, dispatch in enumerate(dispatches[1:], 1)]
        inboxes: list[Inbox] = [self._intake, *channels]
        outboxes: list[Outbox] = [*channels, end]
        workers = []
        for stage, dispatch, inbox, outbox in zip(chain, dispatches, inboxes, outboxes, strict=True):
            metrics = self.metrics.stage(stage.name, "stage", dispatch.workers, faults=stage.faults)
            crew = Crew(stage, dispatch, inbox, outbox, metrics, self._control)
            self._crews.append(crew)
            workers += crew.threads()
        for sink, outlet in zip(self._sinks, outlets, strict=True):
            pending = partial(getattr, sink, "pending")
            metrics = self.metrics.stage(f"sink:{sink.name}", "sink", dropped=sink.dropped, pending=pending)
            writing = (sink, outlet, metrics, self._control)
            workers.append(threading.Thread(target=write_sink, args=writing, name=metrics.name, daemon=True))
        return readers, workers

    def _enlist(
        self, name: str, supervisor: Supervisor, begun: bool, passing: bool = False, onward: Onward | None = None
    ) -> Member:
        """Open the books for a source; its thread is not started."""
        assert self._reading is not None, "start() comes first"
        saved = self._checkpoints
        self.metrics.source(name, supervisor, None if saved is None else saved.follow(name, supervisor, passing))
        begin = partial(self._join, name)
        reading = (supervisor, name, self._intake, self._reading, self._control, begin, onward)
        member = Member(name, supervisor, begun, passing)
        member.thread = threading.Thread(target=self._read, args=(member, reading), name=f"read-{name}", daemon=True)
        self._roster.enter(member)
        self._reading.workers = max(self._reading.workers, len(self._roster))
        return member

    def _read(self, member: Member, reading: Reading) -> None:
        """Thread body: read a source to its end."""
        read_source(*reading)
        self._release(member, "reader")

    def _join(self, name: str, info: SourceInfo) -> None:
        """A source that could not be opened at first is there."""
        info = replace(info, id=name)
        try:
            self._expect(info.width, info.height)
        except Exception as error:  # its first frame tells whether that matters
            logger.warning("getting ready for frames of %d × %d failed: %s", info.width, info.height, error)
        with self._changing:
            self.infos = [*self.infos, info]
            if (member := self._roster.get(name)) is not None:
                member.begun = True
        if self._checkpoints is not None:
            self._checkpoints.join(name, info)
        self._intake.begin(info)

    def _expect(self, width: int, height: int) -> None:
        if width and height:  # a camera that is not there yet has no size
            with self._expecting:
                for part in self._crews or self._stages:
                    part.expect(width, height)

    def _gone(self, name: str) -> None:
        """All ends of the chain are done with a source."""
        if (member := self._roster.get(name)) is not None:
            self._release(member, "chain")

    def _release(self, member: Member, part: Part) -> None:
        """One of the two that hold a source lets go of it; after the second one it is out of the run."""
        if not self._roster.released(member, part):
            return
        if member.passing and not self._control.stopping.is_set():  # what is there at the end stays in the report
            self.metrics.retire(member.name)
            with self._changing:
                self.infos = [info for info in self.infos if info.id != member.name]
        self._unwanted.discard(member.name)
        member.out.set()

    def _between(self, batch: int, gathers: bool) -> Line:
        window = Window(self._patience) if gathers else None
        return self._channel(Line(max(self._queue, 2 * batch), self._freshness(), window))

    def _channel(self, line: Line) -> Line:
        self._channels.append(line)
        return line

    def _freshness(self) -> Freshness:
        return Freshness(self._staleness, self._control.lost, self._unwanted, self._control.marks)

    def _await(self, workers: list[threading.Thread]) -> set[str]:
        """Wait until all workers have ended. Returns the sources whose readers hung once nothing more was read."""
        since: dict[str, float] = {}
        left: set[str] = set()
        for worker in workers:
            while worker.is_alive():
                worker.join(_POLL if self.stopping else WAKE)
                if not self.stopping:
                    continue
                now = time.monotonic()
                for member in self._roster.members():
                    if not member.thread.is_alive() or self._intake.full(member.name):
                        since.pop(member.name, None)
                    elif member.name not in since:
                        since[member.name] = now
                        member.supervisor.end()  # a pipe is not waited for any more
                    elif member.name not in left and now - since[member.name] >= FAREWELL:
                        left.add(member.name)
                        self._leave_behind(member)
        return left

    def _leave_behind(self, member: Member) -> None:
        """Its reader hangs: nothing more is expected of it."""
        self._tell_left(member)
        self._intake.end(member.name)
        self._release(member, "reader")

    def _tell_left(self, member: Member) -> None:
        logger.warning("%s does not answer and is left behind", member.thread.name)

    def _finish(self, workers: list[threading.Thread]) -> None:
        if self._service:
            self._control.stopping.wait()
            self._intake.close()
        left = self._await(workers)
        self.metrics.stop()
        if self._checkpoints is not None:
            self._checkpoints.close()
        deadline = time.monotonic() + FAREWELL
        if self._watchdog is not None:
            self._watchdog.close()
        self._trimmer.close()
        with self._changing:  # one that is being added has its thread started, or is refused
            members = self._roster.members()
        for member in members:
            member.supervisor.end()  # one that hangs in a process of its own is killed
        for member in members:
            if member.name not in left:
                member.thread.join(max(0.0, deadline - time.monotonic()))
                if member.thread.is_alive():
                    self._tell_left(member)
        self._ended.set()
        for member in members:
            member.out.set()


def _check_are(name: str, parts: object, kinds: type | tuple[type, ...]) -> None:
    """Refuse what would fail in the midst of a run with a word that says nothing."""
    if isinstance(parts, str) or not isinstance(parts, Sequence):
        raise TypeError(f"{name} are a list, not {parts!r:.80}")
    for part in parts:
        if not isinstance(part, kinds):
            raise TypeError(f"{part!r:.80} is none of the {name} that a pipeline takes; give objects")
    objects = [id(part) for part in parts if not isinstance(part, str)]
    if len(set(objects)) < len(objects):
        raise ValueError(f"one object is given twice among the {name}; make one for each place")


def _check_options(**options: Any) -> None:
    """Refuse what a configuration file would be refused for; `queue=0` would wait for ever.

    Raises:
        ValueError: an option is none that can be.
    """
    from pipeline.config import Settings  # which makes pipelines itself

    Settings.model_validate(options, strict=True)


def _over() -> FramechainError:
    return FramechainError("the run does not take sources: it has not started, or has ended; make a new pipeline")


class _Pass(Stage):
    """Stands in for the chain where there are no stages, so that sources still reach the sinks."""

    name = "pass"

    def process(self, frames: Sequence[Frame]) -> None:
        """Leave the frames as they are."""
