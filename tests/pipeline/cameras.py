"""Cameras for the tests: real servers on the loopback interface, and every fault of theirs on demand."""

from __future__ import annotations

import base64
import os
import random
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from typing_extensions import Self

SYSTEM_PYTHON = "/usr/bin/python3"
_HOUR = 3600
_AT_ONCE = {
    "libx264": {"tune": "zerolatency", "preset": "ultrafast"},
    "libx265": {"tune": "zerolatency", "preset": "ultrafast", "x265-params": "log-level=none"},
}
"""Encoders' options, so that none keeps pictures back."""


def need_rtsp() -> None:
    """Skip the test where there is no RTSP server."""
    needs = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer, Gst; "
    needs += "Gst.init(None); assert Gst.ElementFactory.find('x264enc')"
    found = Path(SYSTEM_PYTHON).exists()
    if not found or subprocess.run([SYSTEM_PYTHON, "-c", needs], capture_output=True, check=False).returncode:
        pytest.skip("no RTSP server: apt-get install gir1.2-gst-rtsp-server-1.0 python3-gi gstreamer1.0-plugins-ugly")


class RtspCamera:
    """An RTSP server in a process of its own; user admin, password s3cret.

    Attributes:
        codec: h264, h265 or jpeg; as it is switched on.
    """

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self.codec = "h264"
        self.start()

    def start(self) -> None:
        """Switch it on; returns once it answers. It keeps its port."""
        script = Path(__file__).with_name("rtsp_server.py")
        command = [SYSTEM_PYTHON, str(script), "admin", "s3cret", str(self.port), self.codec]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def kill(self) -> None:
        """Pull its plug."""
        self._process.kill()
        self._process.communicate()

    def freeze(self) -> None:
        """It hangs, with all connections open."""
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """It works again."""
        os.kill(self._process.pid, signal.SIGCONT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._process.poll() is None:
            self.kill()


class HttpCamera(ThreadingHTTPServer):
    """/mjpeg and /ts (H.264): picture n of a connection is grey of level 20 + n % 200; user and password as given.

    Attributes:
        rate: pictures a second. size: of the pictures. codec: of /ts. They may be changed at any time.
        every: of /mjpeg, pictures after which the size changes to and fro; 0: never.
        garbage: pictures to send as noise. back_an_hour: of /ts, the clock jumps. frozen: nothing is sent.
        asked: connections. sent: pictures.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, rate: float = 25, port: int = 0, password: str = "") -> None:
        super().__init__(("127.0.0.1", port), _Answer)
        self.rate, self.password = rate, password
        self.size, self.codec = (64, 48), "libx264"
        self.garbage = self.every = 0
        self.back_an_hour = self.frozen = self.ended = False
        self.asked = self.sent = 0
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.server_port

    def numbers(self) -> Iterator[int]:
        """The numbers of a connection's pictures, when they are due."""
        number, due = 0, time.monotonic()
        while not self.ended:
            time.sleep(max(0.0, due - time.monotonic()))  # a camera's own pace, not a wait for something
            due += 1 / self.rate
            if not self.frozen:
                self.sent += 1
                yield number
                number += 1

    def __exit__(self, *exc: object) -> None:
        self.ended = True
        self.shutdown()
        super().__exit__(*exc)

    def handle_error(self, request: object, client_address: object) -> None:
        """The client had enough."""


class _Answer(BaseHTTPRequestHandler):
    server: HttpCamera

    def do_GET(self) -> None:
        self.server.asked += 1
        wanted = "Basic " + base64.b64encode(f"admin:{self.server.password}".encode()).decode()
        if self.server.password and self.headers.get("Authorization") != wanted:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="camera"')
            self.end_headers()
            return
        answers = {"/mjpeg": self._pictures, "/ts": self._transport_stream}
        with suppress(OSError):
            answers.get(self.path, lambda: self.send_error(404))()

    def _pictures(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=part")
        self.end_headers()
        for number in self.server.numbers():
            if self.server.garbage:
                self.server.garbage -= 1
                self.wfile.write(np.random.default_rng(number).bytes(4000))
                continue
            width, height = self.server.size
            if self.server.every and number // self.server.every % 2:
                width, height = 2 * width, 2 * height
            picture = cv2.imencode(".jpg", grey(number, (width, height)))[1].tobytes()
            head = f"--part\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
            self.wfile.write(head.encode() + picture + b"\r\n")

    def _transport_stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "video/mp2t")
        self.end_headers()
        numbers, clock = self.server.numbers(), 2.0 * _HOUR
        while not self.server.ended:
            codec, size = self.server.codec, self.server.size
            with av.open(_Output(self.wfile), "w", format="mpegts") as container:
                stream = container.add_stream(codec, rate=25, options=_AT_ONCE.get(codec, {}))
                stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
                stream.codec_context.time_base = Fraction(1, 1000)
                for number in numbers:
                    clock += 1 / self.server.rate
                    picture = av.VideoFrame.from_ndarray(grey(number, size), format="bgr24")
                    picture.pts, picture.time_base = round(1000 * clock), Fraction(1, 1000)
                    for packet in stream.encode(picture):
                        container.mux(packet)
                    if self.server.back_an_hour or (codec, size) != (self.server.codec, self.server.size):
                        clock -= _HOUR * self.server.back_an_hour
                        self.server.back_an_hour = False
                        break

    def log_message(self, *args: object) -> None:
        pass


class _Output:
    """A socket as PyAV wants it: it can be written to, and nothing else."""

    def __init__(self, file: object) -> None:
        self.write = file.write  # type: ignore[attr-defined]


def grey(number: int, size: tuple[int, int]) -> np.ndarray:
    return np.full((size[1], size[0], 3), 20 + number % 200, np.uint8)


class LossyRelay:
    """Between an RTSP camera and its viewer: the talk passes whole, of the RTP packets by UDP only a part.

    Attributes:
        port: to connect to. loss: share of the packets that it loses.
    """

    def __init__(self, target: int, loss: float = 0.0) -> None:
        self.loss = loss
        self.lost = 0
        self._target = target
        self._random = random.Random(0)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._media = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
        for one in self._media:
            one.bind(("127.0.0.1", 0))
        self._viewer = (0, 0)
        threading.Thread(target=self._accept, daemon=True).start()
        for n in range(2):
            threading.Thread(target=self._pass_on, args=(n,), daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for one in (self._server, *self._media):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                viewer = self._server.accept()[0]
                try:
                    camera = socket.create_connection(("127.0.0.1", self._target))
                except ConnectionRefusedError:
                    viewer.close()
                    continue
                threading.Thread(target=self._talk, args=(viewer, camera, self._asked), daemon=True).start()
                threading.Thread(target=self._talk, args=(camera, viewer, self._answered), daemon=True).start()

    def _talk(self, source: socket.socket, sink: socket.socket, changed: object) -> None:
        with suppress(OSError), source, sink:
            while data := source.recv(65536):
                sink.sendall(changed(data))  # type: ignore[operator]

    def _asked(self, data: bytes) -> bytes:
        if found := re.search(rb"client_port=(\d+)-(\d+)", data):
            self._viewer = (int(found[1]), int(found[2]))
            mine = "client_port={}-{}".format(*(one.getsockname()[1] for one in self._media))
            data = data.replace(found[0], mine.encode())
        return data

    def _answered(self, data: bytes) -> bytes:
        return re.sub(rb"client_port=\d+-\d+", b"client_port=%d-%d" % self._viewer, data)

    def _pass_on(self, n: int) -> None:
        with suppress(OSError):
            while True:
                packet = self._media[n].recv(65536)
                if n == 0 and self._random.random() < self.loss:
                    self.lost += 1
                elif self._viewer[n]:
                    self._media[n].sendto(packet, ("127.0.0.1", self._viewer[n]))
