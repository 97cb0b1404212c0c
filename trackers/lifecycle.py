"""KalmanTracker: what SORT and its descendants share. Tracks are born, seen, confirmed, lost and dropped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackers.columns import Columns
from trackers.matching import Matching
from trackers.motion import KalmanFilters, MotionModel
from trackers.occlusion import Occlusions
from trackers.tracker import Observed, Tracker
from trackers.tracks import Tracks

Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]

LATE = 1e-6
"""Seconds by which a deadline may be missed: sums of frame periods are not exact."""


@dataclass
class Records(Columns):
    """What is known of each track besides its motion.

    Attributes:
        id: (T,) -1 until confirmed. score, class_id, det_index: of the last detection; det_index -1 if not seen now.
        support: (T,) how far the scores for `class_id` outweigh those for other classes.
        born, seen: (T,) seconds, time of the first and of the last detection.
        hits: (T,) detections so far. streak: (T,) of those, since the last miss; the first of all is not counted.
    """

    id: Indices
    score: NDArray[np.float64]
    class_id: Indices
    det_index: Indices
    support: NDArray[np.float64]
    born: NDArray[np.float64]
    seen: NDArray[np.float64]
    hits: Indices
    streak: Indices

    @classmethod
    def start(cls, seen: Observed, cols: Indices, now: float) -> Records:
        """A record for each detection in `cols`."""
        score, when, one = seen.scores[cols], np.full(len(cols), now), np.ones(len(cols), np.int64)
        rows, classes = seen.rows[cols], seen.class_ids[cols]
        return cls(-one, score, classes, rows, score.copy(), when, when.copy(), one, 0 * one)

    def hit(self, rows: Indices, seen: Observed, cols: Indices, now: float, vote: bool) -> None:
        """Tracks `rows` were seen as detections `cols`.

        With `vote` the class is a running majority weighted by score (Boyer and Moore 1981): one flickering frame
        changes nothing. Otherwise it is that of the detection.
        """
        score, found = seen.scores[cols], seen.class_ids[cols]
        if vote:
            support = self.support[rows] + np.where(found == self.class_id[rows], score, -score)
            self.class_id[rows] = np.where(support < 0, found, self.class_id[rows])
            self.support[rows] = np.abs(support)
        else:
            self.class_id[rows] = found
            self.support[rows] += score
        self.score[rows] = score
        self.det_index[rows] = seen.rows[cols]
        self.seen[rows] = now
        self.hits[rows] += 1
        self.streak[rows] += 1


class KalmanTracker(Tracker):
    """Base of trackers whose tracks are Kalman-filtered boxes."""

    _model: MotionModel

    def __init__(self, **common: Any) -> None:
        super().__init__(**common)
        self._begin()

    def _begin(self) -> None:
        nothing = Observed(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int64), None)
        self._records = Records.start(nothing, nothing.rows, 0.0)
        self._motion = KalmanFilters.start(self._model, nothing.xyxy)
        self._occlusions = Occlusions.start(0)
        self._last_id = 0

    def _tables(self) -> dict[str, Columns]:
        """Every table with a row per track, by its name in the saved state."""
        return {"records": self._records, "motion": self._motion, "occlusions": self._occlusions}

    def _shown(self) -> Mask:
        """Which tracks are rows of the result: the confirmed ones that this frame showed."""
        return (self._records.id > 0) & (self._records.det_index >= 0)

    def _predict(self, dt: float) -> None:
        """Advance all filters; no track counts as seen until it is matched."""
        self._motion.predict(self._model, dt)
        self._records.det_index[:] = -1

    def _doubt(self, scores: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """Factors on the measurement noise of detections with these scores."""
        return None

    def _matching(self, seen: Observed) -> Matching:
        """For the tracks there are and the detections of this frame."""
        if self._class_policy == "separate":
            return Matching(len(self._records), len(seen), (self._records.class_id, seen.class_ids))
        return Matching(len(self._records), len(seen))

    def _hit(self, rows: Indices, seen: Observed, cols: Indices, now: float) -> None:
        """Tracks `rows` were seen as detections `cols`."""
        if not len(rows):
            return
        self._motion.correct(self._model, rows, self._model.encode(seen.xyxy[cols]), self._doubt(seen.scores[cols]))
        self._records.hit(rows, seen, cols, now, self._class_policy == "vote")

    def _born(self, seen: Observed, cols: Indices, now: float) -> None:
        """Detections `cols` start new tracks, the last rows of every table."""
        if not len(cols):
            return
        self._records.extend(Records.start(seen, cols, now))
        self._motion.extend(KalmanFilters.start(self._model, self._model.encode(seen.xyxy[cols])))
        self._occlusions.extend(Occlusions.start(len(cols)))

    def predict(self, timestamp: float) -> Tracks:
        """Where things are in a frame that no detector looked at, see `Tracker.predict`."""
        now, dt = self._clock(timestamp)
        r, ahead = self._records, self._motion.take(np.arange(len(self._records)))
        ahead.predict(self._model, dt)
        boxes, believed = self._model.decode(ahead.position), self._believed(now)

        def moved(rows: Mask, lost: Tracks | None) -> Tracks:
            return Tracks(
                r.id[rows],
                boxes[rows],
                r.score[rows],
                r.class_id[rows],
                np.full(np.count_nonzero(rows), -1),
                now - r.born[rows],
                now - r.seen[rows],
                ahead.velocity[rows, :2],
                *self._occlusions.told(rows, now),
                believed[rows],
                lost,
            )

        shown = self._shown()
        return moved(shown, moved((r.id > 0) & ~shown, None))

    def _look(self, now: float) -> None:
        """See which tracks stand behind others."""
        boxes = self._model.decode(self._motion.position)
        self._occlusions.look(boxes, self._records.id, self._records.det_index >= 0, now)

    def _keep(self, rows: Mask) -> None:
        """Drop all other tracks."""
        if not rows.all():
            for table in self._tables().values():
                table.keep(rows)

    def _name(self, rows: Mask) -> None:
        """Give the next ids to those tracks in `rows` that have none, in order of birth."""
        new = (rows & (self._records.id < 0)).nonzero()[0]
        self._records.id[new] = self._last_id + 1 + np.arange(len(new))
        self._last_id += len(new)

    def _believed(self, now: float) -> Mask:
        """Which tracks are in the picture as far as can be told: by default those that were seen."""
        return self._records.det_index >= 0

    def _boxes(self, rows: Mask) -> NDArray[np.float64]:
        """(M, 4) boxes to show of some tracks: the filtered ones."""
        return self._model.decode(self._motion.position[rows])

    def _result(self, now: float) -> Tracks:
        """The rows this frame shows; the hidden rest is the tracks that are lost or tentative."""
        r = self._records
        shown, believed = self._shown(), self._believed(now)
        hidden = ~shown & ((r.id > 0) | (r.det_index >= 0))
        return self._tracks(shown, believed, now, self._tracks(hidden, believed, now, None) if hidden.any() else None)

    def _tracks(self, rows: Mask, believed: Mask, now: float, hidden: Tracks | None) -> Tracks:
        r = self._records
        return Tracks(
            r.id[rows],
            self._boxes(rows),
            r.score[rows],
            r.class_id[rows],
            r.det_index[rows],
            now - r.born[rows],
            now - r.seen[rows],
            self._motion.velocity[rows, :2],
            *self._occlusions.told(rows, now),
            believed[rows],
            hidden,
        )

    def reset(self) -> None:
        """Forget all tracks, ids and the time: the next `update` is the first of a new sequence."""
        super().reset()
        self._begin()

    def state_dict(self) -> dict[str, Any]:
        """Everything remembered, as a new dictionary of arrays and plain values. Options are not part of it."""
        tables = {name: table.state_dict() for name, table in self._tables().items()}
        return {**super().state_dict(), "last_id": self._last_id, **tables}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned, bit for bit.

        Raises:
            ValueError: it was saved by another kind of tracker.
        """
        super().load_state_dict(state)
        self._last_id = state["last_id"]
        for name, table in self._tables().items():
            table.load_state_dict(state[name])
