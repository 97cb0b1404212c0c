"""Classes by name: the numbers a network gives to what a user asks for by words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UsageError
from trackers.registry import nearest


def class_ids(asked: Sequence[str | int], names: Sequence[str], owner: str) -> NDArray[np.int64]:
    """Numbers of the classes asked for; upper and lower case are the same.

    Args:
        asked: names or numbers.
        names: all classes, by number; if empty, there are numbers only and any will do.
        owner: whose classes they are, for the message.

    Raises:
        UsageError: there is no such class; the message names the nearest.

    >>> class_ids(["Car", 0], ["person", "bicycle", "car"], "yolo.onnx")
    array([2, 0])
    """
    by_name: dict[str, list[int]] = {}
    for number, name in enumerate(names):
        by_name.setdefault(name.lower(), []).append(number)
    found: list[int] = []
    for one in asked:
        key = str(one).strip().lower()
        if key in by_name:
            found += by_name[key]
        elif key.isdecimal() and (not names or int(key) < len(names)):
            found.append(int(key))
        elif key.isdecimal():
            raise UsageError(f"{owner} knows no class {one}; give a number below {len(names)}")
        else:
            cure = nearest(key, by_name) if names else "; give classes by number, it has no names"
            raise UsageError(f"{owner} knows no class '{one}'{cure}")
    return np.array(found, np.int64)
