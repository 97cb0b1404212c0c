"""A resolver of names for the tests, which never answers or does, and a run that asks nobody else."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from typing_extensions import Self

_ADDRESS = "127.0.0.153"


class Resolver:
    """Says that every host is at 127.0.0.1, or nothing.

    Attributes:
        answers: whether it says anything. asked: packets that came.
    """

    def __init__(self) -> None:
        self.answers = False
        self.asked = 0
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._socket.bind((_ADDRESS, 53))
        except OSError as error:
            self._socket.close()
            pytest.skip(f"no resolver can be had here ({error.strerror}); that takes root on Linux")
        threading.Thread(target=self._serve, daemon=True).start()

    def asked_by(self, command: list[str], folder: Path) -> list[str]:
        """The command, in a world of its own where this is the only resolver."""
        configuration = folder / "resolv.conf"
        configuration.write_text(f"nameserver {_ADDRESS}\n")
        bind = f"mount --bind '{configuration}' /etc/resolv.conf"
        alone = ["unshare", "--mount", "sh", "-c"]
        if sys.platform != "linux" or subprocess.run([*alone, bind], capture_output=True, check=False).returncode:
            pytest.skip("no other resolver can be set here; that takes root on Linux")
        return [*alone, f'{bind} && exec "$@"', "sh", *command]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                query, client = self._socket.recvfrom(512)
                self.asked += 1
                if not query:
                    return
                if self.answers:
                    self._socket.sendto(_answer(query), client)


def _answer(query: bytes) -> bytes:
    """RFC 1035, section 4: for an A question 127.0.0.1, for another one that there is none."""
    end = query.index(b"\0", 12) + 5
    question, kind = query[12:end], query[end - 4 : end - 2]
    is_address = kind == b"\0\1"
    record = b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4" + socket.inet_aton("127.0.0.1") if is_address else b""
    return query[:2] + b"\x81\x80\0\1" + bytes([0, is_address]) + b"\0\0\0\0" + question + record
