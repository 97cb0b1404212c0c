"""Encode: one H.264 MP4 being recorded, with the timing of its source."""

from __future__ import annotations

import logging
import os
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import FramechainError
from pipeline.files.lock import hold_output
from pipeline.files.output import cannot_write

logger = logging.getLogger("framechain")

# Ticks a second: whole for 24, 25, 29.97, 30, 50, 59.94 and 60 frames a second, and no more than MPEG-4 part 2,
# which we fall back on, can hold (65535).
_TICKS = 60_000

# Seconds between key frames: how far a player has to go back when it seeks, and what a killed run may lose.
_KEY_INTERVAL = 2.0
_KEY_FRAMES = 250  # at most: files with uneven timing claim any rate

# The best first. Some builds of FFmpeg have no x264, for its licence.
_ENCODERS = ("libx264", "libopenh264", "mpeg4")


# Seconds of processor time that x264's veryfast and the change of colours take for a megapixel: 33 ms for a 1080p frame
# of MOT17-09. superfast takes 29 and makes files 1.8 times as large; ultrafast 20 and 3.2 times.
_EFFORT = 0.016
_AFFORDABLE = 0.25  # share of the cores that encoding may take from the chain


def affordable_preset(pixels: float, cores: int) -> str:
    """The x264 preset that keeps pace with so many pixels a second and leaves the cores to the other parts.

    >>> affordable_preset(1920 * 1080 * 30, cores=8), affordable_preset(1920 * 1080 * 30, cores=2)
    ('veryfast', 'ultrafast')
    """
    return "veryfast" if pixels / 1e6 * _EFFORT <= _AFFORDABLE * cores else "ultrafast"


# Frames that left the encoder, and are remembered one by one until somebody looks whether they are in the file.
_UNSEEN = 512


class Recording:
    """An MP4 file that frames are added to one by one.

    While it grows it is a fragmented MP4: should the process be killed, all but the last seconds play.
    After `finish`, `put_index_in_front` copies it, without encoding again, into a plain MP4 with its index in front
    (faststart), which browsers start fastest and every player can seek in.

    The first frame is shown at 0 s, whatever its timestamp. Odd sizes grow by one column or row, because 4:2:0
    colour needs even ones. Frames of another size than the first are fitted into it on black.

    Args:
        path: the file; overwritten.
        size: (width, height) of the first frame.
        fps: nominal frames a second; decides the duration of the last frame and the spacing of key frames.
        preset, crf: of x264. Other encoders, taken where there is no x264, get a bit rate that resembles crf 23.

    Attributes:
        path: the file.
        size: bytes of the pictures that have left the encoder.
        frames: how many were added.
        finished: whether no more are. held: how many of them are in the file then.

    Raises:
        FramechainError: the file cannot be written, or there is no encoder.
    """

    def __init__(self, path: Path, size: tuple[int, int], fps: float, preset: str, crf: int) -> None:
        import av
        from av.video.reformatter import Colorspace, Interpolation, VideoReformatter

        self.path = path.resolve()
        self.size = self.frames = self.held = 0
        self.finished = False
        self._size = (size[0] + size[0] % 2, size[1] + size[1] % 2)
        self._start: float | None = None
        self._last = -1
        self._first_decoded = self._last_decoded = 0
        self._span = max(1, round(_TICKS / fps))
        self._numbers: dict[int, int] = {}  # of the frames that the encoder holds, by their time in ticks
        self._muxed: deque[int] = deque()  # numbers of frames that left it, in that order, and may not be in the file
        self._ahead: set[int] = set()  # of frames that are in the file before one that comes earlier
        self._encoded = self._whole = self._scanned = 0
        self._broken = False
        codec = _encoder()
        self._let_go: Callable[[], object] | None = None
        try:
            self._file: Any = av.open(
                f"file:{self.path}",
                "w",
                format="mp4",
                options={
                    "movflags": "frag_keyframe+empty_moov+delay_moov+default_base_moof",
                    "frag_duration": "1000000",  # microseconds
                    "flush_packets": "1",
                },
            )
        except OSError as error:
            raise cannot_write(path, error) from error
        stream = self._file.add_stream(codec, rate=Fraction(max(1.0, fps)).limit_denominator(1001))
        stream.width, stream.height, stream.pix_fmt = *self._size, "yuv420p"
        context = stream.codec_context
        context.time_base = stream.time_base = Fraction(1, _TICKS)
        context.gop_size = max(1, min(_KEY_FRAMES, round(_KEY_INTERVAL * fps)))
        # players take BT.709 for high definition and BT.601 below where a file does not say; ours says the same
        hd = self._size[1] >= 720
        self._matrix = Colorspace.ITU709 if hd else Colorspace.ITU601
        context.color_primaries = context.color_trc = context.colorspace = 1 if hd else 6
        context.color_range = 1
        if codec == "libx264":
            context.options = {"preset": preset, "crf": str(crf)}
        else:
            context.bit_rate = round(0.1 * self._size[0] * self._size[1] * fps)
        self._stream = stream
        # Kept, and with one thread: else swscale makes its tables anew and starts a thread a core for every frame.
        self._reformatter = VideoReformatter()
        # left alone, swscale truncates, which darkens every colour by up to 3 of 255 (at 1080p 4.6 ms against 6.8);
        # older PyAV cannot ask for better
        exact = getattr(Interpolation, "ACCURATE_RND", None)
        self._rounding = None if exact is None else Interpolation.BILINEAR | exact

    def add(self, image: NDArray[np.uint8], timestamp: float) -> None:
        """Add a frame.

        Args:
            image: (H, W, 3) uint8, BGR; not changed.
            timestamp: seconds; a frame that is not later than the one before it comes one tick after it.

        Raises:
            FramechainError: the file cannot be written; all before stays playable.
        """
        import av

        if self._start is None:
            self._start = timestamp
        self._last = max(round((timestamp - self._start) * _TICKS), self._last + 1)
        frame: Any = av.VideoFrame.from_ndarray(_fitted(image, self._size), format="bgr24")
        frame = self._reformatter.reformat(
            frame,
            format="yuv420p",
            dst_colorspace=self._matrix,
            dst_color_range="MPEG",
            interpolation=self._rounding,
            threads=1,
        )
        frame.pts, frame.time_base = self._last, Fraction(1, _TICKS)
        self._numbers[self._last] = self.frames
        self.frames += 1
        self._write(frame)

    def holds(self, frames: int) -> bool:
        """Whether the file holds so many of the first frames: an encoder keeps some back, and so does a fragment."""
        self._look()
        return self.finished or self._whole >= frames

    def _look(self) -> None:
        """See what is in the file by now."""
        with suppress(OSError), self.path.open("rb") as file:
            for end, count in _fragments(file, self._scanned):
                self._scanned = end
                self._ahead.update(self._muxed.popleft() for _ in range(count))
        while self._whole in self._ahead:
            self._ahead.discard(self._whole)
            self._whole += 1

    def finish(self) -> None:
        """Complete the file, as the fragmented MP4 it is. After a failed `add`, leave of it what is whole, if anything.

        Raises:
            FramechainError: the last frames cannot be written; all before plays.
        """
        try:
            if not self._broken:
                self._write(None)
            self._file.close()
        except OSError as error:
            if not self._broken:
                self._broken = True
                raise cannot_write(self.path, error) from error
        finally:
            self.finished = True
            if self._let_go is not None:
                self._let_go()
            if self._broken:
                self.held = _keep_whole_fragments(self.path)
            else:
                self.held = self.frames

    def _hold(self) -> None:
        """Hold the file, which FFmpeg makes when it has something to write, against other runs."""
        with suppress(OSError):
            held = os.open(self.path, os.O_RDONLY)
            self._let_go = weakref.finalize(self, os.close, held)
            hold_output(held, self.path)

    def _write(self, frame: Any) -> None:
        try:
            packets = self._stream.encode(frame)
            for packet in packets:
                packet.duration = self._span
                self._muxed.append(self._numbers.pop(packet.pts, self._encoded))
                self._encoded += 1
                self._first_decoded = min(self._first_decoded, packet.dts)
                self._last_decoded = packet.dts
                self.size += packet.size
            if packets and frame is None:
                packets[-1].duration = self._last_step()
            self._file.mux(packets)
        except OSError as error:
            self._broken = True
            raise cannot_write(self.path, error) from error
        if packets and self._let_go is None:
            self._hold()
        if len(self._muxed) > _UNSEEN:
            self._look()

    def _last_step(self) -> int:
        """Ticks from the last packet's decoding to the end.

        MP4 adds up the steps between decoding times, which run ahead of the times of showing; with the last step
        chosen so, the sum is when the last frame ends.
        """
        return max(self._span, self._last + self._span - (self._last_decoded - self._first_decoded))

    def put_index_in_front(self, copy: str, unwanted: Callable[[], bool] = lambda: False) -> None:
        """Make a plain MP4 of the finished file; where there is no room for a copy, it stays as it is.

        Args:
            copy: name of the copy while it is made. A run that is killed then leaves it; the next to use the name
                overwrites it.
            unwanted: asked now and then whether to leave the file as it is after all, which plays, too.
        """
        if self._broken:
            return
        import av

        partial = self.path.with_name(copy)
        try:
            with (
                av.open(f"file:{self.path}") as fragments,
                av.open(f"file:{partial}", "w", format="mp4", options={"movflags": "faststart"}) as plain,
            ):
                given = fragments.streams.video[0]
                kept = plain.add_stream_from_template(given)
                kept.time_base = given.time_base
                for packet in fragments.demux(given):
                    if unwanted():
                        break
                    if packet.dts is not None:
                        packet.stream = kept
                        # FFmpeg 7 reads no durations from fragments, and players drop frames without
                        last = packet.dts == self._last_decoded
                        packet.duration = self._last_step() if last else self._span
                        plain.mux(packet)
            if unwanted():
                partial.unlink(missing_ok=True)
            else:
                partial.replace(self.path)
        except (OSError, av.error.FFmpegError) as error:  # most likely there is no room for a second copy
            with suppress(OSError):
                partial.unlink()
            logger.warning("%s plays, but stays a fragmented MP4: %s", self.path, error.strerror)


def _keep_whole_fragments(path: Path) -> int:
    """Cut what follows the last whole fragment of an MP4: some players refuse the rest for half a one.

    A fragment is a box `moof` and a box `mdat`; each box begins with its size and type, four bytes each. Where there
    is no fragment, the file goes.

    Returns:
        how many frames are left.
    """
    if not path.is_file():
        return 0
    frames = whole = 0
    with path.open("r+b") as file:
        for end, count in _fragments(file, 0):
            whole, frames = end, frames + count
        file.truncate(whole)
    if not frames:
        path.unlink()
    return frames


def _fragments(file: BinaryIO, start: int) -> Iterator[tuple[int, int]]:
    """Where the next whole fragments, from one's end on, end, and how many frames each holds."""
    end, pending = file.seek(0, os.SEEK_END), 0
    while start + 8 <= end:
        file.seek(start)
        size, kind = int.from_bytes(file.read(4), "big"), file.read(4)
        if size < 8 or start + size > end:
            break
        if kind == b"moof":
            pending = _samples(file.read(size - 8))
        start += size
        if kind == b"mdat":
            yield start, pending


def _samples(boxes: bytes) -> int:
    """How many frames a box `moof` (or `traf` within it) tells of: each box `trun` holds flags, then their number."""
    count = at = 0
    while at + 8 <= len(boxes):
        size, kind = int.from_bytes(boxes[at : at + 4], "big"), boxes[at + 4 : at + 8]
        if kind == b"traf":
            count += _samples(boxes[at + 8 : at + size])
        elif kind == b"trun":
            count += int.from_bytes(boxes[at + 12 : at + 16], "big")
        at += max(size, 8)
    return count


def _encoder() -> str:
    import av

    for name in _ENCODERS:
        if name in av.codecs_available:
            if name != _ENCODERS[0]:
                logger.warning("this build of PyAV has no %s; videos are encoded by %s instead", _ENCODERS[0], name)
            return name
    raise FramechainError(
        "this build of PyAV has no video encoder; install PyAV from PyPI: pip install --force-reinstall av"
    )


def _fitted(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """The image in exactly `size` (width, height): as it is, with its edge doubled, or letterboxed."""
    height, width = image.shape[:2]
    right, bottom = size[0] - width, size[1] - height
    if (right, bottom) == (0, 0):
        return image
    if right in (0, 1) and bottom in (0, 1):
        doubled: NDArray[np.uint8] = cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
        return doubled
    scale = min(size[0] / width, size[1] / height)
    inner = (max(1, round(width * scale)), max(1, round(height * scale)))
    left, top = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    smaller = cv2.resize(image, inner, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    right, bottom = size[0] - inner[0] - left, size[1] - inner[1] - top
    framed: NDArray[np.uint8] = cv2.copyMakeBorder(smaller, top, bottom, left, right, cv2.BORDER_CONSTANT)
    return framed
