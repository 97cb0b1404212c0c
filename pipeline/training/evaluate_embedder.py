"""How well an embedder tells individuals apart: retrieval among crops whose identities are known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from pipeline.errors import UsageError
from pipeline.inference.model import load
from pipeline.inference.torch import TorchModel
from pipeline.stages.embed import Embedder
from pipeline.training.corruptions import CORRUPTIONS
from pipeline.training.identities import HEIGHT, WIDTH, Identities
from pipeline.training.identity_batches import normalised

RANKS = (1, 5, 10)
SEPARATION = 1.0
"""Seconds by which two crops of a video must differ for the one to be found by the other: nearer ones are all but
copies, which any embedder finds."""


ATTACK = 2
"""Grey levels by which an attack moves each pixel."""


@dataclass(frozen=True, slots=True)
class Retrieval:
    """Figures over all queries, all in 0..1.

    Attributes:
        rank: rank-k of the cumulative matching characteristic: share of queries with a right one among the k best.
        mean_ap: mean over the queries of the average precision (Zheng et al. 2015, "Scalable Person
            Re-identification: A Benchmark").
        auc: area under the ROC curve of same or not, over all pairs of crops of one group.
        queries: crops that had someone to be found among the others.
    """

    rank: dict[int, float]
    mean_ap: float
    auc: float
    queries: int


def retrieval(features: NDArray[np.float32], data: Identities) -> Retrieval:
    """Every crop once as the query, all others of its group as the gallery; see `SEPARATION`.

    Args:
        features: (N, D) unit vectors of the crops.

    Raises:
        UsageError: nobody is to be seen twice.
    """
    hits = dict.fromkeys(RANKS, 0)
    precisions: list[float] = []
    same_scores: list[NDArray[np.float32]] = []
    other_scores: list[NDArray[np.float32]] = []
    for group in np.unique(data.group):
        rows = np.flatnonzero(data.group == group)
        similarity = features[rows] @ features[rows].T
        identity, time = data.identity[rows], data.time[rows]
        for query in range(len(rows)):
            same = identity == identity[query]
            # where times are unknown the comparison is False: every crop but the query itself counts
            near = same & (np.abs(time - time[query]) < SEPARATION)
            near[query] = True
            relevant = same[~near]
            if not relevant.any():
                continue
            scores = similarity[query][~near]
            ranked = relevant[np.argsort(-scores, kind="stable")]
            places = np.flatnonzero(ranked)
            precisions.append(float(np.mean(np.arange(1, len(places) + 1) / (places + 1))))
            for k in RANKS:
                hits[k] += bool(places[0] < k)
            same_scores.append(scores[relevant])
            other_scores.append(scores[~relevant])
    if not precisions:
        raise UsageError("nobody is to be seen twice in this data; give one with several crops of each identity")
    rank = {k: count / len(precisions) for k, count in hits.items()}
    auc = _auc(np.concatenate(same_scores), np.concatenate(other_scores))
    return Retrieval(rank, float(np.mean(precisions)), auc, len(precisions))


def evaluate(weights: str, data: Identities, device: str, seed: int, *, clean_only: bool) -> dict[str, Retrieval]:
    """Retrieval with an embedder on clean crops and, unless `clean_only`, on damaged and on attacked ones.

    All crops of a condition are damaged, queries and gallery, as they are on one camera. The attack is made where the
    network runs in PyTorch: the fast gradient sign method (Goodfellow et al. 2015) moves every pixel by `ATTACK` so
    that crops look less like the others of their identity.

    Args:
        weights: whatever the embed stage takes. seed: of the corruptions.

    Raises:
        UsageError: the weights are no embedder, or nobody is to be seen twice.
    """
    embedder = Embedder(load(weights, device), Path(weights))
    boxes, whole = data.boxes(), np.array([[0, 0, WIDTH, HEIGHT]], np.float32)
    clean = _vectors(embedder, boxes)
    found = {"clean": retrieval(clean, data)}
    if not clean_only:
        for name, corrupt in CORRUPTIONS.items():
            rng = np.random.default_rng(seed)
            damaged = (corrupt(np.ascontiguousarray(box), whole, rng) for box in boxes)
            found[name] = retrieval(_vectors(embedder, damaged), data)
        if isinstance(embedder.model, TorchModel):
            found["attack"] = retrieval(_vectors(embedder, _attacked(embedder.model, data, clean)), data)
    embedder.model.close()
    return found


def _vectors(embedder: Embedder, crops: Iterable[NDArray[np.uint8]]) -> NDArray[np.float32]:
    return np.concatenate([embedder([[np.ascontiguousarray(crop)]])[0] for crop in crops])


def _attacked(model: TorchModel, data: Identities, clean: NDArray[np.float32]) -> Iterator[NDArray[np.uint8]]:
    """Each crop, every pixel a little less like the mean of its identity."""
    from torch import from_numpy
    from torch.nn.functional import cosine_similarity

    for crop, identity in zip(data.boxes(), data.identity, strict=True):
        mean = from_numpy(clean[data.identity == identity].mean(axis=0)).to(model.device)
        slope = model.gradient(normalised([crop]), partial(cosine_similarity, mean))
        step = ATTACK * np.sign(slope[0, ::-1]).transpose(1, 2, 0)  # the network sees RGB
        yield np.clip(crop - step, 0, 255).astype(np.uint8)


def _auc(same: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Probability that a pair of one identity is more similar than one of two (Mann and Whitney 1947)."""
    if not len(other):
        return float("nan")
    ranks = rankdata(np.concatenate([same, other]))[: len(same)]
    return float((ranks.sum() - len(same) * (len(same) + 1) / 2) / (len(same) * len(other)))
