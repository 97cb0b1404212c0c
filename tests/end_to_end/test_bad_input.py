"""Every mistake a user can make gets one clear line and the right exit code, and costs nothing that was there."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from command import FRAMECHAIN, complaint, framechain


@pytest.fixture
def nanodet(data: Path) -> str:
    return str(data / "weights" / "nanodet_g.onnx")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("absent.mp4", r"absent.mp4"),
        ("empty.mp4", "empty"),
        ("text.mp4", "not a video|no video"),
        ("folder", "image"),
        ("99", "webcam|camera"),
        ("*.jpg", "jpg"),
        ("test:0x0", "test:"),
        ("gopher://host/x", "gopher"),
    ],
)
def test_a_source_that_is_none(source: str, said: str, nanodet: str, tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("this is not a video\n" * 100)
    (tmp_path / "folder").mkdir()
    line = complaint(framechain("run", source, "--weights", nanodet, cwd=tmp_path), 2)
    assert any(word in line for word in said.split("|")), line


def test_an_address_that_refuses_is_a_failed_run_and_tells_no_password(nanodet: str, tmp_path: Path) -> None:
    done = framechain("run", "rtsp://me:hunter2@127.0.0.1:9/cam", "--weights", nanodet, cwd=tmp_path)
    line = complaint(done, 1)
    assert "127.0.0.1:9" in line
    assert "hunter2" not in done.stderr + done.stdout


@pytest.mark.parametrize(
    ("weights", "said"),
    [("absent.onnx", "absent.onnx"), ("text.onnx", "text.onnx"), ("empty.pt", "empty.pt"), ("folder", "folder")],
)
def test_weights_that_are_none(weights: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("not a model")
    (tmp_path / "empty.pt").touch()
    (tmp_path / "folder").mkdir()
    line = complaint(framechain("run", "test:64x64@10,frames=2", "--weights", weights, cwd=tmp_path), 2)
    assert said in line


def test_an_embedder_is_no_detector(data: Path, tmp_path: Path) -> None:
    embedder = data / "weights" / "osnet_x0_25_msmt17.onnx"
    line = complaint(framechain("run", "test:64x64@10,frames=2", "--weights", embedder, cwd=tmp_path), 2)
    assert "osnet" in line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "no source"),
        (("test:", "--weights", "nanodet-h"), "did you mean 'nanodet-g'?"),
        (("test:", "--classes", "persn", "--weights", "NANODET"), "did you mean 'person'?"),
        (("test:", "--confidence", "2", "--weights", "NANODET"), "confidence"),
        (("test:", "--tracker", "deepsrt", "--weights", "NANODET"), "did you mean 'deepsort'?"),
        (("test:", "--mot", "/proc/no/out.txt", "--weights", "NANODET"), "cannot write"),
        (("test:", "--report", "/proc/no/out.json", "--weights", "NANODET"), "cannot write"),
        (("test:", "--mot", "a", "--csv", "a", "--weights", "NANODET"), "both write a"),
        (("test:", "--device", "cuda:7", "--weights", "NANODET"), "cuda:7"),
        (("test:", "--no-such-flag"), "--no-such-flag"),
        (("test:", "--config", "absent.yaml"), "absent.yaml"),
        (("test:", "--batch", "0", "--weights", "NANODET"), "--batch"),
    ],
)
def test_a_command_that_makes_no_sense(arguments: tuple[str, ...], said: str, nanodet: str, tmp_path: Path) -> None:
    given = [nanodet if argument == "NANODET" else argument for argument in arguments]
    assert said in complaint(framechain("run", *given, cwd=tmp_path), 2)


def test_a_run_that_cannot_start_leaves_old_results_alone(nanodet: str, tmp_path: Path) -> None:
    (tmp_path / "old.jsonl").write_text("precious\n")
    complaint(framechain("run", "absent.mp4", "--weights", nanodet, "--jsonl", "old.jsonl", cwd=tmp_path), 2)
    complaint(framechain("run", "test:", "--weights", "absent.onnx", "--jsonl", "old.jsonl", cwd=tmp_path), 2)
    assert (tmp_path / "old.jsonl").read_text() == "precious\n"


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    done = framechain("run", "absent.mp4", "--weights", "absent.onnx", "--debug", cwd=tmp_path)
    assert "Traceback" in done.stderr
    assert done.returncode != 0


def test_a_full_disk_ends_the_run_in_one_line_and_keeps_what_was_written(nanodet: str, tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk: writes fail in the same place, with EFBIG."""
    limited = f"ulimit -f 64; exec {' '.join(FRAMECHAIN)} run test:640x360@25,frames=4000 --weights {nanodet}"
    done = subprocess.run(
        ["bash", "-c", f"trap '' XFSZ; {limited} --no-text --confidence 0.01 --jsonl a.jsonl --quiet"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    line = complaint(done, 1)
    assert "a.jsonl" in line
    text = (tmp_path / "a.jsonl").read_bytes()
    assert text.endswith(b"\n")
    assert 1000 < len(text) <= 64 * 1024


def test_a_truncated_video_is_processed_up_to_the_damage(data: Path, nanodet: str, tmp_path: Path) -> None:
    whole = (data / "video" / "vtest.avi").read_bytes()
    (tmp_path / "cut.avi").write_bytes(whole[: len(whole) // 20])
    done = framechain("run", "cut.avi", "--weights", nanodet, "--mot", "a.txt", "--report", "a.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.txt").stat().st_size
    assert "dropped" in done.stdout


def test_an_unknown_command_is_one_line_and_none_is_the_help(tmp_path: Path) -> None:
    assert "Did you mean 'run'?" in complaint(framechain("rnu", cwd=tmp_path), 2)
    bare = framechain(cwd=tmp_path)
    assert "Usage" in bare.stdout
    assert bare.stderr == ""


def test_no_output_overwrites_what_the_run_reads(nanodet: str, tmp_path: Path) -> None:
    (tmp_path / "in.avi").write_bytes(b"precious")
    (tmp_path / "net.onnx").write_bytes(Path(nanodet).read_bytes())
    (tmp_path / "c.yaml").write_text("stages: [annotate]\n")
    for arguments in (
        ("in.avi", "--weights", nanodet, "--report", "in.avi"),
        ("test:", "--weights", "net.onnx", "--jsonl", "net.onnx"),
        ("test:", "--config", "c.yaml", "--report", "c.yaml"),
    ):
        assert "would overwrite" in complaint(framechain("run", *arguments, cwd=tmp_path), 2)
    both = ("test:", "--weights", nanodet, "--jsonl", "same", "--report", "same")
    assert "both write same" in complaint(framechain("run", *both, cwd=tmp_path), 2)
    assert (tmp_path / "in.avi").read_bytes() == b"precious"


def test_the_hint_names_the_whole_command(tmp_path: Path) -> None:
    line = complaint(framechain("train", "embedder", "people", "--epochs", "0", cwd=tmp_path), 2)
    assert "framechain train embedder --help" in line
    line = complaint(framechain("eval", "--what", cwd=tmp_path), 2)
    assert "framechain eval --help" in line


def test_reports_never_overwrite_what_is_measured(tmp_path: Path) -> None:
    for name in ("my.onnx", "data.yaml", "gt.txt", "a.mp4"):
        (tmp_path / name).write_text("precious")
    for arguments, said in (
        (("detector", "data.yaml", "--weights", "my.onnx", "--json", "my.onnx"), "would overwrite the input my.onnx"),
        (("detector", "data.yaml", "--plot", "./data.yaml"), "would overwrite the input data.yaml"),
        (("embedder", "a.mp4=gt.txt", "--json", "gt.txt"), "would overwrite the input gt.txt"),
        (("tracker", "a.mp4=gt.txt", "--json", "a.mp4"), "would overwrite the input a.mp4"),
        (("detector", "data.yaml", "--json", "x", "--plot", "x"), "both write x"),
    ):
        assert said in complaint(framechain("eval", *arguments, cwd=tmp_path), 2)
    assert {path.read_text() for path in tmp_path.iterdir()} == {"precious"}
