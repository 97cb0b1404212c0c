"""Messages between a run and the process of its OCR engine: plain data as JSON, and pixels."""

from __future__ import annotations

import json
import struct
from typing import Any, BinaryIO

_HEAD = struct.Struct("<II")  # bytes of the JSON, bytes of the pixels


class Closed(Exception):
    """The other process is gone."""


class Channel:
    """Sends and receives messages over two pipes.

    Raises:
        Closed: from `send` and `receive`, once the other side is gone.
    """

    def __init__(self, incoming: BinaryIO, outgoing: BinaryIO) -> None:
        self._incoming, self._outgoing = incoming, outgoing

    def send(self, told: dict[str, Any], pixels: bytes = b"") -> None:
        """Send one message."""
        text = json.dumps(told).encode()
        try:
            self._outgoing.write(_HEAD.pack(len(text), len(pixels)) + text)
            self._outgoing.write(pixels)
            self._outgoing.flush()
        except (OSError, ValueError) as error:
            raise Closed from error

    def receive(self) -> tuple[dict[str, Any], bytes]:
        """Wait for the next message."""
        text, pixels = _HEAD.unpack(self._exactly(_HEAD.size))
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
