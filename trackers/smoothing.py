"""Offline: boxes of a track moved to where all of its boxes together, earlier and later, say that it was."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from trackers.drift import camera_path
from trackers.mot_format import MotRows

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Noise:
    """Standard deviations of the constant-velocity model, in heights of the track's boxes (their median).

    Attributes:
        measured: of a box's centre, width and height.
        push: of their acceleration, white noise: what a velocity changes by in a second, in heights a second.
        velocity: of the velocity at the beginning, in heights a second.
    """

    measured: float = 0.02
    push: float = 0.6
    velocity: float = 2.0


def smooth(rows: MotRows, rate: float, noise: Noise | None = None) -> MotRows:
    """Move each box to the mean of where the whole track says that it was: Rauch, Tung and Striebel 1965, by filterpy.

    Centre, width and height each have a velocity; the time between boxes is the real one, and gaps stay gaps. The
    camera's motion is taken out before and put back. Takes about 0.25 ms a box.

    Args:
        rows: tracks, each id at most once a frame. rate: frames a second. noise: the defaults if none.

    Returns:
        the same rows in the same order with other boxes; a track of one box keeps it.

    Raises:
        ImportError: filterpy is not installed.
    """
    import filterpy.kalman  # noqa: F401 - missing, it is missing whatever there is to smooth

    noise = noise or Noise()
    path = np.tile(camera_path(rows).at(rows.frame), 2)
    xyxy = rows.xyxy.copy()
    order = np.lexsort((rows.frame, rows.id))
    for part in np.split(order, np.flatnonzero(np.diff(rows.id[order])) + 1):
        if len(part) > 1:
            xyxy[part] = _smoothed(rows.frame[part] / rate, rows.xyxy[part] - path[part], noise) + path[part]
    return replace(rows, xyxy=xyxy)


def _smoothed(time: Floats, xyxy: Floats, noise: Noise) -> Floats:
    """(N, 4) boxes of one track out of those measured at (N,) ascending seconds."""
    from filterpy.kalman import KalmanFilter

    size = xyxy[:, 2:] - xyxy[:, :2]
    measured = np.concatenate([xyxy[:, :2] + size / 2, size], axis=1)
    height = max(float(np.median(size[:, 1])), 1.0)
    kalman = KalmanFilter(dim_x=8, dim_z=4)
    kalman.x = np.concatenate([measured[0], np.zeros(4)])
    kalman.P = height**2 * np.diag(np.repeat([noise.measured**2, noise.velocity**2], 4))
    kalman.H = np.eye(4, 8)
    kalman.R = (height * noise.measured) ** 2 * np.eye(4)
    steps = np.diff(time, prepend=time[0])
    moves = [np.kron([[1, dt], [0, 1]], np.eye(4)) for dt in steps]
    # what white noise in the acceleration leaves in position and velocity after dt (Bar-Shalom et al. 2001, 6.2.2)
    pushes = [
        (height * noise.push) ** 2 * np.kron([[dt**3 / 3, dt**2 / 2], [dt**2 / 2, dt]], np.eye(4)) for dt in steps
    ]
    # the first box is the state that the filter starts from, so it is not measured again
    means, covariances, _, _ = kalman.batch_filter([None, *measured[1:]], Fs=moves, Qs=pushes)
    found = kalman.rts_smoother(means, covariances, Fs=moves, Qs=pushes)[0]
    half = np.maximum(found[:, 2:4], 0.0) / 2
    return np.concatenate([found[:, :2] - half, found[:, :2] + half], axis=1)
