"""Kalman filtering of all tracks at once.

The Kalman filters of SORT and DeepSORT have a block structure: each measured quantity (centre, size, shape)
has a velocity of its own, and all noise covariances are diagonal. Started from a diagonal covariance, such a
filter never correlates one quantity with another, so an 8-state filter *is* four filters of (position,
velocity). Here a track is a row, a quantity a column, and the covariance of each is three numbers
(pp, pv, vv): predict and update are a few array operations for all tracks, without matrix products,
inverses or Cholesky factors, and the squared Mahalanobis distance is the sum of innovation² / S.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from trackers.columns import Columns
from trackers.compiled import kernels
from trackers.observed import Observed

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

CHI2_95 = {1: 3.841458820694124, 2: 5.991464547107979, 3: 7.814727903251179, 4: 9.487729036781154}
"""scipy.stats.chi2.ppf(0.95, df) by df: the gate on squared Mahalanobis distances, 95 % of true pairs pass."""

REFERENCE_RATE = 30.0
"""Frames per second for which the papers' per-frame noise is meant: the rate of the MOTChallenge videos."""


class MotionModel(ABC):
    """What is filtered, four quantities of a box, and how noisy it is.

    Every variance has the form base + (factor · size)², where the size is a quantity that the noise grows with.
    Standard deviations are the papers', per frame at REFERENCE_RATE.

    Attributes:
        code: what the compiled loops call it.
        positive: columns that may not become zero or negative: a velocity that would take them there is stopped.
        powers: by which power of a magnification each column grows: 1 for a length, 2 for an area, 0 for a ratio.
        grows_with: (4,) for each column the one that its noise grows with.
        noise: (5, 2, 4) base and factor of each column's variance, of what one frame adds to position and to velocity
            (per frame), of a measurement, of position and of velocity (per frame) of a new track.
    """

    code: int
    positive: Sequence[int]
    powers: Sequence[int]
    grows_with: Indices
    noise: Floats

    @abstractmethod
    def encode(self, xyxy: Floats) -> Floats:
        """(N, 4) boxes to (N, 4) filtered quantities."""

    @abstractmethod
    def decode(self, position: Floats) -> Floats:
        """(N, 4) filtered quantities to (N, 4) boxes."""

    def _variance(self, kind: int, position: Floats) -> Floats:
        base, factor = self.noise[kind]
        scaled = position.take(self.grows_with, axis=1) * factor
        return np.asarray(scaled * scaled + base)

    def process_variance(self, position: Floats) -> tuple[Floats, Floats]:
        """Variance that one frame adds to position and to velocity (per frame), each (N, 4)."""
        return self._variance(0, position), self._variance(1, position)

    def measurement_variance(self, position: Floats) -> Floats:
        """(N, 4) variance of a measurement."""
        return self._variance(2, position)

    def initial_variance(self, position: Floats) -> tuple[Floats, Floats]:
        """Variance of position and velocity (per frame) of a new track, each (N, 4)."""
        return self._variance(3, position), self._variance(4, position)


class XYSR(MotionModel):
    """SORT's state (Bewley et al. 2016, eq. 1): centre x, y, area s, aspect ratio r = w / h, which has no velocity.

    The paper gives no noise; these are the values of the published program: R = diag(1, 1, 10, 10),
    P0 = diag(10, 10, 10, 10, 1e4, 1e4, 1e4), Q = diag(1, 1, 1, 1, 0.01, 0.01, 1e-4). They do not grow.
    """

    code = 0
    positive = (2,)
    powers = (1, 1, 2, 0)
    grows_with = np.zeros(4, np.int64)

    def __init__(self) -> None:
        base = ((1, 1, 1, 1), (0.01, 0.01, 1e-4, 0), (1, 1, 10, 10), (10, 10, 10, 10), (1e4, 1e4, 1e4, 0))
        self.noise = np.stack([np.array(base), np.zeros((5, 4))], axis=1)

    def encode(self, xyxy: Floats) -> Floats:
        """(N, 4) boxes to (N, 4) x, y, s, r.

        >>> XYSR().encode(np.array([[0.0, 0.0, 10.0, 20.0]]))
        array([[  5. ,  10. , 200. ,   0.5]])
        """
        wh = xyxy[:, 2:] - xyxy[:, :2]
        w, h = wh[:, 0], wh[:, 1]
        out = np.empty((len(xyxy), 4))
        out[:, :2] = xyxy[:, :2] + wh / 2.0
        out[:, 2] = w * h
        out[:, 3] = w / h
        return out

    def decode(self, position: Floats) -> Floats:
        """(N, 4) x, y, s, r to (N, 4) boxes."""
        w = np.sqrt(position[:, 2] * position[:, 3])
        half = np.stack([w, position[:, 2] / w], axis=1) / 2.0
        return np.concatenate([position[:, :2] - half, position[:, :2] + half], axis=1)


class XYAH(MotionModel):
    """DeepSORT's state (Wojke et al. 2017, section 2.1): centre x, y, aspect ratio a = w / h, height h.

    Noise grows with the height: standard deviations are height / 20 for positions and height / 160 for
    velocities; the aspect ratio has 0.01 (0.1 measured) and 1e-5. A new track starts with twice the position's
    and ten times the velocity's.
    """

    code = 1
    positive = (2, 3)
    powers = (1, 1, 0, 1)
    grows_with = np.full(4, 3)

    def __init__(self, position: float = 1 / 20, velocity: float = 1 / 160) -> None:
        self.noise = np.zeros((5, 2, 4))
        deviations = (position, velocity, position, 2 * position, 10 * velocity)
        for kind, (factor, ratio) in enumerate(zip(deviations, (1e-2, 1e-5, 1e-1, 1e-2, 1e-5), strict=True)):
            self.noise[kind, 1, [0, 1, 3]] = factor
            self.noise[kind, 0, 2] = ratio * ratio

    def encode(self, xyxy: Floats) -> Floats:
        """(N, 4) boxes to (N, 4) x, y, a, h.

        >>> XYAH().encode(np.array([[0.0, 0.0, 10.0, 20.0]]))
        array([[ 5. , 10. ,  0.5, 20. ]])
        """
        wh = xyxy[:, 2:] - xyxy[:, :2]
        out = np.empty((len(xyxy), 4))
        out[:, :2] = xyxy[:, :2] + wh / 2.0
        out[:, 2] = wh[:, 0] / wh[:, 1]
        out[:, 3] = wh[:, 1]
        return out

    def decode(self, position: Floats) -> Floats:
        """(N, 4) x, y, a, h to (N, 4) boxes."""
        half = position[:, 2:] * (position[:, 3:] / 2.0)
        half[:, 1] = position[:, 3] / 2.0
        return np.concatenate([position[:, :2] - half, position[:, :2] + half], axis=1)


class XYWH(MotionModel):
    """BoT-SORT's state (Aharon et al. 2022, eq. 1 to 4): centre x, y, width, height.

    Noise grows with the side it is along: standard deviations are 1 / 20 of width or height for positions and
    1 / 160 for velocities. A new track starts with twice the position's and ten times the velocity's.
    """

    code = 2
    positive = (2, 3)
    powers = (1, 1, 1, 1)
    grows_with = np.array([2, 3, 2, 3])

    def __init__(self, position: float = 1 / 20, velocity: float = 1 / 160) -> None:
        self.noise = np.zeros((5, 2, 4))
        self.noise[:, 1] = np.array([position, velocity, position, 2 * position, 10 * velocity])[:, None]

    def encode(self, xyxy: Floats) -> Floats:
        """(N, 4) boxes to (N, 4) x, y, w, h.

        >>> XYWH().encode(np.array([[0.0, 0.0, 10.0, 20.0]]))
        array([[ 5., 10., 10., 20.]])
        """
        wh = xyxy[:, 2:] - xyxy[:, :2]
        return np.concatenate([xyxy[:, :2] + wh / 2.0, wh], axis=1)

    def decode(self, position: Floats) -> Floats:
        """(N, 4) x, y, w, h to (N, 4) boxes."""
        half = position[:, 2:] / 2.0
        return np.concatenate([position[:, :2] - half, position[:, :2] + half], axis=1)


class KalmanFilters(Columns):
    """One filter a row; velocities are per second.

    Attributes:
        position: (T, 4) filtered quantities.
        velocity: (T, 4) their change per second.
        pp, pv, vv: (T, 4) covariance of each (position, velocity) pair.
    """

    position: Floats
    velocity: Floats
    pp: Floats
    pv: Floats
    vv: Floats

    def __init__(self, model: MotionModel, xyxy: Floats | None = None) -> None:
        """A filter for each of (N, 4) boxes, at rest."""
        self.model = model
        self._positive = np.isin(np.arange(4), model.positive)
        self.position, self.velocity, self.pp, self.pv, self.vv = self._start(
            np.zeros((0, 4)) if xyxy is None else xyxy
        )

    def _start(self, xyxy: Floats) -> tuple[Floats, Floats, Floats, Floats, Floats]:
        rest, model = np.zeros((len(xyxy), 4)), self.model
        if fast := kernels():
            position, pp, vv = fast.start(xyxy, model.code, model.noise, model.grows_with, REFERENCE_RATE)
        else:
            position = model.encode(xyxy)
            pp, vv = model.initial_variance(position)
            vv *= REFERENCE_RATE**2
        return position, rest, pp, rest.copy(), vv

    def grow(self, seen: Observed, cols: Indices, now: Floats) -> None:
        """Append filters at rest for the detections `cols`."""
        self.append(*self._start(seen.xyxy[cols]))

    def boxes(self) -> Floats:
        """(T, 4) where the filters say that things are."""
        fast = kernels()
        return fast.decode(self.position, self.model.code) if fast else self.model.decode(self.position)

    def predict(self, dt: float | Floats) -> None:
        """Advance all filters by `dt` seconds, any `dt` >= 0; an array (T,) has one for each.

        The papers state process noise per frame, Q = diag(σp², σv²). What n frames add up to, for any whole n,
        is found by applying p' = p + v, v' = v n times:

            Q_vv = n σv²      Q_pv = n (n - 1) / 2 σv²      Q_pp = n σp² + n (n - 1)(2n - 1) / 6 σv²

        These are polynomials in n, and Q(n + m) = F(m) Q(n) F(m)ᵀ + Q(m) holds for all whole n and m, hence for
        all real ones. So with n = dt · REFERENCE_RATE the noise equals the paper's at the reference rate, exactly,
        and does not depend on how a stretch of time is cut into frames. (It is a diffusion for σp² >= σv² / 12,
        which holds by far in all models.)
        """
        if not len(self):
            return
        model = self.model
        if fast := kernels():
            steps = np.array(dt, np.float64, ndmin=1)
            columns = self.position, self.velocity, self.pp, self.pv, self.vv
            fast.predict(*columns, steps, model.noise, model.grows_with, self._positive, REFERENCE_RATE)
            return
        step = dt[:, None] if isinstance(dt, np.ndarray) else dt
        n = step * REFERENCE_RATE
        for column in model.positive:
            self.velocity[self.position[:, column] + dt * self.velocity[:, column] <= 0, column] = 0.0
        noise_p, noise_v = model.process_variance(self.position)
        self.position += step * self.velocity
        gain = step * self.vv
        self.pp += step * (2 * self.pv + gain) + (n * noise_p + (n * (n - 1) * (2 * n - 1) / 6) * noise_v)
        self.pv += gain + (n * (n - 1) / 2 * REFERENCE_RATE) * noise_v
        self.vv += (n * REFERENCE_RATE**2) * noise_v

    def damp(self, rows: NDArray[np.bool_], dt: float | Floats, half_life: float) -> None:
        """Slow filters down as time goes on without a measurement: velocities halve in `half_life` seconds.

        Args:
            dt: seconds, or (T,) for each.
        """
        if rows.any():
            keep = np.exp2(-np.asarray(dt) / half_life)
            self.velocity[rows] *= keep[rows, None] if keep.ndim else keep

    def warp(self, affine: Floats, rows: Indices | slice = slice(None)) -> None:
        """Move filters along with the picture.

        Means are exact for moves, turns and magnifications, variances where those of x and y are alike, as they are
        in SORT's and DeepSORT's models.

        Args:
            affine: (2, 3), old pixel coordinates to new ones. rows: which filters; all if left out.
        """
        turn, shift = affine[:, :2], affine[:, 2]
        size = abs(float(np.linalg.det(turn))) ** (0.5 * np.array(self.model.powers))
        self.position[rows, :2] = self.position[rows, :2] @ turn.T + shift
        self.velocity[rows, :2] = self.velocity[rows, :2] @ turn.T
        self.position[rows, 2:] *= size[2:]
        self.velocity[rows, 2:] *= size[2:]
        self.pp[rows] *= size * size
        self.pv[rows] *= size * size
        self.vv[rows] *= size * size

    def innovation_variance(self) -> Floats:
        """(T, 4) variance S of measured minus predicted."""
        return self.pp + self.model.measurement_variance(self.position)

    def correct(self, rows: Indices, xyxy: Floats, cols: Indices, doubt: Floats | None = None) -> None:
        """Take in boxes xyxy[cols] as measurements of the filters in `rows`, each at most once.

        Args:
            doubt: (M,) factors on the variance of the measurements; 1 - score is the NSA filter (Du et al. 2021).
        """
        if fast := kernels():
            columns = self.position, self.velocity, self.pp, self.pv, self.vv
            code, factors = self.model.code, np.zeros(0) if doubt is None else doubt
            fast.correct(*columns, rows, xyxy, cols, code, self.model.noise, self.model.grows_with, factors)
            return
        position, pp, pv = self.position[rows], self.pp[rows], self.pv[rows]
        noise = self.model.measurement_variance(position)
        variance = pp + (noise if doubt is None else noise * doubt[:, None])
        innovation = self.model.encode(xyxy[cols]) - position
        gain_p, gain_v = pp / variance, pv / variance
        self.position[rows] = position + gain_p * innovation
        self.velocity[rows] += gain_v * innovation
        self.vv[rows] -= gain_v * pv
        self.pp[rows] = pp - gain_p * pp
        self.pv[rows] = pv - gain_p * pv


def squared_mahalanobis(predicted: Floats, measured: Floats, variance: Floats) -> Floats:
    """Σ innovation² / S over the last axis; the arguments broadcast.

    >>> float(squared_mahalanobis(np.zeros(2), np.array([3.0, 4.0]), np.array([9.0, 4.0])))
    5.0
    """
    innovation = measured - predicted
    return np.asarray((innovation * innovation / variance).sum(axis=-1))
