"""The cache of what a network was made into for this machine: conversions, engines and choices of a runtime."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import FramechainError
from pipeline.files.output import cannot_write
from pipeline.models import cache_folder, sha256

FORMAT = 1  # of conversions and choices: another where older ones are of no use


def folder() -> Path:
    """Where it is."""
    return cache_folder("converted")


def digest(path: Path) -> str:
    """Checksum of the weights in a file; of a conversion, of those that it was made from."""
    return path.name.partition(".")[0] if path.parent == folder() else sha256(path)


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of the cache. `digest` is the checksum of the weights that it was made from."""

    path: Path
    digest: str
    size: int


def entries() -> Iterator[Entry]:
    """All files that are whole, the newest first."""
    found = [path for path in folder().glob("[!.]*") if path.is_file()]
    for path in sorted(found, key=lambda path: -path.stat().st_mtime):
        yield Entry(path, path.name.partition(".")[0], path.stat().st_size)


def clear() -> tuple[int, int]:
    """Delete all files, half-written ones as well; gives how many those were, and their bytes.

    Raises:
        FramechainError: one cannot be deleted.
    """
    count = size = 0
    for path in folder().glob("*"):
        try:
            size += path.stat().st_size
            path.unlink()
        except OSError as error:
            raise FramechainError(f"cannot delete {path}: {error.strerror}; delete it by hand") from error
        count += 1
    return count, size


def kept(name: str, make: Callable[[], bytes]) -> Path:
    """The file of that name; where it is not there yet, it is made.

    Several processes may want the same: each writes a file of its own and the first to finish gives it the name, so
    nobody ever sees half a file, and all use the same one from then on.

    Args:
        name: begins with the checksum of the weights and a dot.

    Raises:
        FramechainError: the cache cannot be written.
    """
    path = folder() / name
    if path.exists():
        return path
    data = make()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        number, partial = tempfile.mkstemp(dir=path.parent, prefix=".")
        with os.fdopen(number, "wb") as file:
            file.write(data)
        Path(partial).chmod(0o644)  # a cache may be shared
        try:
            os.link(partial, path)
        except FileExistsError:
            pass  # another process was first
        except OSError:  # a file system without links
            Path(partial).replace(path)
        Path(partial).unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from error
    return path
