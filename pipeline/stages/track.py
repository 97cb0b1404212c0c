"""Track: link the detections of successive frames into tracks, one tracker per source."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import Field, PrivateAttr, model_validator
from typing_extensions import Self

from pipeline.frame import Frame
from pipeline.stage import Stage
from trackers import Tracker, create
from trackers.registry import UnknownName
from trackers.tracker import DEFAULT


class Track(Stage):
    """Sets `frame.tracks`. Ids count from 1 in every source; a source that ended and comes back starts anew.

    Appearance vectors are used where an embed stage has set them. `tracks.det_index` points into
    `frame.detections`. Works alone: `Track().process([frame])`.
    """

    name: ClassVar[str] = "track"
    requires: ClassVar[frozenset[str]] = frozenset({"detections"})
    provides: ClassVar[frozenset[str]] = frozenset({"tracks"})

    tracker: str = Field(DEFAULT, description="which tracker; `framechain stages` lists them")
    options: dict[str, Any] = Field(default_factory=dict, description="options of that tracker, by name")

    _trackers: dict[str, Tracker] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _check_tracker(self) -> Self:
        """Refuse an unknown tracker or option here, before a chain starts."""
        try:
            create(self.tracker, **self.options)
        except UnknownName as error:
            raise ValueError(str(error)) from error
        return self

    def process(self, frames: Sequence[Frame]) -> None:
        """Update the tracker of each frame's source."""
        for frame in frames:
            if frame.source not in self._trackers:
                self._trackers[frame.source] = create(self.tracker, **self.options)
            found = frame.detections
            frame.tracks = self._trackers[frame.source].update(
                found.xyxy, found.confidence, found.class_id, found.features, frame.image, frame.timestamp
            )

    def forget(self, source: str) -> None:
        """Drop the tracks of a source that ended."""
        self._trackers.pop(source, None)

    def close(self) -> None:
        """Drop the tracks of all sources."""
        self._trackers.clear()
