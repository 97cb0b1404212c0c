"""StrongSORT: DeepSORT with a better filter, averaged looks and one assignment (Du et al. 2023, arXiv:2202.13514)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np

from trackers.averaged import AveragedLooks
from trackers.lifecycle import Floats, Indices, Mask, Picture
from trackers.matching import Matching
from trackers.moment import LATE, Moment
from trackers.motion import CHI2_95, XYAH, squared_mahalanobis
from trackers.observed import Observed
from trackers.tracker import Choice, Range


class StrongSORT(AveragedLooks):
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
        self._camera = camera
        super().__init__(**common)

    def _advance(self, seen: Observed, when: Moment, frames: Sequence[Picture | None]) -> Mask:
        r = self._records
        confirmed = r.id > 0
        recent = r.det_index >= 0
        high = seen.scores >= self._high_score
        predicted = self._predict(when, frames)
        matching = self._matching(seen)
        if seen.has_features:
            self._by_looks(matching, confirmed, high, seen)
            recent |= ~confirmed
        else:
            recent[:] = True
        matching.by_overlap(recent, high, predicted, seen.xyxy, self._iou_threshold)
        rows, cols = matching.pairs()
        self._hit(rows, seen, cols, when)
        self._born(seen, (high & (matching.track_of < 0)).nonzero()[0], when)
        at = when.of(r.stream)
        self._name((r.det_index >= 0) & ((r.hits >= self._min_hits) | at.first))
        self._look(when)
        return np.asarray((r.det_index >= 0) | ((r.id > 0) & (at.now - r.seen <= self._max_coast + LATE)))

    def _doubt(self, scores: Floats) -> Floats | None:
        doubt: Floats = np.maximum(1.0 - scores, 0.01)  # a score of 1 is no proof
        return doubt

    def _by_looks(self, matching: Matching, tracks: Mask, detections: Mask, seen: Observed) -> None:
        free, found = matching.free(tracks, detections)
        place, variance = self._motion.position[free], self._motion.innovation_variance()[free]
        measured = self._model.encode(seen.xyxy[found])
        reach = np.sqrt(CHI2_95[4] * variance[:, :2])
        around = np.concatenate((place[:, :2] - reach, place[:, :2] + reach), axis=1)
        i, j = matching.candidates(free, around, found, np.tile(measured[:, :2], 2))
        distance = squared_mahalanobis(place[i], measured[j], variance[i])
        inside = distance < CHI2_95[4]
        rows, cols, distance = free[i[inside]], found[j[inside]], distance[inside]
        cosine = self._looks.distance(rows, seen, cols)
        alike = cosine < self._max_cosine
        cost = self._look_weight * cosine[alike] + (1 - self._look_weight) * distance[alike] / CHI2_95[4]
        matching.take(rows[alike], cols[alike], cost, 2.0)

    def _remember(self, rows: Indices, seen: Observed, cols: Indices) -> None:
        self._looks.store(rows, seen.features(cols), self._look_memory)
