"""Occlusion: which tracks stand behind which others, and since when."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trackers.association import Floats, Indices, area, overlapping
from trackers.columns import Columns
from trackers.compiled import kernels
from trackers.observed import Observed

Mask = NDArray[np.bool_]

_COVERED = 0.3
"""Share of a box that others must cover for it to count as occluded."""


class Occlusions(Columns):
    """What covers each track.

    Attributes:
        covered: (T,) whether more than 0.3 of its box lies under boxes of others in front of it.
        by: (T,) id of the track that covers most of it; -1 if none does, or if that one has no id yet.
        since: (T,) seconds, when it was first covered, if it is.
    """

    covered: Mask
    by: Indices
    since: Floats

    def __init__(self, tracks: int = 0) -> None:
        """So many that nothing covers."""
        self.covered, self.by, self.since = np.zeros(tracks, bool), np.full(tracks, -1), np.zeros(tracks)

    def grow(self, seen: Observed, cols: Indices, now: Floats) -> None:
        """Append tracks that nothing covers."""
        self.append(np.zeros(len(cols), bool), np.full(len(cols), -1), np.zeros(len(cols)))

    def look(
        self, xyxy: Floats, ids: Indices, visible: Mask, now: float | Floats, groups: Indices | None = None
    ) -> None:
        """See who is behind whom.

        Of two boxes that overlap, the one that reaches lower in the image is in front: both stand on the same floor,
        and the camera looks down on it. A track that was not seen is behind all that were.

        Args:
            xyxy: (T, 4) boxes of all tracks. ids: (T,). visible: (T,) those seen in this frame.
            now: seconds, or (T,). groups: (T,) only those of one group cover each other.
        """
        before = self.covered
        self.covered, self.by = np.zeros(len(xyxy), bool), np.full(len(xyxy), -1)
        if fast := kernels():
            alike = np.zeros(0, np.int64) if groups is None else groups
            fast.covered(xyxy, ids, visible, alike, _COVERED, self.covered, self.by)
        else:
            seen = visible.nonzero()[0]
            behind, front = overlapping(xyxy, xyxy[seen], None if groups is None else (groups, groups[seen]))
            front = seen[front]
            real = (behind != front) & (~visible[behind] | (xyxy[front, 3] > xyxy[behind, 3]))
            behind, front = behind[real], front[real]
            side = np.minimum(xyxy[behind, 2:], xyxy[front, 2:]) - np.maximum(xyxy[behind, :2], xyxy[front, :2])
            share = side[:, 0] * side[:, 1] / area(xyxy[behind])
            self.covered = np.bincount(behind, share, len(xyxy)) > _COVERED
            order = np.argsort(share, kind="stable")  # of several the last one stays: the largest share
            self.by[behind[order]] = ids[front[order]]
            self.by[~self.covered] = -1
        self.since = np.where(self.covered & ~before, now, self.since)
