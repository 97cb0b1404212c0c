"""Tracking results made better after the fact: joined, smoothed, filled. Offline: every step looks into the future."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trackers import filling, linking, smoothing
from trackers.mot_format import MotRows

_FARTHEST = 1e7
"""Pixels from the corner beyond which nothing is a place in a picture."""


@dataclass(frozen=True, slots=True, eq=False)
class Refined:
    """What became of a result.

    Attributes:
        rows: by frame, then id; filled boxes have the confidence `filling.FILLED`.
        tracks: there were. joined: of them, continue an earlier one. filled: boxes added.
    """

    rows: MotRows
    tracks: int
    joined: int
    filled: int


def refine(rows: MotRows, rate: float, *, link: float = 1.5, fill: float = 1.5, smooth: bool = False) -> Refined:
    """Join tracks that are one object, smooth what was measured, then fill the gaps.

    Args:
        rows: a tracking result. rate: frames a second.
        link: seconds of the longest gap over which tracks are joined; 0: none are.
        fill: seconds of the longest gap within a track that is filled; 0: none is.
        smooth: move the boxes to where the whole track says they were.

    Raises:
        ValueError: the rows are no tracking result; the message says why.
        ImportError: filterpy, which smooths, is not installed.
    """
    if not (np.isfinite(rate) and rate > 0 and link >= 0 and fill >= 0):
        raise ValueError(f"rate ({rate}) must be positive, link ({link}) and fill ({fill}) not negative")
    check(rows)
    linked = linking.link(rows, rate, link) if link else rows
    placed = smoothing.smooth(linked, rate) if smooth else linked
    filled = filling.fill(placed, rate, fill)
    tracks = len(np.unique(rows.id))
    return Refined(filled, tracks, tracks - len(np.unique(linked.id)), len(filled) - len(rows))


def check(rows: MotRows) -> None:
    """See that these are tracks.

    Raises:
        ValueError: an id is negative, as in detection files, or twice in a frame; a box has a negative side or is
            nowhere near a picture; a frame is before the first.
    """
    order = np.lexsort((rows.id, rows.frame))
    frame, track = rows.frame[order], rows.id[order]
    twice = np.zeros(len(rows), bool)
    twice[order[1:]] = (frame[1:] == frame[:-1]) & (track[1:] == track[:-1])
    for wrong, why in (
        (rows.frame < 1, "frames count from 1"),
        (rows.id < 0, "an id that is negative is no track: these may be detections"),
        (twice, "the id is there twice"),
        ((rows.xyxy[:, 2:] < rows.xyxy[:, :2]).any(axis=1), "the box has a negative side"),
        ((np.abs(rows.xyxy) > _FARTHEST).any(axis=1), "the box is in no picture"),
    ):
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise ValueError(f"frame {rows.frame[row]}, id {rows.id[row]}: {why}")
