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
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trackers.columns import Columns

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

CHI2_95 = {1: 3.841458820694124, 2: 5.991464547107979, 3: 7.814727903251179, 4: 9.487729036781154}
"""scipy.stats.chi2.ppf(0.95, df) by df: the gate on squared Mahalanobis distances, 95 % of true pairs pass."""

REFERENCE_RATE = 30.0
"""Frames per second for which the papers' per-frame noise is meant: the rate of the MOTChallenge videos."""


class MotionModel(ABC):
    """What is filtered and how noisy it is. Standard deviations are the papers', per frame at REFERENCE_RATE."""

    positive: Sequence[int]
    """Columns that may not become zero or negative: a velocity that would take them there is stopped."""

    powers: Sequence[int]
    """By which power of a magnification each column grows: 1 for a length, 2 for an area, 0 for a ratio."""

    @abstractmethod
    def encode(self, xyxy: Floats) -> Floats:
        """(N, 4) boxes to (N, K) filtered quantities."""

    @abstractmethod
    def decode(self, position: Floats) -> Floats:
        """(N, K) filtered quantities to (N, 4) boxes."""

    @abstractmethod
    def process_variance(self, position: Floats) -> tuple[Floats, Floats]:
        """Variance that one frame adds to position and to velocity (per frame), each (N, K) or (K,)."""

    @abstractmethod
    def measurement_variance(self, position: Floats) -> Floats:
        """Variance of a measurement, (N, K) or (K,)."""

    @abstractmethod
    def initial_variance(self, position: Floats) -> tuple[Floats, Floats]:
        """Variance of position and velocity (per frame) of a new track, each (N, K) or (K,)."""


class XYSR(MotionModel):
    """SORT's state (Bewley et al. 2016, eq. 1): centre x, y, area s, aspect ratio r = w / h, which has no velocity.

    The paper gives no noise; these are the values of the published program: R = diag(1, 1, 10, 10),
    P0 = diag(10, 10, 10, 10, 1e4, 1e4, 1e4), Q = diag(1, 1, 1, 1, 0.01, 0.01, 1e-4).
    """

    positive = (2,)
    powers = (1, 1, 2, 0)
    _measurement = np.array([1.0, 1.0, 10.0, 10.0])
    _initial = np.array([10.0, 10.0, 10.0, 10.0]), np.array([1e4, 1e4, 1e4, 0.0])
    _process = np.array([1.0, 1.0, 1.0, 1.0]), np.array([0.01, 0.01, 1e-4, 0.0])

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

    def process_variance(self, position: Floats) -> tuple[Floats, Floats]:
        """As the class says; the same for all tracks."""
        return self._process

    def measurement_variance(self, position: Floats) -> Floats:
        """As the class says; the same for all tracks."""
        return self._measurement

    def initial_variance(self, position: Floats) -> tuple[Floats, Floats]:
        """As the class says; the same for all tracks."""
        return self._initial


class XYAH(MotionModel):
    """DeepSORT's state (Wojke et al. 2017, section 2.1): centre x, y, aspect ratio a = w / h, height h.

    Noise grows with the object: standard deviations are height / 20 for positions and height / 160 for
    velocities; the aspect ratio has 0.01 (0.1 measured) and 1e-5. A new track starts with twice the position's
    and ten times the velocity's.
    """

    positive = (2, 3)
    powers = (1, 1, 0, 1)
    _fixed = np.array([0.0, 0.0, 1.0, 0.0])
    _scaled = np.array([1.0, 1.0, 0.0, 1.0])

    def __init__(self, position: float = 1 / 20, velocity: float = 1 / 160) -> None:
        self._position, self._velocity = position, velocity

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

    def _variance(self, position: Floats, factor: float, fixed: float) -> Floats:
        height = position[:, 3:] * factor
        return np.asarray(height * height * self._scaled + fixed * fixed * self._fixed)

    def process_variance(self, position: Floats) -> tuple[Floats, Floats]:
        """As the class says."""
        return self._variance(position, self._position, 1e-2), self._variance(position, self._velocity, 1e-5)

    def measurement_variance(self, position: Floats) -> Floats:
        """As the class says."""
        return self._variance(position, self._position, 1e-1)

    def initial_variance(self, position: Floats) -> tuple[Floats, Floats]:
        """As the class says."""
        return (
            self._variance(position, 2 * self._position, 1e-2),
            self._variance(position, 10 * self._velocity, 1e-5),
        )


class XYWH(MotionModel):
    """BoT-SORT's state (Aharon et al. 2022, eq. 1 to 4): centre x, y, width, height.

    Noise grows with the side it is along: standard deviations are 1 / 20 of width or height for positions and
    1 / 160 for velocities. A new track starts with twice the position's and ten times the velocity's.
    """

    positive = (2, 3)
    powers = (1, 1, 1, 1)

    def __init__(self, position: float = 1 / 20, velocity: float = 1 / 160) -> None:
        self._position, self._velocity = position, velocity

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

    def _variance(self, position: Floats, factor: float) -> Floats:
        side = position[:, 2:] * factor
        square = side * side
        return np.concatenate([square, square], axis=1)

    def process_variance(self, position: Floats) -> tuple[Floats, Floats]:
        """As the class says."""
        return self._variance(position, self._position), self._variance(position, self._velocity)

    def measurement_variance(self, position: Floats) -> Floats:
        """As the class says."""
        return self._variance(position, self._position)

    def initial_variance(self, position: Floats) -> tuple[Floats, Floats]:
        """As the class says."""
        return self._variance(position, 2 * self._position), self._variance(position, 10 * self._velocity)


@dataclass
class KalmanFilters(Columns):
    """One filter a row; velocities are per second.

    Attributes:
        position: (T, K) filtered quantities.
        velocity: (T, K) their change per second.
        pp, pv, vv: (T, K) covariance of each (position, velocity) pair.
    """

    position: Floats
    velocity: Floats
    pp: Floats
    pv: Floats
    vv: Floats

    @classmethod
    def start(cls, model: MotionModel, measured: Floats) -> KalmanFilters:
        """A filter for each of (N, K) first measurements, at rest."""
        zero = np.zeros_like(measured)
        pp, vv = model.initial_variance(measured)
        return cls(measured.copy(), zero, pp + zero, zero.copy(), vv * REFERENCE_RATE**2 + zero)

    def predict(self, model: MotionModel, dt: float | Floats) -> None:
        """Advance all filters by `dt` seconds, any `dt` >= 0; an array (T, 1) has one for each.

        The papers state process noise per frame, Q = diag(σp², σv²). What n frames add up to, for any whole n,
        is found by applying p' = p + v, v' = v n times:

            Q_vv = n σv²      Q_pv = n (n - 1) / 2 σv²      Q_pp = n σp² + n (n - 1)(2n - 1) / 6 σv²

        These are polynomials in n, and Q(n + m) = F(m) Q(n) F(m)ᵀ + Q(m) holds for all whole n and m, hence for
        all real ones. So with n = dt · REFERENCE_RATE the noise equals the paper's at the reference rate, exactly,
        and does not depend on how a stretch of time is cut into frames. (It is a diffusion for σp² >= σv² / 12,
        which holds by far in both models.)
        """
        if not len(self):
            return
        n = dt * REFERENCE_RATE
        step = dt[:, 0] if isinstance(dt, np.ndarray) else dt
        for column in model.positive:
            self.velocity[self.position[:, column] + step * self.velocity[:, column] <= 0, column] = 0.0
        noise_p, noise_v = model.process_variance(self.position)
        self.position += dt * self.velocity
        gain = dt * self.vv
        self.pp += dt * (2 * self.pv + gain) + (n * noise_p + (n * (n - 1) * (2 * n - 1) / 6) * noise_v)
        self.pv += gain + (n * (n - 1) / 2 * REFERENCE_RATE) * noise_v
        self.vv += (n * REFERENCE_RATE**2) * noise_v

    def damp(self, rows: NDArray[np.bool_], dt: float, half_life: float) -> None:
        """Slow filters down as time goes on without a measurement: velocities halve in `half_life` seconds."""
        if rows.any():
            self.velocity[rows] *= 0.5 ** (dt / half_life)

    def warp(self, model: MotionModel, affine: Floats) -> None:
        """Move all filters along with the picture.

        Means are exact for moves, turns and magnifications, variances where those of x and y are alike, as they are
        in SORT's and DeepSORT's models.

        Args:
            affine: (2, 3), old pixel coordinates to new ones.
        """
        turn, shift = affine[:, :2], affine[:, 2]
        size = abs(float(np.linalg.det(turn))) ** (0.5 * np.array(model.powers))
        self.position[:, :2] = self.position[:, :2] @ turn.T + shift
        self.velocity[:, :2] = self.velocity[:, :2] @ turn.T
        self.position[:, 2:] *= size[2:]
        self.velocity[:, 2:] *= size[2:]
        self.pp *= size * size
        self.pv *= size * size
        self.vv *= size * size

    def innovation_variance(self, model: MotionModel) -> Floats:
        """(T, K) variance S of measured minus predicted."""
        return self.pp + model.measurement_variance(self.position)

    def correct(self, model: MotionModel, rows: Indices, measured: Floats, doubt: Floats | None = None) -> None:
        """Take in (M, K) measurements of the filters in `rows`, each at most once.

        Args:
            doubt: (M,) factors on the variance of the measurements; 1 - score is the NSA filter (Du et al. 2021).
        """
        position, pp, pv = self.position[rows], self.pp[rows], self.pv[rows]
        noise = model.measurement_variance(position)
        variance = pp + (noise if doubt is None else noise * doubt[:, None])
        innovation = measured - position
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
