"""The window sink on a real X server without a screen (Xvfb), and without any display."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import UsageError
from pipeline.sinks.window import Window

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="about X displays")


@pytest.fixture(scope="module")
def screen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Name of a running X display, and the file that holds what it shows."""
    if not shutil.which("Xvfb"):
        pytest.skip("no Xvfb; apt-get install xvfb")
    folder = tmp_path_factory.mktemp("screen")
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", "1", "-screen", "0", "800x600x24", "-fbdir", str(folder), "-nolisten", "tcp"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert server.stdout is not None
    yield f":{server.stdout.readline().strip()}", folder / "Xvfb_screen0"
    server.terminate()
    server.wait(timeout=30)


SHOW = """
import sys, threading, time
import numpy as np
from pipeline.frame import Frame
from pipeline.sink import StopRun
from pipeline.sinks.window import Window

def show():  # the engine runs every sink in a thread of its own
    sink = Window()
    sink.open()
    canvas = np.full((240, 320, 3), (30, 90, 210), np.uint8)
    deadline = time.monotonic() + 120
    try:
        for index in range(10**9):
            sink.write(Frame(np.zeros_like(canvas), "street", index, index / 30, canvas=canvas))
            if index == 100:
                print("showing", flush=True)
            if time.monotonic() > deadline:
                raise SystemExit("nobody pressed q")
    except StopRun:
        sink.write(Frame(canvas, "street"))
        sink.end("street")
        sink.close()
        print("stopped")

thread = threading.Thread(target=show)
thread.start()
thread.join()
"""


def colours(screen: Path) -> np.ndarray:
    """(N, 3) RGB of what is on the screen: an X window dump, whose header gives its own size."""
    data = screen.read_bytes()
    header = np.frombuffer(data[:100], ">u4")
    start = int(header[0]) + 12 * int(header[19])
    return np.frombuffer(data[start : start + 800 * 600 * 4], np.uint8).reshape(-1, 4)[:, 2::-1]


@pytest.mark.parametrize("key", ["q", "Escape"])
def test_it_shows_the_canvas_until_a_key_is_pressed(
    key: str, screen: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not shutil.which("xdotool"):
        pytest.skip("no xdotool; apt-get install xdotool")
    display, dump = screen
    monkeypatch.setenv("DISPLAY", display)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", SHOW], text=True, **pipes) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        while run.stdout.readline() != "showing\n":
            assert run.poll() is None
        while not ((colours(dump) == (210, 90, 30)).all(axis=1).sum() > 30_000):
            assert run.poll() is None
        subprocess.run(["xdotool", "search", "--name", "street", "windowfocus", "--sync", "key", key], check=True)
        assert run.stdout.read() == "stopped\n"
        assert run.stderr.read() == ""
    assert run.returncode == 0


def test_no_display_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(UsageError, match="no display; drop --show or set DISPLAY"):
        Window().open()


def test_a_dead_display_is_a_line_and_not_an_abort(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":987")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(UsageError, match="drop --show"):
        Window().open()
