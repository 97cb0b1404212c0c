"""Real video files for the tests of sources, made with libx264 and others, and the surgery that damages them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]


def scenes(count: int, width: int = 160, height: int = 120) -> Iterator[Image]:
    """Images that differ everywhere from one to the next."""
    blocks = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    tile = blocks.repeat(8, 0).repeat(8, 1)
    for index in range(count):
        yield np.ascontiguousarray(np.roll(tile, (index * 3, index * 5), (0, 1)))


def write_clip(
    path: Path,
    codec: str = "libx264",
    frames: int = 60,
    *,
    fps: int = 25,
    gop: int = 20,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    times: Sequence[int] | None = None,
    rotation: tuple[int, bool, bool] | None = None,
    image: Image | None = None,
) -> Path:
    """Encode `frames` scenes (or one image, repeated); `times`: their pts in milliseconds."""
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=fps, options=options or {})
        first = image if image is not None else next(scenes(1))
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.gop_size = gop
        if rotation is not None:
            stream.set_display_rotation(rotation[0], hflip=rotation[1], vflip=rotation[2])
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for index, scene in enumerate(scenes(frames) if image is None else [image] * frames):
            picture = av.VideoFrame.from_ndarray(scene, format="bgr24")
            if times is not None:
                picture.pts, picture.time_base = times[index], Fraction(1, 1000)
            for packet in stream.encode(picture):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def damaged(path: Path, packets: Sequence[int], hurt: Callable[[bytearray, int, int], None]) -> Path:
    """A copy whose given packets (by place in the file) went through `hurt(content, start, end)`."""
    with av.open(str(path)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    content = bytearray(path.read_bytes())
    for packet in packets:
        start, size = places[packet]
        assert start is not None
        hurt(content, start, start + size)
    copy = path.with_name(f"damaged-{path.name}")
    copy.write_bytes(content)
    return copy


def erase(content: bytearray, start: int, end: int) -> None:
    content[start:end] = bytes(end - start)


def scramble(content: bytearray, start: int, end: int) -> None:
    quarter = (end - start) // 4
    noise = np.random.default_rng(start).integers(0, 256, end - start - 2 * quarter, np.uint8)
    content[start + quarter : end - quarter] = noise.tobytes()


def flip_bits(content: bytearray, start: int, end: int) -> None:
    for place in np.random.default_rng(start).integers(start + min(20, (end - start) // 2), end, 3):
        content[place] ^= 0x10


def without_threads(path: Path) -> list[tuple[bool, Image]]:
    """(damaged, image) of all pictures, by a plain loop of one thread."""
    pictures = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        for packet in container.demux(stream):
            try:
                frames = packet.decode()
            except av.FFmpegError:
                continue
            pictures += [(frame.is_corrupt, frame.to_ndarray(format="bgr24")) for frame in frames]
    return pictures
