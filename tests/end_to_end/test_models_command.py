"""`framechain models`, and runs that name no weights, as a user meets them."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from command import FRAMECHAIN, complaint, framechain

from pipeline.models import named
from trackers import mot_format
from trackers.evaluate import evaluate


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty of models; which runtimes are fastest is known from the other tests."""
    shared = Path(os.environ["FRAMECHAIN_CACHE"]) / "converted"
    shared.mkdir(exist_ok=True)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "converted").symlink_to(shared)
    monkeypatch.setenv("FRAMECHAIN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "models"


def test_what_ships_and_what_can_be_fetched(tmp_path: Path, cache: Path) -> None:
    listed = {entry["name"]: entry for entry in json.loads(framechain("models", "--json", cwd=tmp_path).stdout)}
    assert listed["nanodet-g"]["bundled"]
    assert listed["nanodet-g"]["there"]
    assert not listed["yolo11n"]["there"]
    shown = framechain("models", cwd=tmp_path).stdout
    assert all(name in shown for name in listed)
    assert str(cache) in shown


def test_get_verify_and_use(tmp_path: Path, cache: Path, data: Path) -> None:
    """A public model whose checksum nobody knows, from a server on this machine, becomes the detector of a run."""
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "net.onnx").write_bytes((data / "weights" / "nanodet_g.onnx").read_bytes())

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Not on the screen."""

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "www"))) as server:
        threading.Thread(target=partial(server.serve_forever, 0.05), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/net.onnx"
        done = framechain("models", "get", "nanodet-plus-m-1.5x", "--from", url, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "no checksum is known; its sha256 is " in done.stdout
        assert "\x1b" not in done.stdout + done.stderr
        line = complaint(framechain("models", "get", "yolox-nano", "--from", url, cwd=tmp_path), 1)
        assert "was not kept" in line
        server.shutdown()
    verified = framechain("models", "verify", cwd=tmp_path)
    assert verified.returncode == 0
    assert "nanodet-g is whole" in verified.stdout
    assert "nanodet-plus-m-1.5x is whole" in verified.stdout
    run = ("run", "test:64x64@10,frames=2", "--weights", "nanodet-plus-m-1.5x", "--no-text")
    used = framechain(*run, cwd=tmp_path)
    assert used.returncode == 0, used.stderr
    assert "bundled" not in used.stderr
    (file,) = cache.glob("*.onnx")
    file.write_bytes(file.read_bytes()[:-1])
    damaged = framechain("models", "verify", cwd=tmp_path)
    assert damaged.returncode == 1
    assert "is damaged" in damaged.stdout
    assert "framechain models get nanodet-plus-m-1.5x" in complaint(framechain(*run, cwd=tmp_path), 1)


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    assert "did you mean 'yolo11n'?" in complaint(framechain("models", "get", "yolo1n", cwd=tmp_path), 2)
    assert "ships with framechain" in complaint(framechain("models", "get", "nanodet-g", cwd=tmp_path), 2)
    nowhere = ("models", "get", "yolox-nano", "--from", "http://127.0.0.1:9/net.onnx")
    assert "127.0.0.1:9" in complaint(framechain(*nowhere, cwd=tmp_path), 1)
    line = complaint(framechain("run", "test:", "--weights", "yolox-nano", cwd=tmp_path), 2)
    assert "framechain models get yolox-nano" in line


def test_a_run_that_names_no_weights_says_what_it_used(tmp_path: Path) -> None:
    arguments = ("run", "test:320x240@25,frames=5", "--no-text")
    done = framechain(*arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    *_, hint = [line for line in done.stderr.splitlines() if line.startswith("framechain: ")]
    assert "bundled nanodet-g" in hint
    assert "--weights yolo11m.pt" in hint
    for more in (("-q",), ("--weights", "nanodet-g")):
        assert "bundled" not in framechain(*arguments, *more, cwd=tmp_path).stderr


def test_bench_needs_no_weights(tmp_path: Path) -> None:
    done = framechain("bench", "test:320x240@25", "--frames", "10", "--rounds", "1", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "detect" in json.loads(done.stdout)["alone"]


def test_the_bundled_detector_reaches_the_accuracy_it_promises(data: Path, tmp_path: Path) -> None:
    """All 795 frames of PETS09-S2L1, default weights and settings, no embedder; judged by TrackEval."""
    video = data / "video" / "vtest.avi"
    done = framechain("run", video, "--classes", "person", "--no-text", "--mot", "out.txt", "-q", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    truth = mot_format.read(data / "mot" / "MOT15" / "PETS09-S2L1" / "gt" / "gt.txt")
    figures, _ = evaluate({"PETS09-S2L1": (truth, mot_format.read(tmp_path / "out.txt"))})
    assert figures.MOTA >= 0.75
    assert figures.IDF1 >= 0.72


def test_a_run_needs_no_network(tmp_path: Path) -> None:
    """In a network namespace of its own, where there is not even a loopback; text is read, too."""
    offline = ["unshare", "--map-root-user", "--net"]
    if subprocess.run([*offline, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system does not let us make a network namespace (unshare --map-root-user --net)")
    arguments = ("run", "test:640x360@25,frames=10", "--video", "out.mp4", "--jsonl", "out.jsonl")
    done = subprocess.run(
        [*offline, *FRAMECHAIN, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.jsonl").read_text().count("\n") == 10
    line = [*offline, *FRAMECHAIN, "models", "get", "yolox-nano"]
    fetched = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert "check the network" in complaint(fetched, 1)
    assert named("yolox-nano").source in fetched.stderr
