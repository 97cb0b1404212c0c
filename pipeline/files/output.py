"""Where a sink's files go: paths made per source, and checked before anything is loaded."""

from __future__ import annotations

import difflib
import os
import re
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, PrivateAttr, field_validator

from pipeline import reasons
from pipeline.address import local_path
from pipeline.errors import FramechainError, UsageError
from pipeline.files.disk_full import FULL, DiskFull, Pause
from pipeline.files.lock import check_free
from pipeline.files.parts import PART, UTC, Kept, Rotation, Series
from pipeline.frame import Frame
from pipeline.sink import Sink
from pipeline.source import SourceInfo

T = TypeVar("T")

PLACEHOLDER = "{source}"

_WRITTEN = 4096
"""Files of sources that ended, of which a sink remembers that they are taken.

Ids do not repeat within a run, so this is for those only that become the same when they are made safe for a file name.
"""


class FileSink(Sink, ABC):
    """A sink that writes files. `{source}` in its path stands for the id of the source, made safe for a file name.

    Missing directories are made. A file that exists is overwritten once the first source begins, not before:
    a run that cannot start leaves the old results alone. A file whose name was made from `{source}` or `{part}` is
    never outside the folder that the path names.
    """

    path: Path = Field(description="file to write; {source} in it is replaced by the source's id")
    on_full: Literal["auto", "fail", "pause"] = Field(
        "auto", description="on a full disk: fail, or pause and count frames until there is room; auto: pause if live"
    )

    _claimed: dict[str, Path] = PrivateAttr(default_factory=dict)
    _written: dict[Path, None] = PrivateAttr(default_factory=dict)  # files of sources that ended, the oldest first
    _returning: dict[str, Path] = PrivateAttr(default_factory=dict)  # files of sources of an earlier run, not yet back
    _gone: set[str] = PrivateAttr(default_factory=set)  # sources of it that do not come back
    _forgotten: set[str] = PrivateAttr(default_factory=set)  # their files
    _live: bool = PrivateAttr(False)
    _pause: Pause | None = PrivateAttr(None)

    @field_validator("path")
    @classmethod
    def _names_a_file(cls, path: Path) -> Path:
        if not path.name:
            raise ValueError(f"'{path}' names no file; give one, such as out.jsonl")
        try:
            path.expanduser()
        except RuntimeError as error:
            raise ValueError(f"nobody has the home that {path} begins with; give another path") from error
        check_placeholders(str(path), PLACEHOLDER, PART)
        return path

    def open(self) -> None:
        """Make the directory and check that the file can be written.

        Raises:
            UsageError: it cannot.
        """
        check_writable(self.path)

    def begin(self, source: SourceInfo) -> None:
        """Take note of where the source's frames go, and whether they can wait.

        Raises:
            UsageError, FramechainError: as `claim`; or the source itself would be overwritten.
        """
        path, given = self.claim(source.id), local_path(source.uri)
        if given is not None and path.exists() and given.exists() and path.samefile(given):
            self._claimed.pop(source.id)
            raise UsageError(f"sink '{self.name}' would overwrite the source {given}; give it another path")
        self._live = self._live or source.live

    def write(self, frame: Frame) -> None:
        """Record one frame; where there is no room for it, leave it out and count it, or fail."""
        if self.pause.holds():
            self.dropped[reasons.DISK_FULL] += 1
            return
        try:
            self.record(frame)
            self.recorded(frame)
        except DiskFull as error:
            self.dropped[reasons.DISK_FULL] += self.await_room(frame.source, error, error.frames)

    def recorded(self, frame: Frame) -> None:
        """A frame was taken: there is room.

        Raises:
            DiskFull: there is none after all.
        """
        self.pause.end()

    def await_room(self, source: str, error: DiskFull, frames: int = 0) -> int:
        """Pause until there is room for a source's frames, of which so many are left out; returns how many.

        Raises:
            DiskFull: the error, where the sink is not to wait.
        """
        if not self.pauses:
            raise error
        self.pause.begin(self._claimed[source], frames)
        return frames

    @abstractmethod
    def record(self, frame: Frame) -> None:
        """Write one frame.

        Raises:
            DiskFull: there is no room; what is written stays valid, and more can be recorded later.
        """

    @property
    def pauses(self) -> bool:
        """Whether it waits for room on a full disk, instead of failing."""
        return self.on_full == "pause" or (self.on_full == "auto" and self._live)

    @property
    def pause(self) -> Pause:
        """Whether it is waiting now."""
        if self._pause is None:
            self._pause = Pause(f"sink '{self.name}'")
        return self._pause

    @property
    def trouble(self) -> str:
        """A full disk."""
        return self.pause.trouble

    def claim(self, source: str) -> Path:
        """The file for a source: its own where the path holds `{source}`, else the one for all.

        Raises:
            UsageError: the sink needs a file for each source, and the path gives only one.
            FramechainError: the directory cannot be made, or a link leads out of it.
        """
        if PLACEHOLDER not in str(self.path):
            if self.per_source and (self._written or self._claimed.keys() - {source}):
                raise UsageError(
                    f"sink '{self.name}' writes a file for each source, and {self.path} is only one; "
                    f"put {PLACEHOLDER} into its path"
                )
            path = self.path.expanduser()
        else:
            name, taken = file_safe(source), set(self._claimed.values()) - {self._claimed.get(source)}
            before = self._returning.pop(source, None)
            taken |= {*self._returning.values(), *map(Path, self._forgotten)}
            path, n = before or filled(self.path, name), 2
            while path in taken or path in self._written:  # "a/b" and "a_b" are one name when made safe
                path, n = filled(self.path, f"{name}-{n}"), n + 1
            make_inside(path, self.path)
        self._claimed[source] = path
        return path

    def end(self, source: str) -> None:
        """The source gives no more; its own file is not given to another."""
        path = self._claimed.pop(source, None)
        if path is not None and (self.per_source or self.own_files):
            self._written[path] = None
            while len(self._written) > _WRITTEN:
                del self._written[next(iter(self._written))]

    def forget(self, source: str) -> None:
        """What becomes of the source's own file is not this run's business."""
        self._gone.add(source)

    def state_dict(self) -> dict[str, Any]:
        """Which source has which file, those that are not back yet too."""
        paths = self._returning | self._claimed if self.own_files else {}
        return {**super().state_dict(), "paths": {source: str(path) for source, path in paths.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Give the sources their files again."""
        super().load_state_dict(state)
        paths = {str(source): str(path) for source, path in state.get("paths", {}).items() if self.own_files}
        paths = {source: path for source, path in paths.items() if self.is_mine(path)}
        self._forgotten = {path for source, path in paths.items() if source in self._gone}
        self._returning = {source: Path(path) for source, path in paths.items() if source not in self._gone}

    def is_mine(self, path: str) -> bool:
        """Whether it is what the sink's path gives for a source; what others write is not touched, whoever says so."""
        template = str(self.path.expanduser()).split(PLACEHOLDER)
        found = re.fullmatch(r"([\w.-]+)".join(map(re.escape, template)), path)
        inside = found is not None and all(name.strip(".") for name in found.groups())
        return inside and path not in self._forgotten

    @property
    def own_files(self) -> bool:
        """Whether each source has a file of its own."""
        return PLACEHOLDER in str(self.path)

    def close(self) -> None:
        """Forget which source writes where."""
        self._claimed.clear()
        self._written.clear()
        self._returning.clear()
        self._gone.clear()
        self._forgotten.clear()
        self._live, self._pause = False, None


class PartedSink(FileSink, ABC):
    """A sink whose files can go on in new parts: by time, by size, or after a full disk."""

    rotate: Rotation | None = Field(
        None,
        description="begin a new file by {seconds: 3600} or {bytes: 1000000000}, or both; {keep_seconds: } and "
        "{keep_bytes: } delete the oldest parts of the run; {part} in the path is a time (live) or a number",
    )

    _series: dict[Path, Series] = PrivateAttr(default_factory=dict)
    _before: dict[str, Any] = PrivateAttr(default_factory=dict)
    _kept: Kept | None = PrivateAttr(None)
    _resumed: bool = PrivateAttr(False)
    _firsts: dict[str, str] = PrivateAttr(default_factory=dict)  # by output: `Series.first`, of earlier runs too
    _once: set[Path] = PrivateAttr(default_factory=set)  # with frames of what never comes again: a camera, a pipe
    _timed: set[Path] = PrivateAttr(default_factory=set)  # of live sources

    def begin(self, source: SourceInfo) -> None:
        """Take note of whether the source's frames come again."""
        super().begin(source)
        path = self._claimed[source.id]
        if source.live:
            self._timed.add(path)
        if not source.repeats:
            self._once.add(path)
            if path in self._series:
                self._series[path].keeps = self._resumed

    def series(self, source: str) -> Series:
        """The parts that a source's frames go into."""
        path = self._claimed[source]
        if path not in self._series:
            self._series[path] = Series(
                path, self.rotate, live=path in self._timed, keeps=self._resumed and path in self._once
            )
            if (before := self._before.pop(str(path), None)) is not None:
                self._series[path].load_state_dict(before)
        return self._series[path]

    def state_dict(self) -> dict[str, Any]:
        """How many parts each output has, those of sources that are not back yet too."""
        series = self._before | {str(path): series.state_dict() for path, series in self._series.items()}
        firsts = {path: first for path, first in self._firsts.items() if self._has_parts(path)}
        once, timed = ([str(path) for path in paths] for paths in (self._once, self._timed))
        return {**super().state_dict(), "series": series, "once": once, "timed": timed, "firsts": firsts}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on after these parts.

        Raises:
            ValueError: no output has them.
        """
        super().load_state_dict(state)
        self._resumed = True
        series = {str(path): dict(told) for path, told in state["series"].items()}
        self._before = {path: told for path, told in series.items() if self.is_mine(path)}
        for path, told in self._before.items():
            Series(Path(path), self.rotate, live=False).load_state_dict(told)
        self._once, self._timed = (
            {Path(path) for path in state.get(part, ()) if self.is_mine(path)} for part in ("once", "timed")
        )
        for path, first in state.get("firsts", {}).items():
            if re.fullmatch(UTC, first) and (self.is_mine(path) or path in self._forgotten):
                self._firsts[path] = first  # of what is gone, too: its parts are deleted in their turn
        self.kept.adopt(self._firsts)

    def _has_parts(self, output: str) -> bool:
        return output in self._before or Path(output) in self._series or self.kept.outputs[output] > 0

    def next_part(self, source: str, timestamp: float | None, begin: Callable[[Path], T]) -> T:
        """Begin a source's next part, with the frame of that timestamp; where there is no room, it is still the next.

        Args:
            begin: is given the path. What it returns is returned.

        Raises:
            FramechainError: the directory cannot be made, or a link leads out of it; or what `begin` raises.
        """
        series, output = self.series(source), self._claimed[source]
        path = series.next(timestamp)
        if series.first is not None:
            self._firsts.setdefault(str(output), series.first)
        try:
            if path != output:
                make_inside(path, self.path)
            return begin(path)
        except DiskFull:
            series.withdraw()
            raise

    def finished(self, source: str, path: Path) -> Callable[[], None]:
        """A source's part has its last frame. Returns what counts it among those that are kept, once it is whole."""
        series = self.series(source)
        return partial(self.kept.add, self._claimed[source], path, series.now, series.live)

    def end(self, source: str) -> None:
        """The source gives no more: its own series of parts is complete."""
        path = self._claimed.get(source)
        super().end(source)
        if path is not None and self.own_files:
            self._series.pop(path, None)
            if len(self._firsts) > _WRITTEN:
                self._firsts = {one: first for one, first in self._firsts.items() if self._has_parts(one)}
            self._once.discard(path)
            self._timed.discard(path)

    @property
    def kept(self) -> Kept:
        """The finished parts."""
        if self._kept is None:
            self._kept = Kept(self.rotate)
        return self._kept

    def close(self) -> None:
        """Forget all parts."""
        self._series.clear()
        self._before.clear()
        self._once.clear()
        self._timed.clear()
        self._firsts.clear()
        self._kept, self._resumed = None, False
        super().close()


def file_safe(source: str) -> str:
    """A source's id as part of a file name, on any system.

    >>> file_safe("rtsp://10.0.0.7:554/gate 1")
    'rtsp_10.0.0.7_554_gate_1'
    >>> file_safe("../../etc")
    'etc'
    """
    safe = re.sub(r"[^\w.-]+", "_", source).strip("._-").encode()[:100]  # file systems limit bytes, most to 255
    return safe.decode(errors="ignore").rstrip("._-") or "source"


def check_placeholders(text: str, *known: str) -> None:
    """Refuse words in braces that nothing is put in place of.

    >>> check_placeholders("{sorce}.jsonl", "{source}", "{part}")
    Traceback (most recent call last):
    ValueError: nothing is put in place of '{sorce}'; did you mean '{source}'?

    Raises:
        ValueError: names one, and what could be meant.
    """
    for word in re.findall(r"\{\w+\}", text):
        if word not in known:
            close = difflib.get_close_matches(word.lower(), known, n=1, cutoff=0.7)
            cure = f"did you mean '{close[0]}'?" if close else f"there is {' and '.join(known)}"
            raise ValueError(f"nothing is put in place of '{word}'; {cure}")


def check_writable(path: Path) -> None:
    """Make the directory of `path` and see that the file can be written; what it holds stays as it is.

    Raises:
        UsageError: it cannot be written, or another run writes it; says why and what to do.
    """
    templated = PLACEHOLDER in str(path) or PART in str(path)
    try:
        path = path.expanduser()
    except RuntimeError as error:
        raise UsageError(f"nobody has the home that {path} begins with; give another path") from error
    folder = _fixed_folder(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if templated or not path.exists():
            with tempfile.TemporaryFile(dir=folder):
                pass
        else:
            os.close(os.open(path, os.O_WRONLY | os.O_APPEND))
    except OSError as error:
        raise UsageError(
            f"cannot write {path}: {error.strerror}; give a path in a directory that you can write"
        ) from error
    if not templated:
        check_free(path)


def make_inside(path: Path, template: Path) -> None:
    """Make the directory of a file whose name was made from `template`, and see that it is where that says.

    Raises:
        FramechainError: it cannot be made; or a symbolic link leads elsewhere, where somebody else's files may be.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        within, really = _fixed_folder(template.expanduser()).resolve(), path.resolve()
    except OSError as error:
        raise cannot_write(path, error) from error
    if not really.is_relative_to(within):
        raise FramechainError(f"cannot write {path}: a link leads out of {within}; remove the link")


def filled(path: Path, name: str) -> Path:
    """A path with a source's name, made safe, in the place of `{source}`."""
    return Path(str(path).replace(PLACEHOLDER, name)).expanduser()


def made_from(path: Path, template: Path) -> bool:
    """Whether `path` may be a file that a sink makes from `template`; both resolved."""
    words = re.split(f"({re.escape(PLACEHOLDER)}|{re.escape(PART)})", str(template))
    kinds = {PLACEHOLDER: r"[\w.-]+", PART: r"[\dTZ.]+"}
    return re.fullmatch("".join(kinds.get(word, re.escape(word)) for word in words), str(path)) is not None


def check_outputs(written: Iterable[tuple[str, Path | None]], read: Mapping[Path, str]) -> None:
    """Refuse outputs that would overwrite what is read, or one another.

    Args:
        written: (name of who writes, path or none). read: what the files that are read are, by their paths.

    Raises:
        UsageError: names both.
    """
    inputs = {path.expanduser().resolve(): what for path, what in read.items()}
    outputs: dict[Path, str] = {}
    for writer, path in written:
        if path is None:
            continue
        where = path.expanduser().resolve()
        if where in inputs:
            raise UsageError(f"{writer} would overwrite {inputs[where]}; give it another path")
        if where in outputs:
            raise UsageError(f"{outputs[where]} and {writer} both write {path}; give one another path")
        outputs[where] = writer


def check_reports(reports: Mapping[str, Path | None], read: Iterable[str]) -> None:
    """See that reports can be written and overwrite nothing.

    Args:
        reports: path or none by the flag that asks for it. read: files, folders, and pairs of them as FILE=FILE.

    Raises:
        UsageError: one cannot, or would overwrite what is read or another.
    """
    inputs = {Path(part): f"the input {part}" for text in read for part in (text, *text.split("=")) if part}
    check_outputs(reports.items(), inputs)
    for path in filter(None, reports.values()):
        check_writable(path)


def replace_file(path: Path, text: str) -> None:
    """Write a whole text file at once; see `replace_bytes`."""
    replace_bytes(path, text.encode())


def replace_bytes(path: Path, data: bytes) -> None:
    """Write a whole file at once: whoever reads it sees the old content or the new, never half.

    Raises:
        FramechainError: it cannot be written; what was there before is untouched.
    """
    target = path.expanduser().resolve()
    partial = target.with_name(f".{target.name}.part")
    try:
        if target.exists() and not target.is_file():  # a pipe or a device: there is nothing to replace
            target.write_bytes(data)
        else:
            partial.write_bytes(data)
            partial.replace(target)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise cannot_write(path, error) from error


def cannot_write(path: Path, error: OSError) -> FramechainError:
    """A write failed in the middle of a run; what was written before it stays valid."""
    kind = DiskFull if error.errno in FULL else FramechainError
    return kind(f"cannot write {path}: {error.strerror}; what it holds so far is valid, make room or write elsewhere")


def _fixed_folder(path: Path) -> Path:
    """The innermost folder of a path that no placeholder is in."""
    folder = path.parent
    while PLACEHOLDER in str(folder) or PART in str(folder):
        folder = folder.parent
    return folder
