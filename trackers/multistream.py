"""MultiStreamTracker: many cameras in one pass over arrays, each as if it had a tracker of its own."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trackers.lifecycle import KalmanTracker
from trackers.moment import Moment, clock
from trackers.observed import Features, observe, together
from trackers.revisions import Revisions
from trackers.tracker import DEFAULT, Tracker, create, registry
from trackers.tracks import Tracks


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """What one camera shows: the arguments of `Tracker.update`."""

    xyxy: Any
    scores: ArrayLike | None = None
    class_ids: ArrayLike | None = None
    features: Features | None = None
    frame: NDArray[np.uint8] | None = None
    timestamp: float | None = None


@dataclass(slots=True, eq=False)
class Camera:
    """What is known of a camera besides its tracks.

    Attributes:
        stream: its number among the cameras. now: seconds, time of its last frame.
        ignored, clipped: detections that could not be used, see `Tracker`.
    """

    stream: int
    now: float | None = None
    ignored: Counter[str] = field(default_factory=Counter)
    clipped: int = 0


class MultiStreamTracker:
    """Follows many cameras with one kind of tracker; ids count from 1 for each camera.

    The results are those of a tracker a camera. What a call costs is mostly the number of array operations, not their
    size: with 16 cameras one pass is several times faster than 16.

        >>> tracker = MultiStreamTracker("sort", min_hits=0)
        >>> tracks = tracker.update({"door": ([[0, 0, 40, 90]], [0.9]), "yard": View([[5, 5, 50, 99]], timestamp=2.0)})
        >>> tracks["door"].id, tracks["yard"].id
        (array([1]), array([1]))

    Args:
        tracker: which tracker, a `KalmanTracker`, as all are that come with this package.
        options: of that tracker.

    Attributes:
        cameras: what is known of each, by name. They join when they are first seen.

    Raises:
        UnknownName: no tracker has that name.
        ValueError: that tracker can follow one camera only; or an option is unknown or cannot have that value.
    """

    def __init__(self, tracker: str = DEFAULT, **options: Any) -> None:
        core = create(tracker, **options)
        if not isinstance(core, KalmanTracker):
            raise ValueError(f"tracker '{tracker}' follows one camera only; make one for each, or use follow()")
        self._core = core
        self.reset()

    def update(self, views: Mapping[Hashable, View | tuple[Any, ...]]) -> dict[Hashable, Tracks]:
        """Take in the next frame of some cameras; those left out have none now, and nothing changes for them.

        Args:
            views: what each shows, by its name; a tuple stands for the first fields of a `View`.

        Returns:
            the tracks that each of these frames shows.

        Raises:
            ValueError: as `Tracker.update`, with the camera's name; nothing has changed then for any camera. Or some
                cameras come with features and some without.
        """
        if not views:
            return {}
        given = {name: view if isinstance(view, View) else View(*view) for name, view in views.items()}
        known = {name: self.cameras.get(name) or Camera(-1) for name in given}
        seen, times = {}, {}
        for name, view in given.items():
            try:
                times[name] = clock(known[name].now, view.timestamp, self._core._frame_period)
                seen[name] = observe(view.xyxy, view.scores, view.class_ids, view.features)
            except ValueError as error:
                raise ValueError(f"camera '{name}': {error}") from None
        mixed = {one.has_features for one in seen.values() if len(one)}
        if len(mixed) > 1:
            raise ValueError("some cameras come with features and some without; give them for all or for none")
        for name, camera in known.items():
            self._join(name, camera)
            camera.ignored.update(seen[name].ignored)
            camera.clipped += seen[name].clipped
        size = len(self._core._frames)
        when = Moment(np.zeros(size), np.zeros(size), np.zeros(size, bool), np.zeros(size, bool))
        frames: list[NDArray[np.uint8] | None] = [None] * size
        for name, camera in known.items():
            now, dt = times[name]
            n = camera.stream
            when.now[n], when.dt[n], when.first[n], when.active[n] = now, dt, camera.now is None, True  # type: ignore[index]
            frames[n], camera.now = given[name].frame, now
        found = together({known[name].stream: one for name, one in seen.items()}, size)
        results = self._core._rounds(found, when, frames)
        return {name: results[camera.stream] for name, camera in known.items()}

    def predict(self, name: Hashable, timestamp: float) -> Tracks:
        """Where things are in a frame of a camera that no detector looked at, see `Tracker.predict`.

        Raises:
            KeyError: there is no such camera.
            ValueError: a time before the last one.
        """
        camera = self.cameras[name]
        now, dt = clock(camera.now, timestamp, self._core._frame_period)
        return self._core._foretell(camera.stream, Moment(now, dt, False))

    def _join(self, name: Hashable, camera: Camera) -> None:
        """Number a camera that is new."""
        if camera.stream < 0:
            used = {other.stream for other in self.cameras.values()}
            camera.stream = next(n for n in range(len(used) + 1) if n not in used)
            self.cameras[name] = camera
            self._core._stream_begins(camera.stream)

    def forget(self, name: Hashable) -> None:
        """Drop a camera and its tracks; if it comes back it starts anew.

        Raises:
            KeyError: there is no such camera.
        """
        self._core._stream_begins(self.cameras.pop(name).stream)

    def revisions(self) -> dict[Hashable, Revisions]:
        """What was learnt about earlier frames of each camera since this was asked last."""
        return {name: self._core._reviser.take(camera.stream) for name, camera in self.cameras.items()}

    def reset(self) -> None:
        """Forget all cameras."""
        self.cameras: dict[Hashable, Camera] = {}
        self._core.reset()

    def state_dict(self) -> dict[str, Any]:
        """Everything remembered, as a new dictionary of arrays and plain values. Options are not part of it."""
        cameras = [(name, one.stream, one.now, dict(one.ignored), one.clipped) for name, one in self.cameras.items()]
        return {"cameras": cameras, "tracks": self._core.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned, bit for bit.

        Raises:
            ValueError: it was saved by another kind of tracker, or is not whole.
        """
        self._core.load_state_dict(state["tracks"])
        self.cameras = {
            name: Camera(stream, now, Counter(ignored), clipped)
            for name, stream, now, ignored, clipped in state["cameras"]
        }
        numbers = [camera.stream for camera in self.cameras.values()]
        if not all(isinstance(n, int) and 0 <= n < len(self._core._frames) for n in numbers) or len(set(numbers)) < len(
            numbers
        ):
            raise ValueError("a saved state mixes up its cameras")
        times = [camera.now for camera in self.cameras.values() if camera.now is not None]
        if not all(type(now) in (int, float) and math.isfinite(now) for now in times):
            raise ValueError("a saved state tells no time")

    def skip_ids(self, name: Hashable, count: int) -> None:
        """Never give the next `count` ids of a camera: they may have been given after its state was saved.

        One that is not known yet joins with that.
        """
        self._join(name, self.cameras.get(name) or Camera(-1))
        self._core.skip_ids(count, self.cameras[name].stream)

    def last_id(self, name: Hashable) -> int:
        """The last id of a camera that was given or skipped; 0 if none was.

        Raises:
            KeyError: there is no such camera.
        """
        return int(self._core._last_id[self.cameras[name].stream])


class SeparateTrackers:
    """A tracker for each camera, for trackers that know only one; used like `MultiStreamTracker`.

    Attributes:
        cameras: the tracker of each, by name. They join when they are first seen.
    """

    def __init__(self, tracker: str, **options: Any) -> None:
        self._make = partial(create, tracker, **options)
        self._make()  # whatever is wrong is said here
        self.cameras: dict[Hashable, Tracker] = {}

    def update(self, views: Mapping[Hashable, View | tuple[Any, ...]]) -> dict[Hashable, Tracks]:
        """Take in the next frame of some cameras, one after the other."""
        found = {}
        for name, view in views.items():
            one = view if isinstance(view, View) else View(*view)
            if name not in self.cameras:
                self.cameras[name] = self._make()
            given = one.xyxy, one.scores, one.class_ids, one.features, one.frame, one.timestamp
            found[name] = self.cameras[name].update(*given)
        return found

    def predict(self, name: Hashable, timestamp: float) -> Tracks:
        """Where things are in a frame of a camera that no detector looked at."""
        return self.cameras[name].predict(timestamp)

    def revisions(self) -> dict[Hashable, Revisions]:
        """Nothing: such trackers tell none."""
        return {name: Revisions() for name in self.cameras}

    def forget(self, name: Hashable) -> None:
        """Drop a camera and its tracks."""
        del self.cameras[name]

    def reset(self) -> None:
        """Forget all cameras."""
        self.cameras.clear()

    def state_dict(self) -> dict[str, Any]:
        """What each tracker remembers."""
        return {"cameras": [(name, tracker.state_dict()) for name, tracker in self.cameras.items()]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned.

        Raises:
            ValueError: it was saved by another kind of tracker.
        """
        self.cameras.clear()
        for name, saved in state["cameras"]:
            self.cameras[name] = self._make()
            self.cameras[name].load_state_dict(saved)

    def skip_ids(self, name: Hashable, count: int) -> None:
        """As `MultiStreamTracker.skip_ids`; of a tracker that cannot, ids may be given twice."""
        if name not in self.cameras:
            self.cameras[name] = self._make()
        if (skip := getattr(self.cameras[name], "skip_ids", None)) is not None:
            skip(count)

    def last_id(self, name: Hashable) -> int:
        """As `MultiStreamTracker.last_id`; 0 of a tracker that does not tell it as an attribute of that name."""
        return int(getattr(self.cameras[name], "last_id", 0))


def follow(tracker: str = DEFAULT, **options: Any) -> MultiStreamTracker | SeparateTrackers:
    """What follows many cameras with a tracker of this name: in one pass where the tracker can, else one by one.

    Raises:
        UnknownName: no tracker has that name.
        ValueError: an option is unknown or cannot have that value.
    """
    one_pass = issubclass(registry.load(tracker), KalmanTracker)
    return MultiStreamTracker(tracker, **options) if one_pass else SeparateTrackers(tracker, **options)
