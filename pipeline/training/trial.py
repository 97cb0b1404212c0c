"""Trial: how fast a network is and how much it still knows, after it was converted or quantised."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UsageError
from pipeline.frame import Frame
from pipeline.inference.model import Model, load
from pipeline.stages.detect import Detect
from pipeline.stages.embed import Embedder
from pipeline.training.calibration import Frames, Image, crops
from pipeline.training.detection_data import DetectionData, Example
from pipeline.training.evaluate_detector import CLEAN, LEAST_SCORE, MOST, evaluate

Inputs = list[NDArray[np.float32]]

_TIMED = 4  # different inputs
_WARM = 2  # times each of them
_LONGEST = 20.0  # seconds


@dataclass(frozen=True, slots=True)
class Tried:
    """A network that was loaded and judged.

    Attributes:
        model: the network. timed: inputs of its own to time it with.
        figures: how good it is, 0..1, one for each of `Trial.columns`; empty where that cannot be told.
    """

    model: Model
    timed: Inputs
    figures: tuple[float, ...]


class Trial(ABC):
    """The same task for the original and for what is made of it.

    Attributes:
        columns: names of the figures, that which decides first; empty where there is nothing to judge by.
        basis: what the figures are of, in words.
    """

    columns: tuple[str, ...]
    basis: str

    @abstractmethod
    def calibration(self) -> Inputs:
        """What the original is fed, (1, 3, H, W) each, to calibrate with."""

    @abstractmethod
    def run(self, path: Path, *, judged: bool = True) -> Tried:
        """Load a network as the stage does that uses it, and judge it unless told not to."""


class DetectorTrial(Trial):
    """Average precision on labelled images; without them on what the original itself finds."""

    def __init__(self, original: Path, frames: Frames | None, data: DetectionData | None) -> None:
        self._frames = frames
        self._stage = Detect(weights=original, runtime="native")
        self._stage.open()
        self._data = data
        self.columns = ("AP50-95", "AP50")
        self.basis = f"{len(data)} labelled images" if data else ""
        if data is None and frames:
            self._data = _Agreement(self._stage.names, [], [_found(self._stage, image) for image in frames.compare])
            self.columns = ("agreement AP50-95", "agreement AP50")
            self.basis = f"agreement with the original on {len(frames.compare)} frames that were not calibrated with"
        if self._data is None:
            self.columns = ()

    def calibration(self) -> Inputs:
        """Frames as the detect stage prepares them."""
        images = self._frames.calibrate if self._frames else ()
        return [self._stage.detector.prepare(image)[0] for image in images]

    def run(self, path: Path, *, judged: bool = True) -> Tried:
        """AP50-95 and AP50."""
        stage = Detect(weights=path, runtime="native", confidence=LEAST_SCORE, max_detections=MOST)
        stage.open()
        figures: tuple[float, ...] = ()
        if judged and self._data is not None:
            mean = evaluate(stage, self._data, corruptions=(), attack=False).conditions[CLEAN].mean
            figures = (mean.ap, mean.ap50)
        return Tried(stage.detector.model, [stage.detector.prepare(image)[0] for image in self._images()], figures)

    def _images(self) -> list[Image]:
        if self._frames:
            return list(self._frames.compare[:_TIMED])
        if self._data is not None:
            return [example.image for example in islice(self._data, _TIMED)]
        return [np.full((480, 640, 3), 114, np.uint8)]


@dataclass(slots=True)
class _Agreement(DetectionData):
    examples: Sequence[Example]

    def __len__(self) -> int:
        return len(self.examples)

    def __iter__(self) -> Iterator[Example]:
        return iter(self.examples)


def _found(stage: Detect, image: Image) -> Example:
    frame = Frame(image)
    stage.process([frame])
    found = frame.detections
    return Example(image, found.xyxy, found.class_id, np.zeros(len(found), np.bool_))


class EmbedderTrial(Trial):
    """Cosine between the vectors of the original and of what was made of it."""

    def __init__(self, original: Path, frames: Frames | None) -> None:
        model = load(original)
        self._embedder = Embedder(model, original)
        self._crops: list[Image] = []
        self._calibrate: list[Image] = []
        if frames:
            self._calibrate = crops(frames.calibrate, model.metadata.names)
            self._crops = crops(frames.compare, model.metadata.names)
        self.columns = ("cosine",) if frames else ()
        self.basis = f"mean cosine to the original on {len(self._crops)} crops that were not calibrated with"
        self._vectors = self._embedder([self._crops])[0]

    def calibration(self) -> Inputs:
        """Crops as the embed stage prepares them."""
        return [self._embedder.prepare([crop]) for crop in self._calibrate]

    def run(self, path: Path, *, judged: bool = True) -> Tried:
        """Mean cosine."""
        embedder = Embedder(load(path), path)
        figures: tuple[float, ...] = ()
        if judged and self._crops:
            figures = (float((embedder([self._crops])[0] * self._vectors).sum(axis=1).mean()),)
        crops = self._crops[:_TIMED] or [np.full((256, 128, 3), 114, np.uint8)]
        return Tried(embedder.model, [embedder.prepare([crop]) for crop in crops], figures)


def trial_for(original: Path, frames: Frames | None, data: DetectionData | None) -> Trial:
    """The one that suits what the network is made for.

    Raises:
        UsageError: it neither detects nor embeds, or an embedder shall be judged by boxes.
    """
    model = load(original)
    task = model.metadata.task or _guessed(model)
    model.close()
    if task != "embed":
        return DetectorTrial(original, frames, data)
    if data is not None:
        raise UsageError(
            f"{original} embeds; boxes say nothing of it: leave --data out, and see framechain eval embedder"
        )
    return EmbedderTrial(original, frames)


def _guessed(model: Model) -> str:
    height, width = (side or 256 for side in model.input_shape[2:])
    outputs = model.run(np.zeros((1, 3, height, width), np.float32))
    return "embed" if len(outputs) == 1 and outputs[0].ndim == 2 else "detect"


def latencies(tried: Sequence[Tried], rounds: int) -> list[float]:
    """Median seconds of one input in each network, run by turns so that what else the machine does hits all alike."""
    times: list[list[float]] = [[] for _ in tried]
    start = perf_counter()
    for n in range(_WARM * _TIMED + rounds):
        for one, spent in zip(tried, times, strict=True):
            begin = perf_counter()
            one.model.run(one.timed[n % len(one.timed)])
            spent.append(perf_counter() - begin)
        if perf_counter() - start > _LONGEST and n >= _WARM * _TIMED:
            break
    return [median(spent[_WARM * _TIMED :]) for spent in times]
