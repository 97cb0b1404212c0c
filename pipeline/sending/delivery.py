"""Delivery: sinks that send every frame to a peer over the network, and keep on disk what it has not had."""

from __future__ import annotations

import hashlib
import logging
import ssl
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import ConfigDict, Field, PrivateAttr, model_validator
from typing_extensions import Self

from pipeline import reasons
from pipeline.address import redacted
from pipeline.errors import UsageError
from pipeline.files.disk_full import Pause
from pipeline.files.output import file_safe
from pipeline.frame import Frame
from pipeline.frame_json import to_json
from pipeline.limits import start
from pipeline.models import cache_folder
from pipeline.sending.spool import Spool, SpoolTaken
from pipeline.sink import Sink

logger = logging.getLogger("framechain")

# What is sent at once: more gains little, and a peer that fails in the middle is sent most of it again.
_BATCH, _BATCH_BYTES = 100, 1 << 20

# Seconds between two tries to reach a peer that is away: it has its messages within 2 s of being back.
_RETRY = 1.0

# Runs that may send to one address at the same time without being told a folder each.
_RUNS = 64

# A peer that comes and goes is told of once in so many seconds.
_TOLD_EVERY = 60.0


class Unreachable(Exception):
    """The peer cannot take messages now; says why, without credentials."""


Settled = Callable[[str], None]
"""Called for each message, in order: with "" once the peer has it, else with why it will never take it."""


class Peer(ABC):
    """One connection to a peer, used by one thread. Every call ends within a few timeouts."""

    @abstractmethod
    def connect(self) -> None:
        """Connect, where that is done before sending.

        Raises:
            Unreachable: it cannot be reached, or refuses the login.
        """

    @abstractmethod
    def send(self, messages: Sequence[tuple[str, bytes]], settled: Settled) -> None:
        """Send messages in order and settle each once the peer has confirmed it.

        Args:
            messages: id of the source, made safe for a name, and the line of JSON.

        Raises:
            Unreachable: those that are not settled must be sent again.
        """

    @abstractmethod
    def disconnect(self) -> None:
        """Leave; never fails."""


class NetworkSink(Sink, ABC):
    """A sink that sends every frame as JSON, the same object as a line of jsonl, at least once and in order.

    `write` appends to a spool on disk and returns; a thread delivers. While the peer is away messages wait there,
    over restarts too. What can never be delivered is counted: "spool full" (the oldest go first), "too large",
    "refused", "disk full", "damaged".
    """

    model_config = ConfigDict(hide_input_in_errors=True)  # addresses hold passwords

    url: str = Field(repr=False, description="address of the peer")
    ca: Path | None = Field(None, description="certificates to trust, as PEM; if not given: the system's")
    captured_at: bool = Field(True, description="add the wall-clock time of each frame, as messages may come late")
    spool: Path | None = Field(
        None, description="folder for messages that wait; if not given: one for this address in the cache"
    )
    spool_bytes: int = Field(256 * 2**20, ge=2**20, description="room for waiting messages; then the oldest go")
    max_message: int = Field(256 * 2**10, ge=2**10, description="bytes of a message at most; larger ones are left out")
    timeout: float = Field(5.0, gt=0, le=3600, description="seconds that the peer may take to answer")
    grace: float = Field(
        5.0, ge=0, le=86_400, description="seconds that the end of a run waits for what is not delivered yet"
    )

    _spool: Spool | None = PrivateAttr(None)
    _courier: _Courier | None = PrivateAttr(None)
    _pause: Pause | None = PrivateAttr(None)
    _counting: Lock = PrivateAttr(default_factory=Lock)

    @model_validator(mode="after")
    def _holds_some_messages(self) -> Self:
        if self.spool_bytes < 16 * self.max_message:
            raise ValueError("spool_bytes must be 16 times max_message at least; make one larger or the other smaller")
        return self

    @abstractmethod
    def peer(self) -> Peer:
        """A connection, not connected yet."""

    def open(self) -> None:
        """Take possession of the spool and begin to deliver what an earlier run left in it.

        Raises:
            UsageError: the certificates cannot be read; the spool cannot be used, or another run uses it.
        """
        trusted(self.ca)
        address = self.address
        self._spool = self._own_spool(address)
        self.dropped.update({reasons.DAMAGED: self._spool.damaged} if self._spool.damaged else {})
        if left := len(self._spool):
            logger.info("sink '%s': %d messages of an earlier run are delivered first", self.name, left)
        self._pause = Pause(f"sink '{self.name}'")
        self._courier = _Courier(f"sink '{self.name}'", address, self._spool, self.peer(), self._lost)
        start(self._courier)

    def state_dict(self) -> dict[str, Any]:
        """See that waiting messages survive a power cut; the spool itself remembers them."""
        if self._spool is not None:
            self._spool.sync()
        return {}

    def write(self, frame: Frame) -> None:
        """Put the frame on its way. Never waits for the peer."""
        assert self._spool is not None
        assert self._pause is not None
        assert self._courier is not None
        body = to_json(frame, self.captured_at).rstrip("\n").encode("utf-8", "replace")
        if len(body) > self.max_message:
            if not self.dropped[reasons.TOO_LARGE]:
                logger.warning(
                    "sink '%s': a message of %d bytes (frame %d of %s) is larger than max_message, %d; it is left out, "
                    "further ones are only counted",
                    *(self.name, len(body), frame.index, frame.source, self.max_message),
                )
            self._lost(reasons.TOO_LARGE, 1)
            return
        if self._pause.holds():
            self._lost(reasons.DISK_FULL, 1)
            return
        try:
            given_up = self._spool.append(f"{file_safe(frame.source)}\n".encode() + body)
        except OSError:
            self._lost(reasons.DISK_FULL, 1)
            self._pause.begin(self._spool.folder / "spool", 1)
            return
        self._pause.end()
        if given_up:
            if not self.dropped[reasons.SPOOL_FULL]:
                logger.warning(
                    "sink '%s': %s is full (spool_bytes: %d); the oldest messages go, and are counted",
                    *(self.name, self._spool.folder, self.spool_bytes),
                )
            self._lost(reasons.SPOOL_FULL, given_up)
        self._courier.wake()

    def close(self) -> None:
        """Deliver what can be delivered within `grace` seconds; the rest stays for the next run."""
        courier, spool = self._courier, self._spool
        self._courier = None
        if courier is None or spool is None:
            return
        courier.finish(self.grace)
        if lost := spool.close():
            self._lost(reasons.SPOOL_FULL, lost)
        if left := len(spool):
            logger.warning(
                "sink '%s': %d messages could not be delivered to %s and wait in %s for the next run",
                *(self.name, left, self.address, spool.folder),
            )

    @property
    def address(self) -> str:
        """Where it sends, without what is secret."""
        return redacted(self.url)

    @property
    def pending(self) -> int:
        """Messages that the peer has not had yet."""
        return 0 if self._spool is None else len(self._spool)

    @property
    def trouble(self) -> str:
        """A peer that is away, or a spool without room."""
        away = "" if self._courier is None else self._courier.trouble
        return away or ("" if self._pause is None else self._pause.trouble)

    def _own_spool(self, address: str) -> Spool:
        """The folder that was named; else the first for this address that no other run uses now."""
        if self.spool is not None:
            return Spool(self.spool.expanduser(), self.spool_bytes)
        digest = hashlib.sha256(redacted(self.url).encode()).hexdigest()[:12]
        folder = cache_folder("spool") / f"{self.name}-{file_safe(address)[:60]}-{digest}"
        for number in range(2, _RUNS + 1):
            try:
                return Spool(folder, self.spool_bytes)
            except SpoolTaken:
                folder = folder.with_name(f"{folder.name.removesuffix(f'_{number - 1}')}_{number}")
        return Spool(folder, self.spool_bytes)

    def _lost(self, reason: str, count: int) -> None:
        with self._counting:
            self.dropped[reason] += count


def checked_url(url: str, schemes: Collection[str]) -> SplitResult:
    """An address taken apart.

    Raises:
        ValueError: it is not one; says what it should look like, without its credentials.
    """
    try:
        parts = urlsplit(url)
        fine = parts.scheme.lower() in schemes and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        fine = False
    if not fine or any(ord(letter) <= 32 for letter in url):
        kinds = " or ".join(f"{scheme}://" for scheme in schemes)
        # without //, or with a blank, nobody can tell a password from a host
        shown = f"'{redacted(url)}'" if "//" in url and url.isprintable() and " " not in url else "this"
        raise ValueError(f"{shown} is no address here; give {kinds}host:port/...")
    return parts


def topic_of(url: str) -> str:
    """What an address names behind the host.

    >>> topic_of("mqtt://user:password@host:1883/site/gate%201")
    'site/gate 1'
    """
    return unquote(url.partition("://")[2].partition("/")[2])


def trusted(ca: Path | None) -> ssl.SSLContext:
    """How a peer proves who it is: by the certificates in `ca`, or the system's.

    Raises:
        UsageError: they cannot be read.
    """
    try:
        return ssl.create_default_context(cafile=None if ca is None else ca.expanduser())
    except OSError as error:  # SSLError is one
        raise UsageError(
            f"cannot read certificates from {ca}: {error.strerror or error}; give a file in PEM format"
        ) from error


class _Courier(threading.Thread):
    """Delivers what is in a spool, for as long as the run lasts."""

    def __init__(self, name: str, address: str, spool: Spool, peer: Peer, lost: Callable[[str, int], None]) -> None:
        super().__init__(name=f"deliver-{address}", daemon=True)
        self._sink, self._address = name, address
        self._spool, self._peer, self._lost = spool, peer, lost
        self._some, self._ending, self._enough = threading.Event(), threading.Event(), threading.Event()
        self._away = self._telling = False
        self._unreadable = ""
        self._told_at: float | None = None
        self._damaged = spool.damaged

    def wake(self) -> None:
        """There is a message."""
        self._some.set()

    @property
    def trouble(self) -> str:
        """That the peer is away, or messages cannot be read, in words; "" if all is well."""
        return self._unreadable or (f"{self._address} cannot be reached" if self._away else "")

    def finish(self, seconds: float) -> None:
        """Deliver what is there, for so long at most. A peer that does not answer at all is left behind then."""
        self._ending.set()
        self._some.set()
        self.join(seconds)
        self._enough.set()
        self.join(0.1)

    def run(self) -> None:
        """Thread body."""
        batch: list[bytes] = []
        connected = False
        while not self._enough.is_set():
            batch = batch or self._take()
            if not batch:
                if self._unreadable:
                    self._enough.wait(_RETRY)
                    continue
                if self._ending.is_set():
                    break
                self._some.wait()
                self._some.clear()
                continue
            try:
                if not connected:
                    self._peer.connect()
                    connected = True
                self._send(batch)
            except Exception as error:  # whatever a library comes up with, delivery goes on
                self._peer.disconnect()
                connected = False
                self._tell_away(str(error) if isinstance(error, Unreachable) else f"{type(error).__name__}: {error}")
                self._spool.sync()
                self._enough.wait(_RETRY)
        self._peer.disconnect()

    def _take(self) -> list[bytes]:
        try:
            batch = self._spool.take(_BATCH, _BATCH_BYTES)
        except OSError as error:
            if not self._unreadable:
                self._unreadable = f"messages in {self._spool.folder} cannot be read ({error.strerror})"
                self._tell(f"{self._unreadable}; it is tried again every second")
            return []
        self._unreadable = ""
        if self._spool.damaged > self._damaged:
            self._lost(reasons.DAMAGED, self._spool.damaged - self._damaged)
            self._damaged = self._spool.damaged
        return batch

    def _send(self, batch: list[bytes]) -> None:
        """Send a batch; what is settled leaves it."""
        settled = 0

        def settle(refusal: str) -> None:
            nonlocal settled
            settled += 1
            if refusal:
                self._lost(reasons.REFUSED, 1)
                self._tell(f"{self._address} refuses a message ({refusal}); it is left out")
            self._tell_back()

        messages = [(source.decode(), body) for source, _, body in (message.partition(b"\n") for message in batch)]
        try:
            self._peer.send(messages, settle)
        finally:
            del batch[:settled]
            self._spool.done(settled)

    def _tell(self, what: str) -> bool:
        now = time.monotonic()
        if self._told_at is not None and now - self._told_at < _TOLD_EVERY:
            return False
        self._told_at = now
        logger.warning("%s: %s", self._sink, what)
        return True

    def _tell_away(self, reason: str) -> None:
        if not self._away:
            self._away = True
            self._telling = self._tell(
                f"{self._address} cannot be reached ({reason}); messages wait in {self._spool.folder}"
            )

    def _tell_back(self) -> None:
        if self._away and self._telling:
            logger.warning(
                "%s: %s is back; %d messages that waited follow", self._sink, self._address, len(self._spool)
            )
        self._away = False
