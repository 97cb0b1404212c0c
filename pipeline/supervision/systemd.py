"""systemd: tells the service manager how the run goes (sd_notify(3)), where it asks to be told."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping

logger = logging.getLogger("framechain")

_MICROSECONDS = 1e-6


class Systemd:
    """Sends states to the socket that `NOTIFY_SOCKET` names; does nothing where there is none.

    Args:
        environment: of the process. `WATCHDOG_USEC` asks for signs of life, `WATCHDOG_PID` says of whom.

    Attributes:
        watchdog: seconds within which a sign of life is expected; None: none is.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address  # of the abstract namespace
        self._told_failure = False
        self._status = ""
        self.watchdog: float | None = None
        interval, process = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
        if self._address and interval.isdecimal() and int(interval) and process in ("", str(os.getpid())):
            self.watchdog = int(interval) * _MICROSECONDS

    @property
    def asked(self) -> bool:
        """Whether anybody wants to be told."""
        return bool(self._address)

    def ready(self) -> None:
        """All is open, the run has begun."""
        self._send("READY=1")

    def alive(self) -> None:
        """A sign of life."""
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """The run is ending."""
        self._send("STOPPING=1")

    def status(self, words: str) -> None:
        """What `systemctl status` shows, one line; sent where it changed."""
        line = " ".join(words.split())
        if line != self._status:
            self._status = line
            self._send(f"STATUS={line}")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | getattr(socket, "SOCK_CLOEXEC", 0)) as peer:
                peer.settimeout(1.0)
                peer.connect(self._address)
                peer.send(message.encode())
        except (OSError, AttributeError) as error:  # AttributeError: Windows has no such sockets
            if not self._told_failure:
                self._told_failure = True
                logger.warning("cannot tell the service manager at NOTIFY_SOCKET: %s", error)
