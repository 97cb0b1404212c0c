"""Tether, the default tracker: identities hold behind others, through missed detections and with moving cameras."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np

from trackers.appearance import Galleries
from trackers.association import assign, expand, iou_of_pairs, mutual_best, paired_height_iou, unsettled
from trackers.calibration import ScoreCalibration
from trackers.camera import common_motions
from trackers.columns import Columns
from trackers.compiled import kernels
from trackers.graveyard import Graveyard
from trackers.lifecycle import Floats, Indices, KalmanTracker, Mask, Picture
from trackers.matching import Matching
from trackers.moment import LATE, Moment
from trackers.motion import XYAH
from trackers.observed import Observed
from trackers.tracker import Range

_FAINT = 0.3
"""Seconds for which a track that is not seen may still be kept by faint detections."""

_RECENT = 0.2
"""Seconds since it was seen up to which a track is a witness of the camera's motion."""


class Sightings(Columns):
    """Where tracks were last seen.

    Attributes:
        xyxy: (T, 4) the last detection's box, moved along with the camera since.
        absent: (T,) seconds for which it has not been seen though nothing stood in front of it.
        evidence: (T,) sum of what its detections were worth.
    """

    xyxy: Floats
    absent: Floats
    evidence: Floats

    def __init__(self) -> None:
        self.xyxy, self.absent, self.evidence = np.zeros((0, 4)), np.zeros(0), np.zeros(0)

    def grow(self, seen: Observed, cols: Indices, now: Floats) -> None:
        """Append tracks that start as detections `cols`."""
        self.append(seen.xyxy[cols], np.zeros(len(cols)), seen.trust[cols])


class Tether(KalmanTracker):
    """Tracks that hold through occlusion, in one joint association a frame.

    1. Scores are replaced by what they turn out to mean on this video, see `ScoreCalibration`. Velocities of lost
       tracks fade; all tracks are predicted, and moved by what they have in common with the detections: the camera's
       motion.
    2. All confirmed tracks, lost ones among them, and all detections, confident and faint, compete at once (as in
       TrackTrack, Shim et al. 2025): overlap of boxes grown a little (Yang et al. 2023), more for longer lost ones,
       times the overlap of their heights (Yang et al. 2024). Faint detections and lost tracks bid less. With features,
       likeness raises and unlikeness lowers a bid where there are rivals or the track was lost. Tentative tracks bid
       for the rest.
    3. Detections that nothing claimed start tentative tracks, unless they mostly cover a claimed one. A new track that
       looks like nobody but one who was dropped gets that one's id.
    4. Who stands behind whom is worked out. Lost tracks that are covered by others are waited for longer, and are
       `tracks.hidden()` for a while: where they are is known. Looks are not remembered while covered.

    Args:
        max_coast: seconds a confirmed track is kept without being seen.
        max_absence: seconds of these in plain view, with nothing in front of it.
        high_score: detections from this score on are confident: they may find lost tracks.
        low_score: fainter detections than this are not used at all.
        birth_score: least score of a detection that starts a track, if more than `high_score`; not asked for while no
            track is established, as the detector may never say more.
        calibrate: how far a score is replaced by the share of detections with it that continued a track; 0: not at all.
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
        tentative_last: tentative tracks bid for what the others left, not along with them.
        tentative_penalty: by how much less a tentative track bids.
        lost_penalty: by how much less a track bids for each second that it was lost, up to one second.
        mutual: pairs that are each other's best are made first; otherwise the sum of all bids is the greatest.
        camera_motion: tracks follow what they have in common with the detections.
        half_life: seconds in which the velocity of a lost track halves.
        score_trust: by how much the score narrows a measurement's noise (NSA, Du et al. 2021); 0 leaves it out.
        duplicate_iou: a detection that overlaps a claimed one by more starts no track.
        believe_missed: seconds for which a track that is not seen is believed to be there.
        believe_covered: the same while others stand in front of it.
        max_cosine: cosine distance from which on two looks speak against each other.
        appearance_weight: how much likeness counts beside overlap.
        clear: looks are not asked for where a bid is higher by this than those of all its rivals; with 2 they are
            asked for wherever there is a rival.
        budget: appearance vectors kept of each track.
        gallery_period: seconds between two vectors of a gallery.
        remember_for: seconds for which someone who was dropped, and comes back looking the same, gets the old id; 0
            leaves it out.
        return_cosine: cosine distance below which two looks are one person's.
        return_margin: by how much less alike anybody else must look.
    """

    name = "tether"
    _model = XYAH(position=0.13, velocity=1 / 160)

    def __init__(
        self,
        *,
        max_coast: Annotated[float, Range(0)] = 4.0,
        max_absence: Annotated[float, Range(0)] = 3.0,
        high_score: Annotated[float, Range(0, 1)] = 0.22,
        low_score: Annotated[float, Range(0, 1)] = 0.1,
        birth_score: Annotated[float, Range(0, 1)] = 0.6,
        calibrate: Annotated[float, Range(0, 1)] = 0.78,
        confirm_after: Annotated[float, Range(0)] = 0.08,
        evidence: Annotated[float, Range(0)] = 3.1,
        patience: Annotated[float, Range(0)] = 0.05,
        gate: Annotated[float, Range(0, 1)] = 0.12,
        buffer: Annotated[float, Range(0)] = 0.2,
        buffer_growth: Annotated[float, Range(0)] = 0.14,
        height_weight: Annotated[float, Range(0)] = 0.5,
        score_weight: Annotated[float, Range(0)] = 0.8,
        faint_penalty: Annotated[float, Range(0)] = 0.3,
        faint_overlap: Annotated[float, Range(0, 1)] = 0.6,
        tentative_penalty: Annotated[float, Range(0)] = 0.06,
        lost_penalty: Annotated[float, Range(0)] = 0.07,
        tentative_last: bool = True,
        mutual: bool = False,
        camera_motion: bool = True,
        half_life: Annotated[float, Range(0.01)] = 20.0,
        score_trust: Annotated[float, Range(0, 0.99)] = 0.35,
        duplicate_iou: Annotated[float, Range(0, 1)] = 0.35,
        believe_missed: Annotated[float, Range(0)] = 0.19,
        believe_covered: Annotated[float, Range(0)] = 0.83,
        max_cosine: Annotated[float, Range(0.01, 2)] = 0.25,
        appearance_weight: Annotated[float, Range(0)] = 0.5,
        clear: Annotated[float, Range(0)] = 2.0,
        budget: Annotated[int, Range(1)] = 16,
        gallery_period: Annotated[float, Range(0)] = 0.2,
        remember_for: Annotated[float, Range(0)] = 60.0,
        return_cosine: Annotated[float, Range(0, 2)] = 0.15,
        return_margin: Annotated[float, Range(0, 2)] = 0.05,
        **common: Any,
    ) -> None:
        self._max_coast = max_coast
        self._max_absence = max_absence
        self._high_score = high_score
        self._low_score = low_score
        self._birth_score = birth_score
        self._calibrate = calibrate
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
        self._weights = (
            *(buffer, buffer_growth, height_weight, score_weight, faint_penalty, faint_overlap),
            *(tentative_penalty, lost_penalty, low_score, _FAINT),
        )
        self._camera_motion = camera_motion
        self._half_life = half_life
        self._score_trust = score_trust
        self._duplicate_iou = duplicate_iou
        self._believe_missed = believe_missed
        self._believe_covered = believe_covered
        self._max_cosine = max_cosine
        self._appearance_weight = appearance_weight
        self._clear = clear
        self._budget = budget
        self._gallery_period = gallery_period
        self._remember_for = remember_for
        self._return_cosine = return_cosine
        self._return_margin = return_margin
        super().__init__(**common)

    def _begin(self, streams: int) -> None:
        super()._begin(streams)
        self._sightings = self._table("sightings", Sightings())
        self._galleries = self._table("galleries", Galleries(self._budget, self._gallery_period))
        self._graveyard = Graveyard(self._budget)
        self._calibration = ScoreCalibration(streams)

    def _advance(self, seen: Observed, when: Moment, frames: Sequence[Picture | None]) -> Mask:
        r = self._records
        confirmed = r.id > 0
        lost = confirmed & (r.det_index < 0)
        at = when.of(r.stream)
        missing = at.now - at.dt - r.seen  # seconds before this frame
        if self._calibrate:
            probability = self._calibration(seen.scores, seen.streams)
            seen.trust = probability**self._calibrate * seen.scores ** (1 - self._calibrate)
        high = seen.trust >= self._high_score
        self._motion.damp(lost, at.dt, self._half_life)
        predicted = self._predict(when, frames)
        if self._camera_motion:
            predicted = self._followed(predicted, confirmed & (missing < _RECENT), seen, high)
        matching = self._matching(seen)
        first = confirmed if self._tentative_last else np.ones(len(r), bool)
        self._by_bids(matching, first, predicted, seen, high, missing)
        if self._tentative_last:
            self._by_bids(matching, ~confirmed, predicted, seen, high, missing)

        rows, cols = matching.pairs()
        established = confirmed & (r.hits >= _KEPT)
        told = np.zeros(len(self._frames), bool)
        told[r.stream[established]] = True
        if self._calibrate:
            self._learn(seen, established, told[seen.streams], matching)
        self._hit(rows, seen, cols, when)
        sure = high & ((seen.trust >= self._birth_score) | ~told[seen.streams])
        new = matching.unclaimed(sure, seen.xyxy, self._duplicate_iou)
        rows, cols = np.concatenate((rows, self._born(seen, new, when))), np.concatenate((cols, new))
        self._look(when)
        at = when.of(r.stream)
        self._sightings.absent += np.where((r.det_index < 0) & ~self._occlusions.covered, at.dt, 0.0)
        if seen.has_features:
            clear = high[cols] & ~self._occlusions.covered[rows]
            now = when.of(seen.streams[cols[clear]]).now
            self._galleries.remember(rows[clear], seen, cols[clear], now)
        ripe = (self._sightings.evidence >= self._evidence) & (at.now - r.born >= self._confirm_after - LATE)
        named = (r.det_index >= 0) & (ripe | at.first)
        patience = np.where(r.id > 0, self._max_coast, self._patience)
        waiting = (at.now - r.seen <= patience + LATE) & (self._sightings.absent <= self._max_absence + LATE)
        kept = (r.det_index >= 0) | waiting
        if self._remember_for:
            kept &= ~self._recall(named, at)
            self._graveyard.expire(when, self._remember_for)
        self._name(named)
        return np.asarray(kept)

    def _learn(self, seen: Observed, established: Mask, told: Mask, matching: Matching) -> None:
        """See which detections continue established tracks, of those in streams that have any: `told`, (N,)."""
        real = np.append(established, False)[matching.track_of]  # those without a track have -1
        if told.any():
            self._calibration.learn(seen.scores[told], seen.streams[told], real[told])

    def _recall(self, named: Mask, at: Moment) -> Mask:
        """Give old ids to new tracks that look like one that is gone; of those with an id of their own, tell it.

        Returns:
            (T,) lost tracks that were found so: they have no id any more.
        """
        r, gone, found = self._records, self._graveyard, np.zeros(len(self._records), bool)
        young = self._galleries.count == _KNOWN if self._revise else np.zeros(len(r), bool)
        new = (named & (self._galleries.count > 0) & ((r.id < 0) | young)).nonzero()[0]
        lost = (r.id > 0) & (r.det_index < 0) & (self._galleries.count > 0) & (at.now - r.seen > _AWAY)
        if not len(new) or not (lost.any() or len(gone)):
            return found
        away = lost.nonzero()[0]
        gone.bury(away, r, self._galleries, self._sightings.xyxy)
        separate = self._class_policy == "separate"
        boxes = self._motion.boxes()[new]
        rows, graves = gone.recall(new, r, self._galleries, boxes, separate, self._return_cosine, self._return_margin)
        for row, grave in zip(rows, graves, strict=True):
            if r.id[row] > 0:
                self._reviser.merge(int(r.stream[row]), int(r.id[row]), int(gone.id[grave]))
            else:
                same = (r.stream == r.stream[row]) & (r.id == gone.id[grave])
                found |= same
                r.id[same] = -1
                r.id[row], r.born[row] = gone.id[grave], gone.born[grave]
        left = np.ones(len(gone), bool)
        left[len(gone) - len(away) :] = False  # those are not dead
        left[graves] = False
        gone.keep(left)
        return found

    def _leave(self, rows: Mask) -> None:
        if self._remember_for:
            dead = rows & (self._records.id > 0) & (self._galleries.count > 0)
            self._graveyard.bury(dead.nonzero()[0], self._records, self._galleries, self._sightings.xyxy)

    def _stream_begins(self, stream: int) -> None:
        super()._stream_begins(stream)
        self._calibration.begin(stream)
        self._graveyard.keep(self._graveyard.stream != stream)

    def state_dict(self) -> dict[str, Any]:
        """Everything remembered, as a new dictionary of arrays and plain values. Options are not part of it."""
        return {
            **super().state_dict(),
            "graveyard": self._graveyard.state_dict(),
            "calibration": self._calibration.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned, bit for bit.

        Raises:
            ValueError: it was saved by another kind of tracker.
        """
        super().load_state_dict(state)
        self._graveyard.load_state_dict(state["graveyard"])
        self._calibration.load_state_dict(state["calibration"])

    def _followed(self, predicted: Floats, witnesses: Mask, seen: Observed, high: Mask) -> Floats:
        """Move all tracks along with the camera."""
        streams, found = self._records.stream, seen.streams[high]
        sides = predicted[witnesses], streams[witnesses], seen.xyxy[high], found
        shift = common_motions(*sides, len(self._frames))[streams]
        if not shift.any():
            return predicted
        self._motion.position[:, :2] += shift
        moved: Floats = np.tile(shift, 2)
        self._sightings.xyxy += moved
        return predicted + moved

    def _by_bids(
        self, matching: Matching, bidders: Mask, predicted: Floats, seen: Observed, high: Mask, missing: Floats
    ) -> None:
        limit = 1 - self._gate
        rows, cols, cost = self._bids(matching, bidders, predicted, seen, high, missing, limit)
        if seen.has_features:
            asked = (unsettled(rows, cols, cost, self._clear) | (missing[rows] > LATE)).nonzero()[0]
            likeness = self._galleries.likeness(rows[asked], seen, cols[asked], self._max_cosine)
            cost[asked] -= self._appearance_weight * likeness
        matching.take(rows, cols, cost, limit, self._solver)

    def _bids(
        self,
        matching: Matching,
        bidders: Mask,
        predicted: Floats,
        seen: Observed,
        high: Mask,
        missing: Floats,
        limit: float,
    ) -> tuple[Indices, Indices, Floats]:
        """Pairs that cost less than the limit, or would if they looked alike: tracks, detections, costs."""
        confirmed = self._records.id > 0
        tracks, found = matching.free(bidders, np.ones(len(seen), bool))
        if seen.has_features:
            limit += self._appearance_weight
        if fast := kernels():
            groups = matching.groups or (tracks[:0], found[:0])
            sides = predicted, tracks, missing, confirmed, seen.xyxy, found, seen.trust, high, *groups
            bids: tuple[Indices, Indices, Floats] = fast.bids(*sides, np.array([*self._weights, limit]))
            return bids
        since = np.minimum(missing, 1.0)
        grown = expand(predicted[tracks], (self._buffer + self._buffer_growth * since[tracks])[:, None])
        around = expand(seen.xyxy[found], self._buffer)
        i, j = matching.candidates(tracks, grown, found, around)
        rows, cols = tracks[i], found[j]
        faint = ~high[cols]
        usable = ~faint | (confirmed[rows] & (missing[rows] < _FAINT) & (seen.trust[cols] >= self._low_score))
        rows, cols, faint, i, j = rows[usable], cols[usable], faint[usable], i[usable], j[usable]
        overlap = iou_of_pairs(grown, i, around, j)
        if self._height_weight:
            overlap *= paired_height_iou(predicted[rows], seen.xyxy[cols]) ** self._height_weight
        cost = 1 - overlap * seen.trust[cols] ** self._score_weight + self._faint_penalty * faint
        cost += self._tentative_penalty * ~confirmed[rows]
        cost += self._lost_penalty * since[rows]
        possible = (cost < limit) & (~faint | (overlap >= self._faint_overlap))
        return rows[possible], cols[possible], cost[possible]

    def _doubt(self, trust: Floats) -> Floats | None:
        if not self._score_trust:
            return None
        doubt: Floats = 1.0 - self._score_trust * trust
        return doubt

    def _hit(self, rows: Indices, seen: Observed, cols: Indices, when: Moment) -> None:
        super()._hit(rows, seen, cols, when)
        self._sightings.xyxy[rows] = seen.xyxy[cols]
        self._sightings.absent[rows] = 0.0
        self._sightings.evidence[rows] += seen.trust[cols]

    def _believed(self, when: Moment) -> Mask:
        r = self._records
        unseen = when.of(r.stream).now - r.seen
        limit = np.where(self._occlusions.covered, self._believe_covered, self._believe_missed)
        return (r.det_index >= 0) | ((r.hits >= _ESTABLISHED) & (unseen <= limit + LATE))


_AWAY = 0.5
"""Seconds from which a track that is lost may be somebody who turns up elsewhere."""

_KNOWN = 3
"""Vectors that are enough to know somebody again."""

_KEPT = 7
"""Detections that make a track one whose next ones are taken for real."""

_ESTABLISHED = 5
"""Detections that make a track one whose word counts while it is not seen."""
