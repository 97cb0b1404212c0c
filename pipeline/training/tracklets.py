"""Tracklets: what the chain itself sees in unlabelled video, as identities to train on."""

from __future__ import annotations

from pathlib import Path

from pipeline.engine import Pipeline
from pipeline.sinks.mot import Mot
from pipeline.stages.detect import Detect
from pipeline.stages.embed import Embed
from pipeline.stages.track import Track

_CONFIDENCE = 0.4  # a false alarm is an identity that is nobody


def track_people(video: str, embedder: Path | str, into: Path) -> str:
    """Find and follow the people in a video.

    Args:
        video: whatever a source reads. embedder: weights that keep identities apart.
        into: file to write, in MOTChallenge format.

    Returns:
        the word for `read_identities`: VIDEO=TRACKS.
    """
    stages = [Detect(classes=("person",), confidence=_CONFIDENCE), Embed(weights=Path(embedder)), Track()]
    Pipeline([video], stages, [Mot(path=into)]).run()
    return f"{video}={into}"
