"""Metrics: what every source, stage and sink did, in bounded memory, readable at any time."""

from __future__ import annotations

import math
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

from pipeline import reasons
from pipeline.checkpoint.progress import Progress

# Sixteen buckets an octave from a microsecond up: a quantile is off by at most 2^(1/32) - 1 = 2.2 %,
# and 32 octaves reach past an hour, in 512 counters.
_BUCKETS_PER_OCTAVE = 16
_FLOOR = 1e-6
_BUCKETS = 32 * _BUCKETS_PER_OCTAVE


ENDED = "ended sources"
"""The one account of those sources that left a run long ago."""

CAMERA = "camera"
"""The bottleneck of a run in which everything waits for live sources."""

_KEEPS_UP = 0.01
"""Share of the frames that may be late in a chain that keeps up with its cameras: what a hiccup costs."""

_IDLE = 0.5
"""Share of its time up to which not even the slowest part can be what is too slow: late frames came in a burst."""

_REMEMBERED = 16  # sources that left, with accounts of their own


class Histogram:
    """Distribution of durations in log-spaced buckets.

    >>> times = Histogram()
    >>> for millisecond in range(1, 101):
    ...     times.add(millisecond / 1000)
    >>> round(times.quantile(0.5), 3), round(times.quantile(0.99), 2), times.count
    (0.049, 0.1, 100)
    """

    __slots__ = ("_counts", "count", "max", "total")

    def __init__(self) -> None:
        self._counts = [0] * _BUCKETS
        self.count = 0
        self.total = 0.0
        self.max = 0.0

    def add(self, seconds: float, times: int = 1) -> None:
        """Record a duration in seconds, `times` over."""
        bucket = int(math.log2(seconds / _FLOOR) * _BUCKETS_PER_OCTAVE) if seconds > _FLOOR else 0
        self._counts[min(bucket, _BUCKETS - 1)] += times
        self.count += times
        self.total += seconds * times
        self.max = max(self.max, seconds)

    def quantile(self, q: float) -> float:
        """The duration in seconds that a share `q` of all stays within, to 2.2 %; 0 if nothing was recorded."""
        rank = q * self.count
        seen = 0
        for bucket, n in enumerate(self._counts):
            seen += n
            if n and seen >= rank:
                return min(_FLOOR * 2 ** ((bucket + 0.5) / _BUCKETS_PER_OCTAVE), self.max)
        return 0.0

    def cumulative(self) -> list[tuple[float, int]]:
        """How many were within so many seconds, at two limits an octave from 1 ms to 67 s.

        >>> times = Histogram()
        >>> times.add(0.6, times=3)
        >>> [within for limit, within in times.cumulative() if 0.4 < limit < 0.8]
        [0, 3]
        """
        found, seen, step = [], 0, _BUCKETS_PER_OCTAVE // 2
        first, last = 10 * _BUCKETS_PER_OCTAVE, 26 * _BUCKETS_PER_OCTAVE
        for start in range(0, last, step):
            seen += sum(self._counts[start : start + step])
            if start + step >= first:
                found.append((_FLOOR * 2.0 ** ((start + step) / _BUCKETS_PER_OCTAVE), seen))
        return found

    def summary(self) -> Percentiles:
        """Mean, p50, p95, p99 and maximum, in seconds."""
        mean = self.total / self.count if self.count else 0.0
        return Percentiles(mean, self.quantile(0.50), self.quantile(0.95), self.quantile(0.99), self.max)


@dataclass(frozen=True, slots=True)
class Percentiles:
    """A distribution of durations, in seconds."""

    mean: float = 0.0
    p50: float = 0.0
    p95: float = 0.0
    p99: float = 0.0
    max: float = 0.0


Kind = Literal["source", "stage", "sink"]


@dataclass(frozen=True, slots=True)
class StageSnapshot:
    """One worker group's figures: a stage, a sink, or the decoding of a source.

    Attributes:
        frames: frames it finished. failed: frames it raised an exception on.
        fps: frames finished per second of the run.
        fps_alone: frames per second of its own working time, all workers busy: what it could do by itself.
        busy: share of the run that its workers spent working, 0..1.
        service: duration of the call that carried a frame. waiting: time a frame waited in its queue.
        batch_mean, batch_max: frames a call.
        queue_now, queue_max: frames waiting for it now, and the most there ever were.
        dropped: of a sink: frames that it took and that are not in its output, by reason.
        pending: of a sink: frames that it keeps safe for a peer that has not had them yet.
        faults: what went wrong besides frames, by kind: "overdue" calls, "restarts", and what a stage itself counts.
        age: seconds since its last call ended; None before that.
        present: seconds that its longest call of those that go on now has taken; None while there is none.
    """

    name: str
    kind: Kind
    workers: int
    frames: int
    failed: int
    fps: float
    fps_alone: float
    busy: float
    service: Percentiles
    waiting: Percentiles
    batch_mean: float
    batch_max: int
    queue_now: int
    queue_max: int
    dropped: dict[str, int] = field(default_factory=dict)
    pending: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    age: float | None = None
    present: float | None = None


State = Literal["connecting", "live", "reading", "stalled", "backing off", "ended"]
"""Of a source; a file is reading where a camera is live."""


@dataclass(frozen=True, slots=True)
class Change:
    """A source came into a state.

    Attributes:
        at: wall clock, seconds since the epoch. why: what went wrong; "" where nothing did.
    """

    state: State
    at: float
    why: str = ""


class Tended(Protocol):
    """What a source's reader tells of itself, at any time, to any thread."""

    @property
    def dropped(self) -> Counter[str]:
        """Frames that it could not give, by reason."""

    @property
    def changes(self) -> list[Change]:
        """Its last changes of state, at least one."""

    @property
    def live(self) -> bool:
        """Whether it gives frames at its own pace."""

    @property
    def connections(self) -> int:
        """How often it was opened and gave a frame."""


@dataclass(frozen=True, slots=True)
class SourceSnapshot:
    """One source's account: captured = finished + in_flight + the sum of dropped, always.

    Attributes:
        captured: frames that were decoded, or damaged, or skipped unseen.
        finished: frames that went through the whole chain.
        dropped: frames that did not, by reason.
        in_flight: frames inside the chain now.
        age: seconds since a frame of it was last finished; None before the first.
        state: of the source now. connections: how often it was opened and gave a frame.
        changes: its last changes of state.
    """

    id: str
    captured: int
    finished: int
    in_flight: int
    dropped: dict[str, int]
    age: float | None
    state: State
    connections: int
    changes: list[Change]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The whole chain at one moment. All times are seconds.

    Attributes:
        elapsed: since the first frame was asked for, models loaded; ends with the last frame.
        fps: frames that went through the whole chain, a second.
        latency: from a frame's decoding to its leaving the last sink.
        latency_total: the sum of all latencies. latency_within: (seconds, frames within them), for rates of change.
        slowest: name of the part with the least FPS alone. Waiting for a camera is no work of "decode".
        bottleneck: what bounds the chain: that part, or `CAMERA` where live sources alone set the pace, as the chain
            keeps up with them.
        efficiency: chain FPS / FPS of the slowest part alone, here from its working time within this run;
            `framechain bench` measures each part alone for real. With `CAMERA`: the share of its time that is used.
        peak_memory: most resident bytes of the process; None where the system does not tell.
    """

    elapsed: float
    frames: int
    fps: float
    latency: Percentiles
    latency_total: float
    latency_within: list[tuple[float, int]]
    slowest: str | None
    bottleneck: str | None
    efficiency: float
    peak_memory: int | None
    stages: list[StageSnapshot]
    sources: list[SourceSnapshot]

    def to_dict(self) -> dict[str, Any]:
        """As plain data, ready for JSON."""
        return asdict(self)


class StageMetrics:
    """Counters of one stage, sink or source. Any thread may write.

    Args:
        dropped, pending: a sink's own live figures. faults: a stage's own.
    """

    def __init__(
        self,
        name: str,
        kind: Kind,
        workers: int,
        dropped: Counter[str] | None = None,
        pending: Callable[[], int] = int,
        faults: Counter[str] | None = None,
    ) -> None:
        self.name, self.kind, self.workers = name, kind, workers
        self._own_faults, self._faults = Counter() if faults is None else faults, Counter[str]()
        self._present: dict[int, float] = {}  # by thread: when its call began
        self._last: float | None = None
        self._dropped, self._pending = Counter() if dropped is None else dropped, pending
        self._lock = threading.Lock()
        self._service = Histogram()
        self._waiting = Histogram()
        self._busy = 0.0
        self._calls = 0
        self._frames = 0
        self._failed = 0
        self._batch_max = 0
        self._queue_now = 0
        self._queue_max = 0

    def waited(self, seconds: Sequence[float], depth: int) -> None:
        """Frames were taken from the queue after waiting so long, leaving `depth` behind."""
        with self._lock:
            for wait in seconds:
                self._waiting.add(wait)
            self._queue_now = depth
            self._queue_max = max(self._queue_max, depth + len(seconds))

    def served(self, seconds: float, frames: int, failed: int = 0) -> None:
        """One call took so long and finished so many frames."""
        with self._lock:
            self._service.add(seconds, frames + failed)
            self._busy += seconds
            self._calls += 1
            self._frames += frames
            self._failed += failed
            self._batch_max = max(self._batch_max, frames + failed)

    @contextmanager
    def timing(self, frames: int, tried_again: bool = False) -> Iterator[None]:
        """Count the body as one call on so many frames. If it raises, all failed, unless they are tried again."""
        start = time.perf_counter()
        try:
            with self.watching():
                yield
        except BaseException:
            self.served(time.perf_counter() - start, 0, 0 if tried_again else frames)
            raise
        self.served(time.perf_counter() - start, frames)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """The body is a call that must not take for ever."""
        thread = threading.get_ident()
        with self._lock:
            self._present[thread] = time.perf_counter()
        try:
            yield
        finally:
            with self._lock:
                del self._present[thread]
                self._last = time.perf_counter()

    @property
    def present(self) -> dict[int, float]:
        """The calls that go on now: by the thread's number when they began (perf_counter)."""
        with self._lock:
            return dict(self._present)

    @property
    def calls(self) -> int:
        """Calls that have returned."""
        with self._lock:
            return self._calls

    def fault(self, kind: str) -> None:
        """Something went wrong besides frames."""
        with self._lock:
            self._faults[kind] += 1

    def snapshot(self, elapsed: float) -> StageSnapshot:
        """The figures now, for a run that has lasted `elapsed` seconds."""
        pending, now = self._pending(), time.perf_counter()
        with self._lock:
            return StageSnapshot(
                name=self.name,
                kind=self.kind,
                workers=self.workers,
                frames=self._frames,
                failed=self._failed,
                fps=self._frames / elapsed if elapsed else 0.0,
                fps_alone=self._frames * self.workers / self._busy if self._busy else 0.0,
                busy=min(1.0, self._busy / (elapsed * self.workers)) if elapsed else 0.0,
                service=self._service.summary(),
                waiting=self._waiting.summary(),
                batch_mean=(self._frames + self._failed) / self._calls if self._calls else 0.0,
                batch_max=self._batch_max,
                queue_now=self._queue_now,
                queue_max=self._queue_max,
                dropped=dict(self._dropped),
                pending=pending,
                faults=dict(Counter(self._own_faults) + self._faults),
                age=None if self._last is None else max(0.0, now - self._last),
                present=max(0.0, now - min(self._present.values())) if self._present else None,
            )


@dataclass(frozen=True, slots=True)
class _Told:
    """What the reader of a source that has ended last told."""

    dropped: Counter[str]
    changes: list[Change]
    connections: int
    live: bool


@dataclass(slots=True)
class _SourceAccount:
    reader: Tended
    given: int = 0
    finished: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    before: Counter[str] = field(default_factory=Counter)  # not given by the reader of an earlier run
    last: float | None = None


class Metrics:
    """All figures of one run. `snapshot()` may be called from any thread at any time.

    Of the sources that came or went while it ran, the last few that ended have accounts of their own; those before them
    are summed up in one, called `ENDED`. So it stays small however many come and go, and no frame leaves the books.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stages: list[StageMetrics] = []
        self._sources: dict[str, _SourceAccount] = {}
        self._retired: deque[str] = deque()
        self._latency = Histogram()
        self._started: float | None = None
        self._ended: float | None = None
        self._frames = 0

    def stage(
        self,
        name: str,
        kind: Kind,
        workers: int = 1,
        dropped: Counter[str] | None = None,
        pending: Callable[[], int] = int,
        faults: Counter[str] | None = None,
    ) -> StageMetrics:
        """Counters for one more part; a name that is taken gets a number. See StageMetrics."""
        with self._lock:
            name = unique(name, {stage.name for stage in self._stages})
            self._stages.append(StageMetrics(name, kind, workers, dropped, pending, faults))
            return self._stages[-1]

    @property
    def parts(self) -> list[StageMetrics]:
        """The counters of all parts."""
        with self._lock:
            return list(self._stages)

    def source(self, source: str, reader: Tended, before: Progress | None = None) -> None:
        """Keep an account of a source, of whose state `reader` tells; it goes on from what was counted before."""
        with self._lock:
            account = self._sources[source] = _SourceAccount(reader)
            if before is not None:
                account.given, account.finished = before.given, before.finished
                account.lost, account.before = Counter(before.lost), Counter(before.unread)

    def ended(self, before: Progress) -> None:
        """What was counted in earlier runs of sources that are gone."""
        told = _Told(Counter(), [Change("ended", time.time())], 0, True)
        with self._lock:
            self._sources[ENDED] = _SourceAccount(
                told, before.given, before.finished, Counter(before.lost), Counter(before.unread)
            )

    def retire(self, source: str) -> None:
        """A source has left: of its account the figures stay, and once there are many they join those of others."""
        with self._lock:
            account = self._sources[source]
        reader = account.reader
        told = _Told(reader.dropped, reader.changes, reader.connections, reader.live)
        with self._lock:
            account.reader = told
            if remaining := account.given - account.finished - sum(account.lost.values()):
                account.lost[reasons.ABANDONED] += remaining
            self._retired.append(source)
            if len(self._retired) > _REMEMBERED:
                self._fold(self._sources.pop(self._retired.popleft()))

    def _fold(self, account: _SourceAccount) -> None:
        nobody = _SourceAccount(_Told(Counter(), [], 0, True))
        whole, one = self._sources.get(ENDED, nobody), account.reader
        before = whole.reader
        self._sources[ENDED] = _SourceAccount(
            _Told(
                before.dropped + one.dropped,
                one.changes[-1:],
                before.connections + one.connections,
                before.live and one.live,
            ),
            whole.given + account.given,
            whole.finished + account.finished,
            whole.lost + account.lost,
            whole.before + account.before,
            max((last for last in (whole.last, account.last) if last is not None), default=None),
        )

    def start(self) -> None:
        """The first frame is asked for now."""
        self._started = time.perf_counter()

    def stop(self) -> None:
        """The run is over: frames that are still on their way were dropped with it."""
        with self._lock:
            self._ended = time.perf_counter()
            for account in self._sources.values():
                if remaining := account.given - account.finished - sum(account.lost.values()):
                    account.lost[reasons.ABORTED] += remaining

    def given(self, source: str) -> None:
        """A source gave a frame to the chain."""
        with self._lock:
            if (account := self._sources.get(source)) is None:
                return  # it had been given up, and its reader woke up after all
            account.given += 1
            if self._ended is not None:  # read while the run was aborted
                account.lost[reasons.ABORTED] += 1

    def lost(self, source: str, reason: str) -> None:
        """A frame left the chain before its end. Once the run is over it has been counted as aborted already."""
        with self._lock:
            if (account := self._sources.get(source)) is not None and self._ended is None:
                account.lost[reason] += 1

    def finished(self, source: str, entered: float) -> None:
        """A frame that entered the chain at `entered` (perf_counter) left it at its end."""
        now = time.perf_counter()
        with self._lock:
            account = self._sources[source]
            account.finished += 1
            account.last = now
            self._latency.add(now - entered)
            self._frames += 1

    def flow(self) -> tuple[int, int, int]:
        """Frames of live sources that the chain was given, that left it at its end, and that are inside now."""
        with self._lock:
            accounts = [one for one in self._sources.values() if one.reader.live]
            given, finished = sum(one.given for one in accounts), sum(one.finished for one in accounts)
            return given, finished, given - finished - sum(sum(one.lost.values()) for one in accounts)

    def snapshot(self) -> Snapshot:
        """Everything, as of now."""
        now = time.perf_counter()
        elapsed = ((self._ended or now) - self._started) if self._started is not None else 0.0
        stages = [stage.snapshot(elapsed) for stage in tuple(self._stages)]
        with self._lock:
            accounts = dict(self._sources)
        # told before, as a reader that gives a frame counts it here while it holds what guards its own counts
        told = {
            name: (one.reader.dropped, one.reader.connections, one.reader.changes) for name, one in accounts.items()
        }
        with self._lock:
            sources = [_source_snapshot(name, one, *told[name], self._ended or now) for name, one in accounts.items()]
            frames, latency = self._frames, self._latency.summary()
            total, within = self._latency.total, self._latency.cumulative()
        fps = frames / elapsed if elapsed else 0.0
        working = [stage for stage in stages if stage.frames]
        slowest = min(working, key=lambda stage: stage.fps_alone, default=None)
        efficiency = min(1.0, fps / slowest.fps_alone) if slowest else 0.0
        live = all(one.reader.live for one in accounts.values())
        keeps_up = live and (efficiency <= _IDLE or _late_share(sources) <= _KEEPS_UP)
        return Snapshot(
            elapsed=elapsed,
            frames=frames,
            fps=fps,
            latency=latency,
            latency_total=total,
            latency_within=within,
            slowest=slowest.name if slowest else None,
            bottleneck=CAMERA if slowest and keeps_up else slowest.name if slowest else None,
            efficiency=efficiency,
            peak_memory=peak_memory(),
            stages=stages,
            sources=sources,
        )


def _source_snapshot(
    source: str, account: _SourceAccount, unread: Counter[str], connections: int, changes: list[Change], now: float
) -> SourceSnapshot:
    dropped = account.before + unread
    captured = account.given + sum(dropped.values())
    dropped.update(account.lost)
    return SourceSnapshot(
        id=source,
        captured=captured,
        finished=account.finished,
        in_flight=captured - account.finished - sum(dropped.values()),
        dropped=dict(dropped),
        age=None if account.last is None else max(0.0, now - account.last),
        state=changes[-1].state,
        connections=connections,
        changes=changes,
    )


def _late_share(sources: Sequence[SourceSnapshot]) -> float:
    late = sum(source.dropped.get(reason, 0) for source in sources for reason in reasons.TOO_LATE)
    return late / max(1, sum(source.captured for source in sources))


def unique(name: str, taken: Container[str]) -> str:
    """The name, with a number where it is taken.

    >>> unique("cam", ()), unique("cam", {"cam", "cam-2"})
    ('cam', 'cam-3')
    """
    numbered, n = name, 2
    while numbered in taken:
        numbered, n = f"{name}-{n}", n + 1
    return numbered


def peak_memory() -> int | None:
    """Most bytes this process ever had resident, or None on a system without getrusage."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # kilobytes everywhere but on macOS
