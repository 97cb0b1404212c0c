"""The file of a checkpoint: plain values and arrays, written whole or not at all, and safe to read from anyone.

A line that says what it is; the lengths of what follows; JSON in which `{"\\0array": n}` stands for an array; the
arrays, as the table in the JSON says; SHA-256 of all that. Nothing in it is ever run, and nothing is larger than it.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UsageError

NAME = "checkpoint"

_MAGIC = b"framechain checkpoint 2\n"
_LENGTHS = struct.Struct("<QQ")  # bytes of the JSON and of the arrays
_HEAD = len(_MAGIC) + _LENGTHS.size
_CHECK = hashlib.sha256().digest_size

# 64 sources with a full graveyard each (8 MiB) and 200 tracks in view (6 MiB) come to less than 1 GiB.
_MOST = 4 << 30

# JSON takes up to 49 times its size in memory (8 MiB of "[],"), so there is less of it: that of 64 sources with 200
# tracks each, and 16 readings of each, is 17 MiB.
_MOST_TEXT = 32 << 20

_LONGEST = 600  # letters of a reason

_ARRAY = "\0array"
_WHOLE = ("b1", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8")
_TYPES = frozenset(f"{order}{kind}" for order in "<|" for kind in (*_WHOLE, "f2", "f4", "f8"))


def save(folder: Path, data: dict[str, Any]) -> None:
    """Put a checkpoint in the place of the one before, which stays until the new one is on disk.

    Args:
        data: dictionaries with words for keys, lists, tuples (they become lists), plain values and arrays.

    Raises:
        OSError: there is no room, or it may not be written; the one before is untouched.
        TypeError, ValueError: something in `data` is neither plain nor an array.
    """
    pieces = _encoded(data)
    partial = folder / f".{NAME}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        check = hashlib.sha256()
        with partial.open("wb") as file:
            for piece in pieces:
                file.write(piece)
                check.update(piece)
            file.write(check.digest())
            file.flush()
            os.fsync(file.fileno())
        partial.replace(folder / NAME)
    except OSError:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
    _sync(folder)


def load(folder: Path) -> dict[str, Any] | None:
    """What `save` put there; None if there is nothing.

    Raises:
        UsageError: it is torn, damaged, or something else; or it may not be read.
    """
    path = folder / NAME
    try:
        if not path.exists():
            return None
        if not path.is_file():  # a pipe would be waited for
            raise refused(path, "it is no file")
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            head = file.read(_HEAD)
            if head[: len(_MAGIC)] != _MAGIC:
                raise refused(path, "it is no checkpoint of this version" if size else "it is empty")
            if len(head) < _HEAD:
                raise refused(path, "it is cut short")
            text, arrays = _LENGTHS.unpack(head[len(_MAGIC) :])
            whole = _HEAD + text + arrays + _CHECK
            if text > _MOST_TEXT:
                raise refused(path, "it is damaged")
            if size != whole or whole > _MOST:
                raise refused(path, "it is cut short" if size < whole <= _MOST else "it is damaged")
            body = _room(path, text + arrays)
            if file.readinto(body) < len(body):
                raise refused(path, "it is cut short")
            check = hashlib.sha256(head)
            check.update(body)
            if file.read(_CHECK) != check.digest():
                raise refused(path, "it is damaged")
    except OSError as error:
        raise refused(path, error.strerror or "it cannot be read") from error
    try:
        return _decoded(body, text)
    except MemoryError as error:
        raise refused(path, "there is not the memory for it") from error
    except (ValueError, TypeError, KeyError, IndexError, RecursionError, OverflowError) as error:
        raise refused(path, "it was made by something else") from error


def _room(path: Path, size: int) -> bytearray:
    try:
        return bytearray(size)
    except MemoryError as error:
        raise refused(path, "there is not the memory for it") from error


def refused(path: Path, why: str) -> UsageError:
    """The line for a checkpoint from which nothing can go on."""
    why = " ".join(why.split())
    why = why if len(why) <= _LONGEST else f"{why[:_LONGEST]} ..."  # whatever was in it
    return UsageError(f"the checkpoint {path} cannot be used: {why}; begin anew with --fresh, or delete it")


def _encoded(data: dict[str, Any]) -> Iterable[bytes | memoryview]:
    arrays: list[NDArray[Any]] = []

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            if not all(isinstance(key, str) and key != _ARRAY for key in value):
                raise TypeError(f"keys of a state are words, not {next(iter(value))!r}")
            return {key: plain(part) for key, part in value.items()}
        if isinstance(value, list | tuple):
            return [plain(part) for part in value]
        if isinstance(value, np.ndarray):
            arrays.append(np.ascontiguousarray(value, value.dtype.newbyteorder("<")).reshape(value.shape))
            if arrays[-1].dtype.str not in _TYPES:
                raise TypeError(f"a state holds numbers, not {value.dtype}")
            return {_ARRAY: len(arrays) - 1}
        if isinstance(value, np.generic):
            return value.item()
        return value

    told = plain(data)
    table = [[array.dtype.str, list(array.shape)] for array in arrays]
    text = json.dumps({"arrays": table, "data": told}).encode()
    size = sum(array.nbytes for array in arrays)
    if len(text) > _MOST_TEXT or _HEAD + len(text) + size + _CHECK > _MOST:
        raise ValueError(f"the state is larger than {_MOST >> 30} GiB, or its text than {_MOST_TEXT >> 20} MiB")
    return [
        _MAGIC,
        _LENGTHS.pack(len(text), size),
        text,
        *(array.reshape(-1).view(np.uint8).data for array in arrays if array.size),
    ]


def _decoded(body: bytearray, text: int) -> dict[str, Any]:
    told = json.loads(body[:text])
    arrays, start = [], text
    for kind, shape in told["arrays"]:
        if kind not in _TYPES or not all(type(side) is int and side >= 0 for side in shape) or len(shape) > 8:
            raise ValueError(f"no array is {kind} {shape}")
        dtype, count = np.dtype(kind), 1
        for side in shape:
            count *= side
        if count * dtype.itemsize > len(body) - start:
            raise ValueError("an array goes beyond the end")
        flat = np.frombuffer(body, dtype, count, start).copy() if count else np.zeros(0, dtype)
        arrays.append(flat.reshape(shape))
        start += count * dtype.itemsize
    if start != len(body):
        raise ValueError("something is left over")

    unused = set(range(len(arrays)))

    def whole(value: Any) -> Any:
        if isinstance(value, dict):
            if _ARRAY in value:
                number = value[_ARRAY]
                if type(number) is not int or number not in unused:
                    raise ValueError(f"no array has the number {number}")
                unused.remove(number)  # one that stands in many places would be copied as often
                return arrays[number]
            return {key: whole(part) for key, part in value.items()}
        return [whole(part) for part in value] if isinstance(value, list) else value

    data = whole(told["data"])
    if not isinstance(data, dict):
        raise ValueError("it holds no state")
    return data


def _sync(folder: Path) -> None:
    """See that the new name survives a power cut, where a system can be asked for that."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
