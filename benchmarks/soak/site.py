"""The site: cameras, a peer that takes messages, and what befalls them."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2

from benchmarks.soak.camera import Camera
from tests.pipeline.cameras import RtspCamera

RATE = 5.0
"""Pictures a second of the cameras over HTTP; those over RTSP give 25, of which every fifth is taken."""

_QUIET, _FAULT = (8.0, 40.0), (0.5, 12.0)
"""Seconds between two faults of a camera, and that one lasts: from, to."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What befell whom, when and for how long, in seconds since the beginning."""

    at: float
    seconds: float
    who: str
    what: str


class Site:
    """Four cameras and a peer.

    Args:
        folder: for what has to be made. seed: of all that is left to chance.

    Attributes:
        faults: so far, in order of their beginning.
        peer: who takes the messages.
    """

    def __init__(self, folder: Path, seed: int = 0) -> None:
        large, small = _pictures(folder)
        self.faults: list[Fault] = []
        self.peer = Peer()
        self.street, self.corner = Camera(large, RATE), Camera(large, RATE)
        self.yard, self.gate = RtspCamera(), RtspCamera()
        self._began = time.monotonic()
        self._over = threading.Event()
        corner, gate = self.corner, self.gate
        self._rooms = {
            "corner": {
                "killed": (corner.stop, corner.start),
                "frozen": (lambda: setattr(corner, "frozen", True), lambda: setattr(corner, "frozen", False)),
                "garbage": (lambda: setattr(corner, "garbage", 8), lambda: None),
                "other size": (lambda: setattr(corner, "pictures", small), lambda: setattr(corner, "pictures", large)),
                "four times as fast": (
                    lambda: setattr(corner, "rate", 4 * RATE),
                    lambda: setattr(corner, "rate", RATE),
                ),
            },
            "gate": {"killed": (gate.kill, gate.start), "frozen": (gate.freeze, gate.thaw)},
            "peer": {"away": (self.peer.stop, self.peer.start)},
        }
        self._threads = [
            threading.Thread(target=self._befall, args=(who, random.Random(f"{seed} {who}")), daemon=True)
            for who in self._rooms
        ]

    @property
    def sources(self) -> list[dict[str, object]]:
        """Of the chain's configuration."""
        patience = {"read_timeout": 3, "open_timeout": 5}
        chosen = [("street", self.street.uri, 1), ("corner", self.corner.uri, 1)]
        for name, camera in (("yard", self.yard), ("gate", self.gate)):
            chosen.append((name, f"rtsp://admin:s3cret@127.0.0.1:{camera.port}/live", 5))
        return [{"uri": uri, "id": name, "every": every, **patience} for name, uri, every in chosen]

    def begin(self) -> None:
        """Let faults begin."""
        self._began = time.monotonic()
        for thread in self._threads:
            thread.start()

    def settle(self) -> None:
        """No more faults; returns when everything works again."""
        self._over.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def close(self) -> None:
        """Switch everything off."""
        self.settle()
        for camera in (self.street, self.corner):
            camera.stop()
        for rtsp in (self.yard, self.gate):
            rtsp.__exit__()
        self.peer.stop()

    def _befall(self, who: str, chance: random.Random) -> None:
        faults: dict[str, tuple[Callable[[], None], Callable[[], None]]] = self._rooms[who]
        while not self._over.wait(chance.uniform(*_QUIET)):
            what, seconds = chance.choice(list(faults)), chance.uniform(*_FAULT)
            begin, end = faults[what]
            self.faults.append(Fault(time.monotonic() - self._began, seconds, who, what))
            begin()
            self._over.wait(seconds)
            end()


class Peer:
    """A server that takes messages at /, and remembers which frames it had.

    Attributes:
        frames: (source, index) of each message, once.
        repeated: messages that came again.
    """

    def __init__(self) -> None:
        self.frames: set[tuple[str, int]] = set()
        self.repeated = 0
        self._port = 0
        self._server: ThreadingHTTPServer | None = None
        self.start()

    @property
    def url(self) -> str:
        """Where it listens; the same after a restart."""
        return f"http://127.0.0.1:{self._port}/frames"

    def start(self) -> None:
        """Listen."""
        peer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                for line in self.rfile.read(int(self.headers["Content-Length"])).splitlines():
                    message = json.loads(line)
                    frame = message["source"], message["frame"]
                    peer.repeated += frame in peer.frames
                    peer.frames.add(frame)
                self.send_response(204)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        ThreadingHTTPServer.allow_reuse_address = True
        server = self._server = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        self._port = server.server_port
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """Be away."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()


def _pictures(folder: Path) -> tuple[list[bytes], list[bytes]]:
    """The street scene of samples/ as JPEG pictures, at 640×360 and at half of that."""
    video = folder / "street.mp4"
    script = Path(__file__).parents[2] / "samples/render_street.py"
    subprocess.run([sys.executable, script, video, "--size", "640x360"], check=True, stdout=subprocess.DEVNULL)
    capture = cv2.VideoCapture(str(video))
    step = max(1, round(capture.get(cv2.CAP_PROP_FPS) / RATE))
    pictures = []
    while (read := capture.read())[0]:
        pictures.append(read[1])
    capture.release()
    large = pictures[::step]
    return [_jpeg(one) for one in large], [_jpeg(cv2.resize(one, None, fx=0.5, fy=0.5)) for one in large]


def _jpeg(picture: cv2.typing.MatLike) -> bytes:
    return cv2.imencode(".jpg", picture)[1].tobytes()
