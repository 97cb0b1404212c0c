"""How the camera moved, told after the fact from finished tracks: what most of them did at once.

A crowd that walks one way looks the same as a camera that turns the other way. For what this is used for that does no
harm: whoever is compared across a gap, or put into one, is so in relation to the others. On MOT17-02 and -10, linking
gains more with it (SORT: 4.9 points of HOTA) than without (2.6) and than with only what is faster than a second (2.5).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trackers.association import centre
from trackers.camera import LEAST, agreed
from trackers.mot_format import MotRows

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class CameraPath:
    """Where the picture has moved.

    Attributes:
        frame: (F,) frames that show a track, ascending. moved: (F, 2) pixels since the first of them.
    """

    frame: Indices
    moved: Floats

    def at(self, frame: Indices) -> Floats:
        """(N, 2) pixels moved until each of (N,) frames; what no track shows is taken to stand still."""
        known = np.concatenate([np.zeros((1, 2)), self.moved])
        return np.asarray(known[np.searchsorted(self.frame, frame, side="right")])


def camera_path(rows: MotRows) -> CameraPath:
    """What the camera did while these tracks were made.

    From one frame to the next the picture moves by the median over all tracks that are in both, if that is large beside
    how far they disagree, and not at all otherwise. `trackers.camera.common_motion` is the same for a tracker at work.

    Args:
        rows: tracks, each id at most once a frame.
    """
    frames = np.unique(rows.frame)
    step = np.zeros((len(frames), 2))
    order = np.lexsort((rows.frame, rows.id))
    frame, track, xyxy = rows.frame[order], rows.id[order], rows.xyxy[order]
    follows = (track[1:] == track[:-1]) & (frame[1:] == frame[:-1] + 1)
    moved = centre(xyxy[1:] - xyxy[:-1])[follows]
    height = (xyxy[1:, 3] - xyxy[1:, 1])[follows]
    when = np.searchsorted(frames, frame[1:][follows])
    by_time = np.argsort(when, kind="stable")
    bounds = np.flatnonzero(np.diff(when[by_time])) + 1
    for group in np.split(by_time, bounds):
        if len(group) >= LEAST:
            step[when[group[0]]] = agreed(moved[group], height[group])
    return CameraPath(frames, np.cumsum(step, axis=0))
