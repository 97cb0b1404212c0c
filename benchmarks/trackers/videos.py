"""Sequences with their videos: public detections, and features of them, computed once."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.trackers.scenes import one_scale
from pipeline.inference.model import load
from pipeline.source import open_source
from pipeline.stages.embed import Embedder, crop
from trackers.sequences import Found, TrackedSequence, read_sequence

SEQUENCES = {
    "PETS09-S2L1": ("vtest.avi", "MOT15/PETS09-S2L1"),
    "TUD-Campus": ("TUD-Campus.mp4", "MOT15/TUD-Campus"),
    "TUD-Stadtmitte": ("TUD-Stadtmitte.mp4", "MOT15/TUD-Stadtmitte"),
    "MOT17-09": ("MOT17-09.mp4", "MOT17/MOT17-09-FRCNN"),
}


def with_features(data: Path, weights: Path, cache: Path) -> list[TrackedSequence]:
    """The sequences of `SEQUENCES` with a feature vector for every public detection.

    Args:
        data: holds `video/NAME` and `mot/GROUP/NAME`. weights: an embedder. cache: folder for the vectors.
    """
    cache.mkdir(parents=True, exist_ok=True)
    embedder: Embedder | None = None
    result = []
    for name, (video, truth) in SEQUENCES.items():
        sequence = one_scale(read_sequence(data / "mot" / truth))
        path = cache / f"{name}-{weights.stem}.npz"
        if not path.is_file():
            embedder = embedder or Embedder(load(weights, "cpu"), weights)
            vectors = []
            with open_source(str(data / "video" / video)) as source:
                for frame, found in zip(source, sequence.frames, strict=False):
                    vectors += embedder([[crop(frame.image, box) for box in found.xyxy.tolist()]])
            np.savez(path, vectors=np.concatenate(vectors))
        counts = [len(found.xyxy) for found in sequence.frames]
        parts = np.split(np.load(path)["vectors"], np.cumsum(counts)[:-1])
        frames = [
            Found(found.xyxy, found.scores, vectors) for found, vectors in zip(sequence.frames, parts, strict=True)
        ]
        result.append(TrackedSequence(name, sequence.rate, frames, sequence.truth))
    return result
