"""AveragedLooks: what trackers share that keep one averaged appearance vector of each track."""

from __future__ import annotations

from abc import abstractmethod

from trackers.appearance import Averages
from trackers.lifecycle import Indices, KalmanTracker
from trackers.moment import Moment
from trackers.observed import Observed


class AveragedLooks(KalmanTracker):
    """Base of trackers with a look of each track in `_looks`; `_remember` says how a detection changes it."""

    def _begin(self, streams: int) -> None:
        super()._begin(streams)
        self._looks = self._table("looks", Averages())

    def _hit(self, rows: Indices, seen: Observed, cols: Indices, when: Moment) -> None:
        super()._hit(rows, seen, cols, when)
        if seen.has_features:
            self._remember(rows, seen, cols)

    def _born(self, seen: Observed, cols: Indices, when: Moment) -> Indices:
        rows = super()._born(seen, cols, when)
        if seen.has_features:
            self._remember(rows, seen, cols)
        return rows

    @abstractmethod
    def _remember(self, rows: Indices, seen: Observed, cols: Indices) -> None:
        """Tracks `rows` look like detections `cols`, which have features."""
