"""Webhook: frames posted to an HTTP server as lines of JSON."""

from __future__ import annotations

import base64
import http.client
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, quote, unquote, urlsplit

from pydantic import Field, SecretStr, field_validator

from pipeline.sending.delivery import NetworkSink, Peer, Settled, Unreachable, checked_url, trusted

# Answers that are about what a message holds (bad request, too large, of the wrong type, not to be processed): sent
# again it would be refused again. All others, 401 and 404 among them, are about the server or the address.
_REFUSED = frozenset({400, 413, 415, 422})

# An answer is read so far, so that the connection can be used again.
_ANSWER_BYTES = 1 << 16


class Webhook(NetworkSink):
    """POSTs one JSON object a frame, those that wait in one request, a line each (application/x-ndjson)."""

    name = "webhook"

    url: str = Field(repr=False, description="http(s)://user:password@host:port/path")
    headers: dict[str, SecretStr] = Field(
        default_factory=dict, description='sent with every request: {Authorization: "Bearer ..."}'
    )

    @field_validator("url")
    @classmethod
    def _is_http(cls, url: str) -> str:
        checked_url(url, ("http", "https"))
        return url

    @field_validator("headers", mode="before")
    @classmethod
    def _are_words(cls, headers: Any) -> Any:
        if not isinstance(headers, dict) or not all(isinstance(value, str | SecretStr) for value in headers.values()):
            raise ValueError("headers are a mapping of names to texts")  # whose values nobody is to read here
        return headers

    @field_validator("headers")
    @classmethod
    def _are_headers(cls, headers: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name, value in headers.items():
            if not name.isascii() or not name.replace("-", "").replace("_", "").isalnum():
                raise ValueError(f"'{name}' is no name of a header")
            if not value.get_secret_value().isascii() or not value.get_secret_value().isprintable():
                raise ValueError(f"the value of {name} holds letters that a header cannot hold")
        return headers

    @property
    def address(self) -> str:
        """Only the server: what follows is often all that lets somebody in."""
        parts = urlsplit(super().address)
        return f"{parts.scheme}://{parts.netloc}"

    def peer(self) -> Peer:
        """A connection to the server."""
        headers = {name: value.get_secret_value() for name, value in self.headers.items()}
        return _Server(checked_url(self.url, ("http", "https")), headers, self.timeout, self.ca)


class _Server(Peer):
    def __init__(self, parts: SplitResult, headers: dict[str, str], timeout: float, ca: Path | None) -> None:
        self._parts, self._timeout = parts, timeout
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._target = quote(target, safe="/?%:@!$&'()*+,;=~-._")
        self._headers = {"Content-Type": "application/x-ndjson", "User-Agent": "framechain"}
        if parts.username is not None:
            login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._headers["Authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"
        self._headers |= headers
        self._tls = trusted(ca) if parts.scheme.lower() == "https" else None
        self._connection: http.client.HTTPConnection | None = None

    def connect(self) -> None:
        host, port = str(self._parts.hostname), self._parts.port
        if self._tls is not None:
            self._connection = http.client.HTTPSConnection(host, port, timeout=self._timeout, context=self._tls)
        else:
            self._connection = http.client.HTTPConnection(host, port, timeout=self._timeout)

    def send(self, messages: Sequence[tuple[str, bytes]], settled: Settled) -> None:
        status, reason = self._post(b"".join(body + b"\n" for _, body in messages))
        if status in _REFUSED and len(messages) > 1:  # one by one, to find the message that it is about
            for message in messages:
                self.send([message], settled)
            return
        if not (200 <= status < 300 or status in _REFUSED):
            raise Unreachable(f"it answers {status} {reason}".strip())
        for _ in messages:
            settled(f"{status} {reason}".strip() if status in _REFUSED else "")

    def disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def _post(self, body: bytes) -> tuple[int, str]:
        connection = self._connection
        assert connection is not None
        used = connection.sock is not None
        try:
            return self._exchange(connection, body)
        except (ConnectionError, http.client.RemoteDisconnected) as error:
            connection.close()
            if not used:
                raise Unreachable(getattr(error, "strerror", "") or str(error)) from error
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(getattr(error, "strerror", "") or str(error) or type(error).__name__) from error
        return self._post(body)  # servers end connections that were idle; a new one tells whether it is there

    def _exchange(self, connection: http.client.HTTPConnection, body: bytes) -> tuple[int, str]:
        connection.request("POST", self._target, body, self._headers)
        answer = connection.getresponse()
        answer.read(_ANSWER_BYTES)
        if not answer.isclosed():
            connection.close()
        return answer.status, "".join(letter for letter in answer.reason[:80] if letter.isprintable())
