"""Framechain: real-time video analytics as a chain of stages.

    from pipeline import Detect, Embed, Frame, Pipeline, ReadText, Track

Names are imported when they are first used, so that `import pipeline` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.detections import Detections as Detections
    from pipeline.engine import Pipeline as Pipeline
    from pipeline.errors import FramechainError as FramechainError
    from pipeline.errors import UsageError as UsageError
    from pipeline.frame import Frame as Frame
    from pipeline.sink import Sink as Sink
    from pipeline.source import Source as Source
    from pipeline.source import SourceInfo as SourceInfo
    from pipeline.source import create_source as create_source
    from pipeline.source import open_source as open_source
    from pipeline.stage import Stage as Stage
    from pipeline.stages.annotate import Annotate as Annotate
    from pipeline.stages.detect import Detect as Detect
    from pipeline.stages.embed import Embed as Embed
    from pipeline.stages.read_text import ReadText as ReadText
    from pipeline.stages.track import Track as Track
    from pipeline.text import Text as Text

_HOMES = {
    "Annotate": "pipeline.stages.annotate",
    "Detect": "pipeline.stages.detect",
    "Detections": "pipeline.detections",
    "Embed": "pipeline.stages.embed",
    "Frame": "pipeline.frame",
    "FramechainError": "pipeline.errors",
    "Pipeline": "pipeline.engine",
    "ReadText": "pipeline.stages.read_text",
    "Sink": "pipeline.sink",
    "Source": "pipeline.source",
    "SourceInfo": "pipeline.source",
    "Stage": "pipeline.stage",
    "Text": "pipeline.text",
    "Track": "pipeline.stages.track",
    "UsageError": "pipeline.errors",
    "create_source": "pipeline.source",
    "open_source": "pipeline.source",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'pipeline' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
