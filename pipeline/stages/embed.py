"""Embed: an appearance vector for every detection, by a convolutional network."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr

from pipeline.classes import class_ids
from pipeline.detections import Detections
from pipeline.errors import FramechainError, UsageError
from pipeline.frame import Frame
from pipeline.inference.candidates import Precision, Wish
from pipeline.inference.choice import check_wish, fastest
from pipeline.inference.model import Model, shortened
from pipeline.inference.views import View, Views
from pipeline.lazy_features import LazyFeatures
from pipeline.models import EMBEDDER
from pipeline.normalisation import IMAGENET
from pipeline.stage import Dispatch, Stage

_PERSON = (256, 128)  # height, width: the input of person re-identification networks that take any size
_OTHER_TASKS = ("classify", "detect", "obb", "pose", "segment")  # Ultralytics' words; probabilities look like vectors
_BATCH = 16  # frames a call, of as many cameras as there are
_FEW = 4  # crops a call on a processor, whose caches hold them: 12 at once took 25 % more time and 300 MB more memory
_AT_ONCE = 128  # crops a call elsewhere: bounds memory on a crowded frame


class Embed(Stage):
    """Sets `frame.detections.features`: (N, D) float32 unit vectors that are close for the same object.

    Rows of classes that are not embedded are zeros: no closer to one object than to another.
    """

    name: ClassVar[str] = "embed"
    requires: ClassVar[frozenset[str]] = frozenset({"detections"})
    provides: ClassVar[frozenset[str]] = frozenset({"features"})
    stateless: ClassVar[bool] = True

    weights: Path = Field(
        Path(EMBEDDER),
        description="network from RGB crops to vectors: .onnx, OpenVINO, TorchScript .pt, or a name from framechain "
        "models",
    )
    classes: tuple[str | int, ...] = Field(
        (), description="classes to embed, by name or number; if empty: those that the network was made for, else all"
    )
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, or an OpenVINO device")
    precision: Precision = Field("auto", description="auto: what is fastest on the device; fp32, bf16, fp16, int8")
    runtime: str = Field("auto", description="auto: what is fastest on the device; native: what the file is made for")
    lazy: bool = Field(
        False,
        description="embed an object only once the tracker asks for it: less work, but done while the tracker waits",
    )

    _embedder: Embedder | None = PrivateAttr(None)

    def check(self) -> None:
        """Whether there are such weights, and such a device and runtime."""
        check_wish(self.weights, self.device, self.runtime)

    def open(self) -> None:
        """Load the network and try it once.

        Raises:
            UsageError: the weights do not turn images into vectors, or there is no such device.
            MissingExtra: the runtime for these weights is not installed.
        """
        wish = Wish(self.device, self.precision, self.runtime, self.workers, _PERSON, _FEW)
        self._embedder = Embedder(fastest(self.weights, wish), self.weights)

    def suits(self) -> Dispatch:
        """As many calls at once as keep the device busy, and batches where it gains from them."""
        model = self.embedder.model
        return Dispatch() if self.lazy else Dispatch(_BATCH if model.batches else 1, model.parallel)

    @property
    def embedder(self) -> Embedder:
        """The loaded network; loads it where nobody did."""
        if self._embedder is None:
            self.open()
        assert self._embedder is not None
        return self._embedder

    def process(self, frames: Sequence[Frame]) -> None:
        """Set the features of all detections.

        Raises:
            UsageError: `classes` names one that the detector does not know.
        """
        embedder = self.embedder
        rows = [self._wanted(frame.detections, embedder.made_for) for frame in frames]
        if self.lazy:
            for frame, wanted in zip(frames, rows, strict=True):
                frame.detections = frame.detections.with_features(embedder.later(frame, wanted))
            return
        views = [
            covered(frame.image, frame.detections.xyxy[wanted]) for frame, wanted in zip(frames, rows, strict=True)
        ]
        for frame, wanted, vectors in zip(frames, rows, embedder.of_views(views), strict=True):
            features = np.zeros((len(frame.detections), vectors.shape[1]), np.float32)
            features[wanted] = vectors
            frame.detections = frame.detections.with_features(features)

    def close(self) -> None:
        """Release the network."""
        if self._embedder is not None:
            if not self.lazy:  # else frames further down the chain may still ask; it goes with the last of them
                self._embedder.model.close()
            self._embedder = None

    def _wanted(self, detections: Detections, made_for: tuple[str, ...]) -> NDArray[np.bool_]:
        if self.classes and len(detections):
            wanted = class_ids(self.classes, detections.names, "the detector before embed")
        elif made_for and detections.names:
            wanted = np.array([n for n, name in enumerate(detections.names) if name in made_for], np.int64)
        else:
            return np.ones(len(detections), np.bool_)
        return np.isin(detections.class_id, wanted)


class Embedder:
    """A loaded network from crops to unit vectors.

    Attributes:
        made_for: names of the classes whose objects it tells apart; empty where it does not say.
    """

    def __init__(self, model: Model, weights: Path) -> None:
        self.model = model
        self.made_for = model.metadata.names
        if model.metadata.task in _OTHER_TASKS:
            raise UsageError(
                f"{weights} is made to {model.metadata.task}, not to embed; give a re-identification network"
            )
        height, width = model.input_shape[2:]
        self._size = (height or _PERSON[0], width or _PERSON[1])
        try:
            shapes = model.output_shapes(*self._size)
        except FramechainError:
            raise
        except Exception as error:
            raise UsageError(
                f"{weights} does not embed: it fails on an empty crop of {self._size[1]}×{self._size[0]} pixels "
                f"({shortened(error)}); give another"
            ) from error
        if len(shapes) != 1 or len(shapes[0]) != 2:
            raise UsageError(
                f"{weights} does not embed: its outputs are {', '.join(map(str, shapes))} and not one (N, D); "
                f"give a re-identification network"
            )
        self._length = shapes[0][1]

    def __call__(self, crops: Sequence[Sequence[NDArray[np.uint8]]]) -> list[NDArray[np.float32]]:
        """Crops of several frames to their (N, D) vectors, frame by frame."""
        return self.of_views([[_whole(crop) for crop in part] for part in crops])

    def of_views(self, views: Sequence[Sequence[View]]) -> list[NDArray[np.float32]]:
        """Parts of several frames to their (N, D) vectors, frame by frame."""
        if not self.model.batches:  # the last bit may depend on how many crops share a call
            return [self._vectors(part) for part in views]
        together = self._vectors([view for part in views for view in part])
        ends = accumulate(map(len, views), initial=0)
        return [together[start:end] for start, end in pairwise(ends)]

    def later(self, frame: Frame, wanted: NDArray[np.bool_]) -> LazyFeatures:
        """The vectors of a frame's detections, to be computed when asked for; zeros for those that are not wanted."""
        image, xyxy = frame.image, frame.detections.xyxy

        def compute(rows: NDArray[np.int64]) -> NDArray[np.float32]:
            vectors = np.zeros((len(rows), self._length), np.float32)
            chosen = wanted[rows]
            vectors[chosen] = self._vectors(covered(image, xyxy[rows[chosen]]))
            return vectors

        return LazyFeatures(compute, (len(xyxy), self._length))

    def prepare(self, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """What the network is given for crops of any size: (N, 3, H, W)."""
        return self._views([_whole(crop) for crop in crops]).prepared()

    def _views(self, parts: Sequence[View]) -> Views:
        return Views(tuple(parts), self._size, IMAGENET)

    def _vectors(self, views: Sequence[View]) -> NDArray[np.float32]:
        vectors = np.empty((len(views), self._length), np.float32)
        at_once = _AT_ONCE if self.model.batches else _FEW
        for start in range(0, len(views), at_once):
            vectors[start : start + at_once] = self.model.run_views(self._views(views[start : start + at_once]))[0]
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.asarray(vectors / np.maximum(lengths, 1e-12), np.float32)


def covered(image: NDArray[np.uint8], xyxy: NDArray[np.float32]) -> list[View]:
    """What each of (N, 4) boxes covers, in whole pixels: at least one, inside the image wherever the box is."""
    height, width = image.shape[:2]
    views = []
    for box in xyxy.tolist():
        x1, y1, x2, y2 = map(round, box)
        left, top = min(max(x1, 0), width - 1), min(max(y1, 0), height - 1)
        views.append(View(image, (left, top, min(max(x2, left + 1), width), min(max(y2, top + 1), height))))
    return views


def crop(image: NDArray[np.uint8], box: tuple[float, float, float, float]) -> NDArray[np.uint8]:
    """What the box covers. A view."""
    (view,) = covered(image, np.array([box], np.float32))
    x1, y1, x2, y2 = view.region
    return image[y1:y2, x1:x2]


def _whole(crop: NDArray[np.uint8]) -> View:
    return View(crop, (0, 0, crop.shape[1], crop.shape[0]))
