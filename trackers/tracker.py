"""Tracker: the contract of a multi-object tracker, its options, and how one is made by name."""

from __future__ import annotations

import inspect
import math
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import ArrayLike, NDArray
from typing_extensions import Self

from trackers.moment import clock
from trackers.observed import Features, Observed, observe
from trackers.registry import Registry, nearest
from trackers.tracks import Tracks


@dataclass(frozen=True, slots=True)
class Range:
    """Bounds of a numeric option, both included."""

    low: float
    high: float = math.inf


@dataclass(frozen=True, slots=True)
class Choice:
    """The values that a text option may have."""

    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a tracker: a keyword argument of its constructor.

    Attributes:
        name: the keyword. type: float, int, bool or str. default: its value where none is given.
        doc: what it does, from the docstring of the class. low, high: bounds, both included.
        choices: the values a text may have; any if empty.
    """

    name: str
    type: type
    default: Any
    doc: str
    low: float = -math.inf
    high: float = math.inf
    choices: tuple[str, ...] = ()

    def check(self, value: Any) -> None:
        """Refuse a value that this option cannot have.

        Raises:
            ValueError: it has another type or is out of bounds.
        """
        fits = isinstance(value, int | float if self.type is float else self.type)
        if not fits or (isinstance(value, bool) and self.type is not bool) or str(value) == "nan":
            raise ValueError(f"option '{self.name}' must be {_article(self.type)}, not {value!r}")
        if self.type in (int, float) and not self.low <= value <= self.high:
            bounds = f"at least {self.low:g}" if self.high == math.inf else f"in {self.low:g}..{self.high:g}"
            raise ValueError(f"option '{self.name}' must be {bounds}, not {value!r}")
        if self.choices and value not in self.choices:
            raise ValueError(f"option '{self.name}' must be one of {', '.join(self.choices)}, not {value!r}")


def _article(kind: type) -> str:
    return {int: "a whole number", float: "a number", bool: "true or false"}.get(kind, f"a {kind.__name__}")


def options(tracker: type[Tracker]) -> dict[str, Option]:
    """Every option of a tracker by name, read from the constructors' signatures and the docstrings' `Args:`.

    A constructor that takes `**common` has the options of its base class as well.

    >>> from trackers.sort import SORT
    >>> options(SORT)["iou_threshold"].default
    0.3
    >>> options(SORT)["class_policy"].choices
    ('vote', 'separate', 'ignore')
    """
    found: dict[str, Option] = {}
    for kind in tracker.__mro__:
        if "__init__" not in vars(kind):
            continue
        constructor = vars(kind)["__init__"]
        hints = get_type_hints(constructor, include_extras=True)
        docs = _documented(inspect.getdoc(kind) or "")
        parameters = list(inspect.signature(constructor).parameters.values())[1:]
        for parameter in parameters:
            if parameter.kind is not inspect.Parameter.VAR_KEYWORD and parameter.name not in found:
                found[parameter.name] = _option(parameter, hints[parameter.name], docs.get(parameter.name, ""))
        if not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
            break
    return found


def _option(parameter: inspect.Parameter, hint: Any, doc: str) -> Option:
    kind, *extras = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    bounds = next((extra for extra in extras if isinstance(extra, Range)), Range(-math.inf))
    choices = next((extra.values for extra in extras if isinstance(extra, Choice)), ())
    return Option(parameter.name, kind, parameter.default, doc, bounds.low, bounds.high, choices)


def _documented(docstring: str) -> dict[str, str]:
    """Name and text of each entry of the `Args:` section of a docstring."""
    section = re.search(r"^Args:\n((?:[ \t]+.*\n?|\n)+)", docstring, re.MULTILINE)
    entries = re.split(r"^ {4}(\w+): ", section.group(1), flags=re.MULTILINE)[1:] if section else []
    return {name: " ".join(text.split()) for name, text in zip(entries[::2], entries[1::2], strict=True)}


class Tracker(ABC):
    """Links the detections of successive frames of one source into tracks.

    Options are keyword arguments of the constructor, checked for name, type and bounds however a tracker is
    made. A subclass documents each under `Args:` in its docstring, declares bounds as
    `Annotated[float, Range(0, 1)]`, hands `**common` on to this class, and implements `_step`, `reset`,
    `state_dict` and `load_state_dict` (these called).

    Args:
        class_policy: "vote": a track may be matched with detections of any class, and has the class that most of its
            scores speak for; "separate": only with detections of its own class; "ignore": with any, and it has the
            class of the last one.
        frame_period: seconds between calls of `update` that give no timestamp.

    Attributes:
        name: what it is called in YAML and on the command line.
        ignored: detections that could not be used since the start, by reason: "box not finite", "box empty"
            (a side of less than a millionth), "score not finite", "too many" (in one frame the 10,000 of the highest
            scores are used).
        clipped: detections whose score was outside 0..1, and was taken for the nearer of the two.

    Raises:
        ValueError: an option is unknown, of the wrong type or out of bounds.
    """

    name: ClassVar[str]

    def __new__(cls, *args: Any, **given: Any) -> Self:
        """Check the options before any constructor runs."""
        known = options(cls)
        if args:
            raise ValueError(f"options of {cls.__name__} are given by keyword, e.g. {next(iter(known))}=...")
        for name, value in given.items():
            if name not in known:
                raise ValueError(f"{cls.__name__} has no option '{name}'{nearest(name, known)}")
            known[name].check(value)
        return super().__new__(cls)

    def __init__(
        self,
        *,
        class_policy: Annotated[str, Choice(("vote", "separate", "ignore"))] = "vote",
        frame_period: Annotated[float, Range(0)] = 1 / 30,
    ) -> None:
        self._class_policy = class_policy
        self._frame_period = frame_period
        self._now: float | None = None
        self.ignored: Counter[str] = Counter()
        self.clipped = 0

    def update(
        self,
        xyxy: Any,
        scores: ArrayLike | None = None,
        class_ids: ArrayLike | None = None,
        features: Features | None = None,
        frame: NDArray[np.uint8] | None = None,
        timestamp: float | None = None,
    ) -> Tracks:
        """Take in the detections of the next frame. Frames without detections must be given too.

        A row whose box is not finite or has no area, or whose score is not finite, is left out and counted in
        `ignored`; `det_index` still counts it. Scores outside 0..1 are clipped and counted in `clipped`.

        Args:
            xyxy: (N, 4) boxes in pixels; or a `supervision.Detections` or an Ultralytics `Results` that brings
                scores and classes along.
            scores: (N,) confidences in 0..1; all 1 if left out.
            class_ids: (N,) classes; all 0 if left out.
            features: (N, D) appearance vectors, of any length; or a callable that is given the rows it is
                wanted for, (R,) int64, and returns (R, D).
            frame: (H, W, 3) uint8, the image, for trackers that look at it.
            timestamp: seconds of media time. Left out, `frame_period` seconds have passed.

        Returns:
            the tracks that this frame shows.

        Raises:
            ValueError: arrays of different lengths, or a time before the last one.
        """
        seen = observe(xyxy, scores, class_ids, features)
        now, dt = clock(self._now, timestamp, self._frame_period)
        self.ignored.update(seen.ignored)
        self.clipped += seen.clipped
        tracks = self._step(seen, now, dt, frame)
        self._now = now
        return tracks

    @abstractmethod
    def _step(self, seen: Observed, now: float, dt: float, frame: NDArray[np.uint8] | None) -> Tracks:
        """Advance all tracks to `now`, `dt` >= 0 seconds after `self._now` (None in the first frame), and match."""

    @abstractmethod
    def predict(self, timestamp: float) -> Tracks:
        """Where things are in a frame that no detector looked at. Changes nothing; call it as often as you like.

        Args:
            timestamp: seconds of media time, not before the last `update`.

        Returns:
            the tracks that the last frame showed, moved on: `det_index` -1, `since_seen` above 0. `lost()` are those
            that were lost already; none is tentative.

        Raises:
            ValueError: a time before the last one.
        """

    def reset(self) -> None:
        """Forget all tracks, ids and the time: the next `update` is the first of a new sequence."""
        self._now = None
        self.ignored.clear()
        self.clipped = 0

    def state_dict(self) -> dict[str, Any]:
        """Everything remembered, as a new dictionary of arrays and plain values. Options are not part of it."""
        return {"tracker": self.name, "now": self._now, "ignored": dict(self.ignored), "clipped": self.clipped}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned, bit for bit.

        Raises:
            ValueError: it was saved by another kind of tracker.
        """
        if state.get("tracker") != self.name:
            raise ValueError(f"this state was saved by tracker '{state.get('tracker')}', not by '{self.name}'")
        self._now = state["now"]
        self.ignored = Counter(state["ignored"])
        self.clipped = state["clipped"]


registry: Registry[Tracker] = Registry("tracker", Tracker, "trackers", "framechain.trackers")  # type: ignore[type-abstract]


DEFAULT = "tether"
"""The tracker of whoever names none."""


def available() -> list[str]:
    """The name of every tracker that `create` makes, from whichever package."""
    return registry.names()


def create(name: str = DEFAULT, **options: Any) -> Tracker:
    """Make a tracker by name; without one the default, Tether.

    >>> create("sort", iou_threshold=0.2).name
    'sort'

    Raises:
        UnknownName: no tracker has that name; the message suggests the nearest.
        ValueError: an option is unknown, of the wrong type or out of bounds.
    """
    return registry.load(name)(**options)
