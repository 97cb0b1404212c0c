"""Messages between a run and a process of its own: plain data as JSON, and bytes. Nothing of them is ever executed."""

from __future__ import annotations

import json
import struct
import threading
from typing import Any, BinaryIO

_HEAD = struct.Struct("<II")  # bytes of the JSON, bytes besides

_LONGEST = 1 << 26
"""Bytes of JSON, far more than is ever sent: what a process says that is out of its mind is not waited for."""


class Closed(Exception):
    """The other process is gone."""


class Channel:
    """Sends and receives messages over two pipes. Any thread may send, one receives.

    Raises:
        Closed: from `send` and `receive`, once the other side is gone.
    """

    def __init__(self, incoming: BinaryIO, outgoing: BinaryIO) -> None:
        self._incoming, self._outgoing = incoming, outgoing
        self._sending = threading.Lock()

    def send(self, told: dict[str, Any], pixels: bytes = b"") -> None:
        """Send one message."""
        text = json.dumps(told).encode()
        try:
            with self._sending:
                self._outgoing.write(_HEAD.pack(len(text), len(pixels)) + text)
                self._outgoing.write(pixels)
                self._outgoing.flush()
        except (OSError, ValueError) as error:
            raise Closed from error

    def receive(self) -> tuple[dict[str, Any], bytes]:
        """Wait for the next message."""
        text, pixels = _HEAD.unpack(self._exactly(_HEAD.size))
        if text > _LONGEST:
            raise Closed
        told: dict[str, Any] = json.loads(self._exactly(text))
        return told, self._exactly(pixels)

    def _exactly(self, count: int) -> bytes:
        try:
            data = self._incoming.read(count)
        except (OSError, ValueError) as error:
            raise Closed from error
        if len(data) < count:
            raise Closed
        return data
