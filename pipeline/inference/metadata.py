"""Metadata: what the file of a network says about it."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_LONGEST = 1 << 20  # characters of one entry; the names of 10,000 classes take a quarter of that

LIBREYOLO = "libreyolo:"


@dataclass(frozen=True, slots=True)
class Metadata:
    """What is known of a network, in the words of Ultralytics' exports; the default where the file says nothing.

    Attributes:
        names: of the classes, by number.
        task: what it was trained for: "detect", "segment", "classify" ...
        image_size: (height, width) it was trained or exported for.
        stride: the sides of its input are multiples of this.
        head: what its outputs are, in the word of the library that made it: the class of the head for Ultralytics
            ("RTDETRDecoder"), "libreyolo:" and the family for libreyolo ("libreyolo:yolox").
        confidence: least score of a detection that its makers recommend: families differ in the scale of their scores.
        precision: what it was exported to compute in: "fp32", "fp16", "bf16" or "int8".
    """

    names: tuple[str, ...] = ()
    task: str = ""
    image_size: tuple[int, int] | None = None
    stride: int = 32
    head: str = ""
    confidence: float | None = None
    precision: str = ""

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Metadata:
        """From whatever a file holds; values that make no sense are as if they were not there.

        >>> said = Metadata.parse({"names": {0: "person", 1: "car"}, "imgsz": [384, 640], "stride": "?"})
        >>> said.names, said.image_size, said.stride
        (('person', 'car'), (384, 640), 32)
        """
        size: Any = raw.get("imgsz")
        sides = size if isinstance(size, list | tuple) else [size, size]
        return cls(
            _names(raw.get("names")),
            str(raw.get("task", "")),
            (sides[0], sides[1]) if len(sides) == 2 and all(map(_positive, sides)) else None,
            raw["stride"] if _positive(raw.get("stride")) else cls().stride,
            f"{LIBREYOLO}{raw['model_family']}" if "model_family" in raw else str(raw.get("head", "")),
            raw["confidence"] if _share(raw.get("confidence")) else None,
            str(raw.get("precision", "")),
        )

    @classmethod
    def of_texts(cls, raw: Mapping[str, str]) -> Metadata:
        """From an ONNX file's properties, which are text.

        >>> Metadata.of_texts({"names": "{0: 'person'}", "task": "detect"}).names
        ('person',)
        """
        return cls.parse({key: _literal(text) for key, text in raw.items()})


def _literal(text: str) -> Any:
    """Ultralytics writes metadata as Python literals; anything else stays text."""
    try:
        value = ast.literal_eval(text) if len(text) <= _LONGEST else text
        repr(value)  # a number may be too long to be written
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # what Python says to text of all sorts
        return text
    return value


def _positive(value: Any) -> bool:
    return isinstance(value, int) and value > 0


def _share(value: Any) -> bool:
    return isinstance(value, float) and 0 <= value <= 1


def _names(raw: Any) -> tuple[str, ...]:
    if isinstance(raw, list | tuple):
        return tuple(map(str, raw))
    if not isinstance(raw, Mapping):
        return ()
    by_number = {str(number): str(name) for number, name in raw.items()}  # JSON has the numbers as text
    names = [by_number.get(str(number)) for number in range(len(by_number))]
    return tuple(name for name in names if name is not None) if None not in names else ()
