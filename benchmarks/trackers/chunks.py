"""What each stretch of a sequence contributes to HOTA, IDF1 and identity switches of the whole.

Ids are judged over whole sequences, as TrackEval does it: a match counts for association by how much its two
trajectories agree from the first frame to the last. Only the sums are kept apart by stretch. So all stretches together
give TrackEval's figures exactly (`accuracy.judged` checks that they do), and stretches can be drawn anew for intervals.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

ALPHAS = np.arange(0.05, 0.99, 0.05)
"""Luiten et al. 2021, section 4."""

_EPS = np.finfo(float).eps

Sums = dict[str, Any]


def contributions(data: Mapping[str, Any], length: int) -> list[Sums]:
    """Sums of each stretch: `truth` and `shown` boxes, `tp` and `ass` by alpha, `idtp`, `idsw`.

    Args:
        data: a sequence as TrackEval's metrics take it. length: of a stretch, frames; a shorter rest joins the last.
    """
    gt_ids, ids, similarities = data["gt_ids"], data["tracker_ids"], data["similarity_scores"]
    frames = len(gt_ids)
    count = max(1, frames // length)
    part = np.minimum(np.arange(frames) // length, count - 1)
    sums: dict[str, NDArray[np.float64]] = {
        name: np.zeros((count, *shape))
        for name, shape in (
            ("truth", ()),
            ("shown", ()),
            ("idtp", ()),
            ("idsw", ()),
            ("tp", (len(ALPHAS),)),
            ("ass", (len(ALPHAS),)),
        )
    }
    np.add.at(sums["truth"], part, [len(each) for each in gt_ids])
    np.add.at(sums["shown"], part, [len(each) for each in ids])
    _hota(data, part, sums)
    _identity(data, part, sums)
    for n, switches in enumerate(_switches(gt_ids, ids, similarities, data["num_gt_ids"])):
        sums["idsw"][part[n]] += switches
    return [{name: values[n].round(4).tolist() for name, values in sums.items()} for n in range(count)]


def _hota(data: Mapping[str, Any], part: NDArray[np.int64], sums: Mapping[str, NDArray[np.float64]]) -> None:
    """Matches by alpha, and how well the trajectories of each agree (section 4.2)."""
    shape = data["num_gt_ids"], data["num_tracker_ids"]
    likely = np.zeros(shape)
    truths, shown = np.zeros((shape[0], 1)), np.zeros((1, shape[1]))
    rows = list(zip(data["gt_ids"], data["tracker_ids"], data["similarity_scores"], strict=True))
    for gt, tracked, similarity in rows:
        total = similarity.sum(axis=0)[None] + similarity.sum(axis=1)[:, None] - similarity
        likely[gt[:, None], tracked[None]] += np.divide(similarity, total, out=np.zeros_like(total), where=total > _EPS)
        truths[gt] += 1
        shown[0, tracked] += 1
    aligned = likely / (truths + shown - likely)
    matched = []
    agreed = np.zeros((len(ALPHAS), *shape))
    for gt, tracked, similarity in rows:
        if not similarity.size:
            matched.append((gt[:0], tracked[:0], np.zeros((len(ALPHAS), 0), bool)))
            continue
        one, other = linear_sum_assignment(-aligned[gt[:, None], tracked[None]] * similarity)
        hit = similarity[one, other] >= ALPHAS[:, None] - _EPS
        matched.append((gt[one], tracked[other], hit))
        agreed[:, gt[one], tracked[other]] += hit
    share = agreed / np.maximum(1, truths + shown - agreed)
    for n, (gt, tracked, hit) in enumerate(matched):
        sums["tp"][part[n]] += hit.sum(axis=1)
        sums["ass"][part[n]] += (share[:, gt, tracked] * hit).sum(axis=1)


def _identity(data: Mapping[str, Any], part: NDArray[np.int64], sums: Mapping[str, NDArray[np.float64]]) -> None:
    """Matches under the one assignment of ids that has most of them (Ristani et al. 2016)."""
    near = np.zeros((data["num_gt_ids"], data["num_tracker_ids"]))
    rows = list(zip(data["gt_ids"], data["tracker_ids"], data["similarity_scores"], strict=True))
    for gt, tracked, similarity in rows:
        near[gt[:, None], tracked[None]] += similarity >= 0.5
    partner = np.full(len(near), -1)
    one, other = linear_sum_assignment(-near)
    partner[one] = other
    for n, (gt, tracked, similarity) in enumerate(rows):
        same = partner[gt][:, None] == tracked[None]
        sums["idtp"][part[n]] += np.count_nonzero(same & (similarity >= 0.5))


def _switches(gt_ids: Any, ids: Any, similarities: Any, count: int) -> list[int]:
    """Identity switches of each frame (Bernardin and Stiefelhagen 2008); the last frame's matches come first."""
    last, before = np.full(count, -1), np.full(count, -1)
    found = []
    for gt, tracked, similarity in zip(gt_ids, ids, similarities, strict=True):
        if not similarity.size:
            found.append(0)
            continue
        score = 1000.0 * (tracked[None] == before[gt][:, None]) + similarity
        score[similarity < 0.5 - _EPS] = 0
        one, other = linear_sum_assignment(-score)
        kept = score[one, other] > _EPS
        here, now = gt[one[kept]], tracked[other[kept]]
        found.append(int(np.count_nonzero((last[here] >= 0) & (last[here] != now))))
        last[here] = now
        before[:] = -1
        before[here] = now
    return found


def figures(column: Mapping[str, NDArray[np.float64]], drawn: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """HOTA, IDF1 and IDSW of stretches drawn.

    Args:
        column: (C, ...) each of the sums. drawn: (K, C) stretches.
    """
    total = {name: np.stack([values[each].sum(axis=0) for each in drawn]) for name, values in column.items()}
    boxes = total["truth"] + total["shown"]
    detection = total["tp"] / np.maximum(1, boxes[:, None] - total["tp"])
    association = total["ass"] / np.maximum(1, total["tp"])
    return {
        "HOTA": np.sqrt(detection * association).mean(axis=1),
        "IDF1": 2 * total["idtp"] / np.maximum(1, boxes),
        "IDSW": total["idsw"],
    }


def columns(sums: Mapping[str, Sums]) -> dict[str, NDArray[np.float64]]:
    """The sums of several stretches, as arrays."""
    names = next(iter(sums.values())).keys()
    return {name: np.array([each[name] for each in sums.values()], np.float64) for name in names}
