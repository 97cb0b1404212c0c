"""Detections: what a detector found in one frame, as a struct of arrays."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.lazy_features import LazyFeatures


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """N objects; row n of every array describes one.

    Attributes:
        xyxy: (N, 4) float32, pixels of the original frame, x1 < x2 and y1 < y2.
        confidence: (N,) float32 in 0..1.
        class_id: (N,) int64, an index into `names`.
        features: (N, D) float32 unit vectors, or None where nothing has embedded these objects; may be computed only
            when they are asked for.
        names: class names by id; the detector's own tuple, shared and never copied.

    Raises:
        ValueError: arrays of different lengths or wrong shapes.
    """

    xyxy: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    confidence: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    class_id: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    features: NDArray[np.float32] | LazyFeatures | None = None
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        n = len(self.xyxy)
        if self.xyxy.shape != (n, 4) or self.confidence.shape != (n,) or self.class_id.shape != (n,):
            raise ValueError(
                f"xyxy {self.xyxy.shape}, confidence {self.confidence.shape} and class_id {self.class_id.shape} "
                f"must be (N, 4), (N,) and (N,)"
            )
        if self.features is not None and (self.features.ndim != 2 or len(self.features) != n):
            raise ValueError(f"features {self.features.shape} must be (N, D) with N = {n}")

    def __len__(self) -> int:
        return len(self.xyxy)

    def __getitem__(self, rows: NDArray[np.bool_] | NDArray[np.int64] | slice) -> Detections:
        """The given rows only: a mask, indices or a slice.

        >>> boxes = Detections(np.eye(4, dtype=np.float32)[:2], np.float32([0.9, 0.2]), np.array([0, 1]))
        >>> boxes[boxes.confidence > 0.5].class_id
        array([0])
        """
        return Detections(
            self.xyxy[rows],
            self.confidence[rows],
            self.class_id[rows],
            None if self.features is None else self.features[rows],
            self.names,
        )

    def with_features(self, features: NDArray[np.float32] | LazyFeatures) -> Detections:
        """The same objects with an appearance vector each: (N, D) float32."""
        return replace(self, features=features)

    def name(self, row: int) -> str:
        """Class name of one row; the id as text where the detector names none."""
        return self.class_name(int(self.class_id[row]))

    def class_name(self, class_id: int) -> str:
        """Name of a class; the id as text where the detector names none."""
        return self.names[class_id] if 0 <= class_id < len(self.names) else str(class_id)

    def to_supervision(self) -> Any:
        """As `supervision.Detections` (supervision must be installed)."""
        import supervision

        return supervision.Detections(
            xyxy=self.xyxy,
            confidence=self.confidence,
            class_id=self.class_id.astype(int),
            data={"class_name": np.array([self.name(row) for row in range(len(self))], dtype=str)},
        )

    @classmethod
    def from_supervision(cls, detections: Any, names: tuple[str, ...] = ()) -> Detections:
        """From a `supervision.Detections`; missing confidences become 1, missing classes 0."""
        n = len(detections.xyxy)
        confidence = np.ones(n) if detections.confidence is None else detections.confidence
        class_id = np.zeros(n) if detections.class_id is None else detections.class_id
        return cls(
            np.asarray(detections.xyxy, np.float32).reshape(n, 4),
            np.asarray(confidence, np.float32),
            np.asarray(class_id, np.int64),
            names=names,
        )
