"""ReadText: reads the text that tracks carry, or the text on the frame or in a region of it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr, field_validator, model_validator
from typing_extensions import Self

from pipeline.errors import FramechainError, UsageError
from pipeline.frame import Frame
from pipeline.ocr.characters import Characters
from pipeline.ocr.consensus import Reading, consensus
from pipeline.ocr.engine import Engine, Line, engines
from pipeline.ocr.isolated import EngineAway, EngineDied, IsolatedEngine
from pipeline.ocr.quality import LINE_SIDE, OBJECT_SIDE, Quality
from pipeline.stage import Stage
from pipeline.text import Text
from trackers.registry import UnknownName, nearest

Box = tuple[float, float, float, float]

VEHICLES = frozenset({"car", "truck", "bus", "van", "motorcycle", "motorbike"})
AGREED = 2  # readings that equal the consensus: after that a track is not read again
LEAST_SIDE_OF_TEXT = 12  # pixels; plates of the benchmark are 16 to 262 pixels high
LEAST_SIDE_OF_OBJECT = 64  # pixels; the plate on a smaller vehicle is under 8 pixels high
WIDEST_SQUARE = 1.5  # width by height; a plate that is squarer has two lines, which have to be located first
# plates read without a mistake in vehicle-sized crops, and time relative to 640, at 320: 25 of 33, 0.4; 480: 28, 0.6;
# 640: 29, 1; 960: 27, 1.9; in whole frames at 640: 13 of 17; 960: 13; 1280: 14; 1600: 14
SIZE_OF_CROPS = 640  # at least; a larger crop is not shrunk unless it is larger than a frame would be
SIZE_OF_FRAMES = 1280


@dataclass(slots=True)
class _Carrier:
    """What is remembered of one track.

    Attributes:
        seen: media time at which it was last shown.
        quality: best of the crops read so far.
        readings: those that count.
        agreed: the consensus over them.
        place: box of the text in fractions of the track's box, as last located.
    """

    seen: float
    quality: Quality | None = None
    readings: list[Reading] = field(default_factory=list)
    agreed: Reading | None = None
    place: Box = (0.0, 0.0, 1.0, 1.0)

    def settled(self) -> bool:
        return self.agreed is not None and sum(r.text == self.agreed.text for r in self.readings) >= AGREED

    def plain(self) -> dict[str, Any]:
        """Everything, as plain values."""
        return asdict(self)

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Self:
        """The inverse of `plain`."""
        quality, agreed = plain["quality"], plain["agreed"]
        return cls(
            float(plain["seen"]),
            None if quality is None else Quality(float(quality["area"]), float(quality["sharpness"])),
            [_reading(one) for one in plain["readings"]],
            None if agreed is None else _reading(agreed),
            _box(plain["place"]),
        )


@dataclass(slots=True)
class _Memory:
    """What is remembered of one source.

    Attributes:
        carriers: by track id, the one seen longest ago first.
        read_at: media time of the last reading of frame or region.
        texts: what that reading gave.
    """

    carriers: dict[int, _Carrier] = field(default_factory=dict)
    read_at: float = -math.inf
    texts: tuple[Text, ...] = ()

    def plain(self) -> dict[str, Any]:
        """Everything, as plain values."""
        return {
            "carriers": [[track_id, carrier.plain()] for track_id, carrier in self.carriers.items()],
            "read_at": self.read_at,
            "texts": [asdict(text) for text in self.texts],
        }

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Self:
        """The inverse of `plain`."""
        return cls(
            {int(track_id): _Carrier.of(carrier) for track_id, carrier in plain["carriers"]},
            float(plain["read_at"]),
            tuple(Text(str(one["text"]), float(one["confidence"]), _box(one["xyxy"])) for one in plain["texts"]),
        )


class ReadText(Stage):
    """Reads text (OCR): on tracks, on the whole frame, or in a region of it.

    A track is read once, and again only when its crop became better (twice the area, or twice as sharp), until two
    readings say the same. What its readings agree on rides on the track in every frame that shows it.
    Text of the frame or of a region is read every `interval` seconds of media time, and shown until it is read again.

    Raises:
        MissingExtra: the engine is not installed.
        UsageError: `classes` names a class that the detector does not know, or `region` lies outside the frame.
    """

    name = "read_text"
    requires = frozenset({"tracks"})
    provides = frozenset({"texts"})

    engine: str = Field("rapidocr", description="OCR engine: rapidocr, or easyocr (extra easyocr)")
    on: Literal["tracks", "frame", "region"] = Field("tracks", description="where to read")
    classes: tuple[str, ...] | None = Field(
        None, description="classes of the tracks to read; if empty: vehicles, and classes called plate"
    )
    region: tuple[float, float, float, float] | None = Field(
        None, description="x1, y1, x2, y2 of the region, in pixels, or in fractions of the frame if all are at most 1"
    )
    locate: bool | None = Field(
        None,
        description="search the crop of a track for lines of text; false: the crop is one line; "
        "if empty: false for classes called plate",
    )
    size: int | None = Field(
        None,
        ge=64,
        le=4096,
        description="pixels of the longer side at which text is searched for; more finds smaller text, slower; "
        "if empty: that of the crop within 640 and 1280 for tracks, 1280 for frame and region",
    )
    allow: str = Field("", description="characters that texts may hold, such as A-Z0-9; if empty: all")
    pattern: str | None = Field(None, description="regular expression that a whole text must match, else it is dropped")
    confidence: float = Field(0.5, ge=0, le=1, description="least confidence of a line")
    min_size: int | None = Field(
        None, ge=1, description="least shorter side of a crop in pixels; if empty: 12 for text, 64 for objects"
    )
    interval: float = Field(1.0, ge=0, description="seconds between two readings of the frame or the region")
    reads_per_frame: int = Field(4, ge=1, description="most crops read in one frame; the others wait for the next")
    forget_after: float = Field(60.0, gt=0, description="seconds after which a track that is not seen is forgotten")
    threads: int = Field(0, ge=0, le=256, description="CPU threads of the engine; 0: one per core")
    isolation: Literal["none", "process"] = Field(
        "none",
        description="process: the engine runs in a process of its own; if that crashes, the crop counts as failed, the "
        "engine is started again, and the run goes on",
    )

    _engine: Engine | IsolatedEngine | None = PrivateAttr(None)
    _sources: dict[str, _Memory] = PrivateAttr(default_factory=dict)

    @field_validator("engine")
    @classmethod
    def _known_engine(cls, engine: str) -> str:
        try:
            engines.load(engine)
        except UnknownName as error:
            raise ValueError(str(error)) from error
        return engine

    @field_validator("allow")
    @classmethod
    def _valid_characters(cls, allow: str) -> str:
        Characters(allow)
        return allow

    @field_validator("pattern")
    @classmethod
    def _valid_pattern(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except re.error as error:
            raise ValueError(f"'{pattern}' is no regular expression ({error}); correct it") from error
        return pattern

    @model_validator(mode="after")
    def _region_where_it_belongs(self) -> Self:
        if (self.region is not None) != (self.on == "region"):
            raise ValueError("a region is read with on: region and region: [x1, y1, x2, y2] together; give both")
        if self.region is not None:
            x1, y1, x2, y2 = self.region
            if not (0 <= x1 < x2 and 0 <= y1 < y2 and math.isfinite(x2) and math.isfinite(y2)):
                raise ValueError(f"region {list(self.region)} is empty; give [x1, y1, x2, y2] with x1 < x2 and y1 < y2")
        return self

    @cached_property
    def _characters(self) -> Characters:
        return Characters(self.allow)

    def needs(self) -> frozenset[str]:
        """Tracks, where text is read on tracks; else nothing but the image."""
        return self.requires if self.on == "tracks" else frozenset()

    def open(self) -> None:
        """Load the engine's models.

        Raises:
            MissingExtra: the engine is not installed.
            FramechainError: its process ended before it was ready.
        """
        if self._engine is None and self.isolation == "process":
            try:
                self._engine = IsolatedEngine(self.engine, self.threads)
            except EngineDied as error:
                raise FramechainError(
                    f"{error} while it loaded its models; it said why above, or does so with isolation: none"
                ) from error
        elif self._engine is None:
            self._engine = engines.load(self.engine)(self.threads)

    def process(self, frames: Sequence[Frame]) -> None:
        """Add to `texts` what is read, or was read before and still holds."""
        self.open()
        for frame in frames:
            memory = self._sources.setdefault(frame.source, _Memory())
            texts = self._on_tracks(frame, memory) if self.on == "tracks" else self._on_area(frame, memory)
            frame.texts = (*frame.texts, *texts)

    def forget(self, source: str) -> None:
        """Drop the readings of a source's tracks."""
        self._sources.pop(source, None)

    def state_dict(self) -> dict[str, Any]:
        """All readings, of all sources."""
        return {source: memory.plain() for source, memory in self._sources.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with them."""
        self._sources = {source: _Memory.of(plain) for source, plain in state.items()}

    def close(self) -> None:
        """Release the models and all readings."""
        if isinstance(self._engine, IsolatedEngine):
            self._engine.close()
        self._engine = None
        self._sources.clear()

    def _on_tracks(self, frame: Frame, memory: _Memory) -> list[Text]:
        shown: list[tuple[int, Box, _Carrier]] = []
        better: list[tuple[bool, float, int, _Crop, _Carrier]] = []
        for track_id, class_name, box in self._readable(frame):
            carrier = memory.carriers.pop(track_id, None) or _Carrier(frame.timestamp)
            carrier.seen = frame.timestamp
            memory.carriers[track_id] = carrier
            shown.append((track_id, box, carrier))
            if carrier.settled() or frame.skipped:  # a box that is only predicted cuts into the text
                continue
            crop = self._crop(frame.image, class_name, box)
            if crop and (carrier.quality is None or crop.quality.better_than(carrier.quality)):
                better.append((carrier.quality is not None, -crop.quality.area, track_id, crop, carrier))
        # tracks never read go first, then the largest crops
        for *_, crop, carrier in sorted(better, key=lambda entry: entry[:3])[: self.reads_per_frame]:
            self._read(crop, carrier)
        while memory.carriers and self._is_old(oldest := next(iter(memory.carriers)), memory, frame.timestamp):
            del memory.carriers[oldest]
        return [
            Text(agreed.text, agreed.confidence, _within(box, carrier.place), track_id, len(carrier.readings))
            for track_id, box, carrier in shown
            if (agreed := carrier.agreed) is not None
        ]

    def _is_old(self, track_id: int, memory: _Memory, now: float) -> bool:
        return now - memory.carriers[track_id].seen > self.forget_after

    def _readable(self, frame: Frame) -> Iterable[tuple[int, str, Box]]:
        """Id, class and box of the tracks that may carry text."""
        tracks, detections = frame.tracks, frame.detections
        names = detections.names
        for wanted in self.classes or ():
            if names and wanted not in names:
                raise UsageError(f"read_text: the detector knows no class '{wanted}'{nearest(wanted, names)}")
        for row, class_id in enumerate(tracks.class_id.tolist()):
            class_name = detections.class_name(class_id)
            if self._carries_text(class_name):
                # the detection is where the object is; the track's box is smoothed, and cuts into a plate
                seen = int(tracks.det_index[row])
                box = detections.xyxy[seen] if 0 <= seen < len(detections) else tracks.xyxy[row]
                x1, y1, x2, y2 = box.tolist()
                yield int(tracks.id[row]), class_name, (x1, y1, x2, y2)

    def _carries_text(self, class_name: str) -> bool:
        if self.classes is not None:
            return class_name in self.classes
        return class_name.lower() in VEHICLES or _is_plate(class_name)

    def _crop(self, image: NDArray[np.uint8], class_name: str, box: Box) -> _Crop | None:
        """The part of the image that is to be read, or None where it is too small."""
        x1, y1, x2, y2 = _clip(box, image)
        locate = not _is_plate(class_name) if self.locate is None else self.locate
        least = self.min_size or (LEAST_SIDE_OF_OBJECT if locate else LEAST_SIDE_OF_TEXT)
        if min(x2 - x1, y2 - y1) < least:
            return None
        crop = image[y1:y2, x1:x2]
        locate = locate or x2 - x1 < WIDEST_SQUARE * (y2 - y1)
        return _Crop(crop, Quality.of(crop, OBJECT_SIDE if locate else LINE_SIDE), box, (x1, y1), locate)

    def _read(self, crop: _Crop, carrier: _Carrier) -> None:
        lines = self._lines(crop.image, crop.locate)
        if lines is None:
            return
        carrier.quality = crop.quality.best_of(carrier.quality)
        line = self._chosen(lines)
        if line is None:
            return
        carrier.readings.append(Reading(line.text, line.confidences))
        carrier.place = _fractions(_moved(line.xyxy, *crop.origin), crop.box)
        carrier.agreed = consensus(carrier.readings)
        if not self._matches(carrier.agreed.text):
            carrier.agreed = max(carrier.readings, key=lambda reading: reading.confidence)

    def _lines(self, image: NDArray[np.uint8], locate: bool) -> list[Line] | None:
        """The lines of an image, of allowed characters only, that are certain enough; None: nobody looked at it.

        An image over which the engine's process dies has none, so that it is not tried again.
        """
        assert self._engine is not None
        own = min(max(SIZE_OF_CROPS, *image.shape[:2]), SIZE_OF_FRAMES) if self.on == "tracks" else SIZE_OF_FRAMES
        size = self.size or own
        try:
            found = self._engine.read(image, size) if locate else self._engine.read_line(image)
        except EngineDied:
            self.faults["crops failed: engine died"] += 1
            return []
        except EngineAway:
            self.faults["crops left out: engine away"] += 1
            return None
        kept = [(self._characters.keep(Reading(line.text, line.confidences)), line.xyxy) for line in found]
        return [
            Line(reading.text, reading.confidences, xyxy)
            for reading, xyxy in kept
            if reading.text.strip() and reading.confidence >= self.confidence
        ]

    def _chosen(self, lines: list[Line]) -> Line | None:
        """The text of a track: all its lines, or with a pattern the tallest and surest line that matches."""
        if not lines:
            return None
        if self.pattern is None:
            return _joined(lines, " ")
        ranked = sorted(lines, key=lambda line: -line.height * line.confidence)
        candidates = [*ranked, _joined(lines, " "), _joined(lines, "")]
        return next((line for line in candidates if self._matches(line.text)), None)

    def _matches(self, text: str) -> bool:
        return self.pattern is None or re.fullmatch(self.pattern, text) is not None

    def _on_area(self, frame: Frame, memory: _Memory) -> tuple[Text, ...]:
        if frame.timestamp - memory.read_at >= self.interval:
            x1, y1, x2, y2 = self._area(frame)
            lines = self._lines(frame.image[y1:y2, x1:x2], locate=True)
            if lines is None:
                return memory.texts
            memory.read_at = frame.timestamp
            memory.texts = tuple(
                Text(line.text, line.confidence, _moved(line.xyxy, x1, y1))
                for line in lines
                if self._matches(line.text)
            )
        return memory.texts

    def _area(self, frame: Frame) -> tuple[int, int, int, int]:
        height, width = frame.image.shape[:2]
        x1, y1, x2, y2 = self.region or (0, 0, width, height)
        if self.region is not None and max(self.region) <= 1:
            x1, y1, x2, y2 = x1 * width, y1 * height, x2 * width, y2 * height
        area = _clip((x1, y1, x2, y2), frame.image)
        if area[0] >= area[2] or area[1] >= area[3]:
            region = list(self.region or ())
            raise UsageError(f"read_text: region {region} lies outside the {width}×{height} pixels of {frame.source}")
        return area


@dataclass(frozen=True, slots=True)
class _Crop:
    """A part of a frame that may be read.

    Attributes:
        image: the pixels.
        quality: their size and sharpness.
        box: the object's box in the frame, which may reach beyond it.
        origin: x and y of the first pixel in the frame.
        locate: whether lines have to be located in it first.
    """

    image: NDArray[np.uint8]
    quality: Quality
    box: Box
    origin: tuple[int, int]
    locate: bool


def _reading(plain: Mapping[str, Any]) -> Reading:
    return Reading(str(plain["text"]), tuple(float(one) for one in plain["confidences"]))


def _box(edges: Sequence[Any]) -> Box:
    x1, y1, x2, y2 = map(float, edges)
    return x1, y1, x2, y2


def _is_plate(class_name: str) -> bool:
    return "plate" in class_name.lower()


def _joined(lines: list[Line], separator: str) -> Line:
    """Several lines as one. A separator is as certain as the line before it."""
    text, confidences = lines[0].text, lines[0].confidences
    for before, line in pairwise(lines):
        text += separator + line.text
        confidences += (before.confidence,) * len(separator) + line.confidences
    left, top, right, bottom = zip(*(line.xyxy for line in lines), strict=True)
    return Line(text, confidences, (min(left), min(top), max(right), max(bottom)))


def _clip(box: Box, image: NDArray[np.uint8]) -> tuple[int, int, int, int]:
    """The whole pixels that a box covers within an image."""
    height, width = image.shape[:2]
    x1, y1, x2, y2 = map(round, box)
    return max(0, x1), max(0, y1), min(width, x2), min(height, y2)


def _moved(box: Box, x: float, y: float) -> Box:
    return box[0] + x, box[1] + y, box[2] + x, box[3] + y


def _fractions(inner: Box, outer: Box) -> Box:
    """An inner box in fractions of the outer one's width and height."""
    x, y, width, height = outer[0], outer[1], outer[2] - outer[0], outer[3] - outer[1]
    return (inner[0] - x) / width, (inner[1] - y) / height, (inner[2] - x) / width, (inner[3] - y) / height


def _within(outer: Box, fractions: Box) -> Box:
    """The inverse of `_fractions`."""
    x, y, width, height = outer[0], outer[1], outer[2] - outer[0], outer[3] - outer[1]
    x1, y1, x2, y2 = fractions
    return x + x1 * width, y + y1 * height, x + x2 * width, y + y2 * height
