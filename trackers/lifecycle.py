"""KalmanTracker: what SORT and its descendants share. Tracks are born, seen, confirmed, lost and dropped.

One of them can follow several cameras, *streams*, in one pass over arrays: every track and detection has the number of
its stream, and a moment holds the time of each. A tracker for one camera is the case of one stream.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from trackers.camera import ImageMotion
from trackers.columns import Columns
from trackers.compiled import kernels
from trackers.matching import Matching
from trackers.moment import Moment, clock
from trackers.motion import KalmanFilters, MotionModel
from trackers.observed import Observed
from trackers.occlusion import Occlusions
from trackers.revisions import Reviser, Revisions, Shown
from trackers.tracker import Tracker
from trackers.tracks import Tracks

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]
Picture = NDArray[np.uint8]
C = TypeVar("C", bound=Columns)

_BREAK = 1.0
"""Seconds beyond `max_coast` without any frame after which who is there now is somebody else, wherever he stands."""


class Records(Columns):
    """What is known of each track besides its motion.

    Attributes:
        stream: (T,) number of the camera that sees it.
        id: (T,) -1 until confirmed. score, class_id, det_index: of the last detection; det_index -1 if not seen now.
        support: (T,) how far the scores for `class_id` outweigh those for other classes.
        born, seen: (T,) seconds, time of the first and of the last detection.
        hits: (T,) detections so far. streak: (T,) of those, since the last miss; the first of all is not counted.
    """

    stream: Indices
    id: Indices
    score: Floats
    class_id: Indices
    det_index: Indices
    support: Floats
    born: Floats
    seen: Floats
    hits: Indices
    streak: Indices

    def __init__(self) -> None:
        """None yet."""
        whole, real = np.zeros(0, np.int64), np.zeros(0)
        self.stream = self.id = self.class_id = self.det_index = self.hits = self.streak = whole
        self.score = self.support = self.born = self.seen = real

    def grow(self, seen: Observed, cols: Indices, now: Floats) -> None:
        """Append a record for each of the detections `cols`."""
        one, score = np.ones(len(cols), np.int64), seen.scores[cols]
        where, what = seen.rows[cols], seen.class_ids[cols]
        self.append(seen.streams[cols], -one, score, what, where, score, now, now, one, 0 * one)

    def hit(self, rows: Indices, seen: Observed, cols: Indices, now: float | Floats, vote: bool) -> None:
        """Tracks `rows` were seen as detections `cols`.

        With `vote` the class is a running majority weighted by score (Boyer and Moore 1981): one flickering frame
        changes nothing. Otherwise it is that of the detection.
        """
        if fast := kernels():
            mine = self.score, self.class_id, self.det_index, self.support, self.seen, self.hits, self.streak
            fast.hit(
                rows, cols, *mine, seen.scores, seen.class_ids, seen.rows, np.array(now, np.float64, ndmin=1), vote
            )
            return
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
    """Base of trackers whose tracks are Kalman-filtered boxes.

    A subclass sets `_model`, implements `_advance`, and registers what else it keeps of each track, in `_begin`,
    by `self._table(name, columns)`: births, drops, and saved states then include it.

    Args:
        revise: collect what is learnt later about earlier frames, for `revisions()`.
    """

    _model: MotionModel
    _max_coast: float
    """Seconds for which a confirmed track is kept without being seen."""
    _looks_behind = True
    """Whether it is told who stands behind whom."""
    _camera = "none"
    """How camera motion is told from pictures, see `ImageMotion`."""

    def __init__(self, *, revise: bool = False, **common: Any) -> None:
        super().__init__(**common)
        self._revise = revise
        kernels()  # compiled here if ever, not when the first frame waits
        self._begin(1)

    def _begin(self, streams: int) -> None:
        """No tracks, no ids given, of so many streams."""
        self._last_id, self._frames = np.zeros(streams, np.int64), np.zeros(streams, np.int64)
        self._cameras = [ImageMotion(self._camera) for _ in range(streams)]
        self._tables: dict[str, Columns] = {}
        self._records = self._table("records", Records())
        self._motion = self._table("motion", KalmanFilters(self._model))
        self._occlusions = Occlusions()
        if self._looks_behind:
            self._table("occlusions", self._occlusions)

        self._reviser = Reviser(streams)
        if self._revise:
            self._seen_before = self._table("shown", Shown())

    def _table(self, name: str, columns: C) -> C:
        """Keep these columns along with the others, under this name in the saved state."""
        self._tables[name] = columns
        return columns

    @abstractmethod
    def _advance(self, seen: Observed, when: Moment, frames: Sequence[Picture | None]) -> Mask:
        """Advance all tracks to this moment and match them.

        Args:
            seen: the detections of all streams. frames: the picture of each stream, if given.

        Returns:
            (T,) the tracks to keep after this frame is told.
        """

    def _step(self, seen: Observed, now: float, dt: float, frame: Picture | None) -> Tracks:
        when = Moment(now, dt, self._now is None)
        kept = self._round(seen, when, (frame,))
        result = self._result(when)
        self._keep(kept)
        return result

    def _round(self, seen: Observed, when: Moment, frames: Sequence[Picture | None]) -> Mask:
        """One frame of every active stream."""
        self._frames += when.active
        at = when.of(self._records.stream)
        self._keep(at.now - self._records.seen <= self._max_coast + _BREAK)
        kept = self._advance(seen, when, frames)
        if self._revise:
            rows = self._shown().nonzero()[0]
            told = rows, self._records.stream[rows], self._records.id[rows], self._boxes(rows)
            self._reviser.fill(self._seen_before, *told, when)
        return kept

    def _rounds(self, seen: Observed, when: Moment, frames: Sequence[Picture | None]) -> list[Tracks]:
        """One frame of the active streams, and what each shows; streams that are not active wait unchanged."""
        asleep, waiting = ~np.asarray(when.active)[self._records.stream], {}
        if asleep.any():
            for name, table in self._tables.items():
                waiting[name] = table.take(asleep.nonzero()[0])
                table.pick((~asleep).nonzero()[0])
        kept = self._round(seen, when, frames)
        results = self._results(when)
        self._keep(kept)
        for name, rest in waiting.items():
            self._tables[name].extend(rest)
        return results

    def _stream_begins(self, stream: int) -> None:
        """Forget all that this stream showed; the next number makes room for one more."""
        self._keep(self._records.stream != stream)
        if stream == len(self._frames):
            self._frames, self._last_id = np.append(self._frames, 0), np.append(self._last_id, 0)
            self._cameras.append(ImageMotion(self._camera))
        self._frames[stream] = self._last_id[stream] = 0
        self._cameras[stream] = ImageMotion(self._camera)
        self._reviser.begin(stream)

    def _of_stream(self, values: NDArray[Any]) -> Any:
        """Values by stream as values by track; the one there is where there is one stream."""
        return values[0] if len(values) == 1 else values[self._records.stream]

    def _shown(self) -> Mask:
        """Which tracks are rows of the result: the confirmed ones that this frame showed."""
        return (self._records.id > 0) & (self._records.det_index >= 0)

    def _predict(self, when: Moment, frames: Sequence[Picture | None]) -> Floats:
        """Advance all filters, and move them with the camera; no track counts as seen until it is matched.

        Returns:
            (T, 4) boxes to be expected.
        """
        self._motion.predict(when.of(self._records.stream).dt)
        self._records.det_index.fill(-1)
        if self._camera != "none":
            self._follow(frames)
        return self._motion.boxes()

    def _follow(self, frames: Sequence[Picture | None]) -> None:
        """Move all that is remembered of places along with the pictures."""
        for stream, (camera, frame) in enumerate(zip(self._cameras, frames, strict=True)):
            if frame is not None:
                alone = len(self._frames) == 1
                rows = slice(None) if alone else (self._records.stream == stream).nonzero()[0]
                self._warp(camera.estimate(frame), rows)

    def _warp(self, affine: Floats, rows: Indices | slice) -> None:
        """Move some tracks along with the picture, (2, 3) from old pixel coordinates to new ones."""
        self._motion.warp(affine, rows)

    def _doubt(self, trust: Floats) -> Floats | None:
        """Factors on the measurement noise of detections that are worth so much."""
        return None

    def _matching(self, seen: Observed) -> Matching:
        """For the tracks there are and the detections of this frame."""
        return Matching(len(self._records), len(seen), self._groups(seen))

    def _groups(self, seen: Observed) -> tuple[Indices, Indices] | None:
        """Numbers of tracks and of detections that must be equal for a match; None: all may match."""
        r = self._records
        groups = None if len(self._frames) == 1 else (r.stream, seen.streams)
        if self._class_policy == "separate":
            groups = (r.class_id, seen.class_ids) if groups is None else _paired(groups, (r.class_id, seen.class_ids))
        return groups

    def _hit(self, rows: Indices, seen: Observed, cols: Indices, when: Moment) -> None:
        """Tracks `rows` were seen as detections `cols`."""
        if len(rows):
            doubt = self._doubt(seen.trust[cols])
            self._motion.correct(rows, seen.xyxy, cols, doubt)
            now = when.of(seen.streams[cols]).now
            self._records.hit(rows, seen, cols, now, self._class_policy == "vote")

    def _born(self, seen: Observed, cols: Indices, when: Moment) -> Indices:
        """Detections `cols` start new tracks, the last rows of every table; which rows that is."""
        before = len(self._records)
        if len(cols):
            now = when.now
            times = np.full(len(cols), now) if isinstance(now, float) else now[seen.streams[cols]]
            for table in self._tables.values():
                table.grow(seen, cols, times)
        return np.arange(before, before + len(cols))

    def _look(self, when: Moment) -> None:
        """See which tracks stand behind others."""
        r = self._records
        groups = None if len(self._frames) == 1 else r.stream
        self._occlusions.look(self._motion.boxes(), r.id, r.det_index >= 0, when.of(r.stream).now, groups)

    def _keep(self, rows: Mask) -> None:
        """Drop all other tracks."""
        if not rows.all():
            self._leave(~rows)
            for table in self._tables.values():
                table.keep(rows)

    def _leave(self, rows: Mask) -> None:
        """These tracks are about to be dropped."""

    def _name(self, rows: Mask) -> None:
        """Give the next ids of their streams to those tracks in `rows` that have none, in order of birth."""
        r = self._records
        new = (rows & (r.id < 0)).nonzero()[0]
        if not len(new):
            return
        stream = r.stream[new]
        order = np.argsort(stream, kind="stable")
        count = np.bincount(stream, minlength=len(self._last_id))
        first = np.cumsum(count) - count
        r.id[new[order]] = self._last_id[stream[order]] + 1 + np.arange(len(new)) - first[stream[order]]
        self._last_id += count

    def _believed(self, when: Moment) -> Mask:
        """Which tracks are in the picture as far as can be told: by default those that were seen."""
        return self._records.det_index >= 0

    def _boxes(self, rows: Indices) -> Floats:
        """(M, 4) boxes to show of some tracks: the filtered ones."""
        return self._motion.boxes().take(rows, axis=0)

    def predict(self, timestamp: float) -> Tracks:
        """Where things are in a frame that no detector looked at, see `Tracker.predict`."""
        now, dt = clock(self._now, timestamp, self._frame_period)
        return self._foretell(0, Moment(now, dt, False))

    def _foretell(self, stream: int, when: Moment) -> Tracks:
        """Where the tracks of one stream will be; `when` is a moment of that one."""
        r, shown = self._records, self._shown()
        mine = (r.id > 0) & (r.stream == stream)
        parts = [rows.nonzero()[0] for rows in (mine & shown, mine & ~shown)]
        rows = np.concatenate(parts)
        ahead = self._motion.take(rows)
        ahead.predict(when.dt)
        told = self._told(rows, ahead.boxes(), self._believed(when), when, -1)
        return told.part(slice(0, len(parts[0])), told, slice(len(parts[0]), None))

    def _result(self, when: Moment) -> Tracks:
        """The rows this frame shows; the hidden rest is the tracks that are lost or tentative."""
        r, shown = self._records, self._shown()
        rows = shown.nonzero()[0]
        hidden = (~shown & ((r.id > 0) | (r.det_index >= 0))).nonzero()[0]
        every = np.concatenate((rows, hidden))
        told = self._told(every, self._boxes(every), self._believed(when), when)
        return told.part(slice(0, len(rows)), told, slice(len(rows), None))

    def _results(self, when: Moment) -> list[Tracks]:
        """`_result` of every stream."""
        r, shown = self._records, self._shown()
        rows = (shown | (r.id > 0) | (r.det_index >= 0)).nonzero()[0]
        # by stream, and in each what is shown first
        place = 2 * r.stream[rows] + ~shown[rows]
        order = np.argsort(place, kind="stable")
        rows, place = rows[order], place[order]
        told = self._told(rows, self._boxes(rows), self._believed(when), when)
        ends = np.searchsorted(place, np.arange(2 * len(self._frames) + 1)).tolist()
        parts = [slice(first, end) for first, end in pairwise(ends)]
        return [told.part(mine, told, rest) for mine, rest in zip(parts[::2], parts[1::2], strict=True)]

    def _told(self, rows: Indices, boxes: Floats, believed: Mask, when: Moment, det_index: int | None = None) -> Tracks:
        """What is known of some tracks, at these boxes; with one `det_index` for all, if given."""
        r, o = self._records, self._occlusions
        now = when.of(r.stream.take(rows)).now
        known = (
            r.id.take(rows),
            boxes,
            r.score.take(rows),
            r.class_id.take(rows),
            r.det_index.take(rows) if det_index is None else np.full(len(rows), det_index),
            now - r.born.take(rows),
            now - r.seen.take(rows),
            self._motion.velocity[:, :2].take(rows, axis=0),
        )
        if not self._looks_behind:
            return Tracks(*known, believed=believed.take(rows))
        covered = o.covered.take(rows)
        hidden_for = np.where(covered, now - o.since.take(rows), 0.0)
        return Tracks(*known, covered, o.by.take(rows), hidden_for, believed.take(rows))

    def revisions(self) -> Revisions:
        """What was learnt about earlier frames since this was asked last; nothing without the option `revise`."""
        return self._reviser.take(0)

    def reset(self) -> None:
        """Forget all tracks, ids and the time: the next `update` is the first of a new sequence."""
        super().reset()
        self._begin(1)

    def state_dict(self) -> dict[str, Any]:
        """Everything remembered, as a new dictionary of arrays and plain values. Options are not part of it."""
        return {
            **super().state_dict(),
            "last_id": self._last_id.copy(),
            "frames": self._frames.copy(),
            "revisions": self._reviser.state_dict(),
            "cameras": [camera.state_dict() for camera in self._cameras],
            **{name: table.state_dict() for name, table in self._tables.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned, bit for bit.

        Raises:
            ValueError: it was saved by another kind of tracker, or is not whole.
        """
        super().load_state_dict(state)
        last_id, frames = np.array(state["last_id"]), np.array(state["frames"])
        if not last_id.dtype == frames.dtype == np.int64 or last_id.shape != frames.shape or frames.ndim != 1:
            raise ValueError("a saved state does not say how many ids it gave")
        self._begin(len(frames))
        self._last_id, self._frames = last_id, frames
        self._reviser.load_state_dict(state["revisions"])
        for camera, saved in zip(self._cameras, state["cameras"], strict=True):
            camera.load_state_dict(saved)
        for name, table in self._tables.items():
            table.load_state_dict(state[name])
            if len(table) != len(self._records):
                raise ValueError(f"'{name}' of a saved state is not about its tracks")
        streams = self._records.stream
        if np.any((streams < 0) | (streams >= len(frames))):
            raise ValueError("a saved state has tracks of a stream that it does not know")

    def skip_ids(self, count: int, stream: int = 0) -> None:
        """Never give the next `count` ids: they may have been given by a process that was killed after it saved."""
        self._last_id[stream] += count


def _paired(one: tuple[Indices, Indices], other: tuple[Indices, Indices]) -> tuple[Indices, Indices]:
    """Groups that are equal where both are: (T,) and (N,)."""
    both = np.stack([np.concatenate(one), np.concatenate(other)])
    number = np.unique(both, axis=1, return_inverse=True)[1].ravel()
    return number[: len(one[0])], number[len(one[0]) :]
