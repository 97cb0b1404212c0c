"""Addresses: what the word that names a source says: its kind, its path, an id for it, and its secrets."""

from __future__ import annotations

import difflib
import glob
import os
import re
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit
from urllib.request import url2pathname

Kind = Literal["video", "images", "webcam", "stream", "stdin", "test", ""]

IMAGES = frozenset(
    {".avif", ".bmp", ".dib", ".exr", ".gif", ".hdr", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm"}
    | {".ppm", ".ras", ".sr", ".tif", ".tiff", ".webp"}
)
"""Suffixes of what OpenCV reads as an image."""

STREAMS = frozenset({"http", "https", "rtsp", "rtsps", "rtmp", "rtmps", "rtp", "srt", "tcp", "udp"})
"""Schemes of network streams."""

_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]+):(//)?")
_DEVICE = re.compile(r"\d{1,3}|/dev/(video\d+|v4l/.+)")
# Up to the last @ of the host part; of the whole word where a password holds a slash that should be written %2F.
_USERINFO = re.compile(r"(?:(?<=//)|(?<=:/))(?:[^/?#\s'\"]*:(?!\d+/)[^\s'\"]*@|[^/?#\s'\"]*@)")
# What looks like an address rather than a path: a scheme, or a host (numbers, or a name with a port).
_NEARLY = re.compile(
    rf"({'|'.join(sorted(STREAMS, reverse=True))}):/?(?!/)"
    r"|(?:[^/\s]*@)?(?:\d{1,3}(?:\.\d{1,3}){3}(?::\d{1,5})?|[a-zA-Z][\w.-]+:\d{1,5})(?:/|$)"
)
# Where the scheme was forgotten.
_LOGIN = re.compile(r"(?:^|(?<=['\"]))(?!test:)[\w.%+-]{2,}:[^\s/@'\"]+@")
# As some cameras have it in the path: user=admin_password=secret_channel=1
_PASSWORD = re.compile(r"(?i)((?:password|passwd|pwd)=)(?!\*\*\*)(?:(?!_\w+=)[^&;/#\s'\"])+")
_SECRET = re.compile(r"(?i)([?&;][\w.-]*(?:token|key|auth|pass|pwd|secret|sig|user|login)[\w.-]*=)[^&;#\s'\"]+")


def kind(uri: str) -> Kind:
    """Which kind of source reads `uri`; "" for an unknown scheme, and for "". A path that is not there is a video.

    >>> [kind(uri) for uri in ("0", "-", "a.mp4", "C:/a b.mp4", "x/*.png", "a.JPG", "rtsp://cam/1", "test:", "ftp://x")]
    ['webcam', 'stdin', 'video', 'video', 'images', 'images', 'stream', 'test', '']
    """
    if uri == "-":
        return "stdin"
    if not uri.strip():
        return ""
    if _DEVICE.fullmatch(uri):
        return "webcam"
    path = local_path(uri)
    if path is not None:
        images = os.path.isdir(path) or path.suffix.lower() in IMAGES or is_glob(path)
        return "images" if images else "video"
    word = scheme(uri)
    return "test" if word == "test" else "stream" if word in STREAMS else ""


def scheme(uri: str) -> str:
    """The scheme in lower case; "" for a path. One letter is a Windows drive; `test:` needs no slashes.

    >>> scheme("RTSP://camera/1"), scheme("C:/clips/a.mp4"), scheme("12:30.mp4"), scheme("test:320x240")
    ('rtsp', '', '', 'test')
    """
    found = _SCHEME.match(uri)
    return found[1].lower() if found and (found[2] or found[1].lower() == "test") else ""


def local_path(uri: str) -> Path | None:
    """The path that `uri` names, plain or as file://; None for everything else.

    >>> local_path("file:///clips/my%20clip.mp4").as_posix(), local_path("rtsp://camera/1")
    ('/clips/my clip.mp4', None)
    """
    if scheme(uri) == "file":
        parts = urlsplit(uri)
        host = "" if parts.netloc in ("", "localhost") else f"//{parts.netloc}"
        return Path(url2pathname(host + parts.path))
    return None if scheme(uri) or uri == "-" else Path(os.path.expanduser(uri))


def path_of(uri: str) -> Path:
    """The path of what is taken for a file: `local_path`, or what was given.

    >>> path_of("-").name
    '-'
    """
    return local_path(uri) or Path(uri)


def is_glob(path: Path) -> bool:
    """Whether `path` is a pattern; a file whose name merely holds brackets is not."""
    return glob.has_magic(str(path)) and not os.path.exists(path)


def redacted(text: str) -> str:
    """An address, or a message with addresses in it, without users, passwords and tokens.

    >>> redacted("rtsp://root:se@cret@10.0.0.5/live?token=abc&channel=1")
    'rtsp://10.0.0.5/live?token=***&channel=1'
    """
    return _PASSWORD.sub(r"\1***", _SECRET.sub(r"\1***", _LOGIN.sub("", _USERINFO.sub("", text))))


def host_id(uri: str) -> str:
    """Host and port of a network address, as an id.

    >>> host_id("rtsp://root:secret@10.0.0.5:8554/live"), host_id("udp://@:1234")
    ('10.0.0.5-8554', '1234')
    """
    where = urlsplit(redacted(uri)).netloc
    return re.sub(r"[^\w.]+", "-", where).strip("-") or scheme(uri)


def does_not_exist(path: Path) -> str:
    """One line for a path that is not there, with the most similar name in its folder.

    >>> does_not_exist(Path("10.0.0.7:554/live"))
    "'10.0.0.7:554/live' does not exist; the address of a camera begins with its scheme, such as rtsp://10.0.0.7:554/live"
    """
    if (found := _NEARLY.match(str(path))) is not None:
        rest = str(path)[found.end(1) :].lstrip(":/") if found[1] else path
        address = f"{found[1] or 'rtsp'}://{rest}"
        return f"'{path}' does not exist; the address of a camera begins with its scheme, such as {address}"
    folder = path.parent
    if not os.path.isdir(folder):
        return f"'{path}' does not exist, nor does the folder '{folder}'; check the path"
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except OSError:
        names = []
    near = difflib.get_close_matches(path.name, names, n=1, cutoff=0.6)
    return f"'{path}' does not exist; " + (f"did you mean '{folder / near[0]}'?" if near else "check the path")


def in_a_line(message: str, most: int = 1000) -> str:
    """What others wrote, fit for a terminal: on one line, nothing that a terminal obeys, and not without end.

    >>> in_a_line("500 \\x00\\x1b[2Joops\\nagain"), in_a_line("x" * 2000)[-3:]
    ('500 \\ufffd\\ufffd[2Joops again', 'x …')
    """
    text = " ".join(message.split())
    shown = "".join(letter if letter.isprintable() else "\ufffd" for letter in text)
    return shown if len(shown) <= most else shown[:most] + " …"
