"""Detect: objects in each frame, by a neural network in whichever runtime reads its weights."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr

from pipeline import coco
from pipeline.classes import class_ids
from pipeline.detections import Detections
from pipeline.errors import UsageError
from pipeline.frame import Frame
from pipeline.geometry import Letterbox, nms
from pipeline.heads.head import Candidates, Head, heads, recognise
from pipeline.inference.model import Precision, load, shortened
from pipeline.models import DETECTOR
from pipeline.stage import Stage

_CONFIDENCE = 0.25  # where neither the user nor the network says


class Detect(Stage):
    """Finds objects and sets `frame.detections`."""

    name: ClassVar[str] = "detect"
    provides: ClassVar[frozenset[str]] = frozenset({"detections"})
    stateless: ClassVar[bool] = True

    weights: Path = Field(
        Path(DETECTOR),
        description="network: .onnx, OpenVINO .xml or directory, Ultralytics .pt, or a name from framechain models",
    )
    classes: tuple[str | int, ...] = Field((), description="classes to find, by name or number; if empty: all")
    confidence: float | None = Field(
        None, ge=0, le=1, description="least score of a detection; if empty: what the network recommends, else 0.25"
    )
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

    _detector: Detector | None = PrivateAttr(None)

    def open(self) -> None:
        """Load the network and try it once.

        Raises:
            UsageError: the weights are no detector, a class does not exist, the size or device does not fit.
            MissingExtra: the runtime for these weights is not installed.
        """
        self._detector = Detector(self)

    @property
    def detector(self) -> Detector:
        """The loaded network; loads it where nobody did."""
        if self._detector is None:
            self.open()
        assert self._detector is not None
        return self._detector

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the classes by number, once it is open; empty where the network names none."""
        return self._detector.names if self._detector else ()

    def process(self, frames: Sequence[Frame]) -> None:
        """Set `detections` of every frame."""
        for frame, found in zip(frames, self.detector([frame.image for frame in frames]), strict=True):
            frame.detections = found

    def close(self) -> None:
        """Release the network."""
        if self._detector is not None:
            self._detector.model.close()
            self._detector = None


class Detector:
    """A loaded network together with what its outputs mean.

    Attributes:
        model: the network. head: what its outputs mean, and what it is fed.
        names: of the classes by number; empty where the network names none.
    """

    def __init__(self, options: Detect) -> None:
        self._options = options
        self.model = load(options.weights, options.device, options.precision)
        metadata = self.model.metadata
        if metadata.task not in ("", "detect"):
            raise UsageError(f"{options.weights} is made to {metadata.task}, not to detect; give a detection network")
        self._fixed, self._size = self._input_size()
        self.head = self._recognise()
        if self.head.preprocessing.fit == "none" and options.image_size:
            raise UsageError(f"{options.weights} scales images by itself; leave image_size out")
        self._threshold = next(
            score for score in (options.confidence, metadata.confidence, _CONFIDENCE) if score is not None
        )
        self._overlap = self.head.overlap if options.iou is None else options.iou
        self.names = metadata.names or (coco.NAMES if self.head.classes == len(coco.NAMES) else ())
        numbers = [str(number) for number in range(self.head.classes or 0)]
        self._wanted = class_ids(options.classes, self.names or numbers, str(options.weights))

    def __call__(self, images: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        """What is in each of the images."""
        boxes = [self._letterbox((image.shape[0], image.shape[1])) for image in images]
        # one call for all of a size where the device gains from batches, one for each image where it does not
        groups: defaultdict[Any, list[int]] = defaultdict(list)
        for n, box in enumerate(boxes):
            groups[box.target if self.model.batches else n].append(n)
        found = [Detections()] * len(images)
        for rows in groups.values():
            batch = np.empty((len(rows), 3, *boxes[rows[0]].target), np.float32)
            for slot, n in zip(batch, rows, strict=True):
                self._fill(slot, images[n], boxes[n])
            outputs = self.model.run(batch)
            for k, n in enumerate(rows):
                found[n] = self._detections([out[k] for out in outputs], boxes[n])
        return found

    def prepare(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], Letterbox]:
        """What the network is given for an image: (1, 3, H, W), and how the image lies in it."""
        box = self._letterbox((image.shape[0], image.shape[1]))
        batch = np.empty((1, 3, *box.target), np.float32)
        self._fill(batch[0], image, box)
        return batch, box

    def _letterbox(self, source: tuple[int, int]) -> Letterbox:
        how = self.head.preprocessing
        if how.fit == "none":
            return Letterbox.within(source, source)
        if how.fit == "stretch":
            return Letterbox.stretched(source, self._size)
        if self._fixed:
            return Letterbox.within(source, self._size, how.centred)
        return Letterbox.around(source, self._size, self.model.metadata.stride, how.centred)

    def _fill(self, slot: NDArray[np.float32], image: NDArray[np.uint8], box: Letterbox) -> None:
        """Write one image into its (3, H, W) place in the batch: scaled, placed, normalised."""
        how = self.head.preprocessing
        if box.target != box.resized:
            slot[:] = how.padding
        rows, columns = box.window
        how.normalisation.write(box.resize(image), slot[:, rows, columns])

    def _detections(self, outputs: Sequence[NDArray[np.float32]], box: Letterbox) -> Detections:
        found = self.head.decode(outputs, box.target, self._threshold)
        if len(self._wanted):
            rows = np.isin(found.class_id, self._wanted)
            found = Candidates(found.xyxy[rows], found.scores[rows], found.class_id[rows])
        limit = self._options.max_detections
        keep = np.arange(len(found.scores))[:limit] if self.head.suppressed else nms(*found, self._overlap, limit)
        xyxy = box.back(found.xyxy[keep])
        solid = (xyxy[:, 2:] > xyxy[:, :2]).all(axis=1)  # what lay in the padding has no area left
        keep = keep[solid]
        return Detections(xyxy[solid], found.scores[keep], found.class_id[keep], names=self.names)

    def _input_size(self) -> tuple[bool, tuple[int, int]]:
        """Whether the network takes one size only, and its (height, width): that one, or the most it is given."""
        asked, weights = self._options.image_size, self._options.weights
        height, width = self.model.input_shape[2:]
        if height and width:
            if asked not in (None, max(height, width)):
                raise UsageError(f"{weights} only takes {width}×{height} pixels, not {asked}; leave image_size out")
            return True, (height, width)
        metadata = self.model.metadata
        height, width = (asked, asked) if asked else metadata.image_size or (640, 640)
        stride = metadata.stride
        return False, (-(-height // stride) * stride, -(-width // stride) * stride)

    def _recognise(self) -> Head:
        """Run the network once on nothing, and see what comes out."""
        weights, (height, width) = self._options.weights, self._size
        try:
            shapes = [out.shape for out in self.model.run(np.zeros((1, 3, height, width), np.float32))]
        except Exception as error:
            raise UsageError(
                f"{weights} does not detect: it fails on an empty image of {width}×{height} pixels "
                f"({shortened(error)}); give another"
            ) from error
        head = recognise(shapes, self._size, self.model.metadata)
        if head is not None:
            return head
        known = "; ".join(f"{kind.name} {kind.layout}" for _, kind in heads.kinds())
        called = f" of {self.model.metadata.head}" if self.model.metadata.head else ""
        raise UsageError(
            f"{weights} is no detector that is known here: its outputs{called} are {', '.join(map(str, shapes))} for "
            f"{width}×{height} pixels; known are {known}"
        )
