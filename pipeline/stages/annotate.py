"""Annotate: draws what was found onto a copy of the frame."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydantic import Field, PrivateAttr

from pipeline import drawing
from pipeline.drawing import Colour, Image, Room, Tags
from pipeline.frame import Frame
from pipeline.stage import Stage
from trackers.tracks import Tracks

_PAPER: Colour = (245, 245, 245)
_HUD: Colour = (40, 36, 34)

# A trail bends at most this often: every hundredth of the frame's size, which hides the jitter of boxes.
_TRAIL_STEP = 0.01
_TRAIL_POINTS = 512

# A label may be this many times as wide as its box before a shorter one is taken.
_LABEL_WIDTH = 2.5

# Letters of a text that are shown.
_LONGEST_TEXT = 40


class Annotate(Stage):
    """Sets `frame.canvas`: boxes, ids, classes, scores, trails and texts drawn on a copy of the image.

    Draws tracks where a tracker works, else detections. Tracks that are out of sight for a moment are dashed
    and dimmer. Sizes follow the frame's, down to the smallest letters that can be read; labels that would cover
    each other are moved or shortened, to the id at last.
    """

    name = "annotate"
    provides = frozenset({"canvas"})

    trail: float = Field(2.0, ge=0, le=60, description="seconds of a track's path that are drawn; 0 draws none")
    lost: float = Field(0.5, ge=0, description="seconds that a track out of sight is still drawn, dashed")
    scores: bool = Field(True, description="write confidences into labels")
    hud: bool = Field(False, description="write source, time and number of objects into the top left corner")
    scale: float = Field(1.0, gt=0, le=10, description="size of lines and letters relative to the automatic one")

    _memories: dict[str, _Memory] = PrivateAttr(default_factory=dict)
    _tags: Tags = PrivateAttr(default_factory=Tags)

    def process(self, frames: Sequence[Frame]) -> None:
        """Draw each frame's canvas."""
        for frame in frames:
            self._draw(frame)

    def forget(self, source: str) -> None:
        """Drop the trails of a source."""
        self._memories.pop(source, None)

    def state_dict(self) -> dict[str, Any]:
        """The trails of all sources."""
        return {source: memory.state_dict() for source, memory in self._memories.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with them.

        Raises:
            ValueError: these are no trails.
        """
        self._memories = {source: _Memory.of(memory) for source, memory in state.items()}

    def close(self) -> None:
        """Drop all trails and labels."""
        self._memories.clear()
        self._tags = Tags()

    def _draw(self, frame: Frame) -> None:
        memory = self._memories.setdefault(frame.source, _Memory())
        memory.update(frame, self.trail)
        lost = frame.tracks.lost()
        lost = lost[lost.since_seen <= self.lost]
        # nearer objects, lower in the picture, are drawn over farther ones and get their labels first
        seen = self._tracks(frame, frame.tracks, lost=False) if memory.tracked else self._detections(frame)
        things = sorted(
            [*self._tracks(frame, lost, lost=True), *seen], key=lambda thing: (not thing.lost, thing.xyxy[3])
        )

        sheet = _Sheet(frame.image.copy(order="C"), self.scale, self._tags)
        for thing in things:
            if len(points := memory.trails.get(thing.track, ())) > 1:
                drawing.path(sheet.canvas, np.array(points)[:, 1:], thing.colour, sheet.thickness)
        for thing in things:
            sheet.outline(thing)
        if self.hud:
            sheet.head((frame.source, _clock(frame.timestamp), f"{len(seen)} objects"))
        carriers = {thing.track: thing for thing in things if thing.track}
        texts = [(text, carriers.get(text.track_id or 0)) for text in frame.texts]
        texts = [(text, carrier) for text, carrier in texts if carrier or text.track_id is None]
        for text, carrier in texts:
            if carrier is None:
                drawing.box(sheet.canvas, text.xyxy, _PAPER, max(1, sheet.thickness // 2))
        for thing in reversed(things):
            sheet.label(thing)
        for text, carrier in texts:
            sheet.reading(text.text, carrier.xyxy if carrier else text.xyxy)
        frame.canvas = sheet.canvas

    def _tracks(self, frame: Frame, tracks: Tracks, *, lost: bool) -> list[_Thing]:
        things = []
        for track, class_id, score, xyxy in zip(
            tracks.id.tolist(), tracks.class_id.tolist(), tracks.score.tolist(), tracks.xyxy.tolist(), strict=True
        ):
            name = f"#{track} {frame.detections.class_name(class_id)}"
            labels = ((name, f"{score:.2f}"), (name,), (f"#{track}",))
            colour = self._tags.colour(track)
            things.append(
                _Thing(
                    xyxy,
                    drawing.dimmed(colour) if lost else colour,
                    labels[2 if lost else not self.scores :],
                    track,
                    lost,
                )
            )
        return things

    def _detections(self, frame: Frame) -> list[_Thing]:
        found = frame.detections
        things = []
        for row, (class_id, score, xyxy) in enumerate(
            zip(found.class_id.tolist(), found.confidence.tolist(), found.xyxy.tolist(), strict=True)
        ):
            labels = ((found.name(row), f"{score:.2f}"), (found.name(row),))
            things.append(_Thing(xyxy, self._tags.colour(class_id), labels[not self.scores :]))
        return things


@dataclass(slots=True)
class _Memory:
    """What is remembered of one source: whether a tracker works on it, and where its tracks were.

    A trail is of (timestamp, x, y): the middle of the lower edge of the box, where most things touch the ground.
    """

    tracked: bool = False
    trails: dict[int, deque[tuple[float, float, float]]] = field(default_factory=dict)

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> _Memory:
        """The inverse of `state_dict`.

        Raises:
            ValueError: it is something else.
        """
        ids, lengths = (np.array(state[part]) for part in ("ids", "lengths"))
        points = np.array(state["points"])
        if not (ids.dtype == lengths.dtype == np.int64 and ids.shape == lengths.shape and ids.ndim == 1):
            raise ValueError("trails are not told apart")
        if points.dtype != np.float64 or points.shape != (lengths.sum(), 3) or np.any(lengths < 1):
            raise ValueError("trails are not points")
        if not np.isfinite(points).all():
            raise ValueError("a trail leads nowhere")
        memory = cls(bool(state["tracked"]))
        pieces = np.split(points, np.cumsum(lengths)[:-1])
        for track, piece in zip(ids.tolist(), pieces, strict=True) if len(ids) else ():
            memory.trails[track] = deque(map(tuple, piece.tolist()), _TRAIL_POINTS)
        return memory

    def state_dict(self) -> dict[str, Any]:
        """All of it, as plain values and arrays."""
        lengths = np.array([len(trail) for trail in self.trails.values()], np.int64)
        points = [point for trail in self.trails.values() for point in trail]
        return {
            "tracked": self.tracked,
            "ids": np.array(list(self.trails), np.int64),
            "lengths": lengths,
            "points": np.array(points, np.float64).reshape(-1, 3),
        }

    def update(self, frame: Frame, seconds: float) -> None:
        """Add where the frame's tracks are, and drop what is older than `seconds`."""
        tracks = frame.tracks
        self.tracked |= bool(len(tracks) or len(tracks.tentative()) or len(tracks.lost()))
        if seconds:
            step = _TRAIL_STEP * math.sqrt(frame.image.shape[0] * frame.image.shape[1])
            for track, (x1, _, x2, y2) in zip(tracks.id.tolist(), tracks.xyxy.tolist(), strict=True):
                trail = self.trails.setdefault(track, deque(maxlen=_TRAIL_POINTS))
                x = (x1 + x2) / 2
                if len(trail) > 1 and math.hypot(x - trail[-2][1], y2 - trail[-2][2]) < step:
                    trail.pop()  # the last point moves along until it is a step away
                trail.append((frame.timestamp, x, y2))
        for track, trail in list(self.trails.items()):
            while trail and trail[0][0] < frame.timestamp - seconds:
                trail.popleft()
            if not trail:
                del self.trails[track]


@dataclass(frozen=True, slots=True)
class _Thing:
    """One object to draw. `labels`: their words, from the longest to the shortest. `track`: 0 where it has no id."""

    xyxy: Sequence[float]
    colour: Colour
    labels: tuple[tuple[str, ...], ...]
    track: int = 0
    lost: bool = False


class _Sheet:
    """A canvas that is being drawn on, with the sizes that suit it."""

    def __init__(self, canvas: Image, scale: float, tags: Tags) -> None:
        self.canvas = canvas
        height, width = canvas.shape[:2]
        size = scale * math.sqrt(width * height) / 960  # 1 for 1280 x 720
        self.thickness = max(1, round(0.7 + 2.1 * size))
        self._px = max(10, round(5 + 11 * size))
        self._tags = tags
        self._room = Room(width, height, max(4, self._px // 3))

    def outline(self, thing: _Thing) -> None:
        """The box."""
        if thing.lost:
            drawing.dashed_box(self.canvas, thing.xyxy, thing.colour, max(1, self.thickness - 1))
        else:
            drawing.box(self.canvas, thing.xyxy, thing.colour, self.thickness)

    def label(self, thing: _Thing) -> None:
        """The longest label that fits: above the box, else inside its top, below or beside it."""
        x1, y1, x2, y2 = self._outer(thing.xyxy)
        for words in thing.labels:
            shape = self._tags.shape(words, self._px)
            height, width = shape.shape
            if width > _LABEL_WIDTH * (x2 - x1) and words is not thing.labels[-1]:
                continue
            above, below, beside = y1 - height, y2, (x1 - width, x2)
            spots = [(x1, above), (x2 - width, above), (x1, y1), (x1, below), *((x, y1) for x in beside)]
            if self._put(shape, thing.colour, spots):
                return
        if not self._put(shape, thing.colour, [(x1, above - n * height) for n in (1, 2, 3)]):
            self._force(shape, thing.colour, x1, above)

    def reading(self, words: str, xyxy: Sequence[float]) -> None:
        """What a text says: below the box, else inside or above."""
        x1, y1, _, y2 = self._outer(xyxy)
        words = words if len(words) <= _LONGEST_TEXT else words[: _LONGEST_TEXT - 1] + "…"
        shape = self._tags.shape([words], self._px)
        height = shape.shape[0]
        if not self._put(shape, _PAPER, [(x1, y2), (x1, y2 - height), (x1, y1 - height), (x1, y1)]):
            self._force(shape, _PAPER, x1, y2)

    def head(self, words: Sequence[str]) -> None:
        """A line in the top left corner."""
        margin = self._px // 2
        self._force(self._tags.shape(words, self._px), _HUD, margin, margin)

    def _outer(self, xyxy: Sequence[float]) -> tuple[int, int, int, int]:
        half = self.thickness // 2
        x1, y1, x2, y2 = (round(edge) for edge in xyxy)
        return x1 - half, y1 - half, x2 + self.thickness - half, y2 + self.thickness - half

    def _put(self, shape: Image, colour: Colour, spots: Iterable[tuple[int, int]]) -> bool:
        """Put a tag where it is free; moved sideways into the frame, but not up or down."""
        height, width = shape.shape
        for spot in spots:
            x, y = self._room.inside(*spot, width, height)
            if y == spot[1] and self._room.is_free(x, y, width, height):
                self._force(shape, colour, x, y)
                return True
        return False

    def _force(self, shape: Image, colour: Colour, x: int, y: int) -> None:
        height, width = shape.shape
        x, y = self._room.inside(x, y, width, height)
        self._room.take(x, y, width, height)
        self._tags.paint(self.canvas, shape, x, y, colour)


def _clock(seconds: float) -> str:
    """Media time as a clock shows it.

    >>> _clock(3725.5)
    '1:02:05.50'
    """
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02}:{rest:05.2f}"
