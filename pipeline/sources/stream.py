"""NetworkStream: an IP camera or a video over the network, through FFmpeg."""

from __future__ import annotations

import errno
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, PrivateAttr, field_validator

from pipeline import reasons
from pipeline.address import host_id, kind, redacted, scheme
from pipeline.decode import Decoder, NoVideo, Picture, limits, open_input
from pipeline.decoded_source import DecodedSource
from pipeline.errors import AccessDenied, FramechainError, NotThere, Over, UsageError
from pipeline.hardware import decode_stream
from pipeline.live.pace import Pace
from pipeline.live.playlist import Memory, Playout, Recall
from pipeline.live_source import LiveSource
from pipeline.source import Moment, SourceInfo

if TYPE_CHECKING:
    from av import FFmpegError
    from av.codec.hwaccel import HWAccel
    from av.container import InputContainer
    from typing_extensions import Self

_UNTIMED = frozenset({"mpjpeg", "mjpeg", "jpeg_pipe", "h264", "hevc", "m4v", "mpegvideo"})
"""Formats whose pictures carry no times; FFmpeg makes them up from a rate that may be wrong."""

_IN_PIECES = frozenset({"hls", "dash"})
"""Formats that come a piece of some seconds at a time."""

_ALLOWED = "rtsp,rtsps,rtp,srtp,udp,tcp,tls,http,https,httpproxy,crypto,rtmp,rtmps,rtmpt,rtmpts,ffrtmphttp,srt"
"""FFmpeg's protocols that a stream may use. Those that read here are none of them: file, concat, subfile, pipe ..."""


class NetworkStream(DecodedSource, LiveSource):
    """rtsp(s)://, http(s):// (MJPEG, HLS, a file), rtmp(s)://, udp://, tcp:// or srt://.

    Live, except for a file or a finished HLS playlist over http(s): they are read like a file, losing no frame.
    A live playlist is played at its own pace, from three pieces before its end on; what was given is not given again.
    What a server sends may name other addresses, as playlists do: on the network only, never a file of this machine.
    User and password in the address go to the server only. `captured_at` is the time of arrival; timestamps are
    the stream's own, or of arrival too where it has none (MJPEG).
    """

    model_config = ConfigDict(hide_input_in_errors=True)  # addresses hold passwords

    name: ClassVar[str] = "stream"
    transport: Literal["tcp", "udp", "http", "udp_multicast"] = Field("tcp", description="how RTSP carries its data")

    max_lag: float = Field(
        0.5, gt=0, description="seconds that decoding may be behind the camera; beyond that, pictures are left out"
    )

    _pace: Pace | None = PrivateAttr(None)
    _timed: bool = PrivateAttr(True)
    _start: float = PrivateAttr(0.0)
    _finite: bool = PrivateAttr(False)
    _memory: Memory = PrivateAttr(default_factory=Memory)  # of all connections
    _hurry: threading.Event = PrivateAttr(default_factory=threading.Event)  # likewise
    _playout: Playout | None = PrivateAttr(None)
    _recall: Recall = PrivateAttr(default_factory=lambda: Recall(Memory()))

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Pydantic's, which makes repr, str and validation messages, without the password."""
        return ((key, redacted(value) if key == "uri" else value) for key, value in super().__repr_args__())

    @field_validator("uri")
    @classmethod
    def _is_address(cls, uri: str) -> str:
        if any(letter.isspace() or letter in "'\"<>" for letter in uri):  # nobody could tell what in it is secret
            raise UsageError("an address holds no blanks and quotes; write %20 for a blank, %22 and %27 for quotes")
        try:
            parts = urlsplit(redacted(uri))
            _ = parts.port
        except ValueError as error:
            raise UsageError(f"'{redacted(uri)}' is no address ({error}); check host and port") from None
        if parts.hostname is None and parts.scheme not in ("udp", "rtp", "srt", "tcp"):  # which may listen
            raise UsageError(f"'{redacted(uri)}' names no host; write {parts.scheme}://HOST/...")
        return uri

    @classmethod
    def matches(cls, uri: str) -> bool:
        """An address with one of the schemes above."""
        return kind(uri) == "stream"

    def open(self) -> SourceInfo:
        """Connect and decode the first picture.

        Raises:
            FramechainError: refused, not found, wrong password, no answer in time, no video in it.
            Over: it was live, and its playlist says now that nothing more will come.
            UsageError: it is no address, or hardware is asked for that is not here, or does not decode it.
        """
        from av import FFmpegError

        self.id = self.id or host_id(self.uri)
        self._start = time.monotonic()
        try:
            self._decoder = decoder = decode_stream(self.decoder, self._connect, self._decoding)
        except (FFmpegError, NoVideo) as error:
            nothing = isinstance(error, NoVideo)
            if time.monotonic() - self._start < self.open_timeout:
                raise self._described(f"{error}; check the address") if nothing else self._failure(error) from None
            self._hurry.set()
            # what FFmpeg calls the error depends on where the timeout interrupted it
            what = f"{error}, in its first" if nothing else "did not begin within"
            raise self._described(
                f"{what} {self.open_timeout:g} s; check host and port, or raise open_timeout"
            ) from None
        container = decoder.container
        self._finite = container.duration is not None
        finite = self._finite and scheme(self.uri) in ("http", "https")
        self._timed = finite or container.format.name not in _UNTIMED
        self._playout, self._recall = None, self._memory.recall()
        if container.format.name == "mpegts":
            self._hurry.set()
        if container.format.name.split(",")[0] in _IN_PIECES:
            if finite and len(self._memory):
                raise Over(f"'{redacted(self.uri)}' has ended, says its playlist")
            self._playout = None if finite else Playout(self.read_timeout / 2)
        return self._opened(
            redacted(self.uri),
            decoder.width,
            decoder.height,
            decoder.fps if self._timed else None,
            decoder.frame_count if finite else None,
            live=not finite,
        )

    def anew(self) -> Self:
        """Another one with the same options, which knows what was given."""
        other = super().anew()
        other._memory, other._hurry = self._memory, self._hurry
        return other

    def advance(self) -> Moment | None:
        """The next picture; of a stream in pieces the next one that is new, as soon as it is due.

        Raises:
            FramechainError: reading failed, or no piece came in time.
        """
        playout = self._playout
        if playout is None:
            return self.grab()
        while True:
            start = time.monotonic()
            moment = self.grab()
            now = time.monotonic()
            if self._abandoned.is_set():
                return None
            if moment is None:
                raise self._described("gives no new pieces; check the camera and the network")
            assert self._picture is not None
            if not self._recall.knows(self._picture.frame, now - start):
                break
        if self._abandoned.wait(playout.wait(moment.timestamp, now)):
            return None
        self._memory.keep(self._picture.frame)
        return replace(moment, captured_at=self._captured_at(moment.timestamp))

    def abandon(self) -> None:
        """Nobody waits for it any more; if it has not begun by now, the next attempt probes it for less."""
        super().abandon()
        if self._decoder is None:
            self._hurry.set()

    @property
    def waited(self) -> float | None:
        """For the camera and the network."""
        return None if self._decoder is None else self._decoder.waited

    @property
    def complete(self) -> bool:
        """Whether it has a length, as a recording on an RTSP server has, or `max_frames` were given."""
        return self._finite or (self.max_frames is not None and self._given >= self.max_frames)

    def _count(self, decoder: Decoder) -> None:
        if self._recall.is_over:  # what was watched already was counted then
            super()._count(decoder)

    def late(self) -> bool:
        """Whether decoding does not keep up with the camera."""
        return self._pace is not None and not self._pace.converts()

    def _decoding(self, container: InputContainer) -> Decoder:
        # FFmpeg passes over segments of a live playlist by itself; what has no times of its own cannot be judged
        judged = container.duration is None and container.format.name not in (*_UNTIMED, "hls")
        self._pace = Pace(self.max_lag) if judged else None
        return Decoder(
            container,
            abandoned=self._given_up,
            max_pixels=self.max_pixels,
            constant=container.duration is not None,
            pace=self._pace,
            left_out=self._leave_out,
        )

    def _leave_out(self, count: int) -> None:
        self._dropped[reasons.STALE] += count

    def _connect(self, hardware: HWAccel | None = None) -> InputContainer:
        options = {"protocol_whitelist": _ALLOWED, **limits(self.max_pixels)}
        if self._hurry.is_set():
            # Of MPEG-TS FFmpeg reads 20 pictures to tell the rate, 0.9 s at 25 a second and 20 s at one: too long to
            # connect again, or when an attempt was given up before.
            options["fpsprobesize"] = "0"
        if scheme(self.uri) in ("http", "https"):
            # What pieces are called says nothing, and a playlist that FFmpeg refuses in mid-stream because of a name
            # may make it read where nothing is (FFmpeg 8.0, current_segment in hls.c). _ALLOWED says what is opened.
            options["extension_picky"] = "0"
        if scheme(self.uri) in ("rtsp", "rtsps", "rtp", "udp", "srt"):
            # Else FFmpeg waits for some 30 pictures to tell the rate: 1.3 s instead of 0.4 s to the first one.
            options["fpsprobesize"] = "0"
        if scheme(self.uri) in ("rtsp", "rtsps"):
            # Sound is not asked for: it costs bandwidth, and a start that waits for its format.
            options |= {"rtsp_transport": self.transport, "allowed_media_types": "video"}
        times = (self.open_timeout, self.read_timeout)
        # FFmpeg knows schemes in small letters only
        address = scheme(self.uri) + self.uri[len(scheme(self.uri)) :]
        return open_input(address, options=options, timeout=times, hwaccel=hardware)

    def _given_up(self) -> bool:
        """Whether nobody wants more, or nothing came that can be decoded for as long as it may take to begin."""
        late = self._decoder is None and time.monotonic() - self._start >= self.open_timeout
        return late or self._abandoned.is_set()

    def _timestamp(self, picture: Picture) -> float:
        return picture.timestamp if self._timed else time.monotonic() - self._start

    def _captured_at(self, timestamp: float) -> float:
        return time.time()

    def _failure(self, error: FFmpegError) -> FramechainError:
        from av import error as reason

        opening = self._decoder is None
        match error:
            case reason.ConnectionRefusedError():
                return self._described("refuses the connection; is it switched on, and the port right?")
            case reason.HTTPUnauthorizedError() | reason.HTTPForbiddenError():
                return AccessDenied(
                    f"'{redacted(self.uri)}' wants another user or password; "
                    "write them before the host, like user:password@10.0.0.5, special characters in them as %XX"
                )
            case reason.HTTPNotFoundError():
                return NotThere(f"'{redacted(self.uri)}' is not found on that server; check the path")
            case reason.HTTPError() | reason.HTTPClientError():
                return self._described(f"is refused by the server ({error.strerror}); check the address")
            case reason.ExitError() | reason.TimeoutError():
                return self._described(f"sent nothing for {self.read_timeout:g} s; check the camera and the network")
            case reason.ProtocolNotFoundError():
                return self._described(
                    f"cannot be read: PyAV was built without {scheme(self.uri)}; pipe it in instead: "
                    f"ffmpeg -i ADDRESS -c copy -f mpegts - | framechain run -"
                )
            case reason.InvalidDataError() if opening:
                return self._described("is not video; check the path")
            case reason.InvalidDataError():
                return self._described("sends what its decoder refuses; its codec may be another one now")
            case _ if opening and error.errno == errno.EIO and not _is_known(urlsplit(self.uri).hostname):
                return self._described("names a host that is not known here; check its name, and the DNS")
            case _ if opening:
                return self._described(f"cannot be reached ({error.strerror}); check host and network")
        return self._described(f"broke off ({error.strerror}); check the camera and the network")

    def _described(self, what: str) -> FramechainError:
        return FramechainError(f"'{redacted(self.uri)}' {what}")


def _is_known(host: str | None) -> bool:
    """Whether a name leads to an address. It may take as long as FFmpeg, which calls that "I/O error"."""
    try:
        return host is None or bool(socket.getaddrinfo(host, None))
    except (OSError, UnicodeError):
        return False
