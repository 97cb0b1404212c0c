"""Distillation of an embedder: a student that finds the same people alike as its teacher, in unlabelled videos."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import UsageError
from pipeline.inference.model import load
from pipeline.stages.embed import Embedder
from pipeline.training.distributed import Process
from pipeline.training.identities import Identities, read_identities
from pipeline.training.tracklets import tracklets

_KEPT_OUT = 0.2  # share of the tracklets that validate


def is_embedder(weights: str, device: str) -> bool:
    """Whether a network turns crops into vectors.

    Raises:
        UsageError: it cannot be loaded at all.
    """
    model = load(weights, device)
    try:
        Embedder(model, Path(weights))
    except UsageError:
        return False
    finally:
        model.close()
    return True


def crops_of(
    videos: Sequence[str], teacher: str, folder: Path, seed: int, process: Process
) -> tuple[Identities, Identities]:
    """The people in videos, as identities to train on and to validate on.

    Args:
        folder: where the tracks go, and stay: a run that is resumed trains on the same ones.

    Raises:
        UsageError: there are too few people in them.
    """
    if process.leads:
        tracklets(videos, teacher, folder)
    process.agree(0)  # the others read what the leader has written
    return read_identities(tracklets(videos, teacher, folder)).split(_KEPT_OUT, seed)
