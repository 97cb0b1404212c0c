"""Window: how long a frame waits for those of other cameras, so that a network gets all of them in one call."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.source import SourceInfo

# Of the fastest camera's frame period. Eight cameras of 25 fps before a device that takes 4 ms a call and 1 ms a frame:
# without a window 1.4 frames a call and the device busy 87 % of the time; with 0.25: 2.6, 54 %; 0.5: 4.4, 41 %; 1: 7.5,
# 32 %. Median latency 9, 10, 21, 25 ms.
_SHARE = 0.5
_MISSED = 2.0  # frame periods without a frame after which a camera counts as stalled


@dataclass(slots=True)
class _Camera:
    """A live source: seconds between its frames (None: unknown), and when the last one came (None: none so far)."""

    period: float | None
    last: float | None = None


class Window:
    """Decides how long a batch is held open.

    A batch of live frames waits only for cameras whose next frame is due within the window, and the window ends half a
    frame period of the fastest camera after the oldest frame of the batch came in. So a camera that stalls delays the
    others by that at most, and once it missed two of its frames not at all. Files are never waited for, nor do they
    wait. With cameras that do not tell their rate nothing waits for them.

    Not safe for threads; its owner holds a lock. All times are seconds of one clock.

    Args:
        most: seconds that the window may last, whatever the rates.
    """

    def __init__(self, most: float) -> None:
        self._most = most
        self._cameras: dict[str, _Camera] = {}

    def begin(self, source: SourceInfo) -> None:
        """A source will give frames."""
        if source.live:
            self._cameras[source.id] = _Camera(1 / source.fps if source.fps else None)

    def arrived(self, source: str, when: float) -> None:
        """A frame of a source came into the chain."""
        if (camera := self._cameras.get(source)) is not None:
            camera.last = when

    def end(self, source: str) -> None:
        """A source has given its last frame."""
        self._cameras.pop(source, None)

    def pause(self, waiting: Iterable[tuple[str, float]], limit: int, now: float) -> float:
        """Seconds to wait for more frames; 0 where the batch is to go now.

        Args:
            waiting: source and time of arrival of each frame that waits. limit: most frames of a batch.
        """
        frames = list(waiting)
        here = {source for source, _ in frames}
        periods = [camera.period for camera in self._cameras.values() if camera.period is not None]
        if not frames or len(frames) >= limit or not periods or not here <= self._cameras.keys():
            return 0.0
        end = min(when for _, when in frames) + min(_SHARE * min(periods), self._most)
        if any(_comes(camera, now, end) for source, camera in self._cameras.items() if source not in here):
            return max(0.0, end - now)
        return 0.0


def _comes(camera: _Camera, now: float, end: float) -> bool:
    """Whether the next frame of a camera is due until `end`, and the camera not stalled."""
    if camera.period is None or camera.last is None:
        return False
    return camera.last + camera.period <= end and now < camera.last + _MISSED * camera.period
