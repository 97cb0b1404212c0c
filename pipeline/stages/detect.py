"""Detect: objects in each frame, by a neural network in whichever runtime reads its weights."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr, model_validator
from typing_extensions import Self

from pipeline import coco
from pipeline.adaptive_size import AdaptiveSize
from pipeline.classes import class_ids
from pipeline.detections import Detections
from pipeline.errors import FramechainError, UsageError
from pipeline.frame import NOWHERE, Frame, Region
from pipeline.geometry import Letterbox, nms
from pipeline.heads.head import Candidates, Head, heads, recognise
from pipeline.inference.candidates import Precision, Wish
from pipeline.inference.choice import check_wish, fastest
from pipeline.inference.model import shortened
from pipeline.inference.views import View, Views
from pipeline.models import DETECTOR
from pipeline.stage import Dispatch, Stage

_BATCH = 16  # frames a call, of as many cameras as there are
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
    adaptive: float | None = Field(
        None,
        gt=0,
        description="detect at a smaller size while all that is there is large, and look at full size after so many "
        "seconds; if empty: always at full size",
    )
    max_detections: int = Field(300, ge=1, description="most objects a frame, the best ones")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, or an OpenVINO device")
    precision: Precision = Field("auto", description="auto: what is fastest on the device; fp32, bf16, fp16, int8")
    runtime: str = Field("auto", description="auto: what is fastest on the device; native: what the file is made for")

    _detector: Detector | None = PrivateAttr(None)
    _sizes: AdaptiveSize | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _adapts_in_order(self) -> Self:
        if self.adaptive is not None and (self.workers or 1) > 1:
            raise ValueError("adaptive goes by earlier frames, which one worker sees in order; leave workers out")
        return self

    def check(self) -> None:
        """Whether there are such weights, and such a device and runtime."""
        check_wish(self.weights, self.device, self.runtime)

    def open(self) -> None:
        """Load the network and try it once.

        Raises:
            UsageError: the weights are no detector, a class does not exist, the size or device does not fit.
            MissingExtra: the runtime for these weights is not installed.
        """
        self._detector = Detector(self)
        if self.adaptive is not None:
            if not self._detector.crops:
                raise UsageError(f"{self.weights} takes one size only; leave adaptive out")
            self._sizes = AdaptiveSize(self.adaptive)

    def suits(self) -> Dispatch:
        """As many calls at once as keep the device busy, and batches where it gains from them."""
        model = self.detector.model
        return Dispatch(_BATCH if model.batches else 1, 1 if self.adaptive else model.parallel)

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

    def expect(self, width: int, height: int) -> None:
        """Compute an empty frame: some runtimes compile the network for each size, 0.4 s on two cores."""
        self.detector([np.zeros((height, width, 3), np.uint8)])

    def process(self, frames: Sequence[Frame]) -> None:
        """Set `detections` of every frame: of its `region` where it has one, none where it is skipped."""
        detector = self.detector
        views = []
        for frame in frames:
            frame.detections = Detections(names=detector.names)
            if frame.skipped or frame.region == NOWHERE:
                continue
            if not detector.crops:
                frame.region = None  # it looks at all of it
            views.append(frame)
        whole = [[(view, 1.0) for view in views]] if views else []
        for together in whole if self._sizes is None else self._sizes.rounds(views):
            given, shares = [frame for frame, _ in together], [share for _, share in together]
            found = detector([frame.image for frame in given], [frame.region for frame in given], shares)
            for frame, detections in zip(given, found, strict=True):
                frame.detections = detections
            if self._sizes is not None and given[-1].region is None:
                self._sizes.learn(given[-1], found[-1], detector.scale(given[-1].image))

    def forget(self, source: str) -> None:
        """Drop what sizes went by for a source that ended."""
        if self._sizes is not None:
            self._sizes.forget(source)

    def state_dict(self) -> dict[str, Any]:
        """What sizes go by, where it adapts them."""
        return {} if self._sizes is None else self._sizes.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go by that again.

        Raises:
            ValueError: it is something else.
        """
        if self._sizes is not None:
            self._sizes.load_state_dict(state)

    def close(self) -> None:
        """Release the network."""
        if self._detector is not None:
            self._detector.model.close()
            self._detector = self._sizes = None


class Detector:
    """A loaded network together with what its outputs mean.

    Attributes:
        model: the network. head: what its outputs mean, and what it is fed.
        names: of the classes by number; empty where the network names none.
        size: (height, width) of the input: the one it takes, or the most it is given.
        crops: whether it can look at a part of an image, at the scale of the whole.
    """

    def __init__(self, options: Detect) -> None:
        self._options = options
        size = options.image_size or 640
        workers = 1 if options.adaptive else options.workers
        wish = Wish(options.device, options.precision, options.runtime, workers, (size, size))
        self.model = fastest(options.weights, wish)
        metadata = self.model.metadata
        if metadata.task not in ("", "detect"):
            raise UsageError(f"{options.weights} is made to {metadata.task}, not to detect; give a detection network")
        self._fixed, self.size = self._input_size()
        self.head = self._recognise()
        self.crops = not self._fixed and self.head.preprocessing.fit == "letterbox"
        if self.head.preprocessing.fit == "none" and options.image_size:
            raise UsageError(f"{options.weights} scales images by itself; leave image_size out")
        self._threshold = next(
            score for score in (options.confidence, metadata.confidence, _CONFIDENCE) if score is not None
        )
        self._overlap = self.head.overlap if options.iou is None else options.iou
        self.names = metadata.names or (coco.NAMES if self.head.classes == len(coco.NAMES) else ())
        numbers = [str(number) for number in range(self.head.classes or 0)]
        self._wanted = class_ids(options.classes, self.names or numbers, str(options.weights))

    def __call__(
        self,
        images: Sequence[NDArray[np.uint8]],
        regions: Sequence[Region | None] | None = None,
        shares: Sequence[float] | None = None,
    ) -> list[Detections]:
        """What is in each of the images, or in one region of it, in pixels of the image.

        Args:
            shares: of the size that each could be given in.
        """
        boxes, views = [], []
        for n, image in enumerate(images):
            region = regions[n] if regions is not None else None
            source = (image.shape[0], image.shape[1])
            box = self._letterbox(source)
            if shares is not None and shares[n] != 1:
                box = self._letterbox(source, box.scale * shares[n])
            if region is not None:
                box = self._letterbox((region[3] - region[1], region[2] - region[0]), box.scale)
            boxes.append(box)
            views.append(View(image, region or (0, 0, *source[::-1]), box.place))
        # one call for all of a size where the device gains from batches, one for each image where it does not
        groups: defaultdict[Any, list[int]] = defaultdict(list)
        for n, box in enumerate(boxes):
            groups[box.target if self.model.batches else n].append(n)
        found = [Detections()] * len(images)
        for rows in groups.values():
            outputs = self.model.run_views(self._views([views[n] for n in rows], boxes[rows[0]].target))
            for k, n in enumerate(rows):
                found[n] = self._detections([out[k] for out in outputs], boxes[n])
                if regions is not None and (region := regions[n]) is not None:
                    found[n] = replace(found[n], xyxy=found[n].xyxy + np.array([*region[:2], *region[:2]], np.float32))
        return found

    def scale(self, image: NDArray[np.uint8]) -> float:
        """Pixels of the input for one of the image, as it is given at most."""
        return self._letterbox((image.shape[0], image.shape[1])).scale

    def prepare(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], Letterbox]:
        """What the network is given for an image: (1, 3, H, W), and how the image lies in it."""
        box = self._letterbox((image.shape[0], image.shape[1]))
        view = View(image, (0, 0, image.shape[1], image.shape[0]), box.place)
        return self._views([view], box.target).prepared(), box

    def _views(self, parts: Sequence[View], size: tuple[int, int]) -> Views:
        how = self.head.preprocessing
        return Views(tuple(parts), size, how.normalisation, how.padding)

    def _letterbox(self, source: tuple[int, int], scale: float | None = None) -> Letterbox:
        how = self.head.preprocessing
        if scale is not None:
            most = source[0] * scale, source[1] * scale
            return Letterbox.around(source, most, self.model.metadata.stride, how.centred)
        if how.fit == "none":
            return Letterbox.within(source, source)
        if how.fit == "stretch":
            return Letterbox.stretched(source, self.size)
        if self._fixed:
            return Letterbox.within(source, self.size, how.centred)
        return Letterbox.around(source, self.size, self.model.metadata.stride, how.centred)

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
        weights, (height, width) = self._options.weights, self.size
        try:
            shapes = self.model.output_shapes(height, width)
        except FramechainError:
            raise
        except Exception as error:
            raise UsageError(
                f"{weights} does not detect: it fails on an empty image of {width}×{height} pixels "
                f"({shortened(error)}); give another"
            ) from error
        head = recognise(shapes, self.size, self.model.metadata)
        if head is not None:
            return head
        known = "; ".join(f"{kind.name} {kind.layout}" for _, kind in heads.kinds())
        called = f" of {self.model.metadata.head}" if self.model.metadata.head else ""
        raise UsageError(
            f"{weights} is no detector that is known here: its outputs{called} are {', '.join(map(str, shapes))} for "
            f"{width}×{height} pixels; known are {known}"
        )
