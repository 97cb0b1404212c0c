"""Download: a file from an address, whole and as expected, or not at all."""

from __future__ import annotations

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from pipeline.address import redacted
from pipeline.errors import FramechainError, UsageError

Progress = Callable[[int, int | None], None]
"""Is told the bytes that have come, and of how many where that is known."""

_PATIENCE = 30.0  # seconds without a byte
_MOST = 8 << 30  # bytes: the largest public detectors have half a gigabyte
_AT_ONCE = 1 << 18


def fetch(source: str, target: Path, sha256: str | None, progress: Progress | None = None) -> str:
    """Copy an http(s) address or a local file to `target`, which appears once it is whole and never before.

    Args:
        source: address, or path of a file.
        target: its folder is made where it is missing.
        sha256: which the file must have; None to take it as it is.
        progress: is called as bytes come.

    Returns:
        the sha256 of what came.

    Raises:
        UsageError: the file does not exist, the scheme is another, or the target's folder cannot be written.
        FramechainError: it did not come whole, or has another checksum. Nothing of it is left.
    """
    partial = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        file = partial.open("wb")
    except OSError as error:
        raise UsageError(
            f"cannot write to {target.parent}: {error.strerror}; set FRAMECHAIN_CACHE to a folder that you can write"
        ) from error
    try:
        with file, closing(_open(source)) as stream:
            actual = _copy(stream, file, source, target, progress)
        if sha256 not in (None, actual):
            raise FramechainError(
                f"what came from {redacted(source)} has the sha256 {actual}, not {sha256}, and was not kept; "
                f"try again, or give a file that is known to be right with --from"
            )
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return actual


def _open(source: str) -> IO[bytes]:
    scheme = urlsplit(source).scheme if "://" in source else ""
    if not scheme:
        try:
            return Path(source).expanduser().open("rb")
        except OSError as error:
            raise UsageError(f"cannot read {source}: {error.strerror}; check the path") from error
    if scheme not in ("http", "https"):
        raise UsageError(f"cannot fetch {redacted(source)}: give an http:// or https:// address, or a file")
    try:
        stream: IO[bytes] = urllib.request.urlopen(source, timeout=_PATIENCE)
    except urllib.error.HTTPError as error:
        raise _failed(source, f"the server says {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _failed(source, str(getattr(error, "reason", error))) from error
    return stream


def _copy(stream: IO[bytes], file: IO[bytes], source: str, target: Path, progress: Progress | None) -> str:
    total = _length(stream)
    digest, done = hashlib.sha256(), 0
    while True:
        try:
            part = stream.read(_AT_ONCE)
        except (OSError, http.client.HTTPException) as error:
            raise _failed(source, f"it broke off after {done} bytes ({error})") from error
        if not part:
            break
        done += len(part)
        if done > _MOST:
            raise _failed(source, f"it is larger than {_MOST} bytes")
        digest.update(part)
        try:
            file.write(part)
        except OSError as error:
            raise _full(target, error) from error
        if progress is not None:
            progress(done, total)
    if total is not None and done < total:
        raise _failed(source, f"it broke off after {done} of {total} bytes")
    try:
        file.flush()
    except OSError as error:
        raise _full(target, error) from error
    return digest.hexdigest()


def _length(stream: IO[bytes]) -> int | None:
    """How many bytes are to come, as the server or the file says."""
    if not isinstance(stream, http.client.HTTPResponse):
        return os.fstat(stream.fileno()).st_size
    said = stream.headers.get("Content-Length", "")
    return int(said) if said.isdecimal() else None


def _failed(source: str, reason: str) -> FramechainError:
    return FramechainError(
        f"cannot fetch {redacted(source)}: {' '.join(redacted(reason).split())}; nothing was kept; check the network, "
        f"or give a file that you fetched elsewhere with --from"
    )


def _full(target: Path, error: OSError) -> FramechainError:
    return FramechainError(
        f"cannot write {target}: {error.strerror}; nothing was kept; make room, "
        f"or set FRAMECHAIN_CACHE to another folder"
    )
