"""Revisions: what a tracker learns about frames that it has told already, as a stream of its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackers.columns import Columns
from trackers.moment import Moment
from trackers.observed import Observed

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

MOST = 10_000
"""Corrections that wait to be asked for, of each stream; of more, the oldest are forgotten."""

_FRAMES = 1024
"""Frames back to which gaps are filled."""


@dataclass(frozen=True, slots=True, eq=False)
class Revisions:
    """Corrections of earlier frames.

    Attributes:
        id, timestamp, xyxy: (B,) int64, (B,) float64 seconds, (B, 4) pixels: boxes of tracks in earlier frames that did
            not show them: before they were confirmed, and while they were hidden, between where they were seen.
        merged, into: (K,) int64 ids: `merged` turned out to be the same as the earlier `into`.
    """

    id: Indices = field(default_factory=lambda: np.zeros(0, np.int64))
    timestamp: Floats = field(default_factory=lambda: np.zeros(0))
    xyxy: Floats = field(default_factory=lambda: np.zeros((0, 4)))
    merged: Indices = field(default_factory=lambda: np.zeros(0, np.int64))
    into: Indices = field(default_factory=lambda: np.zeros(0, np.int64))


class Shown(Columns):
    """When each track was shown last.

    Attributes:
        xyxy: (T, 4) its box then; or when it was first detected. time: (T,) seconds.
        told: (T,) whether a frame showed it.
    """

    xyxy: Floats
    time: Floats
    told: NDArray[np.bool_]

    def __init__(self) -> None:
        """Of no tracks."""
        self.xyxy, self.time, self.told = np.zeros((0, 4)), np.zeros(0), np.zeros(0, bool)

    def grow(self, seen: Observed, cols: Indices, now: Floats) -> None:
        """Append tracks that start as detections `cols`."""
        self.append(seen.xyxy[cols], now, np.zeros(len(cols), bool))


class Reviser:
    """Collects the corrections of all streams until they are asked for."""

    def __init__(self, streams: int) -> None:
        """Nothing is known of any stream."""
        self._frames: list[deque[float]] = [deque(maxlen=_FRAMES) for _ in range(streams)]
        self._boxes: list[deque[tuple[int, float, Floats]]] = [deque(maxlen=MOST) for _ in range(streams)]
        self._merged: list[deque[tuple[int, int]]] = [deque(maxlen=MOST) for _ in range(streams)]

    def begin(self, stream: int) -> None:
        """Forget a stream; the next number makes room for one more."""
        for part, most in ((self._frames, _FRAMES), (self._boxes, MOST), (self._merged, MOST)):
            part[stream : stream + 1] = [deque(maxlen=most)]

    def fill(self, shown: Shown, rows: Indices, streams: Indices, ids: Indices, boxes: Floats, when: Moment) -> None:
        """Tracks `rows` are shown at these boxes: fill what was left out since they were shown last.

        Args:
            streams, ids: (len(rows),). boxes: (len(rows), 4).
        """
        now = np.broadcast_to(when.of(streams).now, len(rows))
        before = np.array([frames[-1] if frames else -np.inf for frames in self._frames])
        late = (shown.time[rows] < before[streams]) | (~shown.told[rows] & (shown.time[rows] < now))
        for n in late.nonzero()[0]:
            row, stream = rows[n], streams[n]
            start = shown.time[row]
            for time in self._frames[stream]:
                if time > start or (time == start and not shown.told[row]):
                    share = (time - start) / (now[n] - start)
                    box = shown.xyxy[row] + share * (boxes[n] - shown.xyxy[row])
                    self._boxes[stream].append((int(ids[n]), time, box))
        shown.xyxy[rows], shown.time[rows], shown.told[rows] = boxes, now, True
        for stream in range(len(self._frames)):
            if isinstance(when.now, float):
                self._frames[stream].append(when.now)
            elif np.asarray(when.active)[stream]:
                self._frames[stream].append(float(when.now[stream]))

    def merge(self, stream: int, merged: int, into: int) -> None:
        """Two ids are one."""
        self._merged[stream].append((merged, into))

    def take(self, stream: int) -> Revisions:
        """All corrections of a stream since they were asked for last."""
        boxes, merged = list(self._boxes[stream]), list(self._merged[stream])
        self._boxes[stream].clear()
        self._merged[stream].clear()
        pairs = np.array(merged, np.int64).reshape(-1, 2)
        return Revisions(
            np.array([one[0] for one in boxes], np.int64),
            np.array([one[1] for one in boxes], np.float64),
            np.array([one[2] for one in boxes], np.float64).reshape(-1, 4),
            pairs[:, 0],
            pairs[:, 1],
        )

    def state_dict(self) -> dict[str, Any]:
        """Everything remembered."""
        return {
            "frames": [list(part) for part in self._frames],
            "boxes": [[(track, time, box.copy()) for track, time, box in part] for part in self._boxes],
            "merged": [list(part) for part in self._merged],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self._frames = [deque(part, _FRAMES) for part in state["frames"]]
        self._boxes = [deque(part, MOST) for part in state["boxes"]]
        self._merged = [deque(part, MOST) for part in state["merged"]]
