"""Network streams: real servers on the loopback interface, HTTP and RTSP, well-behaved and not."""

from __future__ import annotations

import base64
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, unquote

import cv2
import numpy as np
import pytest
from cameras import HttpCamera, RtspCamera, need_rtsp
from clips import scenes, without_threads, write_clip
from peers import until

from pipeline.address import kind, redacted
from pipeline.engine import Pipeline
from pipeline.errors import FramechainError, UsageError
from pipeline.frame import Frame
from pipeline.live.supervisor import Reader
from pipeline.source import create_source, open_source
from pipeline.sources.stream import _ALLOWED, NetworkStream

PARTS = 12


class Camera(BaseHTTPRequestHandler):
    """/mjpeg: 12 pictures, 50 ms apart. /stuck: 3, then silence. /private wants a password. /clip.mp4. /text.

    /list.m3u8?ADDRESS: a playlist that names just that. /part.ts: a part for one.
    """

    clip = part = b""
    released = threading.Event()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/private":
            wanted = "Basic " + base64.b64encode(b"admin:s3cret").decode()
            if self.headers.get("Authorization") != wanted:
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="camera"')
                self.end_headers()
                return
        if path in ("/mjpeg", "/stuck", "/private"):
            self._pictures(3 if path == "/stuck" else PARTS)
            if path == "/stuck":
                self.released.wait(30)
        elif path == "/clip.mp4":
            self._file()
        elif path == "/text":
            self._page(b"<html>a camera's login page</html>" * 50)
        elif path == "/part.ts":
            self._page(self.part)
        elif path == "/list.m3u8":
            named = unquote(self.path.partition("?")[2])
            head = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.2,"
            self._page(f"{head}\n{named}\n#EXT-X-ENDLIST\n".encode(), "application/vnd.apple.mpegurl")
        else:
            self.send_error(503 if path == "/broken" else 404)

    def _pictures(self, count: int) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=part")
        self.end_headers()
        for scene in scenes(count):
            picture = cv2.imencode(".jpg", scene)[1].tobytes()
            head = f"--part\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
            self.wfile.write(head.encode() + picture + b"\r\n")
            time.sleep(0.05)  # a camera's own pace, not a wait for something

    def _page(self, page: bytes, kind: str = "text/html") -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def _file(self) -> None:
        start = int(self.headers.get("Range", "bytes=0-").split("=")[1].split("-")[0])
        self.send_response(206 if "Range" in self.headers else 200)
        if "Range" in self.headers:
            self.send_header("Content-Range", f"bytes {start}-{len(self.clip) - 1}/{len(self.clip)}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(self.clip) - start))
        self.end_headers()
        self.wfile.write(self.clip[start:])

    def log_message(self, *args: object) -> None:
        pass

    def handle(self) -> None:
        with suppress(ConnectionError):  # the client had enough
            super().handle()


@pytest.fixture(scope="module")
def camera(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    Camera.clip = write_clip(tmp_path_factory.mktemp("http") / "clip.mp4", frames=30).read_bytes()
    Camera.part = write_clip(tmp_path_factory.mktemp("hls") / "part.ts", frames=30).read_bytes()
    Camera.released.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Camera) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        Camera.released.set()
        server.shutdown()
        thread.join()


def failure(uri: str, **options: object) -> str:
    """The one line that opening or reading ends in."""
    with pytest.raises(FramechainError) as caught, open_source(uri, **options) as source:
        list(source)
    assert not isinstance(caught.value, UsageError)
    assert caught.value.exit_code == 1
    assert "\n" not in str(caught.value)
    assert "s3cret" not in f"{caught.value!r} {caught.value.__cause__}"
    return str(caught.value)


def test_mjpeg_over_http(camera: str) -> None:
    source = NetworkStream(uri=f"http://{camera}/mjpeg")
    info = source.open()
    before = time.time()
    frames: list[Frame] = []
    with pytest.raises(FramechainError, match="broke off"):  # the server hangs up; a camera would not
        frames.extend(iter(source))
    source.close()
    assert (info.width, info.height, info.live, info.frame_count) == (160, 120, True, None)
    assert info.id == camera.replace(":", "-")
    assert [frame.index for frame in frames] == list(range(PARTS))
    for frame, scene in zip(frames, scenes(PARTS), strict=True):
        sent = cv2.imdecode(cv2.imencode(".jpg", scene)[1], cv2.IMREAD_COLOR)
        assert np.abs(frame.image.astype(int) - sent).mean() < 15  # its colour planes are enlarged another way
    times = [frame.timestamp for frame in frames]
    assert times == sorted(times)
    # The pictures carry no times: those of arrival count, not 25 a second.
    assert times[-1] > 0.05 * (PARTS - 3)
    assert before - 2 < frames[0].captured_at <= frames[-1].captured_at <= time.time()


def test_a_file_over_http_is_not_live(camera: str, tmp_path: Path) -> None:
    source = NetworkStream(uri=f"http://{camera}/clip.mp4")
    info = source.open()
    frames = list(source)
    source.close()
    (tmp_path / "clip.mp4").write_bytes(Camera.clip)
    assert (info.live, info.frame_count, info.fps) == (False, 30, 25)
    assert [frame.timestamp for frame in frames] == [index / 25 for index in range(30)]
    for frame, (_, image) in zip(frames, without_threads(tmp_path / "clip.mp4"), strict=True):
        np.testing.assert_array_equal(frame.image, image)


def test_passwords_open_doors_and_stay_secret(camera: str) -> None:
    source = NetworkStream(uri=f"http://admin:s3cret@{camera}/private?token=s3cret&size=2", max_frames=2)
    info = source.open()
    assert len(list(source)) == 2
    source.close()
    assert info.uri == f"http://{camera}/private?token=***&size=2"
    assert info.id == camera.replace(":", "-")
    assert "s3cret" not in repr(info) + repr(source) + str(source)
    assert "user or password" in failure(f"http://admin:s3cret1@{camera}/private")
    assert "user or password" in failure(f"http://{camera}/private")


@pytest.mark.parametrize(
    "text",
    [
        "rtsp://root:s3cret@10.0.0.5/live",
        "rtsp://root:s3@cret/s3cret@10.0.0.5:554/live",
        "http://10.0.0.5/video?user=s3cret&pwd=s3cret&password=s3cret&access_token=s3cret&channel=1",
        "cannot open 'rtsp://root:s3cret@10.0.0.5/live': refused",
        "'rtsp:/root:s3cret@10.0.0.5/live' does not exist",
        "'root:s3cret@10.0.0.5/live' does not exist",
        '"rtsp://root:s3cret@10.0.0.5/live"',
        "rtsp://10.0.0.5/user=admin_password=s3cret_channel=1_stream=0.sdp",
    ],
)
def test_redaction(text: str) -> None:
    assert "s3cret" not in redacted(text)
    assert "10.0.0.5" in redacted(text)


def test_what_the_server_refuses(camera: str) -> None:
    assert "is not found" in failure(f"http://admin:s3cret@{camera}/nothing")
    assert "refused by the server" in failure(f"http://admin:s3cret@{camera}/broken")
    assert "is not video" in failure(f"http://admin:s3cret@{camera}/text")


def test_a_playlist_names_addresses_on_the_network_only(camera: str, tmp_path: Path) -> None:
    with open_source(f"http://{camera}/list.m3u8?http://{camera}/part.ts") as source:
        assert len(list(source)) == 30
    (tmp_path / "part.ts").write_bytes(Camera.part)
    for named in (
        "file:///etc/hostname",
        f"file://{tmp_path}/part.ts",
        f"{tmp_path}/part.ts",
        f"concat:{tmp_path}/part.ts",
        f"subfile,,start,0,end,0,,:{tmp_path}/part.ts",
        f"crypto:file:{tmp_path}/part.ts",
    ):
        assert "/list.m3u8" in failure(f"http://admin:s3cret@{camera}/list.m3u8?{quote(named)}")
    assert "concat" not in _ALLOWED
    assert "file" not in _ALLOWED.replace("subfile", "").split(",")


def test_nobody_there() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
    assert "refuses the connection" in failure(f"rtsp://admin:s3cret@127.0.0.1:{port}/live")
    assert "refuses the connection" in failure(f"http://admin:s3cret@127.0.0.1:{port}/live")
    assert "refuses the connection" in failure(f"HTTP://admin:s3cret@127.0.0.1:{port}/live")
    assert "names a host that is not known here" in failure("rtsp://admin:s3cret@camera.invalid/live")


def test_what_is_no_address() -> None:
    with pytest.raises(UsageError, match=r"^'rtsp://\[::1/live' is no address") as caught:
        open_source("rtsp://admin:s3cret@[::1/live")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("uri", ["rtsp://admin:s3 cret@h/live", "rtsp://admin:s3'cret@h/live", "rtsp://a:s3\tcret@h"])
def test_an_address_in_which_nobody_can_tell_what_is_secret_is_refused(uri: str) -> None:
    with pytest.raises(UsageError, match="holds no blanks and quotes") as caught:
        create_source(uri)
    assert "cret" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["http", "rtsp"])
def test_a_server_that_never_answers(scheme: str) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
        assert "did not begin within 0.5 s" in failure(
            f"{scheme}://admin:s3cret@127.0.0.1:{port}/live", open_timeout=0.5
        )


def test_a_stream_of_few_pictures_is_there_at_the_second_attempt() -> None:
    """Of MPEG-TS FFmpeg wants 20 pictures to tell the rate, ten seconds here."""
    with HttpCamera(rate=2) as camera:
        source = create_source(f"http://127.0.0.1:{camera.port}/ts", open_timeout=3, read_timeout=3)
        pipeline = Pipeline([source], keep_going=True)
        pipeline.start()
        until(lambda: pipeline.metrics.snapshot().frames > 1)
        pipeline.stop()
        pipeline.wait(20)
    assert pipeline.metrics.snapshot().sources[0].captured < 20
    until(lambda: not any(isinstance(thread, Reader) for thread in threading.enumerate()))


def test_a_stream_that_falls_silent(camera: str) -> None:
    with open_source(f"http://{camera}/stuck", read_timeout=0.5) as source:
        frames = []
        with pytest.raises(FramechainError, match=r"sent nothing for 0\.5 s"):
            frames.extend(iter(source))
    with open_source(f"http://{camera}/stuck", read_timeout=0.5, max_frames=2) as source:
        assert len(list(source)) == 2


# --- RTSP ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rtsp() -> Iterator[str]:
    """host:port of a real RTSP server, user admin, password s3cret."""
    need_rtsp()
    with RtspCamera() as server:
        yield f"127.0.0.1:{server.port}"


def test_rtsp(rtsp: str) -> None:
    source = NetworkStream(uri=f"rtsp://admin:s3cret@{rtsp}/live", max_frames=25)
    info = source.open()
    frames = list(source)
    source.close()
    assert (info.width, info.height, info.fps, info.live) == (320, 240, 25, True)
    assert (info.uri, info.id) == (f"rtsp://{rtsp}/live", rtsp.replace(":", "-"))
    assert [frame.timestamp for frame in frames] == pytest.approx([index / 25 for index in range(25)], abs=0.01)
    assert all(frame.image.max() == 255 for frame in frames)  # the ball
    assert any((frame.image != frames[0].image).any() for frame in frames[1:])


def test_rtsp_that_ends(rtsp: str) -> None:
    with open_source(f"rtsp://admin:s3cret@{rtsp}/short", transport="udp", read_timeout=2) as source:
        assert 45 <= len(list(source)) <= 50


def test_rtsp_refusals(rtsp: str) -> None:
    assert "user or password" in failure(f"rtsp://admin:s3cret1@{rtsp}/live")
    assert "user or password" in failure(f"rtsp://{rtsp}/live")
    assert "is not found" in failure(f"rtsp://admin:s3cret@{rtsp}/nothing")


def test_addresses_are_streams_and_paths_are_not() -> None:
    for uri in ("rtsp://a/b", "RTSPS://a", "http://a/b.mp4", "https://a/b.jpg", "udp://@:5000", "srt://a:1"):
        assert kind(uri) == "stream"
