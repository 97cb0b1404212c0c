"""Detect: objects in each frame, by a neural network in whichever runtime reads its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr

from pipeline import coco
from pipeline.detections import Detections
from pipeline.errors import UsageError
from pipeline.frame import Frame
from pipeline.geometry import Letterbox, nms
from pipeline.heads.head import Candidates, Head, Preprocessing, heads
from pipeline.inference.model import Model, Precision, load
from pipeline.stage import Stage
from trackers.registry import nearest


class Detect(Stage):
    """Finds objects and sets `frame.detections`."""

    name: ClassVar[str] = "detect"
    provides: ClassVar[frozenset[str]] = frozenset({"detections"})
    stateless: ClassVar[bool] = True

    weights: str = Field(description="network: .onnx, OpenVINO .xml or directory, or Ultralytics .pt")
    classes: tuple[str | int, ...] = Field((), description="classes to find, by name or number; if empty: all")
    confidence: float = Field(0.25, ge=0, le=1, description="least score of a detection")
    iou: float | None = Field(
        None,
        ge=0,
        le=1,
        description="overlap (IoU) above which the better of two boxes wins; if empty: what the family uses",
    )
    image_size: int | None = Field(
        None, ge=32, le=8192, description="pixels of the input's longer side; if empty: what the network was made for"
    )
    max_detections: int = Field(300, ge=1, description="most objects a frame, the best ones")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, or an OpenVINO device")
    precision: Precision = Field("fp32", description="fp32, or auto: what is fastest on the device")

    _detector: _Detector | None = PrivateAttr(None)

    def open(self) -> None:
        """Load the network and try it once.

        Raises:
            UsageError: the weights are no detector, a class does not exist, the size or device does not fit.
            MissingExtra: the runtime for these weights is not installed.
        """
        self._detector = _Detector(self)

    def process(self, frames: Sequence[Frame]) -> None:
        """Set `detections` of every frame."""
        if self._detector is None:
            self.open()
        assert self._detector is not None
        for frame, found in zip(frames, self._detector([frame.image for frame in frames]), strict=True):
            frame.detections = found

    def close(self) -> None:
        """Release the network."""
        if self._detector is not None:
            self._detector.model.close()
            self._detector = None


class _Detector:
    """A loaded network together with what its outputs mean."""

    def __init__(self, options: Detect) -> None:
        self.model = load(options.weights, options.device, options.precision)
        self._options = options
        self._fixed = _fixed_size(self.model)
        self._size = self._input_size()
        self._head = self._recognise()
        self._tables = _tables(self._head.preprocessing)
        self._overlap = self._head.overlap if options.iou is None else options.iou
        self.names = _names(self.model.metadata, self._head)
        self._wanted = self._wanted_classes()

    def __call__(self, images: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        boxes = [self._letterbox(image) for image in images]
        found: list[Detections] = []
        # one call a run of equal sizes where the device gains from batches, one an image where it does not
        for _, group in groupby(range(len(images)), key=lambda n: boxes[n].target if self.model.batches else n):
            rows = list(group)
            batch = np.empty((len(rows), 3, *boxes[rows[0]].target), np.float32)
            for slot, n in zip(batch, rows, strict=True):
                self._fill(slot, images[n], boxes[n])
            outputs = self._run(batch)
            found += [self._detections([out[k] for out in outputs], boxes[n]) for k, n in enumerate(rows)]
        return found

    def _run(self, batch: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        room = self.model.input_shape[0]
        if room is None or room == len(batch):
            return self.model.run(batch)
        # a network made for a batch of fixed size: fill it up
        outputs: list[list[NDArray[np.float32]]] = []
        for start in range(0, len(batch), room):
            part = batch[start : start + room]
            full = np.concatenate([part, np.zeros((room - len(part), *part.shape[1:]), np.float32)])
            outputs.append([out[: len(part)] for out in self.model.run(full)])
        return [np.concatenate(parts) for parts in zip(*outputs, strict=True)]

    def _letterbox(self, image: NDArray[np.uint8]) -> Letterbox:
        source, how = (image.shape[0], image.shape[1]), self._head.preprocessing
        if self._fixed:
            return Letterbox.within(source, self._fixed, how.centred)
        return Letterbox.around(source, self._size, how.stride, how.centred)

    def _fill(self, slot: NDArray[np.float32], image: NDArray[np.uint8], box: Letterbox) -> None:
        """Write one image into its (3, H, W) place in the batch: scaled, placed, channels split, normalised."""
        rows, columns = box.window
        how = self._head.preprocessing
        if (box.target[0], box.target[1]) != box.resized:
            slot[:] = how.padding
        scaled = box.resize(image)
        for plane, table in enumerate(self._tables):
            channel = cv2.extractChannel(scaled, 2 - plane if how.rgb else plane)
            slot[plane, rows, columns] = cv2.LUT(channel, table)

    def _detections(self, outputs: Sequence[NDArray[np.float32]], box: Letterbox) -> Detections:
        found = self._head.decode(outputs, box.target, self._options.confidence)
        if self._wanted is not None:
            rows = np.isin(found.class_id, self._wanted)
            found = Candidates(found.xyxy[rows], found.scores[rows], found.class_id[rows])
        limit = self._options.max_detections
        keep = np.arange(len(found.scores))[:limit] if self._head.suppressed else nms(*found, self._overlap, limit)
        xyxy = box.back(found.xyxy[keep])
        solid = (xyxy[:, 2:] > xyxy[:, :2]).all(axis=1)  # what lay in the padding has no area left
        keep = keep[solid]
        return Detections(xyxy[solid], found.scores[keep], found.class_id[keep], names=self.names)

    def _input_size(self) -> int:
        asked, weights = self._options.image_size, self._options.weights
        if self._fixed:
            if asked not in (None, max(self._fixed)):
                raise UsageError(
                    f"{weights} only takes {self._fixed[1]}×{self._fixed[0]} pixels, not {asked}; leave image_size out"
                )
            return max(self._fixed)
        own = self.model.metadata.get("imgsz", 640)
        size = asked or max(own if isinstance(own, list | tuple) else [own])
        return -(-int(size) // 32) * 32

    def _recognise(self) -> Head:
        """Run the network once on nothing, and see what comes out."""
        size = self._fixed or (self._size, self._size)
        shapes = [out.shape for out in self._try(np.zeros((1, 3, *size), np.float32))]
        kinds = [heads.load(name) for name in heads.names()]
        for kind in kinds:
            if head := kind.recognise(shapes, size, self.model.metadata):
                return head
        known = "; ".join(f"{kind.name} {kind.layout}" for kind in kinds)
        raise UsageError(
            f"{self._options.weights} is no detector that is known here: its outputs are "
            f"{', '.join(map(str, shapes))} for {size[1]}×{size[0]} pixels; known are {known}"
        )

    def _try(self, batch: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        try:
            return self._run(batch)
        except Exception as error:
            raise UsageError(
                f"{self._options.weights} is no detector of images: it fails on an empty one of "
                f"{batch.shape[3]}×{batch.shape[2]} pixels ({' '.join(str(error).split())[:160]}); give another"
            ) from error

    def _wanted_classes(self) -> NDArray[np.int64] | None:
        if not self._options.classes:
            return None
        numbers = {name.lower(): number for number, name in enumerate(self.names)}
        wanted = []
        for given in self._options.classes:
            key = str(given).strip().lower()
            if key.isdigit() and int(key) < (self._head.classes or len(self.names) or 1 << 31):
                wanted.append(int(key))
            elif key in numbers:
                wanted.append(numbers[key])
            else:
                raise UsageError(f"{self._options.weights} knows no class '{given}'{nearest(key, numbers)}")
        return np.array(wanted, np.int64)


def _fixed_size(model: Model) -> tuple[int, int] | None:
    height, width = model.input_shape[2:]
    return (height, width) if height and width else None


def _tables(how: Preprocessing) -> list[NDArray[np.float32]]:
    """For each channel, the normalised value of every byte."""
    values = np.arange(256, dtype=np.float64)
    return [((values - mean) / std).astype(np.float32) for mean, std in zip(how.mean, how.std, strict=True)]


def _names(metadata: Mapping[str, Any], head: Head) -> tuple[str, ...]:
    names = metadata.get("names")
    if isinstance(names, Mapping) and names:
        return tuple(str(names.get(number, number)) for number in range(max(names) + 1))
    if isinstance(names, list | tuple) and names:
        return tuple(map(str, names))
    return coco.NAMES if head.classes == len(coco.NAMES) else ()
