"""Watch: a running chain follows the sources of its configuration file."""

from __future__ import annotations

import logging
import stat
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.address import redacted
from pipeline.config import Document
from pipeline.engine import Pipeline
from pipeline.errors import FramechainError, UsageError
from pipeline.limits import start

logger = logging.getLogger("framechain")

_POLL = 0.5
"""Seconds between looks at the file. It is read once two looks in a row saw the same: editors write in pieces."""


_PATIENCE = 10.0
"""Seconds to wait for a source to leave before the next change is made."""


class Watch:
    """Adds to a run what a configuration's `sources` gain, and removes what they lose.

    What stands there unchanged is not touched; an entry with another option is one that went and one that came. A file
    that is wrong changes nothing and is one line in the log; so is a change of anything but the sources, as that needs
    a restart. A source that cannot be opened is tried again when the file is read the next time.

    Args:
        path: the file. pipeline: runs what it said when `document` was built.
        document: as built, with all flags laid over it. read: reads it anew, the same way, and checks it.
    """

    def __init__(self, path: Path, pipeline: Pipeline, document: Document, read: Callable[[], Document]) -> None:
        self._path = path
        self._pipeline = pipeline
        self._read = read
        self._first = document
        self._rest = self._told = _rest(document)
        self._changing = threading.Lock()
        self._present: list[_Present] = []
        self._seen = self._acted = self._signature()
        self._asked = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        """Begin; the pipeline has been started."""
        entries = _entries(self._first)
        ids = self._pipeline.began
        self._present = [_Present(entry, name) for entry, name in zip(entries, ids, strict=True) if name is not None]
        start(self._thread)

    def ask(self) -> None:
        """Read the file now, changed or not. Any thread may ask, but no signal handler: it could wait for itself."""
        self._asked.set()

    def close(self) -> None:
        """Change nothing any more."""
        self._over.set()
        self._asked.set()
        if self._thread.is_alive():
            self._thread.join(_POLL)

    def _run(self) -> None:
        while not self._over.is_set():
            asked = self._asked.wait(_POLL)
            self._asked.clear()
            if self._over.is_set() or self._pipeline.stopping:
                break
            seen, before = self._signature(), self._seen
            self._seen = seen
            if asked or (seen == before and seen != self._acted):
                self._acted = seen
                self._follow()

    def _signature(self) -> tuple[int, ...] | None:
        try:
            told = self._path.stat()
        except OSError:
            return None
        if not stat.S_ISREG(told.st_mode):  # a pipe would be waited for
            return None
        return told.st_mtime_ns, told.st_size, told.st_ino

    def _follow(self) -> None:
        try:
            if self._path.exists() and not self._path.is_file():
                raise UsageError(f"{self._path} is no file any more; put one there")
            document = self._read()
            if document.data.get("sources") is None:
                raise UsageError(f"{self._path} names no sources any more; write sources: [] to remove all")
        except FramechainError as error:
            logger.warning("%s; nothing is changed", redacted(str(error)))
            return
        except Exception as error:  # a mistake of ours must not end what follows the file
            told = f"{type(error).__name__}: {error}"
            logger.warning("%s cannot be followed (%s); nothing is changed", self._path, redacted(told))
            return
        rest = _rest(document)
        if rest not in (self._rest, self._told):
            logger.warning("%s: only sources are changed in a run; restart it for the rest", self._path)
        self._told = rest
        wanted = _entries(document)
        stay, gone, new = [], [], list(wanted)
        with self._changing:
            for present in self._present:
                if present.entry in new:
                    new.remove(present.entry)
                    stay.append(present)
                else:
                    present.gone = True
                    gone.append(present.source)
            come = [_Present(entry) for entry in new]
            self._present = [*stay, *come]
        # cameras that take one viewer only: those that go have gone before others come
        for leaving in [self._aside(self._remove, source) for source in gone if source is not None]:
            if leaving.ident is not None:
                leaving.join()
        for present in come:
            self._aside(self._add, document, wanted, present)

    def _aside(self, change: Callable[..., None], *what: Any) -> threading.Thread:
        """All at once: each that does not answer costs its timeout."""
        thread = threading.Thread(target=change, args=what, name="watch-change", daemon=True)
        try:
            start(thread)
        except FramechainError:  # one after another, then
            change(*what)
        return thread

    def _remove(self, source: str) -> None:
        try:
            out = self._pipeline.remove(source, _PATIENCE)
        except UsageError:
            return  # it had ended by itself
        logger.info("source %s is removed%s", source, "" if out else ", its last frames are still in the chain")

    def _add(self, document: Document, wanted: list[Any], present: _Present) -> None:
        if self._over.is_set():
            return
        try:
            info = self._pipeline.add(document.source(wanted.index(present.entry)))
        except Exception as error:  # whatever it is, the entry is tried again when the file is read the next time
            with self._changing:
                if not present.gone:
                    self._present.remove(present)
            if self._pipeline.stopping:
                return
            told = str(error) if isinstance(error, FramechainError) else f"{type(error).__name__}: {error}"
            logger.warning("%s; the other sources go on", redacted(told))
            return
        with self._changing:
            present.source, gone = info.id, present.gone
        logger.info("source %s is added", info.id)
        if gone:
            self._remove(info.id)


@dataclass(slots=True, eq=False)
class _Present:
    """An entry of the file: the id of its source (None: it is being opened), and whether the entry is gone."""

    entry: Any
    source: str | None = None
    gone: bool = False


def _entries(document: Document) -> list[Any]:
    """The sources, each as a mapping."""
    entries = document.data.get("sources") or []
    return [{"uri": entry} if isinstance(entry, str | int) else entry for entry in entries]


def _rest(document: Document) -> dict[str, Any]:
    return {key: value for key, value in document.data.items() if key != "sources"}
