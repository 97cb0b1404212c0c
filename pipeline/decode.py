"""Decode: the pictures of one video stream, each with its place and time, damage counted. PyAV (FFmpeg) does the work.

Video files, network streams and standard input share it.
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UsageError
from pipeline.live.pace import Pace
from pipeline.picture_size import MOST_PIXELS, refusal

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

    from pipeline.hardware import DecoderName

_GIVE_UP = 1000
"""Unreadable places in a row after which a container counts as ended."""

_AWAITED = 256
"""Packets inside the decoder, far more than any reorders (16, and one a thread)."""

_REFUSED = (8, 0.5)
"""Packets in a row, and seconds, that a decoder refuses from a keyframe on, until the codec counts as another one."""

_RESTART = 1
"""Seconds. A clock that falls back by more was started anew; by less, one timestamp is wrong."""


_PADDING = 1 << 16
"""Pixels, enough for the padding of the smallest pictures."""

_DAMAGE_IS_AN_ERROR = {"err_detect": "explode"}

_PLANES = {"nv12": "yuv420p", "p010le": "yuv420p10le"}
"""Layouts of pictures from hardware, and the same with a plane for each colour."""


def open_input(address: Any, **options: Any) -> InputContainer:
    """What `av.open` opens for reading, whatever encoding its metadata has.

    A title in Latin-1 is an error to PyAV up to 18, unless told otherwise; 19 takes any, and can no longer be told.

    Raises:
        av.FFmpegError, ValueError: as `av.open` does.
    """
    import av

    if int(av.__version__.partition(".")[0]) < 19:
        options["metadata_errors"] = "replace"
    container: InputContainer = av.open(address, "r", **options)
    return container


class NoVideo(UsageError):
    """What was opened holds no video stream, or no picture of it can be decoded. The message lacks its subject."""


class _Suspicion(Exception):
    """The first sign that something is damaged, while several threads decode."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One decoded picture, not yet converted.

    Attributes:
        index: its place in the video, from 0, damaged ones counted.
        timestamp: seconds since the first picture, never decreasing.
        frame: as FFmpeg gives it.
        discontinuity: whether the stream's clock was started anew before it.
    """

    index: int
    timestamp: float
    frame: VideoFrame
    discontinuity: bool = False


class Decoder:
    """Decodes the best video stream of a container to its end.

    Undamaged video is decoded by all cores, a few frames at once. At the first sign of damage a container that
    can be opened again is decoded once more from the keyframe before, by one thread: with several, good frames
    near bad ones are lost at the end of a file (measured: 2 of 112 with 2 cores), and how H.264 conceals what is
    missing depends on their number. (Slices as threads are no way out: it then reports no damage at all.)

    A container that was opened for hardware (PyAV's HWAccel) is decoded there, and once damage shows, as above, in
    software. Hardware shows less of it: packets that are missing, and what is wrong outside of the picture's own data.

    Args:
        container: opened for reading; the decoder closes it.
        reopen: opens it once more, for software; None for what can be read only once, which is decoded by one thread.
        abandoned: tells whether nobody wants more; garbage without end holds no picture to wait for.
        max_pixels: of a picture; larger ones count as corrupt.
        constant: whether the codec stays the same. If not, reading fails where the decoder refuses all that comes: who
            opens the stream again finds out what it is now.
        pace: of a camera: says which packets to leave out when decoding does not keep up. left_out: told how many.

    Attributes:
        width, height: pixels of the first picture, upright. fps: nominal rate, None where unknown.
        frame_count: pictures announced by the container, None where unknown.
        missing: of those, the ones it ended before; known at the end.
        hardware: what decodes it, until damage shows.
        waited: seconds that reading packets took: of a stream, waiting for them.

    Raises:
        NoVideo: there is nothing to decode.
        av.FFmpegError: reading failed, or hardware refuses the first picture.
    """

    def __init__(
        self,
        container: InputContainer,
        reopen: Callable[[], InputContainer] | None = None,
        abandoned: Callable[[], bool] = lambda: False,
        max_pixels: int = MOST_PIXELS,
        constant: bool = True,
        pace: Pace | None = None,
        left_out: Callable[[int], None] = lambda count: None,
    ) -> None:
        from av.video.reformatter import VideoReformatter

        self._container = container
        self._reopen = reopen
        self._abandoned = abandoned
        self._max_pixels = max_pixels
        self._constant = constant
        self._pace, self._left_out, self._leaves_out = pace, left_out, False
        self._stream = video_stream(container)
        if why := refusal(self._stream.codec_context.width, self._stream.codec_context.height, max_pixels):
            raise NoVideo(why)
        self._ledger = _Ledger(max_pixels)
        self._reformatter, self._splitter = VideoReformatter(), VideoReformatter()
        rate = _rate(self._stream)
        self.fps = None if rate is None else float(rate)
        self.frame_count: int | None = self._stream.frames or None
        self.missing = 0
        self.hardware: DecoderName = "software"
        self.waited = 0.0
        self._last_time = 0.0
        self._clock = _Clock(self._stream.time_base or Fraction(1), rate or Fraction(25))

        self._pictures = self._all_pictures()
        self._first = next(self._pictures, None)
        if self._first is None:
            raise NoVideo("holds no picture that can be decoded, or none within max_pixels")
        self._orientation = _orientation(self._first.frame)
        self.height, self.width = self.image(self._first).shape[:2]

    @property
    def container(self) -> InputContainer:
        """What is decoded."""
        return self._container

    @property
    def corrupt(self) -> int:
        """Pictures damaged or lost so far."""
        return self._ledger.corrupt

    def next(self) -> Picture | None:
        """The next undamaged picture; None at the end."""
        first, self._first = self._first, None
        return first or next(self._pictures, None)

    def image(self, picture: Picture) -> NDArray[np.uint8]:
        """The picture as it is meant to be seen: upright, (H, W, 3) uint8 BGR, C-contiguous.

        The stream's colour matrix and range are respected.
        """
        frame = picture.frame
        matrix, spread = frame.colorspace, frame.color_range
        if (planes := _PLANES.get(frame.format.name)) is not None:
            # swscale takes 7.1 ms for a 1080p frame of NV12; by way of planes 1.5, and the pixels are those of software
            frame = self._splitter.reformat(frame, format=planes, threads=1)
        # One thread: with two, swscale took 7.9 ms for a 1080p frame instead of 2.0. The reformatter is kept
        # because it keeps swscale's tables.
        converted = self._reformatter.reformat(
            frame, format="bgr24", src_colorspace=matrix, src_color_range=spread, dst_color_range="JPEG", threads=1
        )
        # a view into the frame's memory; copied only to turn it, or where its lines are padded (854×480: 0.08 ms,
        # 1080×1920: 0.6 ms)
        image = np.asarray(converted.to_ndarray(), np.uint8)
        if self._orientation is not None:
            transposed, rows, columns = self._orientation
            image = (image.transpose(1, 0, 2) if transposed else image)[::rows, ::columns]
        return np.ascontiguousarray(image)

    def close(self) -> None:
        """Close the container."""
        self._pictures.close()
        self._container.close()

    def _all_pictures(self) -> Generator[Picture]:
        from av import FFmpegError

        given = 0
        last: int | None = None
        try:
            for frame in self._frames() if self._reopen is None else self._frames_while_sound():
                if self._ledger.receive(frame):
                    yield self._picture(frame)
                    given, last = given + 1, frame.pts
        except _Suspicion:
            for frame in self._once_more(given, last):
                if self._ledger.receive(frame):
                    yield self._picture(frame)
        except FFmpegError:
            self._ledger.finish()
            raise
        self._ledger.finish()
        self.missing = self._shortfall()

    def _picture(self, frame: VideoFrame) -> Picture:
        index = self._ledger.index - 1
        restarts = self._clock.restarts
        self._last_time = self._clock.time(frame.pts, index)
        return Picture(index, self._last_time, frame, self._clock.restarts > restarts)

    def _frames_while_sound(self) -> Iterator[VideoFrame]:
        """What the decoder gives, in order of presentation, with all cores. Raises _Suspicion."""
        from av import FFmpegError

        decoder = self._stream.codec_context
        if decoder.is_hwaccel:
            decoder.thread_type, decoder.thread_count = "NONE", 1  # threads of ours would only wait for each other
        else:
            decoder.thread_type = "FRAME"
        # An error, as H.264 marks some concealed frames too late (a race between its threads).
        decoder.options = {**_DAMAGE_IS_AN_ERROR, **limits(self._max_pixels)}
        for packet in _packets(self._container, self._stream, self._ledger):
            try:
                frames = packet.decode()
            except FFmpegError as error:
                if self._refuses(packet):
                    raise
                raise _Suspicion from error
            for frame in frames:
                if self._ledger.damaged or self._ledger.spoilt(frame) or self._ledger.overtakes(frame):
                    raise _Suspicion
                yield frame
        if self._ledger.awaits:
            raise _Suspicion

    def _frames(self) -> Generator[VideoFrame]:
        """What the decoder gives, in order of presentation, with one thread."""
        from av import FFmpegError

        decoder = self._stream.codec_context
        decoder.thread_type = "NONE"
        decoder.thread_count = 1
        # Of what is intra only, nothing builds on a damaged picture: none is patched up (JPEG would not even mark it).
        decoder.options = {**(_DAMAGE_IS_AN_ERROR if decoder.codec.intra_only else {}), **limits(self._max_pixels)}
        refused, since = 0, 0.0  # packets, the first of them a keyframe
        for packet in _packets(self._container, self._stream, self._ledger, self._reading):
            if self._abandoned():
                return
            if refused or (packet.is_keyframe and not decoder.codec.intra_only):
                refused, since = refused + 1, since if refused else time.monotonic()
            try:
                frames = packet.decode()
            except FFmpegError:
                if self._refuses(packet) or self._is_another(refused, since):
                    raise
                self._ledger.fail(packet)
            else:
                if frames and refused > 1:  # the keyframe itself may be made into a picture of nothing (HEVC as H.264)
                    refused = 0
                yield from frames

    def _reading(self, packets: Iterator[Packet[VideoStream]]) -> Iterator[Packet[VideoStream]]:
        """The packets that are to be decoded; how long they are waited for is counted."""
        while True:
            asked = time.perf_counter()
            packet = next(packets, None)
            self.waited += time.perf_counter() - asked
            if packet is None:
                return
            ticks = packet.pts if packet.dts is None else packet.dts
            moment = None if ticks is None or packet.time_base is None else float(ticks * packet.time_base)
            if self._pace is None or not packet.size or self._pace.decodes(moment, packet.is_keyframe, self.waited):
                self._leaves_out = False
                yield packet
                continue
            if not self._leaves_out:
                self._stream.codec_context.flush_buffers()  # what it holds would build on what is left out
            self._leaves_out = True
            self._left_out(self._ledger.leave_out())

    def _refuses(self, packet: Packet[VideoStream]) -> bool:
        """Whether an error means that hardware is not made for this video: no picture came, not even of a keyframe."""
        return self._stream.codec_context.is_hwaccel and not self._ledger.index and packet.is_keyframe

    def _is_another(self, refused: int, since: float) -> bool:
        """Whether so many packets without a picture, from a keyframe on, mean that the codec is another one now."""
        most, seconds = _REFUSED
        return not self._constant and refused >= most and time.monotonic() - since >= seconds

    def _once_more(self, given: int, last: int | None) -> Iterator[VideoFrame]:
        """The frames after the `given` ones, of which `last` is the last one's pts, decoded by one thread."""
        if last is not None and self._seek(last):
            self._ledger = _Ledger(self._max_pixels, given, last)
            frames = self._frames()
            landing = next(frames, None)
            if landing is not None and landing.key_frame and landing.pts is not None and landing.pts <= last:
                yield from (frame for frame in frames if frame.pts is None or frame.pts > last)
                return
            frames.close()
        self._begin_again()
        self._ledger = _Ledger(self._max_pixels)
        frames = self._frames()
        for frame in itertools.islice(frames, given):
            self._ledger.receive(frame)
        yield from frames

    def _seek(self, pts: int) -> bool:
        """Start again at the keyframe before; False if the container cannot do that."""
        from av import FFmpegError

        self._begin_again()
        try:
            self._container.seek(pts, stream=self._stream)
        except FFmpegError:
            return False
        return True

    def _begin_again(self) -> None:
        assert self._reopen is not None
        self._container.close()
        self._container = self._reopen()
        self._stream = video_stream(self._container)

    def _shortfall(self) -> int:
        """Pictures that the container announces beyond its end; both their count and the duration must say so.

        The count alone counts pictures that an edit list cuts out, too.
        """
        stream = self._stream
        if not (self.frame_count and self.fps and stream.duration and stream.time_base):
            return 0
        unseen_time = float(stream.duration * stream.time_base) - self._last_time
        return max(0, self.frame_count - self._ledger.index) if unseen_time > 1.5 / self.fps else 0


class _Ledger:
    """Which packets went into the decoder and came out as pictures: the place of each picture, and the losses.

    Pictures come out in order of pts. So a packet of smaller pts that has not come out by then is lost, if
    anything was damaged. This holds where each packet holds a picture; the fields of interlaced H.264 and the
    hidden pictures of VP8 come in packets of their own, and then only the decoder's own errors are counted.

    Args:
        max_pixels: of a picture. index: place of the next one. after: only what has a larger pts is new.
    """

    def __init__(self, max_pixels: int, index: int = 0, after: int | None = None) -> None:
        self._max_pixels = max_pixels
        self.index = index
        self.corrupt = 0
        self.damaged = False
        self._after = after
        self._one_to_one = True
        self._awaited: list[int] = []  # heap of pts
        self._errors = 0  # since the last picture

    @property
    def awaits(self) -> bool:
        """Whether packets have not come out as pictures yet."""
        return bool(self._awaited)

    def spoilt(self, frame: VideoFrame) -> bool:
        """Whether a picture is not to be given.

        Raises:
            NoVideo: the first one is too large.
        """
        why = refusal(frame.width, frame.height, self._max_pixels)
        if why is not None and self.index == 0:
            raise NoVideo(why)
        return frame.is_corrupt or why is not None

    def overtakes(self, frame: VideoFrame) -> bool:
        """Whether packets before this picture have not come out."""
        return frame.pts is not None and self.awaits and self._awaited[0] < frame.pts

    def send(self, packet: Packet[VideoStream]) -> None:
        """A packet goes into the decoder."""
        if not self._is_new(packet):
            return
        self.damaged |= packet.is_corrupt
        if packet.pts is None or packet.is_discard:
            return
        heapq.heappush(self._awaited, packet.pts)
        if len(self._awaited) > _AWAITED:
            heapq.heappop(self._awaited)

    def leave_out(self) -> int:
        """A packet is not decoded, and what the decoder holds does not come out. Returns how many pictures that are."""
        count = 1 + len(self._awaited)
        self._awaited.clear()
        self.index += count
        return count

    def fail(self, packet: Packet[VideoStream] | None = None) -> None:
        """The decoder refused a packet, or (None) a packet could not be read."""
        if packet is None or self._is_new(packet):
            self.damaged = True
            self._errors += 1

    def receive(self, frame: VideoFrame) -> bool:
        """A picture came out; `index` is then the place after it. Returns whether it is whole."""
        whole = not self.spoilt(frame)
        overtaken = 0
        while frame.pts is not None and self._awaited and self._awaited[0] <= frame.pts:
            overtaken += heapq.heappop(self._awaited) < frame.pts
        if overtaken and not self.damaged:
            self._one_to_one = False
        self._lose(overtaken if self._one_to_one and frame.pts is not None else self._errors)
        self.index += 1
        self.corrupt += not whole
        self.damaged |= not whole
        return whole

    def finish(self) -> None:
        """Nothing more will come out."""
        self._lose(max(len(self._awaited), self._errors) if self._one_to_one else self._errors)

    def _is_new(self, packet: Packet[VideoStream]) -> bool:
        return self._after is None or packet.pts is None or packet.pts > self._after

    def _lose(self, count: int) -> None:
        lost = count if self.damaged else 0
        self.index += lost
        self.corrupt += lost
        self._errors = 0


class _Clock:
    """Media time from pts: from 0, never decreasing, gaps filled from the rate.

    Args:
        unit: seconds of one tick. rate: frames a second, for pictures without a pts.

    Attributes:
        restarts: how often the pts fell back, so that time went on from where it was.
    """

    def __init__(self, unit: Fraction, rate: Fraction) -> None:
        self._unit = unit
        self._rate = rate
        self._origin: int | None = None  # pts at time 0
        self._anchor = (0, 0.0)  # place and time of the last picture with a pts
        self._last = 0.0
        self.restarts = 0

    def time(self, pts: int | None, index: int) -> float:
        """Seconds of the picture at place `index`."""
        if pts is None:
            place, time = self._anchor
            now = time + (index - place) * self._rate.denominator / self._rate.numerator
        else:
            now = self._since_origin(pts)
            if self._origin is None or now < self._last - _RESTART:
                self.restarts += self._origin is not None
                self._origin = pts - round(self.time(None, index) / self._unit)
                now = self._since_origin(pts)
            self._anchor = (index, now)
        self._last = max(now, self._last)
        return self._last

    def _since_origin(self, pts: int) -> float:
        # Integers up to the one division, so that frame 70 at 25 fps is at 2.8 s and not at 2.8000000000000003.
        return (pts - (self._origin or 0)) * self._unit.numerator / self._unit.denominator


def limits(max_pixels: int) -> dict[str, str]:
    """FFmpeg's options with which it refuses larger pictures before it takes memory for them.

    Also for those who open a container, as it decodes some to know the format. It counts what it pads, too (rows to 64
    pixels, H.264 to blocks of 16), so its limit is higher by an eighth; what is between is refused once it is decoded.
    """
    return {"max_pixels": str(max_pixels * 9 // 8 + _PADDING)}


def video_stream(container: InputContainer) -> VideoStream:
    """The video stream to decode; cover pictures of audio files are none.

    Raises:
        NoVideo: there is none that can be decoded.
    """
    from av.stream import Disposition

    moving = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not moving:
        kinds = sorted({stream.type for stream in container.streams if stream.type != "video"})
        raise NoVideo(f"holds no video, only {' and '.join(kinds)}" if kinds else "holds no video")
    best = container.streams.best("video")
    stream: VideoStream = best if best in moving else moving[0]
    if stream.codec_context is None:
        raise NoVideo("holds video in a format for which there is no decoder; convert it to H.264")
    return stream


def _packets(
    container: InputContainer,
    stream: VideoStream,
    ledger: _Ledger,
    reading: Callable[[Iterator[Packet[VideoStream]]], Iterator[Packet[VideoStream]]] = iter,
) -> Iterator[Packet[VideoStream]]:
    """Packets as read, and the empty one at the end that makes the decoder give what it still holds."""
    from av.error import InvalidDataError

    # AVI holds no pts. What FFmpeg puts in their place is in the wrong order for H.264 with B-pictures.
    codec = stream.codec_context
    guessed = container.format.name == "avi" and codec.name in ("h264", "hevc") and bool(codec.has_b_frames)
    unreadable = 0
    while unreadable < _GIVE_UP:
        try:
            for packet in reading(container.demux(stream)):
                if packet.size:
                    unreadable = 0
                    if guessed:
                        packet.pts = None
                    ledger.send(packet)
                elif packet.dts is not None:
                    continue  # stands for a repeated picture (AVI); to the decoder it would mean the end
                yield packet
        except InvalidDataError:
            unreadable += 1
            ledger.fail()
        else:
            return


def _rate(stream: VideoStream) -> Fraction | None:
    for rate in (stream.average_rate, stream.guessed_rate):
        if rate and 0 < rate <= 1000:  # some streams name their clock (90000) as the rate
            return Fraction(rate)
    return None


def _orientation(frame: VideoFrame) -> tuple[bool, int, int] | None:
    """What the container asks for to show the picture upright: whether to transpose it, then steps of rows and columns.

    It gives x' = ax + cy, y' = bx + dy in fixed point. Right angles and mirroring are supported.
    """
    matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return None
    a, b, _, c, d, *_ = np.frombuffer(bytes(matrix), np.int32).tolist()
    transposed = abs(b) > abs(a)
    x, y = (c, b) if transposed else (a, d)
    return transposed, -1 if y < 0 else 1, -1 if x < 0 else 1
