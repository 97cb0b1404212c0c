"""Track: link the detections of successive frames into tracks, source by source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from pydantic import Field, PrivateAttr, model_validator
from typing_extensions import Self

from pipeline.frame import Frame
from pipeline.stage import Stage
from trackers.multistream import MultiStreamTracker, SeparateTrackers, View, follow
from trackers.registry import UnknownName
from trackers.tracker import DEFAULT


@dataclass(slots=True)
class _Seen:
    """Of a source: (height, width) of its last frame, and the highest id that this run showed."""

    size: tuple[int, ...]
    highest: int = 0


class Track(Stage):
    """Sets `frame.tracks`. Ids count from 1 in every source; a source that ended and comes back starts anew.

    Appearance vectors are used where an embed stage has set them. `tracks.det_index` points into
    `frame.detections`; frames that are `skipped` show predictions. Works alone: `Track().process([frame])`.
    """

    name: ClassVar[str] = "track"
    requires: ClassVar[frozenset[str]] = frozenset({"detections"})
    provides: ClassVar[frozenset[str]] = frozenset({"tracks"})

    tracker: str = Field(DEFAULT, description="which tracker; `framechain stages` lists them")
    options: dict[str, Any] = Field(default_factory=dict, description="options of that tracker, by name")

    _tracker: MultiStreamTracker | SeparateTrackers = PrivateAttr()
    _seen: dict[str, _Seen] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _check_tracker(self) -> Self:
        """Refuse an unknown tracker or option here, before a chain starts."""
        try:
            self._tracker = follow(self.tracker, **self.options)
        except UnknownName as error:
            raise ValueError(str(error)) from error
        return self

    def open(self) -> None:
        """Have a tracker of its kind follow something for two frames: what the first ones import takes 0.5 s."""
        tracker = follow(self.tracker, **self.options)
        box, one = np.array([[0, 0, 9, 9]], np.float32), np.ones(1, np.float32)
        for n in range(2):
            tracker.update({"": View(box, one, np.zeros(1, np.int64), None, np.zeros((16, 16, 3), np.uint8), float(n))})

    def process(self, frames: Sequence[Frame]) -> None:
        """Take in frames; the first of every source in one pass, then the second of those that have one, and so on."""
        waiting = list(frames)
        while waiting:
            first = {frame.source: frame for frame in reversed(waiting)}
            for frame in first.values():
                self._look(frame)
            looked = {source: frame for source, frame in first.items() if not frame.skipped}
            tracks = self._tracker.update({source: _view(frame) for source, frame in looked.items()})
            for source, frame in looked.items():
                frame.tracks = tracks[source]
                self._seen[source].highest = max(self._seen[source].highest, int(frame.tracks.id.max(initial=0)))
            for source, frame in first.items():
                if frame.skipped and source in self._tracker.cameras:
                    frame.tracks = self._tracker.predict(source, frame.timestamp)
            if self.options.get("revise"):
                revisions = self._tracker.revisions()
                for source, frame in looked.items():
                    frame.revisions = revisions[source]
            waiting = [frame for frame in waiting if frame is not first[frame.source]]

    def forget(self, source: str) -> None:
        """Drop the tracks of a source that ended."""
        self._seen.pop(source, None)
        if source in self._tracker.cameras:
            self._tracker.forget(source)

    def _look(self, frame: Frame) -> None:
        """Where a camera came back with another size, boxes from before lie elsewhere now: tracks end, ids go on.

        How long it was away needs no look: the timestamps tell, and tracks end by seconds.
        """
        size = frame.image.shape[:2]
        seen = self._seen.setdefault(frame.source, _Seen(size))
        if seen.size != size and frame.discontinuity and frame.source in self._tracker.cameras:
            last = max(seen.highest, self._tracker.last_id(frame.source))
            self._tracker.forget(frame.source)
            nothing = View(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
            self._tracker.update({frame.source: replace(nothing, timestamp=frame.timestamp)})
            self._tracker.skip_ids(frame.source, last)
        seen.size = size

    def state_dict(self) -> dict[str, Any]:
        """The tracks, ids and looks of all sources."""
        return self._tracker.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with them.

        Raises:
            ValueError: they are another tracker's.
        """
        self._tracker.load_state_dict(state)

    def skip_ids(self, source: str, count: int) -> None:
        """Leave out some ids, which may have been given."""
        if count:
            self._tracker.skip_ids(source, count)

    def close(self) -> None:
        """Drop the tracks of all sources."""
        self._tracker.reset()


def _view(frame: Frame) -> View:
    found = frame.detections
    return View(found.xyxy, found.confidence, found.class_id, found.features, frame.image, frame.timestamp)
