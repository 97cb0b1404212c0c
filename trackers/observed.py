"""Observed: the detections of one moment that a tracker can use, of one camera or of several."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trackers.compiled import kernels

Indices = NDArray[np.int64]

Features = ArrayLike | Callable[[Indices], ArrayLike]
"""(N, D) appearance vectors, or a callable that returns (len(rows), D) of them for given rows."""


_FAR, _SMALL = 1e9, 1e-6
"""Coordinates and sides beyond which a box is none: their products and quotients would leave the numbers there are."""

_MOST = 10_000
"""Detections of a frame that are used: more are a broken detector, and would fill the memory."""


class Observed:
    """The detections that can be used, one row each.

    Attributes:
        xyxy: (N, 4) float64, C-contiguous, positive areas. scores: (N,) float64 in 0..1. class_ids: (N,) int64.
        rows: (N,) int64, the row each had in the arguments of `update`.
        streams: (N,) int64, the number of the camera that saw it; all 0 where there is one camera.
        trust: (N,) float64 in 0..1, what the scores are worth: the scores themselves, unless a tracker learnt better.
        ignored: rows that were left out, by reason. clipped: scores that were.
    """

    __slots__ = (
        "_at",
        "_features",
        "_fetched",
        "class_ids",
        "clipped",
        "ignored",
        "rows",
        "scores",
        "streams",
        "trust",
        "xyxy",
    )

    def __init__(
        self,
        xyxy: NDArray[np.float64],
        scores: NDArray[np.float64],
        class_ids: Indices,
        rows: Indices,
        streams: Indices,
        features: Sequence[Features | None] = (None,),
        ignored: Mapping[str, int] | None = None,
        clipped: int = 0,
    ) -> None:
        """The appearance vectors, or what is asked for them, are given by camera; None for a camera without."""
        self.ignored = ignored or {}
        self.clipped = clipped
        self.xyxy = xyxy
        self.scores = self.trust = scores
        self.class_ids = class_ids
        self.rows = rows
        self.streams = streams
        self._features = features
        self._at: Indices | None = None
        self._fetched: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.xyxy)

    @property
    def has_features(self) -> bool:
        """Whether `features` can be asked."""
        return any(one is not None for one in self._features)

    def features(self, which: Indices) -> NDArray[np.float32]:
        """(len(which), D) float32 unit vectors of some of these detections, fetched when first needed and never twice.

        Raises:
            ValueError: the callable given to `update` returned something of another shape.
        """
        vectors, place = self.looks(which)
        return np.asarray(vectors[place])

    def looks(self, which: Indices) -> tuple[NDArray[np.float32], Indices]:
        """The vectors of `features` without a copy: (F, D) of all that were fetched, and (len(which),) rows of it."""
        if self._at is None:
            self._at = np.full(len(self), -1)
        wanted = np.zeros(len(self), bool)
        wanted[which] = True
        missing = (wanted & (self._at < 0)).nonzero()[0]
        if len(missing):
            new = self._fetch(missing)
            old = new[:0] if self._fetched is None else self._fetched
            self._at[missing] = len(old) + np.arange(len(new))
            self._fetched = np.concatenate([old, new])
        fetched = np.zeros((0, 0), np.float32) if self._fetched is None else self._fetched
        return fetched, self._at[which]

    def _fetch(self, which: Indices) -> NDArray[np.float32]:
        if len(self._features) == 1:
            return _unit(self._features[0], self.rows[which])
        streams = self.streams[which]
        parts = [
            _unit(source, self.rows[which[streams == stream]])
            for stream, source in enumerate(self._features)
            if source is not None
        ]
        together = np.concatenate([part for part in parts if len(part)])
        order = np.argsort(streams, kind="stable")
        out = np.empty_like(together)
        out[order] = together
        return out


def observe(
    xyxy: Any,
    scores: ArrayLike | None = None,
    class_ids: ArrayLike | None = None,
    features: Features | None = None,
) -> Observed:
    """What of one camera's detections can be used; see `trackers.tracker.Tracker.update`.

    Raises:
        ValueError: arrays of different lengths.
    """
    if not isinstance(xyxy, np.ndarray | list | tuple):
        xyxy, scores, class_ids = _unpacked(xyxy)
    boxes = np.array(xyxy, np.float64, order="C")
    n = len(boxes)
    if n == 0:
        boxes = boxes.reshape(0, 4)
    score = np.ones(n) if scores is None else np.array(scores, np.float64)
    classes = np.zeros(n, np.int64) if class_ids is None else np.array(class_ids).astype(np.int64)
    if boxes.shape != (n, 4) or score.shape != (n,) or classes.shape != (n,):
        raise ValueError(
            f"xyxy {boxes.shape}, scores {score.shape} and class_ids {classes.shape} must be (N, 4), (N,) and (N,)"
        )
    if features is not None and not callable(features):
        features = np.asarray(features)
        if features.ndim != 2 or len(features) != n:
            raise ValueError(f"features {features.shape} must be (N, D) with N = {n}")
    rows, ignored = np.arange(n), {}
    wild, empty, unsure, outside = _unusable(boxes, score)
    if wild or empty or unsure:
        counts = {"box not finite": wild, "box empty": empty, "score not finite": unsure}
        ignored = {reason: count for reason, count in counts.items() if count}
        good = (np.abs(boxes) <= _FAR).all(axis=1) & (boxes[:, 2:] >= boxes[:, :2] + _SMALL).all(axis=1)
        good &= np.isfinite(score)
        boxes, score, classes, rows = boxes[good], score[good], classes[good], rows[good]
    if outside:
        score = np.clip(score, 0.0, 1.0)
    if len(rows) > _MOST:
        ignored["too many"] = len(rows) - _MOST
        best = np.sort(np.argsort(-score, kind="stable")[:_MOST])
        boxes, score, classes, rows = boxes[best], score[best], classes[best], rows[best]
    streams = np.zeros(len(rows), np.int64)
    return Observed(boxes, score, classes, rows, streams, (features,), ignored, outside)


def together(parts: Mapping[int, Observed], streams: int) -> Observed:
    """What several cameras see, as one; `parts` by the number of the camera, out of so many."""
    number = np.repeat(np.array(list(parts), np.int64), [len(part) for part in parts.values()])
    xyxy, scores, class_ids, rows = (
        np.concatenate([getattr(part, name) for part in parts.values()])
        for name in ("xyxy", "scores", "class_ids", "rows")
    )
    features: list[Features | None] = [None] * streams
    for stream, part in parts.items():
        features[stream] = part._features[0]
    return Observed(xyxy, scores, class_ids, rows, number, features)


def _unusable(boxes: NDArray[np.float64], scores: NDArray[np.float64]) -> tuple[int, int, int, int]:
    """How many rows have a box that is not finite, else empty, else a score that is not finite, else outside 0..1."""
    if fast := kernels():
        counts: tuple[int, int, int, int] = fast.unusable(boxes, scores, _FAR, _SMALL)
        return counts
    finite = (np.abs(boxes) <= _FAR).all(axis=1)  # False for NaN
    solid = (boxes[:, 2:] >= boxes[:, :2] + _SMALL).all(axis=1) & finite
    sure = np.isfinite(scores) & solid
    outside = sure & ((scores < 0) | (scores > 1))
    left = [len(boxes), *(int(np.count_nonzero(rows)) for rows in (finite, solid, sure))]
    return left[0] - left[1], left[1] - left[2], left[2] - left[3], int(np.count_nonzero(outside))


def _unpacked(found: Any) -> tuple[NDArray[Any], ArrayLike | None, ArrayLike | None]:
    """Boxes, scores and classes of a supervision.Detections or an Ultralytics Results, told apart by attributes."""
    boxes = getattr(found, "boxes", None)
    if boxes is not None and hasattr(boxes, "xyxy"):
        return tuple(_numpy(getattr(boxes, field)) for field in ("xyxy", "conf", "cls"))  # type: ignore[return-value]
    if hasattr(found, "xyxy") and hasattr(found, "confidence"):
        return np.asarray(found.xyxy), found.confidence, found.class_id
    raise ValueError(
        f"update takes an (N, 4) array, a supervision.Detections or an Ultralytics Results, not {type(found).__name__}"
    )


def _numpy(tensor: Any) -> NDArray[Any]:
    """An array or tensor on any device as an array."""
    return np.asarray(tensor.cpu() if hasattr(tensor, "cpu") else tensor)


def _unit(source: Features | None, rows: Indices) -> NDArray[np.float32]:
    given = source(rows) if callable(source) else np.asarray(source)[rows]
    vectors = np.asarray(given, np.float32)
    if vectors.ndim != 2 or len(vectors) != len(rows):
        raise ValueError(f"features for {len(rows)} rows came as {vectors.shape}; they must be ({len(rows)}, D)")
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(length > 0, length, 1), np.float32)
