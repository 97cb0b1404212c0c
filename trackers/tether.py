"""Tether, the default tracker: identities hold behind others, through missed detections and with moving cameras."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from trackers.appearance import Galleries, Vectors
from trackers.association import (
    Floats,
    Indices,
    assign,
    expand,
    iou,
    mutual_best,
    overlapping,
    paired_height_iou,
    paired_iou,
)
from trackers.camera import common_motion
from trackers.columns import Columns
from trackers.lifecycle import LATE, KalmanTracker, Mask
from trackers.matching import Matching
from trackers.motion import XYAH
from trackers.tracker import Observed, Range
from trackers.tracks import Tracks

_FAINT = 0.3
"""Seconds for which a track that is not seen may still be kept by faint detections."""

_RECENT = 0.2
"""Seconds since it was seen up to which a track is a witness of the camera's motion."""


@dataclass
class Sightings(Columns):
    """Where tracks were last seen.

    Attributes:
        xyxy: (T, 4) the last detection's box, moved along with the camera since.
        absent: (T,) seconds for which it has not been seen though nothing stood in front of it.
    """

    xyxy: Floats
    absent: Floats


class Tether(KalmanTracker):
    """Tracks that hold through occlusion, in one joint association a frame.

    1. Velocities of lost tracks fade; all tracks are predicted, and moved by what they have in common with the
       detections: the camera's motion.
    2. All tracks and all detections, confident and faint, compete at once (as in TrackTrack, Shim et al. 2025): overlap
       of boxes grown a little (Yang et al. 2023), more for longer lost ones, times the overlap of their heights (Yang
       et al. 2024). Faint detections, tentative and lost tracks bid less. Pairs that are each other's best are made
       first. With features, likeness raises and unlikeness lowers a bid where there are rivals or the track was lost.
    3. A lost track is found again where it was, where it was going, or between: in the corridor from its last sighting
       to its prediction, which widens with time. With features a likeness is asked for as well.
    4. Detections that nothing claimed start tentative tracks, unless they mostly cover a claimed one.
    5. Who stands behind whom is worked out. Lost tracks that are covered by others are waited for longer, and are
       `tracks.hidden()` for a while: where they are is known. Looks are not remembered while covered.

    Args:
        max_coast: seconds a confirmed track is kept without being seen.
        max_absence: seconds of these in plain view, with nothing in front of it.
        high_score: detections from this score on are confident: they may find lost tracks and start new ones.
        low_score: fainter detections than this are not used at all.
        confirm_after: seconds after its first detection from which a track may be confirmed.
        evidence: sum of scores that confirms a track.
        patience: seconds that a tentative track may be unseen.
        gate: least bid of a pair.
        buffer: growth of boxes on every side before overlaps are taken, as a share of width and height.
        buffer_growth: further growth for each second that a track was lost, up to one second.
        height_weight: exponent of the overlap of heights; 0 leaves it out.
        score_weight: exponent of the detection's score; 0 leaves it out.
        faint_penalty: by how much less a faint detection bids.
        faint_overlap: least overlap of a track with a faint detection.
        tentative_penalty: by how much less a tentative track bids.
        lost_penalty: by how much less a track bids for each second that it was lost, up to one second.
        mutual: pairs that are each other's best are made first; otherwise the sum of all bids is the greatest.
        camera_motion: tracks follow what they have in common with the detections.
        half_life: seconds in which the velocity of a lost track halves.
        score_trust: by how much the score narrows a measurement's noise (NSA, Du et al. 2021); 0 leaves it out.
        recover: seconds for which a lost track can be found again outside the gate; 0 leaves it out.
        reach: half the width of the corridor in heights of the track, at once.
        reach_growth: how much wider it gets in a second.
        duplicate_iou: a detection that overlaps a claimed one by more starts no track.
        believe_missed: seconds for which a track that is not seen is believed to be there.
        believe_covered: the same while others stand in front of it.
        max_cosine: cosine distance from which on two looks speak against each other.
        appearance_weight: how much likeness counts beside overlap.
        budget: appearance vectors kept of each track.
        gallery_period: seconds between two vectors of a gallery.
    """

    name = "tether"
    _model = XYAH(position=0.13, velocity=1 / 160)

    def __init__(
        self,
        *,
        max_coast: Annotated[float, Range(0)] = 4.0,
        max_absence: Annotated[float, Range(0)] = 3.0,
        high_score: Annotated[float, Range(0, 1)] = 0.25,
        low_score: Annotated[float, Range(0, 1)] = 0.1,
        confirm_after: Annotated[float, Range(0)] = 0.08,
        evidence: Annotated[float, Range(0)] = 2.5,
        patience: Annotated[float, Range(0)] = 0.15,
        gate: Annotated[float, Range(0, 1)] = 0.12,
        buffer: Annotated[float, Range(0)] = 0.2,
        buffer_growth: Annotated[float, Range(0)] = 0.14,
        height_weight: Annotated[float, Range(0)] = 0.5,
        score_weight: Annotated[float, Range(0)] = 0.9,
        faint_penalty: Annotated[float, Range(0)] = 0.3,
        faint_overlap: Annotated[float, Range(0, 1)] = 0.6,
        tentative_penalty: Annotated[float, Range(0)] = 0.06,
        lost_penalty: Annotated[float, Range(0)] = 0.07,
        tentative_last: bool = True,
        mutual: bool = False,
        camera_motion: bool = True,
        half_life: Annotated[float, Range(0.01)] = 20.0,
        score_trust: Annotated[float, Range(0, 0.99)] = 0.35,
        recover: Annotated[float, Range(0)] = 0.5,
        reach: Annotated[float, Range(0.01)] = 0.1,
        reach_growth: Annotated[float, Range(0)] = 0.03,
        duplicate_iou: Annotated[float, Range(0, 1)] = 0.35,
        believe_missed: Annotated[float, Range(0)] = 0.15,
        believe_covered: Annotated[float, Range(0)] = 0.5,
        max_cosine: Annotated[float, Range(0.01, 2)] = 0.25,
        appearance_weight: Annotated[float, Range(0)] = 0.5,
        budget: Annotated[int, Range(1)] = 16,
        gallery_period: Annotated[float, Range(0)] = 0.2,
        **common: Any,
    ) -> None:
        self._max_coast = max_coast
        self._max_absence = max_absence
        self._high_score = high_score
        self._low_score = low_score
        self._confirm_after = confirm_after
        self._evidence = evidence
        self._patience = patience
        self._gate = gate
        self._buffer = buffer
        self._buffer_growth = buffer_growth
        self._height_weight = height_weight
        self._score_weight = score_weight
        self._faint_penalty = faint_penalty
        self._faint_overlap = faint_overlap
        self._tentative_penalty = tentative_penalty
        self._lost_penalty = lost_penalty
        self._tentative_last = tentative_last
        self._solver = mutual_best if mutual else assign
        self._camera_motion = camera_motion
        self._half_life = half_life
        self._score_trust = score_trust
        self._recover = recover
        self._reach = reach
        self._reach_growth = reach_growth
        self._duplicate_iou = duplicate_iou
        self._believe_missed = believe_missed
        self._believe_covered = believe_covered
        self._max_cosine = max_cosine
        self._appearance_weight = appearance_weight
        self._budget = budget
        self._gallery_period = gallery_period
        super().__init__(**common)

    def _begin(self) -> None:
        super()._begin()
        self._sightings = Sightings(np.zeros((0, 4)), np.zeros(0))
        self._galleries = Galleries(0, self._budget)

    def _tables(self) -> dict[str, Columns]:
        return {**super()._tables(), "sightings": self._sightings, "galleries": self._galleries}

    def _step(self, seen: Observed, now: float, dt: float, frame: NDArray[np.uint8] | None) -> Tracks:
        r = self._records
        confirmed = r.id > 0
        lost = confirmed & (r.det_index < 0)
        missing = now - dt - r.seen  # seconds before this frame
        high = seen.scores >= self._high_score
        self._motion.damp(lost, dt, self._half_life)
        self._predict(dt)
        predicted = self._model.decode(self._motion.position)
        if self._camera_motion:
            predicted = self._followed(predicted, confirmed & (missing < _RECENT), seen.xyxy[high])
        looks = Vectors(seen) if seen.has_features else None
        matching = self._matching(seen)
        first = confirmed if self._tentative_last else np.ones(len(r), bool)
        self._by_bids(matching, first, predicted, seen, high, missing, looks)
        if self._recover:
            self._by_corridor(matching, predicted, seen, high, lost & (missing < self._recover), missing, looks)
        if self._tentative_last:
            self._by_bids(matching, ~confirmed, predicted, seen, high, missing, looks)

        rows, cols = matching.pairs()
        self._hit(rows, seen, cols, now)
        self._born(seen, self._new(matching, seen, high, cols), now)
        self._look(now)
        absent = (r.det_index < 0) & ~self._occlusions.covered
        self._sightings.absent[absent] += dt
        if looks is not None:
            self._remember(looks, now)
        ripe = (r.support >= self._evidence) & (now - r.born >= self._confirm_after - LATE)
        self._name((r.det_index >= 0) & (ripe if self._now is not None else True))
        result = self._result(now)
        patience = np.where(r.id > 0, self._max_coast, self._patience)
        waiting = (now - r.seen <= patience + LATE) & (self._sightings.absent <= self._max_absence + LATE)
        self._keep((r.det_index >= 0) | waiting)
        return result

    def _followed(self, predicted: Floats, witnesses: Mask, found: Floats) -> Floats:
        """Move all tracks along with the camera."""
        shift = common_motion(predicted[witnesses], found)
        if not shift.any():
            return predicted
        self._motion.position[:, :2] += shift
        moved: Floats = np.tile(shift, 2)
        self._sightings.xyxy += moved
        return predicted + moved

    def _by_bids(
        self,
        matching: Matching,
        bidders: Mask,
        predicted: Floats,
        seen: Observed,
        high: Mask,
        missing: Floats,
        looks: Vectors | None,
    ) -> None:
        confirmed, since = self._records.id > 0, np.minimum(missing, 1.0)
        grown = expand(predicted, (self._buffer + self._buffer_growth * since)[:, None])
        around = expand(seen.xyxy, self._buffer)
        tracks, found = matching.free(bidders, np.ones(len(seen), bool))
        i, j = overlapping(grown[tracks], around[found])
        rows, cols = tracks[i], found[j]
        faint = ~high[cols]
        usable = ~faint | (confirmed[rows] & (missing[rows] < _FAINT) & (seen.scores[cols] >= self._low_score))
        rows, cols, faint = rows[usable], cols[usable], faint[usable]
        overlap = paired_iou(grown[rows], around[cols])
        if self._height_weight:
            overlap *= paired_height_iou(predicted[rows], seen.xyxy[cols]) ** self._height_weight
        cost = 1 - overlap * seen.scores[cols] ** self._score_weight + self._faint_penalty * faint
        cost += self._tentative_penalty * ~confirmed[rows] + self._lost_penalty * since[rows]
        limit = 1 - self._gate
        possible = cost < (limit if looks is None else limit + self._appearance_weight)
        possible &= ~faint | (overlap >= self._faint_overlap)
        rows, cols, cost = rows[possible], cols[possible], cost[possible]
        if looks is not None and len(rows):
            rivals = (np.bincount(rows)[rows] > 1) | (np.bincount(cols)[cols] > 1) | (missing[rows] > LATE)
            asked = rivals.nonzero()[0]
            distance = looks.distance(self._galleries, rows[asked], cols[asked])
            likeness = np.clip(1 - distance / self._max_cosine, -1, 1)
            cost[asked] -= self._appearance_weight * np.nan_to_num(likeness)
        matching.take(rows, cols, cost, limit, self._solver)

    def _by_corridor(
        self,
        matching: Matching,
        predicted: Floats,
        seen: Observed,
        high: Mask,
        lost: Mask,
        missing: Floats,
        looks: Vectors | None,
    ) -> None:
        tracks, found = matching.free(lost, high)
        if not len(tracks) or not len(found):
            return
        last = self._sightings.xyxy[tracks]
        start, goal, place = (_centre(boxes) for boxes in (last, predicted[tracks], seen.xyxy[found]))
        height, tall = last[:, 3] - last[:, 1], seen.xyxy[found, 3] - seen.xyxy[found, 1]
        reach = height * (self._reach + self._reach_growth * missing[tracks])
        low, high_end = np.minimum(start, goal) - reach[:, None], np.maximum(start, goal) + reach[:, None]
        i, j = overlapping(np.concatenate([low, high_end], axis=1), np.concatenate([place, place], axis=1))
        way = (goal - start)[i]
        apart = place[j] - start[i]
        along = (apart * way).sum(axis=1) / np.maximum((way * way).sum(axis=1), 1e-9)
        off = apart - np.clip(along, 0, 1)[:, None] * way
        # both in units of what is just allowed: a corridor's half width, a sixth of the height
        cost = np.hypot(off[:, 0], off[:, 1]) / reach[i] + np.abs(np.log(tall[j] / height[i])) / _SIZE
        if looks is not None:
            distance = looks.distance(self._galleries, tracks[i], found[j])
            cost = np.where(distance < self._max_cosine, distance / self._max_cosine, 1.0)
        matching.take(tracks[i], found[j], cost, 1.0, self._solver)

    def _doubt(self, scores: Floats) -> Floats | None:
        if not self._score_trust:
            return None
        doubt: Floats = 1.0 - self._score_trust * scores
        return doubt

    def _hit(self, rows: Indices, seen: Observed, cols: Indices, now: float) -> None:
        super()._hit(rows, seen, cols, now)
        self._sightings.xyxy[rows] = seen.xyxy[cols]
        self._sightings.absent[rows] = 0.0

    def _new(self, matching: Matching, seen: Observed, high: Mask, claimed: Indices) -> Indices:
        """The detections that start tracks."""
        new = (high & (matching.track_of < 0)).nonzero()[0]
        if len(new) and len(claimed):
            covered = iou(seen.xyxy[new], seen.xyxy[claimed]).max(axis=1)
            new = new[covered <= self._duplicate_iou]
        return new

    def _born(self, seen: Observed, cols: Indices, now: float) -> None:
        super()._born(seen, cols, now)
        if len(cols):
            self._sightings.extend(Sightings(seen.xyxy[cols].copy(), np.zeros(len(cols))))
            self._galleries.extend(Galleries(len(cols), self._budget))

    def _remember(self, looks: Vectors, now: float) -> None:
        """Store the looks of the tracks seen well, each once in `gallery_period` seconds."""
        r = self._records
        due = (now - self._galleries.stored >= self._gallery_period - LATE) & ~self._occlusions.covered
        rows = ((r.det_index >= 0) & (r.score >= self._high_score) & due).nonzero()[0]
        if len(rows):
            vectors = looks.of_rows(r.det_index[rows])
            # a vector that is not finite would spoil every later comparison with the gallery
            sound = np.isfinite(vectors).all(axis=1)
            self._galleries.store(rows[sound], vectors[sound], now)

    def _believed(self, now: float) -> Mask:
        r, unseen = self._records, now - self._records.seen
        limit = np.where(self._occlusions.covered, self._believe_covered, self._believe_missed)
        return (r.det_index >= 0) | ((r.hits >= _ESTABLISHED) & (unseen <= limit + LATE))


_SIZE = 0.08
"""Logarithm of the ratio of heights that is just allowed between a lost track and what it is found as."""

_ESTABLISHED = 5
"""Detections that make a track one whose word counts while it is not seen."""


def _centre(xyxy: Floats) -> Floats:
    return np.asarray((xyxy[:, :2] + xyxy[:, 2:]) / 2)
