"""The video sink: decoded by PyAV, OpenCV and a browser; timing, colours, damage."""

import errno
import json
import logging
import os
import shutil
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from peers import until

from pipeline import encode
from pipeline.encode import Recording
from pipeline.errors import FramechainError, UsageError
from pipeline.frame import Frame
from pipeline.sinks.video import Video
from pipeline.source import SourceInfo

BLUE, GREEN, RED, YELLOW = (200, 40, 40), (40, 180, 40), (40, 40, 210), (40, 200, 220)


def picture(index: int, width: int = 320, height: int = 240) -> NDArray[np.uint8]:
    """Four coloured quarters with a white square that moves: BGR."""
    image = np.empty((height, width, 3), np.uint8)
    across, down = width // 2, height // 2
    image[:down, :across], image[:down, across:] = BLUE, GREEN
    image[down:, :across], image[down:, across:] = RED, YELLOW
    left = index * 4 % (width - 16)
    image[down - 8 : down + 8, left : left + 16] = 255
    return image


def info(source: str = "street", fps: float | None = 30.0) -> SourceInfo:
    return SourceInfo(source, source, 320, 240, fps)


def recorded(path: Path, times: list[float], size: tuple[int, int] = (320, 240), **options: Any) -> None:
    sink = Video(path=path, **options)
    sink.open()
    sink.begin(info())
    for index, timestamp in enumerate(times):
        sink.write(Frame(picture(index, *size), "street", index, timestamp))
    sink.end("street")
    sink.close()


def decoded(path: Path) -> tuple[list[float], list[NDArray[np.uint8]]]:
    with av.open(str(path)) as file:
        frames = list(file.decode(video=0))
    # PyAV before 17 takes every frame for BT.601 unless told
    matrix = "ITU709" if frames and frames[0].height >= 720 else "ITU601"
    images = [frame.reformat(format="bgr24", src_colorspace=matrix).to_ndarray() for frame in frames]
    return [float(frame.time) for frame in frames], images


def boxes(data: bytes) -> list[str]:
    found, at = [], 0
    while at < len(data):
        found.append(data[at + 4 : at + 8].decode())
        at += int.from_bytes(data[at : at + 4], "big")
    assert at == len(data)
    return found


VARIABLE = np.cumsum(np.random.default_rng(7).choice([1 / 60, 1 / 30, 1 / 10, 0.4], 90)).tolist()


def test_variable_timing_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    recorded(path, VARIABLE)
    times, _ = decoded(path)
    assert times == pytest.approx([at - VARIABLE[0] for at in VARIABLE], abs=1e-3)
    with av.open(str(path)) as file:
        assert file.duration / 1e6 == pytest.approx(VARIABLE[-1] - VARIABLE[0] + 1 / 30, abs=2e-3)
        stream = file.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.frames == len(VARIABLE)


def test_index_is_in_front(tmp_path: Path) -> None:
    recorded(tmp_path / "out.mp4", [n / 30 for n in range(40)])
    order = boxes((tmp_path / "out.mp4").read_bytes())
    assert order.index("moov") < order.index("mdat")
    assert "moof" not in order
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


@pytest.mark.parametrize("count", [1, 2, 3, 10, 100])
def test_constant_rate_has_every_frame_and_the_exact_duration(count: int, tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    recorded(path, [5 + n / 25 for n in range(count)])
    times, _ = decoded(path)
    assert times == pytest.approx([n / 25 for n in range(count)], abs=1e-3)
    with av.open(str(path)) as file:
        assert file.duration / 1e6 == pytest.approx((count - 1) / 25 + 1 / 30, abs=2e-3)


@pytest.mark.parametrize("size", [(320, 240), (1280, 720)])
def test_colours_match_in_every_reader(size: tuple[int, int], tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    recorded(path, [n / 30 for n in range(12)], size)
    with av.open(str(path)) as file:
        tags = file.streams.video[0].codec_context
        assert (tags.colorspace, tags.color_primaries, tags.color_trc, tags.color_range) == (
            (1, 1, 1, 1) if size[1] >= 720 else (6, 6, 6, 1)
        )
    reader = cv2.VideoCapture(str(path))
    for index, image in enumerate(decoded(path)[1]):
        assert cv2.PSNR(image, picture(index, *size)) > 35
        # OpenCV 4 takes every video for BT.601
        assert cv2.PSNR(reader.read()[1], picture(index, *size)) > (35 if cv2.__version__ >= "5" else 25)
    assert not reader.read()[0]


def test_canvas_is_written_where_there_is_one(tmp_path: Path) -> None:
    sink = Video(path=tmp_path / "out.mp4")
    sink.open()
    sink.begin(info())
    sink.write(Frame(picture(0), "street", canvas=np.full((240, 320, 3), 90, np.uint8)))
    sink.close()
    assert decoded(tmp_path / "out.mp4")[1][0].mean() == pytest.approx(90, abs=3)


def test_equal_timestamps_stay_apart(tmp_path: Path) -> None:
    recorded(tmp_path / "out.mp4", [0.0, 0.0, 0.0, 0.1, 0.1])
    times, _ = decoded(tmp_path / "out.mp4")
    assert len(times) == 5
    assert all(np.diff(times) > 0)
    assert times == pytest.approx([0.0, 0.0, 0.0, 0.1, 0.1], abs=1e-3)


@pytest.mark.parametrize("size", [(321, 240), (320, 241), (3, 3)])
def test_odd_sizes_grow_to_even_ones(size: tuple[int, int], tmp_path: Path) -> None:
    recorded(tmp_path / "out.mp4", [n / 30 for n in range(5)], (max(size[0], 17), max(size[1], 17)))
    image = decoded(tmp_path / "out.mp4")[1][0]
    height, width = max(size[1], 17), max(size[0], 17)
    assert image.shape == (height + height % 2, width + width % 2, 3)
    assert cv2.PSNR(image[:height, :width], picture(0, width, height)) > 30


def test_a_new_size_is_fitted_into_the_first(tmp_path: Path) -> None:
    sink = Video(path=tmp_path / "out.mp4")
    sink.open()
    sink.begin(info())
    for index, size in enumerate([(320, 240), (640, 240), (100, 240)]):
        sink.write(Frame(np.full((size[1], size[0], 3), 200, np.uint8), "street", index, index / 30))
    sink.close()
    first, wide, tall = decoded(tmp_path / "out.mp4")[1]
    assert first.min() > 190
    assert wide[:50].max() < 20 and wide[70:170].min() > 190 and wide[190:].max() < 20  # noqa: PT018
    assert tall[:, :100].max() < 20 and tall[:, 120:200].min() > 190 and tall[:, 220:].max() < 20  # noqa: PT018


def test_each_source_has_its_own_encoder(tmp_path: Path) -> None:
    sink = Video(path=tmp_path / "{source}.mp4")
    sink.open()
    sink.begin(info("a"))
    sink.begin(info("b", None))
    for index in range(20):
        sink.write(Frame(np.full((64, 64, 3), 50, np.uint8), "a", index, index / 30))
        if index % 2:
            sink.write(Frame(np.full((96, 128, 3), 200, np.uint8), "b", index, index / 30))
    sink.end("a")
    assert len(decoded(tmp_path / "a.mp4")[0]) == 20
    sink.close()
    times, images = decoded(tmp_path / "b.mp4")
    assert times == pytest.approx([n / 15 for n in range(10)], abs=1e-3)
    assert images[0].shape == (96, 128, 3)


def test_the_preset_spares_the_cores_where_they_are_few(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """By the sources' sizes and rates: x264 writes its options into the file, of which ultrafast lacks CABAC."""
    caplog.set_level("INFO", "framechain")
    for cores, told in ((2, b"cabac=0"), (32, b"cabac=1")):
        monkeypatch.setattr("pipeline.sinks.video.available_cores", lambda cores=cores: cores)
        path = tmp_path / f"{cores}.mp4"
        sink = Video(path=path)
        sink.open()
        sink.begin(SourceInfo("wall", "wall", 1920, 1080, 60.0))
        for n in range(6):
            sink.write(Frame(picture(n), "wall", n, n / 60))
        sink.close()
        assert told in path.read_bytes()
    assert [record.getMessage() for record in caplog.records] == [
        "124 megapixels a second are encoded with preset ultrafast, to spare the cores"
    ]


def test_a_second_source_needs_a_second_file(tmp_path: Path) -> None:
    sink = Video(path=tmp_path / "out.mp4")
    sink.open()
    sink.begin(info("a"))
    with pytest.raises(UsageError, match=r"\{source\}"):
        sink.begin(info("b"))


def test_a_source_without_frames_leaves_no_file(tmp_path: Path) -> None:
    (tmp_path / "out.mp4").write_bytes(b"old")
    recorded(tmp_path / "out.mp4", [])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["out.avi", "out", "out.mp4.txt"])
def test_other_containers_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"name it .*\.mp4 instead"):
        Video(path=tmp_path / name)


def test_unwritable_path_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="give a path in a directory that you can write"):
        Video(path=tmp_path / "file" / "out.mp4").open()


def test_without_x264_there_is_a_video_and_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(encode, "_ENCODERS", ("no_such_encoder", "mpeg4"))
    recorded(tmp_path / "out.mp4", VARIABLE)
    times, images = decoded(tmp_path / "out.mp4")
    assert times == pytest.approx([at - VARIABLE[0] for at in VARIABLE], abs=1e-3)
    assert cv2.PSNR(images[0], picture(0)) > 30
    assert "encoded by mpeg4 instead" in caplog.text


NOISE = """
import os, resource, sys
import numpy as np
from pathlib import Path
from pipeline.errors import FramechainError
from pipeline.frame import Frame
from pipeline.sinks.video import Video
from pipeline.source import SourceInfo
path, limit = Path(sys.argv[1]), int(sys.argv[2])
noise = np.random.default_rng(0)
sink = Video(path=path)
sink.open()
sink.begin(SourceInfo("a", "a", 320, 240, 30.0))
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    for index in range(10**9):
        coarse = noise.integers(0, 255, (30, 40, 3), np.uint8)
        sink.write(Frame(coarse.repeat(8, 0).repeat(8, 1), "a", index, index / 30))
except FramechainError as error:
    sink.close()
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
def test_a_full_disk_ends_in_one_line_and_leaves_a_valid_file(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    run = subprocess.run([sys.executable, "-c", NOISE, str(path), "300000"], capture_output=True, text=True, check=True)
    assert run.stdout.startswith(f"cannot write {path}: {os.strerror(errno.EFBIG)}; ")
    assert run.stdout.count("\n") == 1
    assert run.stderr == ""
    times, _ = decoded(path)
    assert len(times) > 30
    assert times == pytest.approx([n / 30 for n in range(len(times))], abs=1e-3)
    boxes(path.read_bytes())
    assert list(tmp_path.iterdir()) == [path]


def test_a_killed_run_leaves_what_plays(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    with subprocess.Popen([sys.executable, "-c", NOISE, str(path), "0"]) as run:
        while not path.exists() or path.stat().st_size < 500_000:
            assert run.poll() is None
        run.kill()
    reader, count = cv2.VideoCapture(str(path)), 0
    while reader.read()[0]:
        count += 1
    assert count > 60


def test_no_room_for_the_second_copy_keeps_the_first(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "out.mp4"
    (tmp_path / ".out.mp4.part").mkdir()  # the copy cannot be made
    recorded(path, [n / 30 for n in range(40)])
    assert len(decoded(path)[0]) == 40
    assert "plays, but stays a fragmented MP4" in caplog.text


def test_a_source_that_ends_does_not_hold_up_the_others_and_an_aborted_run_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copying an hour of video takes long."""
    really, copying, go_on = Recording.put_index_in_front, threading.Event(), threading.Event()

    def slowly(self: Recording, copy: str, unwanted: Callable[[], bool]) -> None:
        copying.set()
        go_on.wait(20)
        really(self, copy, unwanted)

    monkeypatch.setattr(Recording, "put_index_in_front", slowly)
    for aborted in (False, True):
        copying.clear()
        go_on.clear()
        folder = tmp_path / str(aborted)
        sink = Video(path=folder / "{source}.mp4")
        sink.open()
        for source in ("a", "b"):
            sink.begin(info(source))
            for index in range(40):
                sink.write(Frame(picture(index), source, timestamp=index / 30))
        sink.end("a")
        assert copying.wait(20)
        sink.write(Frame(picture(40), "b", timestamp=40 / 30))
        if aborted:
            sink.abort()
        go_on.set()
        sink.close()
        found = {path.name: boxes(path.read_bytes()) for path in folder.iterdir()}
        assert {name: "moof" in kinds for name, kinds in found.items()} == {"a.mp4": aborted, "b.mp4": aborted}
        assert [len(decoded(folder / name)[0]) for name in ("a.mp4", "b.mp4")] == [40, 41]


def test_cameras_files_are_complete_soon_at_the_end_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A service manager kills who takes long; a file that is still fragmented plays."""
    really = Recording.put_index_in_front

    def slowly(self: Recording, copy: str, unwanted: Callable[[], bool]) -> None:
        until(unwanted)
        really(self, copy, unwanted)

    monkeypatch.setattr(Recording, "put_index_in_front", slowly)
    monkeypatch.setattr("pipeline.sinks.video._LIVE_INDEXING", 0.1)
    sink = Video(path=tmp_path / "out.mp4")
    sink.open()
    sink.begin(replace(info(), live=True))
    for index in range(40):
        sink.write(Frame(picture(index), "street", timestamp=index / 30))
    with caplog.at_level(logging.INFO, "framechain"):
        sink.close()
    assert "some files stay fragmented MP4s" in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]
    assert len(decoded(tmp_path / "out.mp4")[0]) == 40


def test_an_unwritable_place_found_late_is_one_line(tmp_path: Path) -> None:
    sink = Video(path=tmp_path / "gone" / "out.mp4")
    sink.open()
    sink.begin(info())
    (tmp_path / "gone").rmdir()
    sink.write(Frame(picture(0), "street"))  # still inside the encoder
    with pytest.raises(FramechainError, match=r"cannot write .*out\.mp4: No such file or directory"):
        sink.close()


def test_one_broken_file_does_not_harm_the_others(tmp_path: Path) -> None:
    sink = Video(path=tmp_path / "{source}" / "out.mp4")
    sink.open()
    for source in ("a", "b", "c"):
        sink.begin(info(source))
        sink.write(Frame(picture(0), source))
    (tmp_path / "b").rmdir()
    with pytest.raises(FramechainError, match=r"b/out\.mp4: No such file or directory"):
        sink.close()
    assert [len(decoded(tmp_path / source / "out.mp4")[0]) for source in ("a", "c")] == [1, 1]


@pytest.mark.parametrize("fps", [None, 0.01, 0.5, 29.97, 1000.0, 90_000.0])
def test_any_claimed_rate_will_do(fps: float | None, tmp_path: Path) -> None:
    sink = Video(path=tmp_path / "out.mp4")
    sink.open()
    sink.begin(info("street", fps))
    for index in range(30):
        sink.write(Frame(picture(index), "street", index, index / 10))
    sink.close()
    assert decoded(tmp_path / "out.mp4")[0] == pytest.approx([n / 10 for n in range(30)], abs=1e-3)


class Browser:
    """Chromium, headless, driven over WebDriver's HTTP protocol."""

    def __init__(self, driver: str, chromium: str, profile: Path) -> None:
        self._process = subprocess.Popen([driver, "--port=0"], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if "started successfully on port" in line:
                port = line.strip().rstrip(".").rsplit(" ", 1)[1]
                self._base = f"http://127.0.0.1:{port}"
                break
        arguments = [
            "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", f"--user-data-dir={profile}",
            "--allow-file-access-from-files", "--autoplay-policy=no-user-gesture-required",
        ]  # fmt: skip
        options = {"binary": chromium, "args": arguments}
        session = self._post("/session", {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}})
        self._base += f"/session/{session['sessionId']}"
        self._post("/timeouts", {"script": 30_000})

    def show(self, page: Path, script: str) -> Any:
        """Open a page and run an asynchronous script; what it gives to its last argument."""
        self._post("/url", {"url": page.as_uri()})
        return self._post("/execute/async", {"script": script, "args": []})

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(
            self._base + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]

    def close(self) -> None:
        with urllib.request.urlopen(urllib.request.Request(self._base, method="DELETE"), timeout=30):
            pass
        self._process.terminate()
        self._process.communicate(timeout=30)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    driver, chromium = shutil.which("chromedriver"), shutil.which("chromium")
    if not driver or not chromium:
        pytest.skip("no chromium or chromedriver; apt-get install chromium chromium-driver")
    started = Browser(driver, chromium, tmp_path / "profile")
    yield started
    started.close()


PLAY = """
const done = arguments[arguments.length - 1];
const video = document.querySelector("video"), canvas = document.createElement("canvas");
video.onerror = () => done({error: video.error.message});
video.onended = () => {
  const ended = video.currentTime;
  video.onseeked = () => {
    [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
    const context = canvas.getContext("2d");
    context.drawImage(video, 0, 0);
    const [w, h] = [video.videoWidth, video.videoHeight];
    const pixel = (x, y) => Array.from(context.getImageData(x * w, y * h, 1, 1).data).slice(0, 3);
    done({width: w, height: h, duration: video.duration, ended: ended,
          pixels: [pixel(.25, .2), pixel(.75, .2), pixel(.25, .8), pixel(.75, .8)]});
  };
  video.currentTime = video.duration / 2;
};
video.play().catch(error => done({error: String(error)}));
"""


@pytest.mark.parametrize("size", [(320, 240), (1280, 720)])
def test_it_plays_in_a_browser(size: tuple[int, int], browser: Browser, tmp_path: Path) -> None:
    times = np.cumsum(np.random.default_rng(3).choice([1 / 60, 1 / 30, 1 / 10], 30)).tolist()
    recorded(tmp_path / "out.mp4", times, size)
    (tmp_path / "page.html").write_text('<!doctype html><video muted src="out.mp4"></video>')
    seen = browser.show(tmp_path / "page.html", PLAY)
    assert "error" not in seen
    assert (seen["width"], seen["height"]) == size
    assert seen["duration"] == pytest.approx(times[-1] - times[0] + 1 / 30, abs=0.01)
    assert seen["ended"] == pytest.approx(seen["duration"], abs=0.05)
    # a confusion of BT.601 with BT.709 moves these colours by 9 on average
    wrong = np.array(seen["pixels"]) - [bgr[::-1] for bgr in (BLUE, GREEN, RED, YELLOW)]
    assert np.abs(wrong).mean() < 4, seen["pixels"]
