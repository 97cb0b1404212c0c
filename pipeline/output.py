"""Where a sink's files go: paths made per source, and checked before anything is loaded."""

from __future__ import annotations

import os
import re
import tempfile
from abc import ABC
from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import Field, PrivateAttr

from pipeline.errors import FramechainError, UsageError
from pipeline.sink import Sink

PLACEHOLDER = "{source}"


class FileSink(Sink, ABC):
    """A sink that writes files. `{source}` in its path stands for the id of the source, made safe for a file name.

    Missing directories are made. A file that exists is overwritten once the first source begins, not before:
    a run that cannot start leaves the old results alone.
    """

    path: Path = Field(description="file to write; {source} in it is replaced by the source's id")

    _claimed: dict[str, Path] = PrivateAttr(default_factory=dict)

    def open(self) -> None:
        """Make the directory and check that the file can be written.

        Raises:
            UsageError: it cannot.
        """
        check_writable(self.path)

    def claim(self, source: str) -> Path:
        """The file for a source: its own where the path holds `{source}`, else the one for all.

        Raises:
            UsageError: the sink needs a file for each source, and the path gives only one.
            FramechainError: the directory cannot be made.
        """
        if PLACEHOLDER not in str(self.path):
            if self.per_source and self._claimed.keys() - {source}:
                raise UsageError(
                    f"sink '{self.name}' writes a file for each source, and {self.path} is only one; "
                    f"put {PLACEHOLDER} into its path"
                )
            path = self.path.expanduser()
        else:
            name, taken = file_safe(source), set(self._claimed.values()) - {self._claimed.get(source)}
            path, n = _filled(self.path, name), 2
            while path in taken:  # "a/b" and "a_b" are one name when made safe
                path, n = _filled(self.path, f"{name}-{n}"), n + 1
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise cannot_write(path, error) from error
        self._claimed[source] = path
        return path

    def close(self) -> None:
        """Forget which source writes where."""
        self._claimed.clear()


def file_safe(source: str) -> str:
    """A source's id as part of a file name, on any system.

    >>> file_safe("rtsp://10.0.0.7:554/gate 1")
    'rtsp_10.0.0.7_554_gate_1'
    >>> file_safe("../../etc")
    'etc'
    """
    return re.sub(r"[^\w.-]+", "_", source).strip("._-")[:100] or "source"


def check_writable(path: Path) -> None:
    """Make the directory of `path` and see that the file can be written; what it holds stays as it is.

    Raises:
        UsageError: it cannot be written; says why and what to do.
    """
    templated = PLACEHOLDER in str(path)
    path = path.expanduser()
    folder = path.parent
    while PLACEHOLDER in str(folder):
        folder = folder.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if templated or not path.exists():
            with tempfile.TemporaryFile(dir=folder):
                pass
        else:
            os.close(os.open(path, os.O_WRONLY | os.O_APPEND))
    except OSError as error:
        raise UsageError(
            f"cannot write {path}: {error.strerror}; give a path in a directory that you can write"
        ) from error


def check_outputs(written: Iterable[tuple[str, Path | None]], read: Mapping[Path, str]) -> None:
    """Refuse outputs that would overwrite what is read, or one another.

    Args:
        written: (name of who writes, path or none). read: what the files that are read are, by their paths.

    Raises:
        UsageError: names both.
    """
    inputs = {path.expanduser().resolve(): what for path, what in read.items()}
    outputs: dict[Path, str] = {}
    for writer, path in written:
        if path is None:
            continue
        where = path.expanduser().resolve()
        if where in inputs:
            raise UsageError(f"{writer} would overwrite {inputs[where]}; give it another path")
        if where in outputs:
            raise UsageError(f"{outputs[where]} and {writer} both write {path}; give one another path")
        outputs[where] = writer


def check_reports(reports: Mapping[str, Path | None], read: Iterable[str]) -> None:
    """See that reports can be written and overwrite nothing.

    Args:
        reports: path or none by the flag that asks for it. read: files, folders, and pairs of them as FILE=FILE.

    Raises:
        UsageError: one cannot, or would overwrite what is read or another.
    """
    inputs = {Path(part): f"the input {part}" for text in read for part in (text, *text.split("=")) if part}
    check_outputs(reports.items(), inputs)
    for path in filter(None, reports.values()):
        check_writable(path)


def replace_file(path: Path, text: str) -> None:
    """Write a whole text file at once; see `replace_bytes`."""
    replace_bytes(path, text.encode())


def replace_bytes(path: Path, data: bytes) -> None:
    """Write a whole file at once: whoever reads it sees the old content or the new, never half.

    Raises:
        FramechainError: it cannot be written; what was there before is untouched.
    """
    target = path.expanduser().resolve()
    partial = target.with_name(f".{target.name}.part")
    try:
        if target.exists() and not target.is_file():  # a pipe or a device: there is nothing to replace
            target.write_bytes(data)
        else:
            partial.write_bytes(data)
            partial.replace(target)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise cannot_write(path, error) from error


def cannot_write(path: Path, error: OSError) -> FramechainError:
    """A write failed in the middle of a run; what was written before it stays valid."""
    return FramechainError(
        f"cannot write {path}: {error.strerror}; what it holds so far is valid, make room or write elsewhere"
    )


def _filled(path: Path, name: str) -> Path:
    return Path(str(path).replace(PLACEHOLDER, name)).expanduser()
