"""Headers that declare huge pictures: one line, and no memory taken for them."""

from __future__ import annotations

import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import av
import cv2
import pytest
from cameras import HttpCamera
from clips import scenes, write_clip

from pipeline.errors import FramechainError, UsageError
from pipeline.source import open_source

DECLARED = r"says that it shows {0}×{0} pixels, more than max_pixels: 67108864; raise that if it is right$"


def jpeg(size: tuple[int, int] | None = None) -> bytes:
    """A picture of 160×120, declared to be of another size."""
    content = bytearray(cv2.imencode(".jpg", next(scenes(1)))[1].tobytes())
    if size is not None:
        place = content.index(b"\xff\xc0") + 5
        content[place : place + 4] = struct.pack(">HH", size[1], size[0])
    return bytes(content)


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def parameters(width: int, height: int) -> bytes:
    """A sequence parameter set of H.264 (7.3.2.1.1), baseline, for pictures of that size."""

    def ue(value: int) -> str:
        digits = f"{value + 1:b}"
        return "0" * (len(digits) - 1) + digits

    bits = f"{66:08b}{0:08b}{51:08b}" + ue(0) + ue(0) + ue(2) + ue(1) + "0"
    bits += ue(width // 16 - 1) + ue(height // 16 - 1) + "1100" + "1"
    bits += "0" * (-len(bits) % 8)
    raw = b"\x67" + int(bits, 2).to_bytes(len(bits) // 8, "big")
    return re.sub(rb"\x00\x00([\x00-\x03])", lambda found: b"\0\0\3" + found[1], raw)


def h264(path: Path, size: int) -> Path:
    """Video of 160×120 whose parameters say that it is of another size."""
    with av.open(str(path), "w", format="h264") as container:
        stream = container.add_stream("libx264", rate=25, options={"profile": "baseline"})
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for scene in scenes(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(scene, format="bgr24")))
        container.mux(stream.encode())
    units = re.split(rb"\x00\x00\x00?\x01", path.read_bytes())[1:]
    units = [parameters(size, size) if unit[0] & 31 == 7 else unit for unit in units]
    path.write_bytes(b"".join(b"\0\0\0\1" + unit for unit in units))
    return path


@pytest.mark.parametrize(
    ("name", "content", "size"),
    [
        ("a.png", png(65535, 65535), 65535),
        ("a.png", png(20000, 20000), 20000),
        ("a.jpg", jpeg((65535, 65535)), 65535),
        ("a.jpg", jpeg((12000, 12000)), 12000),
    ],
    ids=["huge png", "large png", "huge jpeg", "large jpeg"],
)
def test_images(tmp_path: Path, name: str, content: bytes, size: int) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=re.escape(f"'{tmp_path / name}' ") + DECLARED.format(size)):
        open_source(str(tmp_path))


def test_one_of_many_images_ends_them(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").write_bytes(jpeg())
    (tmp_path / "2.png").write_bytes(png(20000, 20000))
    with open_source(str(tmp_path)) as source:
        assert source.read() is not None
        with pytest.raises(UsageError, match=r"2\.png' says that it shows"):
            source.read()


def test_video_takes_no_memory_before_it_is_refused(tmp_path: Path) -> None:
    """In a process of its own, as the most memory that one ever took is known."""
    path = h264(tmp_path / "a.h264", 12000)
    script = (
        "import re, sys; from pathlib import Path; from pipeline.source import open_source\n"
        "try: open_source(sys.argv[1])\n"
        "except Exception as error: print(error)\n"
        "print(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1])"  # ru_maxrss is inherited
    )
    told = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, timeout=60, check=True
    )
    message, most = told.stdout.splitlines()
    assert re.search(DECLARED.format(12000), message)
    assert int(most) < 400_000, "one picture alone is 640 MB"
    with pytest.raises(UsageError, match="no picture that can be decoded, or none within max_pixels"):
        open_source(str(h264(tmp_path / "b.h264", 65520)))


def test_pictures_that_become_too_large_are_counted(tmp_path: Path) -> None:
    small, large = jpeg(), cv2.imencode(".jpg", next(scenes(1, 320, 240)))[1].tobytes()
    path = tmp_path / "a.mjpeg"
    path.write_bytes(small * 3 + large * 2 + small * 3)
    with open_source(str(path), max_pixels=160 * 120) as source:
        assert [frame.index for frame in source] == [0, 1, 2, 5, 6, 7]
        assert source.dropped == {"corrupt": 2}
    with open_source(str(path)) as source:
        assert [frame.image.shape[1] for frame in source] == [160] * 3 + [320] * 2 + [160] * 3


def test_the_limit_holds_for_every_kind(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", frames=3)
    with pytest.raises(UsageError, match=r"a\.mp4' says that it shows 160×120 pixels, more than max_pixels: 100;"):
        open_source(str(path), max_pixels=100)
    with pytest.raises(UsageError, match="'test:' says that it shows 640×360"):
        open_source("test:", max_pixels=100)
    with HttpCamera(rate=100) as camera:
        for what in ("mjpeg", "ts"):
            with pytest.raises(FramechainError, match=rf"{what}' says that it shows 64×48"):
                open_source(f"http://127.0.0.1:{camera.port}/{what}", max_pixels=100)
    command = [sys.executable, "-c", "from pipeline.source import open_source; open_source('-', max_pixels=100)"]
    done = subprocess.run(command, input=jpeg() * 9, capture_output=True, timeout=60, check=False)
    assert "says that it shows 160×120" in done.stderr.decode().splitlines()[-1]


def test_a_camera_of_huge_pictures_is_told_in_time() -> None:
    with HttpCamera(rate=100) as camera:
        camera.size = (1000, 800)
        with pytest.raises(FramechainError, match=r"holds no picture that can be decoded, or none within max_pixels"):
            open_source(f"http://127.0.0.1:{camera.port}/mjpeg", max_pixels=100, open_timeout=0.3)
