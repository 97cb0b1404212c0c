"""OC-SORT: what was observed counts more than what was predicted (Cao et al. 2023, arXiv:2203.14360)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from trackers.association import Floats, Indices, overlapping, paired_iou
from trackers.columns import Columns
from trackers.lifecycle import LATE, KalmanTracker, Mask
from trackers.matching import Matching
from trackers.motion import XYSR, KalmanFilters
from trackers.tracker import Observed, Range
from trackers.tracks import Tracks

_KEPT = 8
"""Observations kept of each track: a direction is taken over 0.1 s, six frames at 60 frames a second."""

_MOST = 90
"""Steps in which a gap is walked through again: three seconds at 30 frames a second."""


@dataclass
class Observations(Columns):
    """The last detections of each track.

    Attributes:
        xyxy: (T, 8, 4) boxes, the newest first. time: (T, 8) seconds, -inf where there was none.
    """

    xyxy: Floats
    time: Floats

    @classmethod
    def start(cls, xyxy: Floats, now: float) -> Observations:
        """Of tracks that are born as these (N, 4) boxes."""
        time = np.full((len(xyxy), _KEPT), -np.inf)
        time[:, 0] = now
        return cls(np.repeat(xyxy[:, None], _KEPT, axis=1), time)

    def add(self, rows: Indices, xyxy: Floats, now: float) -> None:
        """Tracks `rows` were seen as these boxes."""
        self.xyxy[rows, 1:] = self.xyxy[rows, :-1]
        self.time[rows, 1:] = self.time[rows, :-1]
        self.xyxy[rows, 0], self.time[rows, 0] = xyxy, now

    def earlier(self, period: float) -> Floats:
        """(T, 4) boxes seen at least so many seconds before the last one; where none is kept, the earliest there is."""
        old = self.time <= self.time[:, :1] - period + LATE
        old &= self.time > -np.inf
        first = np.where(old.any(axis=1), old.argmax(axis=1), (self.time > -np.inf).sum(axis=1) - 1)
        return np.asarray(self.xyxy[np.arange(len(first)), first])


class OCSORT(KalmanTracker):
    """Observation-centric SORT: momentum of observations, recovery at the last one, and a re-update after gaps.

    Tracks and detections are matched by overlap plus how well the way to the detection continues the track's direction;
    what is left, by overlap with the last observation. A track that is found again has its filter walked through
    the gap once more, along a straight line from the last observation to the new one. Shown is what was observed.

    Args:
        max_coast: seconds a track is predicted without being seen before it is dropped.
        min_hits: frames in a row, after the first, that must see a track before it is shown.
        high_score: detections from this score on are used.
        iou_threshold: least overlap of a pair.
        momentum: weight of the direction beside the overlap.
        momentum_period: seconds over which a direction is taken.
        low_score: with a smaller value than `high_score`, detections between the two are matched by overlap with the
            tracks that the first step left over, as in ByteTrack.
    """

    name = "ocsort"
    _model = XYSR()

    def __init__(
        self,
        *,
        max_coast: Annotated[float, Range(0)] = 1.0,
        min_hits: Annotated[int, Range(0)] = 3,
        high_score: Annotated[float, Range(0, 1)] = 0.5,
        iou_threshold: Annotated[float, Range(0, 1)] = 0.3,
        momentum: Annotated[float, Range(0)] = 0.2,
        momentum_period: Annotated[float, Range(0)] = 0.1,
        low_score: Annotated[float, Range(0, 1)] = 0.5,
        **common: Any,
    ) -> None:
        self._max_coast = max_coast
        self._min_hits = min_hits
        self._high_score = high_score
        self._iou_threshold = iou_threshold
        self._momentum = momentum
        self._momentum_period = momentum_period
        self._low_score = low_score
        super().__init__(**common)

    def _begin(self) -> None:
        super()._begin()
        self._frames = 0
        self._observations = Observations.start(np.zeros((0, 4)), 0.0)
        self._anchors = KalmanFilters.start(self._model, np.zeros((0, 4)))

    def _tables(self) -> dict[str, Columns]:
        return {**super()._tables(), "observations": self._observations, "anchors": self._anchors}

    def _step(self, seen: Observed, now: float, dt: float, frame: NDArray[np.uint8] | None) -> Tracks:
        self._frames += 1
        high = seen.scores >= self._high_score
        self._predict(dt)
        predicted = self._model.decode(self._motion.position)
        matching = self._matching(seen)
        self._by_momentum(matching, predicted, seen, high)
        everyone = np.ones(len(predicted), bool)
        low = (seen.scores >= self._low_score) & ~high
        matching.by_overlap(everyone, low, predicted, seen.xyxy, self._iou_threshold)
        matching.by_overlap(everyone, high, self._observations.xyxy[:, 0], seen.xyxy, self._iou_threshold)
        rows, cols = matching.pairs()
        self._hit(rows, seen, cols, now)
        self._records.streak[self._records.det_index < 0] = 0
        self._born(seen, (high & (matching.track_of < 0)).nonzero()[0], now)
        self._name(self._shown())
        self._look(now)
        result = self._result(now)
        self._keep(now - self._records.seen <= self._max_coast + LATE)
        return result

    def _by_momentum(self, matching: Matching, predicted: Floats, seen: Observed, high: Mask) -> None:
        tracks, found = matching.free(np.ones(len(predicted), bool), high)
        i, j = overlapping(predicted[tracks], seen.xyxy[found])
        rows, cols = tracks[i], found[j]
        overlap = paired_iou(predicted[rows], seen.xyxy[cols])
        enough = overlap >= self._iou_threshold
        rows, cols, overlap = rows[enough], cols[enough], overlap[enough]
        before, last = _centre(self._observations.earlier(self._momentum_period)), self._last()
        came, goes = (last - before)[rows], _centre(seen.xyxy)[cols] - before[rows]
        length = np.hypot(came[:, 0], came[:, 1]) * np.hypot(goes[:, 0], goes[:, 1])
        cosine = (came * goes).sum(axis=1) / np.maximum(length, 1e-9)
        # 0.5 straight on, -0.5 straight back, 0 for what has not moved
        agreement = np.where(length > 0, 0.5 - np.arccos(np.clip(cosine, -1, 1)) / np.pi, 0.0)
        worth = overlap + self._momentum * agreement * seen.scores[cols] + self._likeness(rows, cols)
        matching.take(rows, cols, -worth, 0.0)

    def _likeness(self, rows: Indices, cols: Indices) -> Floats | float:
        """What looks add to the worth of pairs."""
        return 0.0

    def _last(self) -> Floats:
        return _centre(self._observations.xyxy[:, 0])

    def _hit(self, rows: Indices, seen: Observed, cols: Indices, now: float) -> None:
        if not len(rows):
            return
        self._walk_again(rows, seen.xyxy[cols], now)
        super()._hit(rows, seen, cols, now)
        self._observations.add(rows, seen.xyxy[cols], now)
        self._anchors.put(rows, self._motion.take(rows))

    def _walk_again(self, rows: Indices, xyxy: Floats, now: float) -> None:
        """Those that were lost go back to where they were seen last, and come here in a straight line (section 4.1)."""
        gap = now - self._records.seen[rows]
        step = self._frame_period if self._now is None else now - self._now
        lost = gap > step + LATE
        if not lost.any() or step <= 0:
            return
        rows, xyxy, gap = rows[lost], xyxy[lost], gap[lost]
        steps = np.clip(np.round(gap / step), 1, _MOST)
        filters, start = self._anchors.take(rows), self._observations.xyxy[rows, 0]
        for n in range(1, int(steps.max()) + 1):
            walking = (n <= steps).nonzero()[0]
            part = filters.take(walking)
            part.predict(self._model, (gap / steps)[walking, None])
            if n < steps.max():
                way = (n / steps)[walking, None]
                between = (n < steps[walking]).nonzero()[0]
                along = start[walking] + way * (xyxy[walking] - start[walking])
                part.correct(self._model, between, self._model.encode(along[between]))
            filters.put(walking, part)
        self._motion.put(rows, filters)

    def _born(self, seen: Observed, cols: Indices, now: float) -> None:
        super()._born(seen, cols, now)
        if len(cols):
            self._observations.extend(Observations.start(seen.xyxy[cols], now))
            self._anchors.extend(KalmanFilters.start(self._model, self._model.encode(seen.xyxy[cols])))

    def _shown(self) -> Mask:
        r = self._records
        return (r.det_index >= 0) & ((r.streak >= self._min_hits) | (self._frames <= self._min_hits))

    def _boxes(self, rows: Mask) -> Floats:
        seen = (self._records.det_index >= 0)[rows, None]
        return np.where(seen, self._observations.xyxy[rows, 0], super()._boxes(rows))

    def state_dict(self) -> dict[str, Any]:
        """Everything remembered, as a new dictionary of arrays and plain values. Options are not part of it."""
        return {**super().state_dict(), "frames": self._frames}

    def load_state_dict(self, state: Any) -> None:
        """Go on from what `state_dict` returned, bit for bit.

        Raises:
            ValueError: it was saved by another kind of tracker.
        """
        super().load_state_dict(state)
        self._frames = state["frames"]


def _centre(xyxy: Floats) -> Floats:
    return np.asarray((xyxy[:, :2] + xyxy[:, 2:]) / 2)
