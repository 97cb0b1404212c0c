"""DeepSORT: motion, overlap and appearance (Wojke et al. 2017, arXiv:1703.07402), with what was learnt since."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np

from trackers.appearance import Galleries
from trackers.association import contested, expand, iou_of_pairs
from trackers.lifecycle import Floats, KalmanTracker, Mask, Picture
from trackers.matching import Matching
from trackers.moment import LATE, Moment
from trackers.motion import CHI2_95, XYAH, squared_mahalanobis
from trackers.observed import Observed
from trackers.tracker import Range

_PLACE = np.array([0, 1, 3])
"""Columns of XYAH that say where something is and how large: a half-hidden person has another aspect ratio."""

_RECOVERY = -5.0
"""A lost track is found again at Σ (innovation² / S + ln S), in heights of the object, below this: where its return
is more likely than something new. The logarithms let a vague prediction claim less, not more, which the plain
Mahalanobis distance gets wrong (it cost 5 points of IDF1, mean of 8 sequences)."""


class DeepSORT(KalmanTracker):
    """Tracks that survive occlusion, by motion and overlap alone or with appearance vectors.

    A frame is matched in four steps, each an optimal assignment among what the steps before left over:

    1. confirmed tracks with confident detections by overlap of boxes grown a little (buffered IoU, Yang et al. 2023)
       times the score. With features, likeness raises and unlikeness lowers the worth of a pair, where a track or
       detection has several candidates or the track was lost.
    2. tracks seen a moment ago with the faint detections (Zhang et al. 2022, ByteTrack).
    3. lost tracks with confident detections, within the 95 % quantile of the squared Mahalanobis distance: by
       appearance with features (the paper's matching), else by likelihood. The likelihood replaces the paper's
       cascade over ages, which exists to stop uncertain tracks from claiming everything.
    4. tentative tracks with confident detections by overlap.

    A confident detection that nothing claimed starts a tentative track unless it mostly covers one that is claimed.
    A tentative track is confirmed, and gets its id, once it is `confirm_after` seconds old and its scores sum up to
    `evidence`: two good detections at 10 frames a second, three at 30, more if they are faint. Age alone would
    trust two blinks, a count alone would trust 50 ms at 60 frames a second. What the very first frame shows is
    confirmed at once.

    Args:
        max_coast: seconds a confirmed track is predicted through an occlusion before it is dropped.
        high_score: detections from this score on are confident: they are matched first and may start tracks.
        low_score: fainter detections than this are not used at all.
        confirm_after: seconds after its first detection from which a track may be confirmed; a tentative track that
            is not seen for so long is dropped.
        evidence: sum of scores that confirms a track.
        iou_threshold: least buffered overlap times score of a pair.
        low_iou_threshold: least overlap of a track with a faint detection.
        buffer: growth of boxes on every side before overlaps are taken, as a share of width and height.
        duplicate_iou: a detection that overlaps a claimed one by more starts no track.
        max_cosine: cosine distance from which on two looks speak against each other.
        appearance_weight: how much likeness counts beside overlap.
        budget: appearance vectors kept of each track.
        gallery_period: seconds between two vectors of a gallery.
    """

    name = "deepsort"
    # Half the paper's velocity noise: IDF1 +1.5, mean of 8 sequences, whole and thinned out.
    _model = XYAH(velocity=1 / 320)

    def __init__(
        self,
        *,
        max_coast: Annotated[float, Range(0)] = 3.0,
        high_score: Annotated[float, Range(0, 1)] = 0.25,
        low_score: Annotated[float, Range(0, 1)] = 0.1,
        confirm_after: Annotated[float, Range(0)] = 0.05,
        evidence: Annotated[float, Range(0)] = 1.0,
        iou_threshold: Annotated[float, Range(0, 1)] = 0.2,
        low_iou_threshold: Annotated[float, Range(0, 1)] = 0.5,
        buffer: Annotated[float, Range(0)] = 0.25,
        duplicate_iou: Annotated[float, Range(0, 1)] = 0.35,
        max_cosine: Annotated[float, Range(0.01, 2)] = 0.25,
        appearance_weight: Annotated[float, Range(0)] = 0.5,
        budget: Annotated[int, Range(1)] = 16,
        gallery_period: Annotated[float, Range(0)] = 0.2,
        **common: Any,
    ) -> None:
        self._max_coast = max_coast
        self._high_score = high_score
        self._low_score = low_score
        self._confirm_after = confirm_after
        self._evidence = evidence
        self._iou_threshold = iou_threshold
        self._low_iou_threshold = low_iou_threshold
        self._buffer = buffer
        self._duplicate_iou = duplicate_iou
        self._max_cosine = max_cosine
        self._appearance_weight = appearance_weight
        self._budget = budget
        self._gallery_period = gallery_period
        super().__init__(**common)

    def _begin(self, streams: int) -> None:
        super()._begin(streams)
        self._galleries = self._table("galleries", Galleries(self._budget, self._gallery_period))

    def _advance(self, seen: Observed, when: Moment, frames: Sequence[Picture | None]) -> Mask:
        r = self._records
        confirmed = r.id > 0
        lost = confirmed & (r.det_index < 0)
        high = seen.scores >= self._high_score
        low = (seen.scores >= self._low_score) & ~high
        predicted = self._predict(when, frames)
        matching = self._matching(seen)
        self._by_overlap(matching, confirmed, high, predicted, seen, lost)
        matching.by_overlap(confirmed & ~lost, low, predicted, seen.xyxy, self._low_iou_threshold)
        self._by_place(matching, lost, high, seen)
        self._by_overlap(matching, ~confirmed, high, predicted, seen, lost)
        rows, cols = matching.pairs()
        self._hit(rows, seen, cols, when)
        new = matching.unclaimed(high, seen.xyxy, self._duplicate_iou)
        rows, cols = np.concatenate((rows, self._born(seen, new, when))), np.concatenate((cols, new))
        self._look(when)
        if seen.has_features:
            clear = high[cols]
            now = when.of(seen.streams[cols[clear]]).now
            self._galleries.remember(rows[clear], seen, cols[clear], now)
        at = when.of(r.stream)
        ripe = (r.support >= self._evidence) & (at.now - r.born >= self._confirm_after - LATE)
        self._name((r.det_index >= 0) & (ripe | at.first))
        patience = np.where(r.id > 0, self._max_coast + LATE, self._confirm_after - LATE)
        return np.asarray((r.det_index >= 0) | (at.now - r.seen <= patience))

    def _by_overlap(
        self, matching: Matching, tracks: Mask, detections: Mask, predicted: Floats, seen: Observed, lost: Mask
    ) -> None:
        free, found = matching.free(tracks, detections)
        grown, around = expand(predicted[free], self._buffer), expand(seen.xyxy[found], self._buffer)
        i, j = matching.candidates(free, grown, found, around)
        rows, cols = free[i], found[j]
        cost = 1 - iou_of_pairs(grown, i, around, j) * seen.scores[cols]
        limit = 1 - self._iou_threshold
        if seen.has_features:
            possible = cost < limit + self._appearance_weight
            rows, cols, cost = rows[possible], cols[possible], cost[possible]
            asked = (contested(rows, cols) | lost[rows]).nonzero()[0]
            likeness = self._galleries.likeness(rows[asked], seen, cols[asked], self._max_cosine)
            cost[asked] -= self._appearance_weight * likeness
        matching.take(rows, cols, cost, limit)

    def _by_place(self, matching: Matching, tracks: Mask, detections: Mask, seen: Observed) -> None:
        free, found = matching.free(tracks, detections)
        if not len(free) or not len(found):
            return
        place = self._motion.position[free][:, _PLACE]
        variance = self._motion.innovation_variance()[free][:, _PLACE]
        measured = self._model.encode(seen.xyxy[found])[:, _PLACE]
        reach = np.sqrt(CHI2_95[3] * variance[:, :2])
        around = np.concatenate((place[:, :2] - reach, place[:, :2] + reach), axis=1)
        i, j = matching.candidates(free, around, found, np.tile(measured[:, :2], 2))
        distance = squared_mahalanobis(place[i], measured[j], variance[i])
        inside = distance < CHI2_95[3]
        i, j, distance = i[inside], j[inside], distance[inside]
        rows, cols = free[i], found[j]
        if not seen.has_features:
            spread = np.log(variance / place[:, 2:] ** 2).sum(axis=1)
            matching.take(rows, cols, distance + spread[i], _RECOVERY)
            return
        cosine = self._galleries.distance(rows, seen, cols)
        matching.take(rows, cols, np.where(np.isnan(cosine), np.inf, cosine), self._max_cosine)
