"""OC-SORT: what was observed counts more than what was predicted (Cao et al. 2023, arXiv:2203.14360)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np

from trackers.association import centre, iou_of_pairs
from trackers.columns import Columns
from trackers.lifecycle import Floats, Indices, KalmanTracker, Mask, Picture
from trackers.matching import Matching
from trackers.moment import LATE, Moment
from trackers.motion import XYSR, KalmanFilters
from trackers.observed import Observed
from trackers.tracker import Range

_KEPT = 8
"""Observations kept of each track: a direction is taken over 0.1 s, six frames at 60 frames a second."""

_MOST = 90
"""Steps in which a gap is walked through again: three seconds at 30 frames a second."""


class Observations(Columns):
    """The last detections of each track.

    Attributes:
        xyxy: (T, 8, 4) boxes, the newest first. time: (T, 8) seconds, -inf where there was none.
    """

    xyxy: Floats
    time: Floats

    never = frozenset({"time"})

    def __init__(self) -> None:
        """Of no tracks."""
        self.xyxy, self.time = np.zeros((0, _KEPT, 4)), np.zeros((0, _KEPT))

    def grow(self, seen: Observed, cols: Indices, now: Floats) -> None:
        """Append tracks that are born as detections `cols`."""
        time = np.full((len(cols), _KEPT), -np.inf)
        time[:, 0] = now
        self.append(np.repeat(seen.xyxy[cols, None], _KEPT, axis=1), time)

    def add(self, rows: Indices, xyxy: Floats, now: float | Floats) -> None:
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

    def _begin(self, streams: int) -> None:
        super()._begin(streams)
        self._observations = self._table("observations", Observations())
        self._anchors = self._table("anchors", KalmanFilters(self._model))

    def _advance(self, seen: Observed, when: Moment, frames: Sequence[Picture | None]) -> Mask:
        high = seen.scores >= self._high_score
        low = (seen.scores >= self._low_score) & ~high
        predicted = self._predict(when, frames)
        matching, everyone = self._matching(seen), np.ones(len(predicted), bool)
        self._by_momentum(matching, everyone, high, predicted, seen)
        matching.by_overlap(everyone, low, predicted, seen.xyxy, self._iou_threshold)
        last = np.ascontiguousarray(self._observations.xyxy[:, 0])
        matching.by_overlap(everyone, high, last, seen.xyxy, self._iou_threshold)
        rows, cols = matching.pairs()
        self._hit(rows, seen, cols, when)
        self._records.streak[self._records.det_index < 0] = 0
        self._born(seen, (high & (matching.track_of < 0)).nonzero()[0], when)
        self._name(self._shown())
        self._look(when)
        r = self._records
        return np.asarray(when.of(r.stream).now - r.seen <= self._max_coast + LATE)

    def _by_momentum(
        self, matching: Matching, tracks: Mask, detections: Mask, predicted: Floats, seen: Observed
    ) -> None:
        free, found = matching.free(tracks, detections)
        i, j = matching.candidates(free, predicted[free], found, seen.xyxy[found])
        rows, cols = free[i], found[j]
        overlap = iou_of_pairs(predicted, rows, seen.xyxy, cols)
        enough = overlap >= self._iou_threshold
        rows, cols, overlap = rows[enough], cols[enough], overlap[enough]
        before = centre(self._observations.earlier(self._momentum_period))
        came = (centre(self._observations.xyxy[:, 0]) - before)[rows]
        goes = centre(seen.xyxy)[cols] - before[rows]
        length = np.hypot(came[:, 0], came[:, 1]) * np.hypot(goes[:, 0], goes[:, 1])
        cosine = (came * goes).sum(axis=1) / np.maximum(length, 1e-9)
        # 0.5 straight on, -0.5 straight back, 0 for what has not moved
        agreement = np.where(length > 0, 0.5 - np.arccos(np.clip(cosine, -1, 1)) / np.pi, 0.0)
        worth = overlap + self._momentum * agreement * seen.scores[cols] + self._likeness(rows, seen, cols)
        matching.take(rows, cols, -worth, 0.0)

    def _likeness(self, rows: Indices, seen: Observed, cols: Indices) -> Floats | float:
        """What looks add to the worth of pairs."""
        return 0.0

    def _hit(self, rows: Indices, seen: Observed, cols: Indices, when: Moment) -> None:
        if not len(rows):
            return
        self._walk_again(rows, seen.xyxy[cols], when.of(seen.streams[cols]))
        super()._hit(rows, seen, cols, when)
        self._observations.add(rows, seen.xyxy[cols], when.of(seen.streams[cols]).now)
        self._anchors.put(rows, self._motion.take(rows))

    def _walk_again(self, rows: Indices, xyxy: Floats, at: Moment) -> None:
        """Those that were lost go back to where they were seen last, and come here in a straight line (section 4.1)."""
        gap = at.now - self._records.seen[rows]
        step = np.broadcast_to(at.dt, gap.shape)
        lost = (gap > step + LATE) & (step > 0)
        if not lost.any():
            return
        rows, xyxy, gap, step = rows[lost], xyxy[lost], gap[lost], step[lost]
        steps = np.clip(np.round(gap / step), 1, _MOST)
        filters, start = self._anchors.take(rows), self._observations.xyxy[rows, 0]
        for n in range(1, int(steps.max()) + 1):
            walking = (n <= steps).nonzero()[0]
            part = filters.take(walking)
            part.predict((gap / steps)[walking])
            between = (n < steps[walking]).nonzero()[0]
            if len(between):
                along = start[walking] + (n / steps)[walking, None] * (xyxy[walking] - start[walking])
                part.correct(between, along, between)
            filters.put(walking, part)
        self._motion.put(rows, filters)

    def _shown(self) -> Mask:
        r = self._records
        young = self._of_stream(self._frames) <= self._min_hits
        return np.asarray((r.det_index >= 0) & ((r.streak >= self._min_hits) | young))

    def _boxes(self, rows: Indices) -> Floats:
        seen = (self._records.det_index >= 0)[rows, None]
        return np.where(seen, self._observations.xyxy[rows, 0], super()._boxes(rows))
