"""The one reader and writer of MOTChallenge text files: ground truth, detections, results, seqinfo.ini."""

from __future__ import annotations

import configparser
import io
from collections.abc import Iterable
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trackers.tracks import Tracks


def _empty() -> NDArray[np.float64]:
    return np.zeros(0)


@dataclass(frozen=True, slots=True, eq=False)
class MotRows:
    """The lines of a MOTChallenge file as columns, in the order of the file.

    Attributes:
        frame: (N,) int64, from 1.
        id: (N,) int64; -1 in detection files.
        xyxy: (N, 4) float64 pixels.
        confidence: (N,) float64: score, or the flag "to be considered" (0 or 1) of a ground truth.
        class_id: (N,) int64 of MOT16/17/20 ground truth (1 = pedestrian); -1 elsewhere.
        visibility: (N,) float64 in 0..1 of MOT16/17/20 ground truth; 1 elsewhere.
    """

    frame: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    id: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    xyxy: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 4)))
    confidence: NDArray[np.float64] = field(default_factory=_empty)
    class_id: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    visibility: NDArray[np.float64] = field(default_factory=_empty)

    def __len__(self) -> int:
        return len(self.frame)

    def __getitem__(self, rows: NDArray[np.bool_] | NDArray[np.int64] | slice) -> MotRows:
        """The given rows only: a mask, indices or a slice."""
        return MotRows(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


def read(path: str | PathLike[str]) -> MotRows:
    """Read a ground-truth, detection or result file.

    A line is `frame, id, left, top, width, height, confidence`, then in MOT16/17/20 ground truth
    `class, visibility`, elsewhere three world coordinates or nothing, which are not kept.

    Raises:
        OSError: the file cannot be read.
        ValueError: a line is not of this format; the message names file and line.
    """
    lines = enumerate(_text(path).splitlines(), 1)
    rows = [_numbers(path, number, line) for number, line in lines if line.strip()]
    if not rows:
        return MotRows()
    table = np.array([row[:7] for row in rows])
    # nine columns are MOT16/17/20 ground truth; MOT15 and result files have ten
    extra = np.array([row[7:9] if len(row) == 9 else (-1.0, 1.0) for row in rows])
    xyxy = table[:, 2:6].copy()
    xyxy[:, 2:] += xyxy[:, :2]
    whole = table[:, :2].astype(np.int64)
    return MotRows(whole[:, 0], whole[:, 1], xyxy, table[:, 6], extra[:, 0].astype(np.int64), extra[:, 1])


def _text(path: str | PathLike[str]) -> str:
    try:
        return Path(path).read_text()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a text file") from error


def _numbers(path: str | PathLike[str], number: int, line: str) -> list[float]:
    try:
        values = [float(word) for word in line.split(",")]
    except ValueError:
        raise ValueError(f"{path}, line {number}: not comma-separated numbers: {line[:60]!r}") from None
    if not 6 <= len(values) <= 10:
        raise ValueError(f"{path}, line {number}: {len(values)} columns instead of 6 to 10")
    if not np.isfinite(values).all() or values[0] < 1 or not all(_whole(value) for value in values[:2]):
        raise ValueError(f"{path}, line {number}: frame (from 1) and id must be whole, all finite: {line[:60]!r}")
    return values if len(values) > 6 else [*values, 1.0]


def _whole(value: float) -> bool:
    return value == int(value) and abs(value) <= 2**53  # beyond, float64 skips whole numbers


def lines(frame: int, tracks: Tracks) -> str:
    """The lines of a result file for one frame, numbered from 1: empty if it shows no track.

    >>> lines(1, Tracks())
    ''
    """
    text = io.StringIO()
    for track_id, (x1, y1, x2, y2), score in zip(tracks.id, tracks.xyxy, tracks.score, strict=True):
        text.write(f"{frame},{track_id},{x1:.2f},{y1:.2f},{x2 - x1:.2f},{y2 - y1:.2f},{score:.4f},-1,-1,-1\n")
    return text.getvalue()


def write(path: str | PathLike[str], frames: Iterable[tuple[int, Tracks]]) -> None:
    """Write a result file from (frame number from 1, its tracks) pairs."""
    with open(path, "w", encoding="ascii", newline="\n") as file:
        file.writelines(lines(frame, tracks) for frame, tracks in frames)


def text(rows: MotRows) -> str:
    """A whole result file from rows, in their order. A confidence is 0 in it only if it is 0.

    >>> text(MotRows(np.array([1]), np.array([3]), np.array([[5.0, 6, 15, 26]]), np.array([0.5]))).strip()
    '1,3,5.00,6.00,10.00,20.00,0.5,-1,-1,-1'
    """
    table = zip(rows.frame.tolist(), rows.id.tolist(), rows.xyxy.tolist(), rows.confidence.tolist(), strict=True)
    return "".join(
        f"{frame},{track_id},{x1:.2f},{y1:.2f},{x2 - x1:.2f},{y2 - y1:.2f},{confidence:.6g},-1,-1,-1\n"
        for frame, track_id, (x1, y1, x2, y2), confidence in table
    )


@dataclass(frozen=True, slots=True)
class SequenceInfo:
    """What a seqinfo.ini says: name, frames a second, number of frames, pixels."""

    name: str
    frame_rate: float
    length: int
    width: int
    height: int


def read_seqinfo(path: str | PathLike[str]) -> SequenceInfo:
    """Read a seqinfo.ini.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no seqinfo.ini; the message names file and key.
    """
    parser, content = configparser.ConfigParser(), _text(path)
    try:
        parser.read_string(content)
        section = parser["Sequence"]
        return SequenceInfo(
            section["name"],
            float(section["frameRate"]),
            int(section["seqLength"]),
            int(section["imWidth"]),
            int(section["imHeight"]),
        )
    except configparser.MissingSectionHeaderError:
        raise ValueError(f"{path}, line 1: no [Sequence] section") from None
    except KeyError as missing:
        raise ValueError(f"{path}: {missing} is missing") from None
    except (configparser.Error, ValueError) as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())}") from None
