"""A camera that plays pictures over HTTP (MJPEG), with faults on demand."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Camera:
    """Plays JPEG pictures in a loop at /, as many a second as `rate` says.

    Args:
        pictures: JPEG. rate: pictures a second.

    Attributes:
        rate: as above; it may be changed while it plays. pictures: likewise.
        frozen: nothing is sent, connections stay. garbage: pictures to replace by noise.
        sent: pictures of all connections.
    """

    def __init__(self, pictures: Sequence[bytes], rate: float) -> None:
        self.pictures, self.rate = pictures, rate
        self.frozen = False
        self.garbage = 0
        self.sent = 0
        self._server: _Server | None = None
        self._port = 0
        self.start()

    @property
    def uri(self) -> str:
        """Where it plays; the same after a restart."""
        return f"http://127.0.0.1:{self._port}/mjpeg"

    def start(self) -> None:
        """Switch it on."""
        self._server = _Server(("127.0.0.1", self._port), self)
        self._port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """Switch it off: its port is closed, and so are its connections."""
        server, self._server = self._server, None
        if server is not None:
            server.over.set()
            server.shutdown()
            server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], camera: Camera) -> None:
        super().__init__(address, _Player)
        self.camera = camera
        self.over = threading.Event()

    def handle_error(self, request: object, client_address: object) -> None:
        """The viewer had enough."""


class _Player(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        """Play until it is switched off or the viewer leaves."""
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=picture")
        self.end_headers()
        camera, number, due = self.server.camera, 0, time.monotonic()
        with suppress(OSError):
            while not self.server.over.wait(max(0.0, due - time.monotonic())):
                due = max(due + 1 / camera.rate, time.monotonic() - 1)
                if camera.frozen:
                    continue
                picture = camera.pictures[number % len(camera.pictures)]
                if camera.garbage:
                    camera.garbage -= 1
                    picture = random.randbytes(len(picture))
                head = f"--picture\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
                self.wfile.write(head.encode() + picture + b"\r\n")
                camera.sent += 1
                number += 1

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""
