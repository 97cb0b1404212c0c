"""Offline: boxes put into the gaps of a track, between the last one before and the first one after."""

from __future__ import annotations

import numpy as np

from trackers.drift import camera_path
from trackers.mot_format import MotRows

FILLED = 0.0
"""Confidence of a box that was filled in: none was found there. TrackEval does not look at it in results."""


def fill(rows: MotRows, rate: float, max_gap: float) -> MotRows:
    """Fill the gaps of each track: straight from the box before to the box after, as seen by a camera that stands.

    Args:
        rows: tracks, each id at most once a frame. rate: frames a second.
        max_gap: seconds from the box before to the box after, up to which a gap is filled.

    Returns:
        the rows and the filled ones, whose confidence is `FILLED`, by frame, then id. Without a gap nothing changes
        but the order.
    """
    order = np.lexsort((rows.frame, rows.id))
    sorted_rows = rows[order]
    frame, track = sorted_rows.frame, sorted_rows.id
    missing = np.diff(frame) - 1
    wide = (np.diff(track) == 0) & (missing > 0) & (missing + 1 <= max_gap * rate + 1e-6)
    count = missing[wide]
    before = np.repeat(np.flatnonzero(wide), count)
    step = np.arange(len(before)) - np.repeat(np.cumsum(count) - count, count) + 1
    when = frame[before] + step
    share = (step / (frame[before + 1] - frame[before]))[:, None]
    path = camera_path(rows)
    still = sorted_rows.xyxy - np.tile(path.at(frame), 2)
    added = MotRows(
        when,
        track[before],
        still[before] * (1 - share) + still[before + 1] * share + np.tile(path.at(when), 2),
        np.full(len(before), FILLED),
        sorted_rows.class_id[before],
        np.ones(len(before)),
    )
    every = MotRows(
        *(np.concatenate([getattr(sorted_rows, name), getattr(added, name)]) for name in MotRows.__dataclass_fields__)
    )
    return every[np.lexsort((every.id, every.frame))]
