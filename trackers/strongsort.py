"""StrongSORT: DeepSORT with a better filter, averaged looks and one assignment (Du et al. 2023, arXiv:2202.13514)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from trackers.appearance import Averages, Vectors
from trackers.camera import ImageMotion
from trackers.columns import Columns
from trackers.lifecycle import LATE, Indices, KalmanTracker, Mask
from trackers.matching import Matching
from trackers.motion import CHI2_95, XYAH, Floats, squared_mahalanobis
from trackers.tracker import Choice, Observed, Range
from trackers.tracks import Tracks


class StrongSORT(KalmanTracker):
    """Looks first, gated by motion, in one assignment of all confirmed tracks; then overlap for what is left.

    The noise of a measurement falls with its score (NSA), a track's look is an exponential average, and the cost of a
    pair is mostly the distance of looks, a little that of places. Overlap then matches tentative tracks and those seen
    in the frame before. Without features all tracks are matched by overlap.

    Args:
        max_coast: seconds a confirmed track is predicted without being seen before it is dropped.
        min_hits: detections in a row that confirm a track.
        high_score: detections from this score on are used.
        max_cosine: largest cosine distance of a pair.
        look_weight: share of the cosine distance in the cost; the rest is the distance of places.
        look_memory: share of a track's look that stays when it is seen again.
        iou_threshold: least overlap of what looks did not match.
        camera: how camera motion is estimated from the frames, where they are given to `update`.
    """

    name = "strongsort"
    _model = XYAH()

    def __init__(
        self,
        *,
        max_coast: Annotated[float, Range(0)] = 3.0,
        min_hits: Annotated[int, Range(1)] = 3,
        high_score: Annotated[float, Range(0, 1)] = 0.5,
        max_cosine: Annotated[float, Range(0, 2)] = 0.4,
        look_weight: Annotated[float, Range(0, 1)] = 0.98,
        look_memory: Annotated[float, Range(0, 1)] = 0.9,
        iou_threshold: Annotated[float, Range(0, 1)] = 0.3,
        camera: Annotated[str, Choice(("ecc", "flow", "none"))] = "ecc",
        **common: Any,
    ) -> None:
        self._max_coast = max_coast
        self._min_hits = min_hits
        self._high_score = high_score
        self._max_cosine = max_cosine
        self._look_weight = look_weight
        self._look_memory = look_memory
        self._iou_threshold = iou_threshold
        self._method = camera
        super().__init__(**common)

    def _begin(self) -> None:
        super()._begin()
        self._looks = Averages(0)
        self._camera = ImageMotion(self._method)

    def _tables(self) -> dict[str, Columns]:
        return {**super()._tables(), "looks": self._looks}

    def _step(self, seen: Observed, now: float, dt: float, frame: NDArray[np.uint8] | None) -> Tracks:
        r = self._records
        confirmed = r.id > 0
        recent = r.det_index >= 0
        high = seen.scores >= self._high_score
        self._predict(dt)
        if frame is not None and self._method != "none":
            self._motion.warp(self._model, self._camera.estimate(frame))
        looks = Vectors(seen) if seen.has_features else None
        matching = self._matching(seen)
        if looks is not None:
            self._by_looks(matching, confirmed, high, seen, looks)
            recent |= ~confirmed
        else:
            recent[:] = True
        predicted = self._model.decode(self._motion.position)
        matching.by_overlap(recent, high, predicted, seen.xyxy, self._iou_threshold)
        rows, cols = matching.pairs()
        self._hit(rows, seen, cols, now)
        self._born(seen, (high & (matching.track_of < 0)).nonzero()[0], now)
        if looks is not None:
            shown = (r.det_index >= 0).nonzero()[0]
            if len(shown):
                self._looks.store(shown, looks.of_rows(r.det_index[shown]), self._look_memory)
        self._name((r.det_index >= 0) & ((r.hits >= self._min_hits) | (self._now is None)))
        self._look(now)
        result = self._result(now)
        self._keep((r.det_index >= 0) | ((r.id > 0) & (now - r.seen <= self._max_coast + LATE)))
        return result

    def _doubt(self, scores: Floats) -> Floats | None:
        doubt: Floats = np.maximum(1.0 - scores, 0.01)  # a score of 1 is no proof
        return doubt

    def _by_looks(self, matching: Matching, tracks: Mask, detections: Mask, seen: Observed, looks: Vectors) -> None:
        free, found = matching.free(tracks, detections)
        if not len(free) or not len(found):
            return
        place = self._motion.position[free]
        variance = self._motion.innovation_variance(self._model)[free]
        distance = squared_mahalanobis(place[:, None], self._model.encode(seen.xyxy[found]), variance[:, None])
        i, j = (distance < CHI2_95[4]).nonzero()
        rows, cols = free[i], found[j]
        cosine = looks.distance(self._looks, rows, cols)
        alike = (cosine < self._max_cosine).nonzero()[0]
        weight = self._look_weight
        cost = weight * cosine[alike] + (1 - weight) * distance[i[alike], j[alike]] / CHI2_95[4]
        matching.take(rows[alike], cols[alike], cost, 2.0)

    def _born(self, seen: Observed, cols: Indices, now: float) -> None:
        super()._born(seen, cols, now)
        if len(cols):
            self._looks.extend(Averages(len(cols)))

    def state_dict(self) -> dict[str, Any]:
        """Everything remembered, as a new dictionary of arrays and plain values. Options are not part of it."""
        return {**super().state_dict(), "camera": self._camera.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned, bit for bit.

        Raises:
            ValueError: it was saved by another kind of tracker.
        """
        super().load_state_dict(state)
        self._camera.load_state_dict(state["camera"])
