"""What a detector and an embedder find on a video with ground truth, for trackers to be judged on."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.errors import UsageError
from pipeline.source import open_source
from pipeline.stages.detect import Detect
from pipeline.stages.embed import Embed
from trackers import mot_format
from trackers.sequences import Found, TrackedSequence

_PERSON = "person"


def detected(video: str, folder: Path, weights: str | None, embedder: str | None) -> TrackedSequence:
    """Persons on a video, frame by frame, as the detect and embed stages give them.

    Args:
        folder: the MOTChallenge sequence with its ground truth.
        weights: of the detector; None: the bundled one. embedder: likewise; "": the bundled one; None: no vectors.

    Raises:
        UsageError: the video and the sequence have not as many frames.
        FramechainError: something cannot be read or loaded.
    """
    truth = mot_format.read(folder / "gt" / "gt.txt")
    detect = Detect(classes=(_PERSON,)) if weights is None else Detect(weights=weights, classes=(_PERSON,))
    embed = None if embedder is None else Embed(weights=embedder) if embedder else Embed()
    frames, times = [], []
    stages = [stage for stage in (detect, embed) if stage is not None]
    for stage in stages:
        stage.open()
    try:
        with open_source(video) as source:
            for frame in source:
                for stage in stages:
                    stage.process([frame])
                found = frame.detections
                vectors = None if found.features is None else np.asarray(found.features)
                frames.append(Found(found.xyxy.astype(np.float64), found.confidence.astype(np.float64), vectors))
                times.append(frame.timestamp)
    finally:
        for stage in stages:
            stage.close()
    last = int(truth.frame.max(initial=0))
    if len(frames) < last:
        raise UsageError(f"{video} has {len(frames)} frames and {folder} has {last}; give the video it was made from")
    rate = (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 and times[-1] > times[0] else 30.0
    return TrackedSequence(folder.name, rate, frames[:last] if last else frames, truth)
