"""Parts: one output in several files, one after another, the oldest deleted where that is asked for."""

from __future__ import annotations

import glob
import logging
import math
import os
import re
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime, timezone
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import Self

logger = logging.getLogger("framechain")

PART = "{part}"

_MOST_PARTS = 10**12  # of a series

# Milliseconds since 1970: 2020. A clock that says less has not been set since the machine lost its power, and its time
# is not one that everything of this run is later than.
_NO_TIME = 1_577_836_800_000


class Rotation(BaseModel):
    """When an output goes on in a new file, and how many of the old ones are kept."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    seconds: float | None = Field(None, gt=0, description="length of a part")
    bytes: int | None = Field(None, gt=0, description="size of a part")
    keep_seconds: float | None = Field(None, gt=0, description="parts that ended longer ago are deleted")
    keep_bytes: int | None = Field(None, gt=0, description="so many bytes of finished parts are kept, the newest")

    @model_validator(mode="after")
    def _says_when(self) -> Self:
        if self.seconds is None and self.bytes is None:
            raise ValueError("say when a new part begins: {seconds: 3600}, or {bytes: 1000000000}, or both")
        return self


class Series:
    """The parts of one output: their names, and when the next one is due.

    Parts of files are numbered and cut by media time, so that two runs give the same ones. Parts of live
    sources have the time (UTC) at which they were begun for a name, which is never one that exists, and are cut by
    the clock. Either way their names sort in the order of time.

    Args:
        path: of the output. `{part}` in it stands for what tells the parts apart; where it is not there, it is put
            before the suffix of all parts (without rotation: of all but the first).
        rotation: when to begin a new part; None: only when asked.
        live: whether its frames come from a live source. keeps: whether files that are there already are not its own
            to write anew, as what they hold never comes again.

    Attributes:
        first: what stands for `{part}` in the name of the first part that has a time there; None before.
    """

    def __init__(self, path: Path, rotation: Rotation | None, live: bool, keeps: bool = False) -> None:
        self._path, self._rotation, self.live, self.keeps = path, rotation, live, keeps
        self.first: str | None = None
        self._plain = rotation is None and PART not in str(path)
        self._number = 0
        self._since: float | None = None
        self._stamp = 0
        self._now: float | None = None

    @property
    def begun(self) -> bool:
        """Whether it has a part."""
        return self._number > 0

    @property
    def current(self) -> Path:
        """The file of the part that was begun last, of a series that is not live."""
        return self._path if self._plain and self._number == 1 else self._named(f"{self._number:06d}")

    def state_dict(self) -> dict[str, Any]:
        """How many parts there are, and when the last one began on a clock that another process has too."""
        return {"number": self._number, "since": None if self.live else self._since}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on after these parts.

        Raises:
            ValueError: no series has them.
        """
        number, since = state["number"], state["since"]
        if type(number) is not int or not 0 <= number < _MOST_PARTS:
            raise ValueError(f"{number!r:.20} parts are none")
        if since is not None and not (isinstance(since, float) and math.isfinite(since)):
            raise ValueError(f"a part begins at no time, {since!r:.20}")
        self._number, self._since = number, None if self.live else since

    def due(self, timestamp: float, size: int) -> bool:
        """Whether the next frame, of `timestamp` in seconds, belongs into a new part.

        Args:
            size: bytes that the part would have with the frame.
        """
        now = self.clock(timestamp)
        if self._since is None:
            self._since = now
            return False
        if self._rotation is None:
            return False
        long = self._rotation.seconds is not None and now - self._since >= self._rotation.seconds
        return long or (self._rotation.bytes is not None and size > self._rotation.bytes)

    def clock(self, timestamp: float) -> float:
        """What the length of parts is measured by: media time, or for live sources a clock that is never set."""
        self._now = time.monotonic() if self.live else timestamp
        return self._now

    @property
    def now(self) -> float:
        """The clock at its last frame."""
        return self.clock(0.0) if self._now is None else self._now

    def next(self, timestamp: float | None = None) -> Path:
        """The file of the next part, which begins with the frame of that timestamp."""
        self._number += 1
        self._since = None if timestamp is None else self.clock(timestamp)
        if self._plain and self._number == 1 and not (self.keeps and self._path.exists()):
            return self._path
        if not self.live:
            while self.keeps and self.current.exists():
                self._number += 1
            return self.current
        # a clock that is set back, or parts of less than a millisecond, must not mix up the order
        self._stamp = max(self._stamp + 1, round(time.time() * 1000))
        while (path := self._named(_utc(self._stamp))).exists():
            self._stamp += 1
        if self._stamp > _NO_TIME:
            self.first = self.first or _utc(self._stamp)
        return path

    def withdraw(self) -> None:
        """The part that `next` gave was not written: it is given again."""
        self._number -= 1

    def _named(self, part: str) -> Path:
        return Path(str(with_part(self._path)).replace(PART, part))


class Kept:
    """The finished parts of this run, the oldest of which are deleted when there are too many.

    Nothing is deleted that this run did not make, or one that it goes on from, nor the newest part. One thread uses it
    at a time.

    Attributes:
        outputs: how many parts there are of each, by its path.
    """

    def __init__(self, rotation: Rotation | None) -> None:
        self._seconds = None if rotation is None else rotation.keep_seconds
        self._bytes = None if rotation is None else rotation.keep_bytes
        self.outputs: Counter[str] = Counter()
        self._size = 0
        self._numbers = count()
        # the oldest first, by whether their source is live: the two have different clocks
        self._parts: dict[bool, deque[_Part]] = {True: deque(), False: deque()}

    def adopt(self, outputs: Mapping[str, str]) -> None:
        """Take over what earlier runs left of these outputs of live sources, before any part is added.

        What tells how old one is, is when it was written last.

        Args:
            outputs: for each, by its path, what stands for `{part}` in the name of the first part of those runs.
        """
        if not self.limited:
            return
        now, clock, found = time.time(), time.monotonic(), []
        for output, name in _left_behind(outputs):
            with suppress(OSError):  # deleted by somebody else
                told = os.stat(name)
                found.append((clock - max(0.0, now - told.st_mtime), told.st_size, name, output))
        for ended, size, name, output in sorted(found):
            self._append(output, Path(name), size, ended, True)

    @property
    def limited(self) -> bool:
        """Whether any is ever deleted."""
        return self._seconds is not None or self._bytes is not None

    def add(self, output: Path, path: Path, ended: float, live: bool) -> None:
        """A part of an output is finished; delete those that are too old, or too much, now.

        Args:
            ended: when, on the clock of its series, seconds. live: whether that is the one for live sources.
        """
        if not (self.limited and path.exists()):
            return
        self._append(str(output), path, path.stat().st_size, ended, live)
        for parts, now in ((self._parts[True], time.monotonic()), (self._parts[False], -math.inf if live else ended)):
            while self._seconds is not None and parts and now - parts[0].ended > self._seconds:
                self._delete(parts)
        while self._bytes is not None and self._size > self._bytes and sum(map(len, self._parts.values())) > 1:
            self._delete(min(filter(None, self._parts.values()), key=lambda parts: parts[0].number))

    def _append(self, output: str, path: Path, size: int, ended: float, live: bool) -> None:
        self._parts[live].append(_Part(next(self._numbers), output, path, size, ended))
        self._size += size
        self.outputs[output] += 1

    def _delete(self, parts: deque[_Part]) -> None:
        oldest = parts.popleft()
        self._size -= oldest.size
        self.outputs[oldest.output] -= 1
        if not self.outputs[oldest.output]:
            del self.outputs[oldest.output]
        try:
            oldest.path.unlink(missing_ok=True)
        except OSError as error:
            logger.warning("cannot delete the old part %s: %s", oldest.path, error.strerror)


class _Part(NamedTuple):
    """A finished part: in which place it was finished, of what, its bytes, and when, on its clock."""

    number: int
    output: str
    path: Path
    size: int
    ended: float


def _left_behind(outputs: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The outputs, and the files that are parts of them with a time in their name; not those before the first ones."""
    folders: dict[str, dict[str, tuple[str, str]]] = {}
    for output, first in outputs.items():
        folder, name = os.path.split(with_part(Path(output)))
        if PART not in folder:  # a folder with parts of many cameras is looked at once
            folders.setdefault(folder, {})[name] = output, first
            continue
        pieces = os.path.join(folder, name).split(PART)
        exactly = re.compile(f"({UTC})".join(map(re.escape, pieces)))
        for path in glob.iglob("*".join(map(glob.escape, pieces))):
            if (found := exactly.fullmatch(path)) is not None and found[1] >= first:
                yield output, path
    for folder, names in folders.items():
        with suppress(OSError):
            for name in os.listdir(folder or "."):
                stamp = re.search(UTC, name)
                output, first = names.get(re.sub(UTC, PART, name), ("", ""))
                if output and stamp is not None and stamp[0] >= first:
                    yield output, os.path.join(folder, name)


def with_part(path: Path) -> Path:
    """The path with `{part}` in it.

    >>> with_part(Path("out.mp4")).name
    'out-{part}.mp4'
    """
    return path if PART in str(path) else path.with_name(f"{path.stem}-{PART}{path.suffix}")


UTC = r"\d{8}T\d{6}\.\d{3}Z"
"""What `_utc` gives, and nothing else in a name."""


def _utc(milliseconds: int) -> str:
    """A time as part of a file name.

    >>> _utc(1_700_000_000_123)
    '20231114T221320.123Z'
    """
    seconds, rest = divmod(milliseconds, 1000)
    return f"{datetime.fromtimestamp(seconds, timezone.utc):%Y%m%dT%H%M%S}.{rest:03d}Z"
