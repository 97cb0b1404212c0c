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
import secrets
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pipeline.address import redacted
from pipeline.checkpoint.claim import Claim
from pipeline.checkpoint.file import NAME, load, refused, save
from pipeline.checkpoint.mark import Counted, Mark
from pipeline.checkpoint.progress import Onward, Progress
from pipeline.checkpoint.saved import Known, Saved, place
from pipeline.errors import FramechainError, UsageError
from pipeline.files.output import check_writable
from pipeline.frame import Frame
from pipeline.limits import start
from pipeline.metrics import unique
from pipeline.roster import Names
from pipeline.sink import Sink
from pipeline.source import Source, SourceInfo
from pipeline.stage import Stage

logger = logging.getLogger("framechain")

# How a chain is run, not what it finds: these may be others when it goes on.
_INDIFFERENT = frozenset({"batch", "workers", "device", "precision", "runtime", "threads"})

# A process that was killed may have given ids and indices after it saved. So many a second are left out: the densest
# scene of MOT20 has 17 new ids a second, and hardly a camera gives more frames.
_IDS_A_SECOND = 50.0
_FRAMES_A_SECOND = 120.0

# Seconds between two signs of life of a run that cannot save, at least, and for how long one may be held up.
_SIGN = 1.0
_HELD_UP = 10.0

# Sources that were added and ended by themselves, and are known one by one: they are not read again after a restart.
_REMEMBERED = 1024

# A folder that can be written now and then is told of once in so many seconds.
_TOLD_EVERY = 60.0


class Checkpoints:
    """Saves a run every few seconds and at its end, and tells a later run where to go on.

    Args:
        folder: made if it is not there; belongs to this run until `close`.
        every: seconds between two checkpoints.
        resume: go on from what is there, if something is. fresh: begin anew whatever is there.
        service: sources, files too, come and go; else the files are the same to the end.
        names: gives the ids.

    Attributes:
        counts: checkpoints "saved", and those that "failed".

    Raises:
        UsageError: what is there cannot be used, or would be overwritten unasked; or another run saves there.
    """

    def __init__(self, folder: Path, every: float, resume: bool, fresh: bool, service: bool, names: Names) -> None:
        if resume and fresh:
            raise UsageError("--resume goes on and --fresh begins anew; give one of them")
        if folder == Path():
            raise UsageError("a checkpoint needs a folder of its own; name one: --checkpoint DIR")
        self.counts: Counter[str] = Counter()
        self._folder = Path(os.path.expanduser(folder))
        self._path = self._folder / NAME
        self._every, self._service, self._names = every, service, names
        self._chain: list[list[Any]] = []
        self._stages: Sequence[Stage] = ()
        self._outputs: dict[str, str] = {}  # where sinks write, by their names
        self._lock = threading.Lock()  # of who is known, and of who leaves; nobody else is called under it
        self._known: dict[str, Known] = {}
        self._readers: dict[str, Counted] = {}
        self._awaited: set[str] = set()  # those that were known and are not back yet
        self._absent: set[str] = set()  # those of them that cannot be opened now
        self._gone: list[str] = []
        self._left: set[str] = set()
        self._latecomers: deque[str] = deque()  # those of them that ended by themselves, the oldest first
        self._ended = Progress()
        self._unread: Counter[str] = Counter()  # by the readers of those
        self._line = 0.0
        self._unsaved = False
        self._due_at = time.monotonic() + every
        self._passing = False
        self._finished = self._closing = False
        self._waiting: Mark | None = None
        self._some = threading.Condition()
        self._writer: threading.Thread | None = None
        self._told_at: float | None = None
        self._failing = False
        self._number = 0  # of the checkpoint that is there
        self._unsure = 0.0  # seconds that earlier runs may have gone on after it
        self._since = time.monotonic()
        self._saved: Saved | None = None
        self._begun_anew = not resume
        if self._path.is_file() or not self._path.exists():  # a pipe would be waited for
            check_writable(self._path)
        self._claim = Claim(self._folder)
        try:
            if not fresh:
                self._saved = self._found(resume)
        except BaseException:
            self._claim.close()
            raise

    def _found(self, resume: bool) -> Saved | None:
        """What is there to go on from."""
        if (plain := load(self._folder)) is None:
            return None
        with self._trusting():
            saved = Saved.of(plain)
        if not resume and not saved.complete:
            raise UsageError(
                f"{self._path} was left by a run that did not come to its end; add --resume to go on with it, "
                "or --fresh to begin anew"
            )
        if not resume:
            return None
        with self._trusting():
            self._names.load_state_dict(saved.names)
        self._known, self._ended, self._line = saved.sources, saved.ended, saved.line
        self._awaited = set(self._known)
        self._unread = Counter(saved.ended.unread)
        self._number = saved.number
        # the clock tells nothing: machines that lost their power often begin in the past
        number, seconds = self._claim.found
        if number == saved.number or not saved.clean:
            signs = 2 * max(saved.every, _SIGN) + _HELD_UP
            self._unsure = signs + (seconds if number == saved.number else 0.0)
        return saved

    @contextmanager
    def _trusting(self) -> Iterator[None]:
        """The body takes from what was saved; whatever is wrong with that is said in one line."""
        try:
            yield
        except UsageError:
            raise
        except Exception as error:
            why = str(error) if isinstance(error, ValueError | FramechainError) else type(error).__name__
            raise refused(self._path, f"it does not fit ({why})") from error

    # The beginning of a run.

    def check_chain(self, stages: Sequence[Stage]) -> None:
        """Take note of the chain, and refuse a checkpoint of another one. Opens nothing.

        Raises:
            UsageError: names the first difference.
        """
        self._chain, self._stages = [[stage.name, _told(stage)] for stage in stages], stages
        if self._saved is None:
            if not self._begun_anew:
                logger.info("there is no checkpoint in %s yet; the run begins anew", self._folder)
            return
        before = self._saved.chain
        names, were = [name for name, _ in self._chain], [name for name, _ in before]
        if names != were:
            raise refused(self._path, f"its chain is {' → '.join(were) or 'empty'}, not {' → '.join(names) or 'empty'}")
        for (name, options), (_, then) in zip(self._chain, before, strict=True):
            for option in sorted({*options, *then}):
                if options.get(option) != then.get(option):
                    was, now = (redacted(str(part.get(option))) for part in (then, options))
                    raise refused(self._path, f"{option} of '{name}' was {was} then and is {now} now")

    def name(self, info: SourceInfo) -> str:
        """The id of a source: the one it had in an earlier run, if it was not there in this one yet, or a new one."""
        with self._lock:
            # one that stands twice in a configuration and was opened once is the one that was not missed
            for name in sorted((n for n in self._known if n in self._awaited), key=self._absent.__contains__):
                known = self._known[name]
                if known.wanted != info.id:
                    continue
                difference = known.differs(info)
                # what is another file now is one that went and one that came, where that may happen
                if difference is None or (difference[0] != "uri" and not self._service):
                    self._awaited.discard(name)
                    return name
        return self._names.new(info.id)

    def await_return(self, source: Source) -> bool:
        """A source cannot be opened as the run begins; whether that can go on, as files are to be the same to the end.

        What is known of it is kept, so that it is gone on with once it is back.
        """
        where = {place(source.uri, live) for live in (True, False)}
        for name, known in self._known.items():
            if name in self._awaited - self._absent and source.id in ("", known.wanted) and known.place in where:
                self._absent.add(name)
                if not known.repeats:  # this run's checkpoints tell nothing of what it gave after that of the last
                    known.progress.index += self._unknown(None)
                return self._service or not known.repeats
        return True

    def check_sources(self, named: Mapping[str, SourceInfo]) -> None:
        """Take note of the sources, which have their names, and refuse a checkpoint of other files.

        A run that is no service goes on with the same files to their end, as its outputs are of all of them. Cameras
        that are new begin anew, and what is known of those that are gone is dropped.

        Args:
            named: by name; their ids are those they asked for.

        Raises:
            UsageError: names the first difference.
        """
        if self._saved is not None:
            gone = {name: known for name, known in self._known.items() if name in self._awaited - self._absent}
            new = {name: info for name, info in named.items() if name not in self._known}
            if not self._service:
                self._check_files(named, gone, new)
            if gone:
                logger.info("%s: not among the sources any more, and forgotten", ", ".join(sorted(gone)))
            if new:
                logger.info("%s: not known from the checkpoint, and begun anew", ", ".join(sorted(new)))
            for name in gone:
                progress = self._known.pop(name).progress
                self._ended.add(progress)
                self._unread.update(progress.unread)
            self._gone = list(gone)
            self._awaited &= self._absent
            # a stream that had ended begins anew, as another
            self._awaited -= {n for n in self._awaited if self._known[n].progress.ended and not self._known[n].repeats}
        for name, info in named.items():
            self.join(name, info)

    def _check_files(
        self, named: Mapping[str, SourceInfo], gone: Mapping[str, Known], new: Mapping[str, SourceInfo]
    ) -> None:
        for name, info in named.items():
            if name not in new and (difference := self._known[name].differs(info)) is not None:
                raise self._changed(name, *difference)
        for name, info in new.items():
            if info.repeats:
                same = next((before for before, known in gone.items() if known.wanted == info.id), None)
                if same is not None and (difference := gone[same].differs(info)) is not None:
                    raise self._changed(same, *difference)
                raise refused(self._path, f"it is not about a source '{name}'")
        for name, known in gone.items():
            if known.repeats:
                raise refused(self._path, f"it is about a source '{name}'")

    def _changed(self, name: str, what: str, was: object, now: object) -> UsageError:
        return refused(self._path, f"{what} of '{name}' was {was} then and is {now} now")

    def restore_sinks(self, sinks: Sequence[Sink]) -> None:
        """Give all sinks what they remembered; one that is new begins anew.

        Raises:
            UsageError: a sink cannot go on from it.
        """
        names = _numbered(f"sink:{sink.name}" for sink in sinks)
        paths = {name: getattr(sink, "path", None) for name, sink in zip(names, sinks, strict=True)}
        self._outputs = {name: str(path.expanduser().resolve()) for name, path in paths.items() if path is not None}
        if self._saved is None:
            return
        for name in self._saved.parts:
            if name.startswith("sink:") and name not in names:
                logger.warning("%s was there before and is not now: its output is not gone on with", name)
        for name, sink in zip(names, sinks, strict=True):
            if name not in self._saved.parts:
                logger.warning("%s was not there before: its output begins where the checkpoint ends", name)
            elif (was := self._saved.outputs.get(name)) is not None and was != (now := self._outputs.get(name)):
                logger.warning("%s wrote %s before: %s begins where the checkpoint ends", name, was, now)
            with self._trusting():
                for source in self._gone:
                    sink.forget(source)
                if told := self._saved.parts.get(name):
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
                if told := self._saved.parts.get(name):
                    stage.load_state_dict(told)
            for source, known in self._known.items():
                if known.progress.ended:
                    stage.forget(source)
                elif not known.repeats:
                    stage.skip_ids(source, math.ceil(_IDS_A_SECOND * self._unsure))
            for source in self._gone:
                stage.forget(source)

    def onward(self, info: SourceInfo, passing: bool = False) -> Onward | None:
        """Where a source is gone on with; None at its beginning.

        Args:
            passing: it came while the run goes on.
        """
        source, progress = info.id, self._known[info.id].progress
        if info.repeats:
            if progress.index < 0:
                return None
            logger.info("%s goes on after frame %d (%.1f s)", source, progress.index, progress.timestamp)
            return Onward(progress.index, progress.timestamp, progress.given)
        unknown = 0 if passing else self._unknown(info.fps)
        if not progress.seen_at:  # of one that joined after the checkpoint, too, frames may have been given
            lead = progress.index + 1 + unknown
            return Onward(-1, 0.0, 0, lead) if lead else None
        away = time.time() - progress.seen_at
        later = progress.timestamp + (away if away >= 0 else self._unsure)  # the clock was set back
        logger.info("%s goes on after %.0f s", source, later - progress.timestamp)
        return Onward(progress.index, progress.timestamp, progress.given, progress.index + 1 + unknown, later)

    def _unknown(self, fps: float | None) -> int:
        """Frames that a source may have given after the checkpoint."""
        return math.ceil(max(_FRAMES_A_SECOND, 2 * (fps or 0.0)) * self._unsure)

    def ended(self, source: str) -> bool:
        """Whether there is nothing more of a source."""
        return (known := self._known.get(source)) is not None and known.progress.ended

    @property
    def gone(self) -> Progress:
        """What was counted of the sources that are not known one by one any more."""
        return self._ended.copy()

    def follow(self, source: str, reader: Counted, passing: bool = False) -> Progress:
        """A source is about to be read. Returns what was counted of it, of that which is not counted again.

        Args:
            passing: it came while the run goes on.
        """
        with self._lock:
            known = self._known[source]
            known.passing = passing
            if known.repeats and not known.progress.ended:
                known.progress.unread.clear()
            self._readers[source] = _Sum(reader, known.progress.unread.copy())
            return known.progress.copy()

    def join(self, source: str, info: SourceInfo, wanted: str = "") -> None:
        """Take note of a source, which is open or about to be opened.

        Args:
            wanted: the id that it asked for, if that is not the one in `info`.
        """
        with self._lock:
            known = self._known.setdefault(source, Known(wanted or info.id, Progress(), {}))
            known.tells(info)

    def leave(self, source: str) -> None:
        """A source was removed: once it has ended, nothing of its own need be known."""
        with self._lock:
            if source in self._known:
                self._left.add(source)
                self._unsaved = True

    # While it runs. What follows is called under the lock of the line of frames.

    def start(self) -> None:
        """Begin to save: at once, so that the next run knows of what this one gives however soon it is killed."""
        onward, self._saved = self._saved is not None, None  # and its arrays
        self._since = self._due_at = time.monotonic()
        self._unsaved = True
        if onward:
            self._sign()
        else:  # what another run left there is not to be gone on from after this one
            with suppress(OSError):
                self._path.unlink(missing_ok=True)
        self._writer = threading.Thread(target=self._write, name="checkpoint", daemon=True)
        start(self._writer)

    def begin(self, source: str, line: float) -> float:
        """A source joins the line. Returns where the files were then: `line`, or what it was in an earlier run."""
        progress = self._known[source].progress
        if not progress.seen_at:
            progress.joined = line
        return progress.joined

    @property
    def line(self) -> float:
        """Where the files were, seconds of media time."""
        return self._line

    def taken(self, frame: Frame, line: float) -> None:
        """A frame goes into the line; the files are at `line` then."""
        progress = self._known[frame.source].progress
        progress.index, progress.timestamp, progress.seen_at = frame.index, frame.timestamp, time.time()
        progress.given += 1
        self._line = line
        self._unsaved = True

    def dropped(self, source: str, reason: str) -> None:
        """A frame that was read does not go into the line."""
        progress = self._known[source].progress
        progress.given += 1
        progress.lost[reason] += 1

    def end(self, source: str) -> None:
        """A source came to its end."""
        with self._lock:
            known = self._known[source]
            known.progress.ended = True
            self._unsaved = True
            if known.passing and source not in self._left:
                self._latecomers.append(source)
                if len(self._latecomers) > _REMEMBERED:
                    self._left.add(self._latecomers.popleft())

    def wait(self) -> float | None:
        """Seconds until a mark may be due; None: as long as no frame comes."""
        if not self._unsaved:
            return None
        return self._every if self._passing else max(0.0, self._due_at - time.monotonic())

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
        with self._lock:
            self._passing, self._unsaved = True, False
            leaving = [name for name in self._left if name in self._known and self._known[name].progress.ended]
            readers = []
            for name in leaving:
                one = self._known.pop(name).progress
                readers.append(self._readers.pop(name, _Unread(one.unread.copy())))
                one.unread.clear()  # its reader's count tells
                self._ended.add(one)
            self._left &= self._known.keys()
            self._awaited &= self._known.keys()
            sources = {name: known.copy() for name, known in self._known.items()}
            mark = Mark(sources, self._ended.copy(), self._line, clean, self._done)
            mark.leaving = readers
            return mark

    # At its end.

    def close(self) -> None:
        """Write what is still to be written, and let go of the folder."""
        if self._writer is not None:
            with self._some:
                self._closing = True
                self._some.notify_all()
            if self._writer.ident is not None:  # the system had a thread for it
                self._writer.join()
            self._writer = None
        self._claim.close()

    def _done(self, mark: Mark) -> None:
        with self._some:
            if self._waiting is not None:  # it was not looked at, and this one knows more
                mark.leaving += self._waiting.leaving
            self._waiting = mark
            self._some.notify_all()

    def _write(self) -> None:
        while True:
            with self._some:
                self._some.wait_for(lambda: self._waiting or self._closing, max(self._every, _SIGN))
                mark, self._waiting = self._waiting, None
                closing = self._closing
            if mark is not None:
                self._save(mark)
                self._due_at = time.monotonic() + self._every
                self._passing = False
            elif closing:
                return
            elif self._unsaved or self._passing:
                self._sign()

    def _sign(self) -> None:
        """Leave word that the run goes on, and for how long it has after the checkpoint that is there."""
        if self._number:
            try:
                self._claim.take()
                self._claim.tell(self._number, self._unsure + time.monotonic() - self._since)
            except (OSError, UsageError) as error:
                self._tell_failure(error)

    def _save(self, mark: Mark) -> None:
        number = secrets.randbits(62) + 1
        try:
            for reader in mark.leaving:
                self._unread.update(reader.dropped)
            mark.ended.unread = self._unread
            with self._lock:
                readers = {name: self._readers[name] for name in mark.sources if name in self._readers}
            for name, present in readers.items():
                mark.sources[name].progress.unread = present.dropped
            self._claim.take()
            if mark.failure is not None:
                raise mark.failure
            save(self._folder, self._plain(mark, number))
        except Exception as error:  # whatever it is, the run matters more
            self.counts["failed"] += 1
            self._tell_failure(error)
            self._sign()
        else:
            self.counts["saved"] += 1
            self._number, self._unsure, self._since = number, 0.0, mark.made
            if self._failing:
                logger.warning("checkpoints are saved in %s again", self._folder)
            self._failing = False

    def _tell_failure(self, error: Exception) -> None:
        now = time.monotonic()
        if self._failing or (self._told_at is not None and now - self._told_at < _TOLD_EVERY):
            return
        self._failing, self._told_at = True, now
        why = (error.strerror if isinstance(error, OSError) else None) or f"{type(error).__name__}: {error}"
        logger.warning(
            "cannot save a checkpoint in %s: %s; the run goes on, and tries again every %g s",
            *(self._folder, why, self._every),
        )

    def _plain(self, mark: Mark, number: int) -> dict[str, Any]:
        return {
            "framechain": version("framechain"),
            "number": number,
            "saved_at": mark.made_at,
            "every": min(self._every, 1e6),
            "clean": mark.clean,
            "complete": not self._service and all(known.progress.ended for known in mark.sources.values()),
            "chain": self._chain,
            "sources": {name: known.plain() for name, known in mark.sources.items()},
            "ended": mark.ended.plain(),
            "names": self._names.state_dict(),
            "line": mark.line,
            "outputs": self._outputs,
            "parts": mark.parts,
        }


@dataclass(frozen=True, slots=True)
class _Unread:
    """What was counted of a source that was not read again."""

    dropped: Counter[str]


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


def _told(stage: Stage) -> dict[str, Any]:
    """The options of a stage that its results depend on, as they are in JSON."""

    def plain(value: Any) -> Any:
        if isinstance(value, set | frozenset):
            return sorted(map(str, value))
        return getattr(value, "__qualname__", None) or str(value)  # a function has another address in each process

    return dict(json.loads(json.dumps(stage.model_dump(exclude=set(_INDIFFERENT)), default=plain)))
