"""Tracklets: what the chain itself sees in unlabelled video, as identities to train on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.engine import Pipeline
from pipeline.files.output import file_safe
from pipeline.sinks.mot import Mot
from pipeline.stages.detect import Detect
from pipeline.stages.embed import Embed
from pipeline.stages.track import Track

_CONFIDENCE = 0.4  # a false alarm is an identity that is nobody


def tracklets(videos: Sequence[str], embedder: str | Path, folder: Path) -> list[str]:
    """Find and follow the people in videos; those whose tracks are there already are not looked at again.

    Args:
        videos: whatever a source reads. embedder: weights that keep identities apart.
        folder: where the tracks go, a file for each video in MOTChallenge format.

    Returns:
        words for `read_identities`: VIDEO=TRACKS.
    """
    folder.mkdir(parents=True, exist_ok=True)
    words = []
    for video in videos:
        tracks = folder / f"{file_safe(video)}.txt"
        if not tracks.exists():
            partial = tracks.with_suffix(".part")
            stages = [Detect(classes=("person",), confidence=_CONFIDENCE), Embed(weights=Path(embedder)), Track()]
            Pipeline([video], stages, [Mot(path=partial)]).run()
            partial.replace(tracks)
        words.append(f"{video}={tracks}")
    return words
