"""A live HLS camera for the tests: a playlist whose window slides over segments that are made as time goes on."""

from __future__ import annotations

import io
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import av
from cameras import grey
from typing_extensions import Self

_CLOCK = 7200.0
"""Seconds that the stream's clock shows at the start."""


@dataclass(frozen=True)
class Segment:
    """A piece of the stream.

    Attributes:
        broken: whether its clock or size does not follow from the one before.
    """

    number: int
    content: bytes
    broken: bool


class HlsCamera:
    """/live.m3u8 on a port of its own; picture n is grey of level 20 + n % 200. It goes on while it is unplugged.

    Attributes:
        size: of the pictures; back_an_hour: the clock jumps; both with the next segment, which is marked then.
        growing: whether new segments are listed. missing: numbers of listed segments that are answered with 404.
        entries: lines that stand in the playlist in place of segments. over: whether the stream has ended.
        late: seconds by which a segment was listed after its time, at most.
        asked: times that the playlist was asked for. fetched: numbers of the segments that were.
    """

    def __init__(self, seconds: float = 1.0, rate: int = 25, window: int = 4) -> None:
        self.seconds, self.rate, self.window = seconds, rate, window
        self.size = (64, 48)
        self.back_an_hour = self.over = False
        self.growing = True
        self.missing: set[int] = set()
        self.entries: list[str] | None = None
        self.late = 0.0
        self.asked = 0
        self.fetched: list[int] = []
        self.segments: list[Segment] = []
        self._gone = 0  # segments that have left the window, and those of them that were marked
        self._marks = 0
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._server: ThreadingHTTPServer | None = None
        self.port = 0
        self._encoder = threading.Thread(target=self._encode, daemon=True)
        self._encoder.start()
        self.start()

    def start(self) -> None:
        """Plug it in, on the port that it had."""
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), _answers(self))
        self._server.daemon_threads = True
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def kill(self) -> None:
        """Pull its plug; nothing is heard of it on open connections either."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        for connection in list(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def playlist(self) -> bytes:
        """As it is now."""
        with self._lock:
            listed, gone, marks = list(self.segments), self._gone, self._marks
        lines = ["#EXTM3U", "#EXT-X-VERSION:3", f"#EXT-X-TARGETDURATION:{max(1, round(self.seconds))}"]
        lines += [f"#EXT-X-MEDIA-SEQUENCE:{gone}", f"#EXT-X-DISCONTINUITY-SEQUENCE:{marks}"]
        for segment in listed:
            lines += ["#EXT-X-DISCONTINUITY"] * segment.broken
            lines += [f"#EXTINF:{self.seconds:.3f},", f"{segment.number}.ts"]
        if self.entries is not None:
            lines = lines[:4] + [f"#EXTINF:{self.seconds:.3f},\n{entry}" for entry in self.entries]
        return "\n".join([*lines, *["#EXT-X-ENDLIST"] * self.over, ""]).encode()

    def content(self, number: int) -> bytes | None:
        """Of a segment that is there."""
        with self._lock:
            return next((one.content for one in self.segments if one.number == number), None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        self._encoder.join()
        self.kill()

    def _encode(self) -> None:
        """Make segments: those of a full window at once, as of a camera that has been on for a while."""
        count = round(self.seconds * self.rate)
        number, clock, size = 0, _CLOCK, self.size
        due = time.monotonic() - self.window * self.seconds
        while not self._ended.is_set():
            broken, size = size != self.size or self.back_an_hour, self.size
            clock, self.back_an_hour = clock - 3600 * self.back_an_hour, False
            content = self._segment(number * count, count, clock)
            clock += self.seconds
            due += self.seconds
            if self._ended.wait(due - time.monotonic()):  # a camera's own pace, not a wait for something
                return
            while not self.growing or self.over:
                if self._ended.wait(0.02):
                    return
                due = time.monotonic()
            self.late = max(self.late, time.monotonic() - due)
            with self._lock:
                self.segments.append(Segment(number, content, broken))
                if len(self.segments) > self.window:
                    self._marks += self.segments.pop(0).broken
                    self._gone += 1
            number += 1

    def _segment(self, first: int, count: int, clock: float) -> bytes:
        file = io.BytesIO()
        with av.open(file, "w", format="mpegts") as container:
            stream = container.add_stream(
                "libx264", rate=self.rate, options={"tune": "zerolatency", "preset": "ultrafast"}
            )
            stream.width, stream.height, stream.pix_fmt = *self.size, "yuv420p"
            stream.codec_context.time_base = Fraction(1, 90000)
            for n in range(count):
                picture = av.VideoFrame.from_ndarray(grey(first + n, self.size), format="bgr24")
                picture.pts, picture.time_base = round(90000 * (clock + n / self.rate)), Fraction(1, 90000)
                container.mux(stream.encode(picture))
            container.mux(stream.encode())
        return file.getvalue()


def _answers(camera: HlsCamera) -> type[BaseHTTPRequestHandler]:
    class Answer(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            camera._connections.add(self.connection)

        def finish(self) -> None:
            camera._connections.discard(self.connection)
            with suppress(OSError):
                super().finish()

        def handle(self) -> None:
            with suppress(OSError):  # the client had enough, or the plug was pulled
                super().handle()

        def do_GET(self) -> None:
            if self.path == "/live.m3u8":
                camera.asked += 1
                self._page(camera.playlist(), "application/vnd.apple.mpegurl")
                return
            stem = self.path.strip("/").removesuffix(".ts")
            number = int(stem) if stem.isdecimal() else -1
            content = None if number in camera.missing else camera.content(number)
            if content is None:
                self.send_error(404)
                return
            camera.fetched.append(number)
            self._page(content, "video/mp2t")

        def _page(self, page: bytes, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Answer
