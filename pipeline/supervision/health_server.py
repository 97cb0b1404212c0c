"""Health server: `/healthz` and `/metrics` over HTTP, for probes and Prometheus."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any

from pipeline.engine import Pipeline
from pipeline.errors import FramechainError, UsageError
from pipeline.limits import start
from pipeline.report import prometheus
from pipeline.supervision.health import examine

_LOOPBACK = "127.0.0.1"
_PASSING = (errno.EADDRINUSE, errno.EADDRNOTAVAIL)

# Whoever may reach the port may ask; so nobody gets to hold threads or memory.
_SECONDS = 5.0  # that a request may take from its first byte to the last of the answer
_BYTES = 16 * 2**10  # of a request; those of browsers have 1 kB or so
_AT_ONCE = 8  # requests; when there are more, whoever has been asking for longest is hung up on
_ROOM = 0.2  # seconds within which that makes room


class HealthServer:
    """Serves a pipeline's health in daemon threads, from before its start until `close`.

    Args:
        address: "host:port"; ":port" and "port" are on the loopback interface. Port 0: a free one.

    Attributes:
        url: where it is served.

    Raises:
        UsageError: that is no address, or it may not be had.
        FramechainError: it cannot be had now.
    """

    def __init__(self, address: str, pipeline: Pipeline) -> None:
        host, port = parse_address(address)
        try:
            self._server = _Server(host, port, pipeline)
        except OSError as error:
            # what passes, as the run before still ends or a network is not up yet, is no mistake of who asks
            kind = FramechainError if error.errno in _PASSING else UsageError
            reason = error.strerror or str(error)
            raise kind(f"cannot serve health at {address}: {reason}; give another host or port") from error
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="health", daemon=True)
        start(self._thread)

    def close(self) -> None:
        """Serve no more."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def parse_address(address: str) -> tuple[str, int]:
    """Host and port of an address.

    >>> parse_address("8080"), parse_address("0.0.0.0:80"), parse_address("[::1]:80")
    (('127.0.0.1', 8080), ('0.0.0.0', 80), ('::1', 80))

    Raises:
        UsageError: it is none.
    """
    host, _, port = address.rpartition(":")
    if not (port.isdecimal() and port.isascii() and int(port) < 2**16):
        raise UsageError(f"'{address}' is no address to serve health at; give HOST:PORT, such as 127.0.0.1:8080")
    return host.strip("[]") or _LOOPBACK, int(port)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 16

    def __init__(self, host: str, port: int, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.asking: dict[socket.socket, None] = {}  # those whose request is not there yet, the oldest first
        self._free = threading.BoundedSemaphore(_AT_ONCE)
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        """Without asking for the name of the host, which may take seconds."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Whether there is room for one more. Who only connects does not keep others out."""
        if self._free.acquire(blocking=False):
            return True
        for oldest in list(self.asking)[:1]:
            _hang_up(oldest)
        return self._free.acquire(timeout=_ROOM)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Begin to answer one, where the system gives a thread for it."""
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer one, and make room."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is nothing to tell of."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = "framechain"
    sys_version = ""
    timeout = _SECONDS

    def setup(self) -> None:
        """Limit the time and the bytes of the whole request; socket timeouts begin anew with every byte."""
        super().setup()
        self.rfile = io.BufferedReader(_Limited(self.rfile, _BYTES))
        self._timer = threading.Timer(_SECONDS, _hang_up, [self.connection])
        self._timer.daemon = True
        self._timer.start()
        self.server.asking[self.connection] = None

    def finish(self) -> None:
        self._timer.cancel()
        self.server.asking.pop(self.connection, None)
        super().finish()

    def do_GET(self) -> None:
        """Answer."""
        self._answer(self.wfile.write)

    def do_HEAD(self) -> None:
        """Answer without the body."""
        self._answer(lambda _: None)

    def _answer(self, send: Callable[[bytes], object]) -> None:
        self.server.asking.pop(self.connection, None)
        pipeline, path = self.server.pipeline, self.path.split("?")[0]
        if path == "/healthz":
            health = examine(pipeline)
            code, kind = (200 if health.healthy else 503), "application/json"
            text = json.dumps(health.to_dict(), indent=2, ensure_ascii=False) + "\n"
        elif path == "/metrics":
            code, kind, text = 200, "text/plain; version=0.0.4; charset=utf-8", prometheus(pipeline.metrics.snapshot())
        else:
            code, kind, text = 404, "text/plain; charset=utf-8", "there are /healthz and /metrics\n"
        body = text.encode("utf-8", "replace")
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        send(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Probes come every few seconds; they are not logged."""


def _hang_up(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class _Limited(io.RawIOBase):
    """Reads so many bytes of a stream at most; then it is as if it had ended."""

    def __init__(self, stream: Any, limit: int) -> None:
        self._stream, self._left = stream, limit

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data: bytes = self._stream.read1(min(len(buffer), self._left))
        buffer[: len(data)] = data
        self._left -= len(data)
        return len(data)
