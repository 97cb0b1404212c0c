"""Standard input: real pipes into a real process."""

import json
import os
import signal
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from clips import scenes, without_threads, write_clip
from peers import until

HERE = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}

READER = """
import json, sys, zlib
from pipeline.errors import FramechainError
from pipeline.sources.stdin import StandardInput
source = StandardInput(uri="-", **json.loads(sys.argv[1]))
try:
    info = source.open()
    frames = [(f.index, f.timestamp, zlib.crc32(f.image)) for f in source]
    print(json.dumps([info.width, info.height, info.fps, info.live, dict(source.dropped), frames]))
except FramechainError as error:
    print(f"{type(error).__name__}: {error}")
"""


def read(piped: bytes, cwd: Path | None = None, **options: object) -> str:
    command = [sys.executable, "-c", READER, json.dumps(options)]
    done = subprocess.run(command, input=piped, capture_output=True, check=True, timeout=60, cwd=cwd)
    assert done.stderr == b""
    return done.stdout.decode().strip()


def checksums(path: Path) -> list[int]:
    return [zlib.crc32(np.ascontiguousarray(image)) for _, image in without_threads(path)]


@pytest.mark.parametrize("name", ["a.ts", "a.mkv", "a.avi", "faststart.mp4"])
def test_containers_are_recognised(tmp_path: Path, name: str) -> None:
    path = write_clip(tmp_path / name, frames=12, container_options={"movflags": "faststart"} if "mp4" in name else {})
    width, height, fps, live, dropped, frames = json.loads(read(path.read_bytes()))
    assert (width, height, fps, live, dropped) == (160, 120, 25, False, {})
    assert [frame[0] for frame in frames] == list(range(12))
    assert [frame[1] for frame in frames] == [index / 25 for index in range(12)]
    assert [frame[2] for frame in frames] == checksums(path)


def test_metadata_may_have_any_encoding(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mkv", frames=3)
    assert len(json.loads(read(path.read_bytes().replace(b"Lavf", b"L\xe4vf")))[-1]) == 3


def test_pictures_one_after_another_are_mjpeg() -> None:
    piped = b"".join(cv2.imencode(".jpg", scene)[1].tobytes() for scene in scenes(6))
    for options in ({"fps": 5}, {"fps": 5, "format": "mjpeg"}):
        width, height, fps, _, _, frames = json.loads(read(piped, **options))
        assert (width, height, fps, len(frames)) == (160, 120, 5, 6)
        assert frames[-1][1] == 1.0


def test_raw_pictures(tmp_path: Path) -> None:
    images = list(scenes(5))
    piped = b"".join(image.tobytes() for image in images)
    _, _, fps, _, dropped, frames = json.loads(read(piped + b"half a picture", width=160, height=120, fps=10))
    assert fps == 10
    assert [frame[2] for frame in frames] == [zlib.crc32(image) for image in images]
    assert dropped == {"corrupt": 1}
    grey = b"".join(image[:, :, 1].tobytes() for image in images)
    frames = json.loads(read(grey, width=160, height=120, pixel_format="gray"))[-1]
    expected = [zlib.crc32(np.dstack([image[:, :, 1]] * 3).tobytes()) for image in images]
    assert [frame[2] for frame in frames] == expected


def test_what_is_piped_in_opens_nothing_else(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "secret.ts", frames=12)
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1,\nfile://{path}\n#EXT-X-ENDLIST\n"
    for piped, options in (
        (f"ffconcat version 1.0\nfile {path.name}\n", {}),
        (f"ffconcat version 1.0\nfile file://{path}\n", {}),
        (playlist, {"format": "hls"}),
    ):
        assert "cannot be read as video" in read(piped.encode(), cwd=tmp_path, **options)


def test_what_is_no_video(tmp_path: Path) -> None:
    assert "standard input is empty" in read(b"")
    assert "cannot be read as video" in read(b"just text\n" * 1000)
    assert "index of an MP4" in read(write_clip(tmp_path / "a.mp4", frames=150).read_bytes())
    assert "knows no format 'nosuch'" in read(b"1234", format="nosuch")


@pytest.mark.skipif(os.name != "posix", reason="terminals and waiting on pipes")
def test_a_run_ends_though_its_writer_is_stuck(tmp_path: Path) -> None:
    (tmp_path / "chain.yaml").write_text("sinks: [jsonl: {path: out.jsonl}]\n")
    pictures = write_clip(tmp_path / "clip.ts", frames=200).read_bytes()
    command = [sys.executable, "-m", "pipeline", "run", "-", "--config", "chain.yaml", "--quiet"]
    with subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=HERE) as run:
        assert run.stdin is not None
        assert run.stderr is not None
        run.stdin.write(pictures)
        run.stdin.flush()
        until(lambda: (tmp_path / "out.jsonl").exists() and (tmp_path / "out.jsonl").stat().st_size, 60)
        run.send_signal(signal.SIGTERM)
        assert run.wait(20) == 128 + signal.SIGTERM, "and not after read_timeout, as one that failed"
        assert run.stderr.read() == b""


@pytest.mark.skipif(os.name != "posix", reason="terminals and waiting on pipes")
def test_terminals_and_silence(tmp_path: Path) -> None:
    command = [sys.executable, "-c", READER, json.dumps({"read_timeout": 0.3})]
    master, terminal = os.openpty()
    done = subprocess.run(command, stdin=terminal, capture_output=True, check=True, timeout=60)
    os.close(master)
    os.close(terminal)
    assert "nothing is piped" in done.stdout.decode()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert "gave nothing for 0.3 s" in process.stdout.read().decode()
