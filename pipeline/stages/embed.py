"""Embed: an appearance vector for every detection, by a convolutional network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr

from pipeline.errors import UsageError
from pipeline.frame import Frame
from pipeline.inference.model import Model, Precision, load
from pipeline.stage import Stage

# Mean and deviation of ImageNet, RGB, 0..255: what re-identification networks are trained with.
_MEAN = np.array([0.485, 0.456, 0.406]) * 255
_STD = np.array([0.229, 0.224, 0.225]) * 255
_PERSON = (256, 128)  # height, width: the input of person re-identification networks that take any size
_AT_ONCE = 128  # crops a call: bounds memory on a crowded frame


class Embed(Stage):
    """Sets `frame.detections.features`: (N, D) float32 unit vectors that are close for the same object."""

    name: ClassVar[str] = "embed"
    requires: ClassVar[frozenset[str]] = frozenset({"detections"})
    provides: ClassVar[frozenset[str]] = frozenset({"features"})
    stateless: ClassVar[bool] = True

    weights: str = Field(description="network from RGB crops to vectors: .onnx, OpenVINO, or TorchScript .pt")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, or an OpenVINO device")
    precision: Precision = Field("fp32", description="fp32, or auto: what is fastest on the device")

    _model: Model | None = PrivateAttr(None)
    _size: tuple[int, int] = PrivateAttr(_PERSON)
    _length: int = PrivateAttr(0)
    _table: NDArray[np.float32] = PrivateAttr(
        default_factory=lambda: ((np.arange(256)[:, None] - _MEAN) / _STD).astype(np.float32)
    )

    def open(self) -> None:
        """Load the network and try it once.

        Raises:
            UsageError: the weights do not turn images into vectors.
            MissingExtra: the runtime for these weights is not installed.
        """
        model = load(self.weights, self.device, self.precision)
        height, width = model.input_shape[2:]
        self._size = (height or _PERSON[0], width or _PERSON[1])
        shapes: list[tuple[int, ...]] = []
        try:
            shapes = [out.shape for out in model.run(np.zeros((model.input_shape[0] or 1, 3, *self._size), np.float32))]
        except Exception as error:
            raise UsageError(
                f"{self.weights} is no embedder: it fails on an empty crop of {self._size[1]}×{self._size[0]} pixels "
                f"({' '.join(str(error).split())[:160]}); give another"
            ) from error
        if len(shapes) != 1 or len(shapes[0]) != 2:
            raise UsageError(
                f"{self.weights} is no embedder: its outputs are {', '.join(map(str, shapes))} and not one (N, D); "
                f"give a re-identification network"
            )
        self._model, self._length = model, shapes[0][1]

    def process(self, frames: Sequence[Frame]) -> None:
        """Set the features of all detections: crops of all frames gathered and normalised together."""
        if self._model is None:
            self.open()
        counts = [len(frame.detections) for frame in frames]
        crops = self._normalised(self._gathered(frames, sum(counts)))
        ends = np.cumsum(counts)
        # on a CPU frame by frame: the last bit may depend on how many crops share a call (see Model.batches)
        assert self._model is not None
        features = [self._vectors(crops)] if self._model.batches else map(self._vectors, np.split(crops, ends[:-1]))
        whole = np.concatenate(list(features))
        for frame, part in zip(frames, np.split(whole, ends[:-1]), strict=True):
            frame.detections = frame.detections.with_features(part)

    def close(self) -> None:
        """Release the network."""
        if self._model is not None:
            self._model.close()
            self._model = None

    def _gathered(self, frames: Sequence[Frame], total: int) -> NDArray[np.uint8]:
        """(total, H, W, 3) uint8 BGR: every box cut to its frame and scaled to the network's size."""
        height, width = self._size
        crops = np.empty((total, height, width, 3), np.uint8)
        slot = 0
        for frame in frames:
            rows, columns = frame.image.shape[:2]
            for x1, y1, x2, y2 in frame.detections.xyxy.tolist():
                # whole pixels, at least one, inside the frame wherever the box is
                left, top = min(max(int(x1), 0), columns - 1), min(max(int(y1), 0), rows - 1)
                right, bottom = min(max(round(x2), left + 1), columns), min(max(round(y2), top + 1), rows)
                cv2.resize(frame.image[top:bottom, left:right], (width, height), dst=crops[slot])
                slot += 1
        return crops

    def _normalised(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(N, H, W, 3) BGR bytes to (N, 3, H, W) RGB floats, one table look-up a channel for all crops."""
        planes = np.empty((len(crops), 3, *crops.shape[1:3]), np.float32)
        for plane in range(3):
            np.take(self._table[:, plane], crops[..., 2 - plane], out=planes[:, plane], mode="clip")
        return planes

    def _vectors(self, crops: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, D) unit vectors."""
        assert self._model is not None
        if not len(crops):
            return np.zeros((0, self._length), np.float32)
        room = self._model.input_shape[0] or _AT_ONCE
        parts = []
        for start in range(0, len(crops), room):
            part = crops[start : start + room]
            if self._model.input_shape[0] and len(part) < room:  # made for exactly so many: fill it up
                full = np.concatenate([part, np.zeros((room - len(part), *part.shape[1:]), np.float32)])
                parts.append(self._model.run(full)[0][: len(part)])
            else:
                parts.append(self._model.run(part)[0])
        vectors = np.concatenate(parts)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.asarray(vectors / np.maximum(lengths, 1e-12), np.float32)
