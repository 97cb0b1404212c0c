"""Calibration: how probable it is that a detection of some score is real, learnt while tracking."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackers.compiled import kernels

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]

_EDGES = np.concatenate((np.arange(1, 20) / 20, [0.97, 0.98, 0.99, 0.995]))
"""Between bins of scores: finer towards 1, where some detectors put nearly everything."""

_PRIOR = 17.0
"""Detections of each bin that the assumption p = score counts for."""

_MEMORY = 3000.0
"""Detections after which what was seen counts half."""

_MIDDLE = (np.concatenate(([0], _EDGES)) + np.concatenate((_EDGES, [1]))) / 2


class ScoreCalibration:
    """The share of detections, by score, that turned out to be what an established track became.

    One detector's 0.5 is another's 0.9, and thresholds that suit one are wrong for the other. What a score means can be
    seen on the video itself: detections of real things continue tracks. Until enough is seen, a score means itself; and
    it always means at least its cube, so that a confident detector is believed where nothing stays for long.

    Args:
        streams: number of cameras; each has its own table.
    """

    def __init__(self, streams: int) -> None:
        self._real = np.zeros((streams, len(_MIDDLE)))
        self._all = np.zeros((streams, len(_MIDDLE)))
        self._table = np.repeat(_MIDDLE[None], streams, axis=0)

    def begin(self, stream: int) -> None:
        """Forget what was learnt of a stream; the next number makes room for one more."""
        for name, fresh in (("_real", 0 * _MIDDLE), ("_all", 0 * _MIDDLE), ("_table", _MIDDLE)):
            rows = getattr(self, name)
            setattr(self, name, np.concatenate((rows[:stream], fresh[None], rows[stream + 1 :])))

    def __call__(self, scores: Floats, streams: Indices) -> Floats:
        """(N,) probability that a detection with this score, of this stream, is real."""
        right = np.clip(np.searchsorted(_MIDDLE, scores), 1, len(_MIDDLE) - 1)
        before, after = _MIDDLE[right - 1], _MIDDLE[right]
        share = np.clip((scores - before) / (after - before), 0.0, 1.0)
        low = self._table[streams, right - 1]
        meaning = low + share * (self._table[streams, right] - low)
        return np.asarray(np.maximum(meaning, scores * scores * scores))

    def learn(self, scores: Floats, streams: Indices, real: Mask) -> None:
        """These detections were seen; `real` ones continued established tracks."""
        place = streams * len(_MIDDLE) + np.searchsorted(_EDGES, scores, side="right")
        seen, kept = (
            np.bincount(part, minlength=self._all.size).reshape(self._all.shape) for part in (place, place[real])
        )
        fade = np.exp2(-seen.sum(axis=1, keepdims=True) / _MEMORY)
        self._all = self._all * fade + seen
        self._real = self._real * fade + kept
        self._table = _rising(self._real + _PRIOR * _MIDDLE, self._all + _PRIOR)

    def state_dict(self) -> dict[str, Any]:
        """Everything learnt."""
        return {"real": self._real.copy(), "all": self._all.copy(), "table": self._table.copy()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned.

        Raises:
            ValueError: it is not of so many streams.
        """
        parts = [np.array(state[name]) for name in ("real", "all", "table")]
        if any(part.shape != self._table.shape or part.dtype != self._table.dtype for part in parts):
            raise ValueError("the calibration of a saved state is not of these streams")
        self._real, self._all, self._table = parts


def _rising(real: Floats, every: Floats) -> Floats:
    """(S, B) shares real / every, where neighbours in a row that fall are pooled until none does (Ayer et al. 1955)."""
    if fast := kernels():
        shares: Floats = fast.rising(real, every)
        return shares
    out = np.empty_like(real)
    for row, (ones, totals) in enumerate(zip(real.tolist(), every.tolist(), strict=True)):
        pools: list[tuple[float, float, int]] = []
        for one, total in zip(ones, totals, strict=True):
            pools.append((one, total, 1))
            while len(pools) > 1 and pools[-2][0] * pools[-1][1] > pools[-1][0] * pools[-2][1]:
                last, before = pools.pop(), pools.pop()
                pools.append((last[0] + before[0], last[1] + before[1], last[2] + before[2]))
        out[row] = np.repeat([one / total for one, total, _ in pools], [size for _, _, size in pools])
    return out
