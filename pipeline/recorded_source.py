"""RecordedSource: what the sources of recordings have in common: they can be played as a live camera would."""

from __future__ import annotations

import time
from abc import abstractmethod
from dataclasses import dataclass

from pydantic import Field, PrivateAttr, model_validator
from typing_extensions import Self

from pipeline.source import Moment, SourceInfo, SteppedSource


@dataclass(slots=True)
class _Playback:
    """Where a recording is that is played by the clock.

    Attributes:
        start: monotonic clock at media time 0. index, time: what is added to those of the recording, which began again.
        last: the last moment that was played. step: seconds from the one before to it.
    """

    start: float | None = None
    index: int = 0
    time: float = 0.0
    last: Moment | None = None
    step: float = 0.0


class RecordedSource(SteppedSource):
    """A recording. With `realtime` its frames come when they are due, as from a camera that nobody can slow down.

    It is then live: late frames are dropped and counted, `captured_at` is the present. Subclasses implement `rewind`.
    """

    realtime: bool = Field(False, description="play it as a live camera: by its own timestamps, late frames dropped")
    loop: bool = Field(False, description="with realtime: begin again at its end, for ever")
    rate: float | None = Field(
        None, ge=1e-3, le=1000, description="with realtime: frames a second, not its own timestamps"
    )

    _playback: _Playback = PrivateAttr(default_factory=_Playback)

    @model_validator(mode="after")
    def _played_as_a_camera(self) -> Self:
        if not self.realtime and (self.loop or self.rate is not None):
            raise ValueError("loop and rate are for recordings played as cameras; add realtime: true")
        return self

    @property
    def waited(self) -> float:
        """For frames that were not due."""
        return self._waited

    @abstractmethod
    def rewind(self) -> None:
        """Make the next `grab` give the first frame again."""

    def advance(self) -> Moment | None:
        """The next frame; with `realtime` as soon as it is due."""
        moment = self.grab()
        if not self.realtime:
            return moment
        played = self._playback
        if moment is None and self.loop and played.last is not None:
            self.rewind()
            moment = self.grab()
            if moment is not None:
                played.index = played.last.index + 1
                played.time = played.last.timestamp + played.step - moment.timestamp
                moment = Moment(moment.index, moment.timestamp, moment.captured_at, discontinuity=True)
        return None if moment is None else self._when_due(moment)

    def _when_due(self, moment: Moment) -> Moment | None:
        """Wait for it; None if nobody wants it any more."""
        played = self._playback
        index, timestamp = moment.index + played.index, moment.timestamp + played.time
        if self.rate is not None:
            timestamp = index / self.rate
        if played.start is None:
            played.start = time.monotonic() - timestamp
        now = time.monotonic()
        abandoned = self._abandoned.wait(max(0.0, played.start + timestamp - now))
        self._waited += time.monotonic() - now
        if abandoned:
            return None
        if played.last is not None:
            played.step = timestamp - played.last.timestamp
        played.last = Moment(index, timestamp, time.time(), moment.discontinuity)
        return played.last

    def _opened(
        self,
        uri: str,
        width: int,
        height: int,
        fps: float | None = None,
        frame_count: int | None = None,
        live: bool | None = None,
    ) -> SourceInfo:
        self._playback = _Playback()
        if self.realtime:
            live, fps, frame_count = True, self.rate or fps, None if self.loop else frame_count
        return super()._opened(uri, width, height, fps, frame_count, live)
