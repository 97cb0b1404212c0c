"""Multi-object trackers on NumPy and SciPy: `from trackers import DeepSORT; DeepSORT().update(xyxy, scores)`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trackers.botsort import BoTSORT as BoTSORT
    from trackers.bytetrack import ByteTrack as ByteTrack
    from trackers.deepocsort import DeepOCSORT as DeepOCSORT
    from trackers.deepsort import DeepSORT as DeepSORT
    from trackers.multistream import MultiStreamTracker as MultiStreamTracker
    from trackers.multistream import View as View
    from trackers.ocsort import OCSORT as OCSORT
    from trackers.sort import SORT as SORT
    from trackers.strongsort import StrongSORT as StrongSORT
    from trackers.tether import Tether as Tether
    from trackers.tracker import Tracker as Tracker
    from trackers.tracker import available as available
    from trackers.tracker import create as create
    from trackers.tracks import Tracks as Tracks

_HOME = {
    "BoTSORT": "trackers.botsort",
    "ByteTrack": "trackers.bytetrack",
    "DeepOCSORT": "trackers.deepocsort",
    "DeepSORT": "trackers.deepsort",
    "MultiStreamTracker": "trackers.multistream",
    "OCSORT": "trackers.ocsort",
    "SORT": "trackers.sort",
    "StrongSORT": "trackers.strongsort",
    "Tether": "trackers.tether",
    "Tracker": "trackers.tracker",
    "Tracks": "trackers.tracks",
    "View": "trackers.multistream",
    "available": "trackers.tracker",
    "create": "trackers.tracker",
}
__all__ = [
    "OCSORT",
    "SORT",
    "BoTSORT",
    "ByteTrack",
    "DeepOCSORT",
    "DeepSORT",
    "MultiStreamTracker",
    "StrongSORT",
    "Tether",
    "Tracker",
    "Tracks",
    "View",
    "available",
    "create",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'trackers' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOME[name]), name)
