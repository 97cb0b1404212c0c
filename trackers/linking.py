"""Offline: tracks that end and tracks that begin later, joined where motion says that they are one object."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from trackers.association import assign, centre
from trackers.drift import CameraPath, camera_path
from trackers.mot_format import MotRows

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

_FEW = 3
"""Rows that a velocity is told from at least, if there are so many: a slow camera has few in a window."""


@dataclass(frozen=True, slots=True)
class Plausible:
    """When the end of one track and the beginning of another may be one object.

    Distances are in heights of the boxes, so that near and far people are judged alike. The defaults were chosen on
    MOT17-02 and -10 with the results of four trackers.

    Attributes:
        window: seconds of a track from which its velocity at its end, or beginning, is told.
        fade: seconds in which a velocity fades to 1/e: nobody walks straight on for ever.
        near: how far from where it was expected a track may be, however short the gap.
        spread: how much farther for each second of the gap.
        height: least ratio of the smaller height to the larger. Heights carried over the gap like places did worse:
            what trackers return is too rough for it.
        margin: a track is not joined at all if its best partner costs more than this share of the second best.
    """

    window: float = 0.5
    fade: float = 0.7
    near: float = 0.15
    spread: float = 0.1
    height: float = 0.9
    margin: float = 0.9


@dataclass(frozen=True, slots=True, eq=False)
class _Ends:
    """One end of each of K tracks: (K,) seconds, (K, 2) centre and velocity a second, (K,) height and class."""

    time: Floats
    centre: Floats
    velocity: Floats
    height: Floats
    class_id: Indices


def link(rows: MotRows, rate: float, max_gap: float, rule: Plausible | None = None) -> MotRows:
    """Give tracks that are one object one id: that of the earliest.

    A track may be continued by one that begins after it ended. Both ends are carried over the gap, forwards and
    backwards, and the mean of the two distances is what the assignment minimises over all tracks of the file at once.
    The camera's motion is taken out before.

    Args:
        rows: tracks, each id at most once a frame. rate: frames a second.
        max_gap: seconds between the last box of a track and the first of the one that continues it.
        rule: what is plausible; the defaults if none.

    Returns:
        the same rows in the same order with other ids.
    """
    if not len(rows):
        return rows
    rule = rule or Plausible()
    ids, starts, ends = _ends(rows, rate, camera_path(rows), rule.window)
    before, after, cost = _candidates(starts, ends, max_gap, rule)
    chosen = assign(before, after, cost, 1.0)
    first = np.arange(len(ids))
    first[after[chosen]] = before[chosen]
    # chains: whoever continues a track that continues another gets the first one's id; each step halves what is left
    while not np.array_equal(first, first[first]):
        first = first[first]
    return replace(rows, id=ids[first[np.searchsorted(ids, rows.id)]])


def _ends(rows: MotRows, rate: float, path: CameraPath, window: float) -> tuple[Indices, _Ends, _Ends]:
    """(K,) ids, ascending, and their tracks' beginnings and ends."""
    order = np.lexsort((rows.frame, rows.id))
    ids, first = np.unique(rows.id[order], return_index=True)
    time = rows.frame[order] / rate
    xyxy = rows.xyxy[order]
    place = centre(xyxy) - path.at(rows.frame[order])
    height = xyxy[:, 3] - xyxy[:, 1]
    last = np.append(first[1:], len(order))
    starts, ends = np.zeros((len(ids), 6)), np.zeros((len(ids), 6))
    for track, (begin, end) in enumerate(zip(first, last, strict=True)):
        reach = np.searchsorted(time[begin:end], time[begin] + window, side="right")
        head = slice(begin, begin + max(reach, min(_FEW, end - begin)))
        reach = end - begin - np.searchsorted(time[begin:end], time[end - 1] - window, side="left")
        tail = slice(end - max(reach, min(_FEW, end - begin)), end)
        for table, part, at in ((starts, head, begin), (ends, tail, end - 1)):
            table[track] = (time[at], *_line(time[part] - time[at], place[part]), np.median(height[part]))
    return ids, _as_ends(starts, rows.class_id[order[first]]), _as_ends(ends, rows.class_id[order[last - 1]])


def _as_ends(table: Floats, class_id: Indices) -> _Ends:
    # a box without height would make every distance infinite
    return _Ends(table[:, 0], table[:, 1:3], table[:, 3:5], np.maximum(table[:, 5], 1.0), class_id)


def _line(time: Floats, centre: Floats) -> Floats:
    """(4,) centre at time 0 and velocity of a line through (N, 2) centres that outliers do not bend.

    The median of the slopes of all pairs (Theil 1950, Sen 1968), then of what is left.
    """
    if len(time) < 2:
        return np.concatenate([centre[0], np.zeros(2)])
    i, j = np.triu_indices(len(time), 1)
    velocity = np.median((centre[j] - centre[i]) / (time[j] - time[i])[:, None], axis=0)
    return np.concatenate([np.median(centre - velocity * time[:, None], axis=0), velocity])


def _candidates(starts: _Ends, ends: _Ends, max_gap: float, rule: Plausible) -> tuple[Indices, Indices, Floats]:
    """Tracks that end, tracks that may continue them, and how far they are from that: less than 1."""
    order = np.argsort(starts.time, kind="stable")
    begun = starts.time[order]
    low = np.searchsorted(begun, ends.time, side="right")
    count = np.maximum(np.searchsorted(begun, ends.time + max_gap + 1e-9, side="right") - low, 0)
    before = np.repeat(np.arange(len(low)), count)
    after = order[np.arange(len(before)) + np.repeat(low - (np.cumsum(count) - count), count)]
    gap = starts.time[after] - ends.time[before]
    one, other = ends.height[before], starts.height[after]
    reach = (rule.fade * -np.expm1(-gap / rule.fade))[:, None]
    apart = starts.centre[after] - ends.centre[before]
    forwards = np.linalg.norm(apart - ends.velocity[before] * reach, axis=1)
    backwards = np.linalg.norm(apart - starts.velocity[after] * reach, axis=1)
    cost = (forwards + backwards) / (one + other) / (rule.near + rule.spread * gap)
    alike = np.minimum(one, other) >= rule.height * np.maximum(one, other)
    may = (cost < 1) & alike & (ends.class_id[before] == starts.class_id[after])
    before, after, cost = before[may], after[may], cost[may]
    clear = ~(_ambiguous(before, cost, rule.margin) | _ambiguous(after, cost, rule.margin))
    return before[clear], after[clear], cost[clear]


def _ambiguous(side: Indices, cost: Floats, margin: float) -> NDArray[np.bool_]:
    """(P,) whether the best pair of this pair's track costs more than `margin` times the second best."""
    order = np.lexsort((cost, side))
    track, sorted_cost = side[order], cost[order]
    best = np.ones(len(order), bool)
    best[1:] = track[1:] != track[:-1]
    rivalled = best[:-1] & ~best[1:] & (sorted_cost[:-1] > margin * sorted_cost[1:])
    return np.isin(side, track[:-1][rivalled])
