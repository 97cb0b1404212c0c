"""Real peers for sinks: Mosquitto, an HTTP server that answers as it is told, a small disk."""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest


def until(condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    """Wait for a condition; what it gave."""
    deadline = time.monotonic() + seconds
    while not (seen := condition()):
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.005)
    return seen


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1, signed by itself, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl; apt-get install openssl")
    cert, key = folder / "cert.pem", folder / "key.pem"
    names = ("-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *names]
    subprocess.run([*command, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    return cert, key


@contextmanager
def small_disk(folder: Path, mebibytes: int = 1) -> Iterator[Path]:
    """A disk of its own at `folder`."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(folder)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no small disk can be mounted here; that takes root on Linux")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Leave no byte free; deleting what is returned frees them again."""
    path = folder / "hog"
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    with suppress(OSError):
        while os.write(file, bytes(4096)):
            pass
    os.close(file)
    return path


class Broker:
    """Mosquitto on a port of its own; stopping and starting keeps the port."""

    def __init__(self, folder: Path, *lines: str) -> None:
        found = shutil.which("mosquitto") or shutil.which("/usr/sbin/mosquitto")
        if found is None:
            pytest.skip("no mosquitto; apt-get install mosquitto")
        self._program, self.port = found, free_port()
        self._config = folder / "mosquitto.conf"
        settings = lines or ("allow_anonymous true",)
        self._config.write_text("\n".join((f"listener {self.port} 127.0.0.1", *settings, "user root\n")))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen([self._program, "-c", str(self._config)], stdout=quiet, stderr=quiet)
        until(lambda: answers(self.port))

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None


class Subscriber:
    """Collects (topic, message as parsed JSON) from a broker, over its restarts.

    With `session` the broker keeps for it what it missed, if it is told to keep anything.
    """

    def __init__(self, port: int, topic: str = "#", session: str = "") -> None:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        self.seen: list[tuple[str, Any]] = []
        self.subscribed = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2, client_id=session, clean_session=not session)
        self._client.reconnect_delay_set(0.05, 0.05)
        self._client.on_connect = lambda client, *_: client.subscribe(topic, qos=1)
        self._client.on_subscribe = lambda *_: self.subscribed.set()
        self._client.on_disconnect = lambda *_: self.subscribed.clear()
        self._client.on_message = lambda client, data, message: self.seen.append(
            (message.topic, json.loads(message.payload))
        )
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert self.subscribed.wait(20)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


class Server:
    """An HTTP server on a port of its own; `answer(lines)` gives the status of a request, 0 to hang up instead."""

    def __init__(self, answer: Callable[[list[Any]], int] = lambda lines: 200) -> None:
        self.port = free_port()
        self.answer = answer
        self.seen: list[Any] = []
        self.headers: list[dict[str, str]] = []
        self.connections = 0
        self._server: ThreadingHTTPServer | None = None

    def start(self, tls: tuple[Path, Path] | None = None) -> None:
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                owner.connections += 1
                owner._open.add(self.connection)

            def do_POST(self) -> None:
                lines = [json.loads(line) for line in self.rfile.read(int(self.headers["Content-Length"])).splitlines()]
                status = owner.answer(lines)
                if not status:
                    self.close_connection = True
                    return
                owner.headers.append({"path": self.path, **dict(self.headers.items())})
                if status < 300:
                    owner.seen += lines
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._open: set[socket.socket] = set()
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def hang_up(self) -> None:
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self.hang_up()
            self._server = None
