"""What tests of runs share."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import cv2
import numpy as np
import pytest
from recording import RATE
from site_of_cameras import Site


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    yield made
    made.held.end()
    made.pipeline.abort()
    made.pipeline.join(20)


@pytest.fixture(scope="session")
def camera() -> Iterator[str]:
    """The address of a camera that gives pictures as long as somebody looks."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            blocks = np.random.default_rng(0).integers(0, 255, (15, 20, 3), np.uint8).repeat(8, 0).repeat(8, 1)
            number, start = 0, time.monotonic()
            try:
                while True:
                    jpeg = cv2.imencode(".jpg", np.roll(blocks, number * 3, 1))[1].tobytes()
                    head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                    self.wfile.write(head.encode() + jpeg + b"\r\n")
                    number += 1
                    time.sleep(max(0.0, start + number / RATE - time.monotonic()))
            except OSError:
                pass

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/cam.mjpg"
    server.shutdown()
    server.server_close()
