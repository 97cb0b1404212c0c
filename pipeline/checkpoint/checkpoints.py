"""Checkpoints: what a run remembers, saved while it goes on, so that a later run goes on from there.

A mark travels through the chain in line with the frames. Every stage adds its state when the mark passes, and so does
every sink once it has put down all that came before; what the mark holds in the end is the run between two frames,
though nothing ever stopped.
"""

from __future__ import annotations

import json
import logging
import math
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from pipeline.address import local_path, redacted
from pipeline.checkpoint.file import NAME, load, refused, save
from pipeline.checkpoint.progress import Onward, Progress
from pipeline.errors import FramechainError, UsageError
from pipeline.files.output import check_writable
from pipeline.frame import Frame
from pipeline.limits import start
from pipeline.metrics import unique
from pipeline.sink import Sink
from pipeline.source import SourceInfo
from pipeline.stage import Stage

logger = logging.getLogger("framechain")

# How a chain is run, not what it finds: these may be others when it goes on.
_INDIFFERENT = frozenset({"batch", "workers", "device", "precision", "runtime", "threads"})

# A process that was killed may have given ids and indices after it saved. So many a second are left out: the densest
# scene of MOT20 has 17 new ids a second, and hardly a camera gives more frames.
_IDS_A_SECOND = 50.0
_FRAMES_A_SECOND = 120.0


class Counted(Protocol):
    """A reader's own count."""

    @property
    def dropped(self) -> Counter[str]:
        """Frames that it could not give, by reason."""


class Mark:
    """In line between two frames: collects what the parts of the chain remember there. Any thread may add.

    Args:
        sources: how far each was taken into the line.
        clean: whether no frame follows that this run finishes.
        done: called with the mark once it has passed everything; on a thread that must not wait.
    """

    def __init__(self, sources: dict[str, Progress], clean: bool, done: Callable[[Mark], None]) -> None:
        self.sources = sources
        self.clean = clean
        self.parts: dict[str, dict[str, Any]] = {}
        self.failure: Exception | None = None
        self._done = done
        self._lock = threading.Lock()
        self._ends = 1

    def add(self, part: str, state: Callable[[], dict[str, Any]]) -> None:
        """A part of the chain, by its name in the metrics, tells its state."""
        try:
            told = state()
        except Exception as error:  # a part of somebody else; the run goes on
            self.failure = error
            return
        with self._lock:
            self.parts[part] = told

    def lost(self, source: str, reason: str, count: int) -> None:
        """So many frames of a source were left out before it."""
        with self._lock:
            progress = self.sources[source]
            progress.lost[reason] += count

    def expect(self, ends: int) -> None:
        """It goes on to so many ends of the chain; `passed` is called at each, and here."""
        self._ends += ends
        self.passed()

    def passed(self) -> None:
        """One end of the chain has put down all that came before."""
        with self._lock:
            self._ends -= 1
            complete = self._ends == 0
        if complete:
            for progress in self.sources.values():
                progress.finished = progress.given - sum(progress.lost.values())
            self._done(self)


class Checkpoints:
    """Saves a run every few seconds and at its end, and tells a later run where to go on.

    Args:
        folder: made if it is not there. every: seconds between two checkpoints.
        resume: go on from what is there, if something is. fresh: begin anew whatever is there.

    Attributes:
        counts: checkpoints "saved", and those that "failed".

    Raises:
        UsageError: what is there cannot be used, or would be overwritten unasked.
    """

    def __init__(self, folder: Path, every: float, resume: bool, fresh: bool) -> None:
        if resume and fresh:
            raise UsageError("--resume goes on and --fresh begins anew; give one of them")
        self.counts: Counter[str] = Counter()
        self._folder = Path(os.path.expanduser(folder))
        self._every = every
        self._path = self._folder / NAME
        self._chain: list[list[Any]] = []
        self._infos: dict[str, SourceInfo] = {}
        self._readers: dict[str, Counted] = {}
        self._sources: dict[str, Progress] = {}
        self._unsaved = False
        self._due_at = time.monotonic() + every
        self._passing = False
        self._finished = self._closing = False
        self._waiting: Mark | None = None
        self._some = threading.Condition()
        self._writer: threading.Thread | None = None
        self._saved: dict[str, Any] | None = None
        self._begun_anew = not resume
        check_writable(self._path)
        if not fresh:
            self._saved = load(self._folder)
            if self._saved is not None and not resume:
                if not self._saved.get("complete"):
                    raise UsageError(
                        f"{self._path} was left by a run that did not come to its end; add --resume to go on with it, "
                        "or --fresh to begin anew"
                    )
                self._saved = None

    @property
    def _unknown(self) -> float:
        """Seconds of which nothing is known: from the checkpoint to when the process was killed, at most."""
        if self._saved is None or self._saved.get("clean"):
            return 0.0
        return min(max(0.0, time.time() - float(self._saved["saved_at"])), 2 * self._every + 10)

    @contextmanager
    def _trusting(self) -> Iterator[None]:
        """The body takes from what was saved; whatever is wrong with that is said in one line."""
        try:
            yield
        except UsageError:
            raise
        except Exception as error:
            why = str(error) if isinstance(error, ValueError | FramechainError) else type(error).__name__
            raise refused(self._path, f"it does not fit ({' '.join(why.split())})") from error

    # The beginning of a run.

    def check_chain(self, stages: Sequence[Stage]) -> None:
        """Take note of the chain, and refuse a checkpoint of another one. Opens nothing.

        Raises:
            UsageError: names the first difference.
        """
        self._chain = [[stage.name, _told(stage)] for stage in stages]
        if self._saved is None:
            if not self._begun_anew:
                logger.info("there is no checkpoint in %s yet; the run begins anew", self._folder)
            return
        with self._trusting():
            before = [(str(name), dict(options)) for name, options in self._saved["chain"]]
        names, were = [name for name, _ in self._chain], [name for name, _ in before]
        if names != were:
            raise refused(self._path, f"its chain is {' → '.join(were) or 'empty'}, not {' → '.join(names) or 'empty'}")
        for (name, options), (_, then) in zip(self._chain, before, strict=True):
            for option in sorted({*options, *then}):
                if options.get(option) != then.get(option):
                    was, now = (redacted(str(part.get(option))) for part in (then, options))
                    raise refused(self._path, f"{option} of '{name}' was {was} then and is {now} now")

    def check_sources(self, infos: Sequence[SourceInfo], expected: Sequence[SourceInfo]) -> None:
        """Take note of the sources, and refuse a checkpoint of others.

        Args:
            infos: those that are open. expected: those that may come later.

        Raises:
            UsageError: names the first difference.
        """
        self._infos = {info.id: info for info in infos}
        if self._saved is None:
            return
        with self._trusting():
            before = {str(name): dict(told) for name, told in self._saved["sources"].items()}
            progress = {name: Progress.of(told["progress"]) for name, told in before.items()}
        present = {*self._infos, *(info.id for info in expected)}
        for name in sorted(present ^ before.keys()):
            raise refused(self._path, f"it is {'not ' if name in present else ''}about a source '{name}'")
        for name, info in self._infos.items():
            for what, value in _identity(info).items():
                if before[name].get(what) != value:
                    raise refused(
                        self._path, f"{what} of '{name}' was {before[name].get(what)} then and is {value} now"
                    )
        self._sources = progress

    def restore_sinks(self, sinks: Sequence[Sink]) -> None:
        """Give all sinks what they remembered; one that is new begins anew.

        Raises:
            UsageError: a sink cannot go on from it.
        """
        if self._saved is None:
            return
        for name, sink in zip(_numbered(f"sink:{sink.name}" for sink in sinks), sinks, strict=True):
            with self._trusting():
                if told := self._saved["parts"].get(name):
                    sink.dropped.update({str(reason): int(count) for reason, count in told["dropped"].items()})
                    sink.load_state_dict(told["state"])

    def restore_stages(self, stages: Sequence[Stage]) -> None:
        """Give all stages what they remembered.

        Raises:
            UsageError: a stage cannot go on from it.
        """
        if self._saved is None:
            return
        for name, stage in zip(_numbered(stage.name for stage in stages), stages, strict=True):
            with self._trusting():
                if told := self._saved["parts"].get(name):
                    stage.load_state_dict(told)
            for source, progress in self._sources.items():
                if progress.ended:
                    stage.forget(source)
                elif not _repeats(self._infos.get(source)):
                    stage.skip_ids(source, math.ceil(_IDS_A_SECOND * self._unknown))

    def onward(self, info: SourceInfo) -> Onward | None:
        """Where a source is gone on with; None at its beginning."""
        progress = self._sources.get(info.id)
        if progress is None or progress.index < 0:
            return None
        if _repeats(info):
            logger.info("%s goes on after frame %d (%.1f s)", info.id, progress.index, progress.timestamp)
            return Onward(progress.index, progress.timestamp, progress.given)
        rate = max(_FRAMES_A_SECOND, 2 * (info.fps or 0.0))
        unknown = math.ceil(rate * self._unknown)
        later = progress.timestamp + max(0.0, time.time() - progress.seen_at)
        logger.info("%s goes on after %.0f s", info.id, later - progress.timestamp)
        return Onward(progress.index, progress.timestamp, progress.given, progress.index + 1 + unknown, later)

    def ended(self, source: str) -> bool:
        """Whether there is nothing more of a source."""
        return source in self._sources and self._sources[source].ended

    def follow(self, source: str, reader: Counted) -> Progress:
        """A source is about to be read. Returns what was counted of it, of that which is not counted again."""
        progress = self._sources.setdefault(source, Progress())
        if _repeats(self._infos.get(source)) and not progress.ended:
            progress.unread.clear()
        self._readers[source] = _Sum(reader, progress.unread.copy())
        return progress.copy()

    # While it runs. What follows is called under the lock of the line of frames.

    def join(self, info: SourceInfo) -> None:
        """A source that was not open at first is."""
        self._infos[info.id] = info

    def start(self) -> None:
        """Begin to save."""
        self._saved = None  # and its arrays
        self._due_at = time.monotonic() + self._every
        self._writer = threading.Thread(target=self._write, name="checkpoint", daemon=True)
        start(self._writer)

    def taken(self, frame: Frame) -> None:
        """A frame goes into the line."""
        progress = self._sources[frame.source]
        progress.index, progress.timestamp, progress.seen_at = frame.index, frame.timestamp, time.time()
        progress.given += 1
        self._unsaved = True

    def dropped(self, source: str, reason: str) -> None:
        """A frame that was read does not go into the line."""
        progress = self._sources[source]
        progress.given += 1
        progress.lost[reason] += 1

    def end(self, source: str) -> None:
        """A source came to its end."""
        self._sources[source].ended = True

    def due(self) -> Mark | None:
        """The mark to put into the line now, if it is time for one and the one before is saved."""
        if self._passing or not self._unsaved or time.monotonic() < self._due_at:
            return None
        return self._mark(False)

    def last(self) -> Mark | None:
        """The mark after the last frame; None if it was given already."""
        if self._finished:
            return None
        self._finished = True
        return self._mark(True)

    def _mark(self, clean: bool) -> Mark:
        self._passing, self._unsaved = True, False
        return Mark({name: progress.copy() for name, progress in self._sources.items()}, clean, self._done)

    # At its end.

    def close(self) -> None:
        """Write what is still to be written."""
        if self._writer is None:
            return
        with self._some:
            self._closing = True
            self._some.notify_all()
        self._writer.join()
        self._writer = None

    def _done(self, mark: Mark) -> None:
        with self._some:
            self._waiting = mark
            self._some.notify_all()

    def _write(self) -> None:
        while True:
            with self._some:
                while self._waiting is None and not self._closing:
                    self._some.wait()
                mark, self._waiting = self._waiting, None
            if mark is None:
                return
            self._save(mark)
            self._due_at = time.monotonic() + self._every
            self._passing = False

    def _save(self, mark: Mark) -> None:
        for name, reader in self._readers.items():
            mark.sources[name].unread = reader.dropped
        try:
            if mark.failure is not None:
                raise mark.failure
            save(self._folder, self._plain(mark))
        except Exception as error:  # whatever it is, the run matters more
            self.counts["failed"] += 1
            if self.counts["failed"] == 1:
                why = (error.strerror if isinstance(error, OSError) else None) or f"{type(error).__name__}: {error}"
                logger.warning(
                    "cannot save a checkpoint in %s: %s; the run goes on, and tries again every %g s",
                    self._folder,
                    why,
                    self._every,
                )
        else:
            self.counts["saved"] += 1

    def _plain(self, mark: Mark) -> dict[str, Any]:
        sources = {
            name: {**(_identity(self._infos[name]) if name in self._infos else {}), "progress": progress.plain()}
            for name, progress in mark.sources.items()
        }
        return {
            "framechain": version("framechain"),
            "saved_at": time.time(),
            "clean": mark.clean,
            "complete": all(progress.ended for progress in mark.sources.values()),
            "chain": self._chain,
            "sources": sources,
            "parts": mark.parts,
        }


@dataclass(frozen=True, slots=True)
class _Sum:
    """A reader's count, and what was counted before it."""

    reader: Counted
    before: Counter[str]

    @property
    def dropped(self) -> Counter[str]:
        return self.before + self.reader.dropped


def _numbered(names: Iterable[str]) -> list[str]:
    """The names of parts as in the metrics, which number those that are there twice."""
    numbered: list[str] = []
    for name in names:
        numbered.append(unique(name, {"decode", *numbered}))
    return numbered


def _repeats(info: SourceInfo | None) -> bool:
    """Whether a source is read from its beginning again: neither a camera nor a pipe is."""
    return info is not None and not info.live and info.uri != "-"


def _identity(info: SourceInfo) -> dict[str, Any]:
    """What tells a source from others, and a file from one that took its place."""
    path = local_path(info.uri)
    where = redacted(info.uri) if path is None or info.live else str(path.resolve())
    if not _repeats(info):
        return {"uri": where}
    return {
        "uri": where,
        "width": info.width,
        "height": info.height,
        "fps": info.fps,
        "frame_count": info.frame_count,
    }


def _told(stage: Stage) -> dict[str, Any]:
    """The options of a stage that its results depend on, as they are in JSON."""

    def plain(value: Any) -> Any:
        if isinstance(value, set | frozenset):
            return sorted(map(str, value))
        return getattr(value, "__qualname__", None) or str(value)  # a function has another address in each process

    return dict(json.loads(json.dumps(stage.model_dump(exclude=set(_INDIFFERENT)), default=plain)))
