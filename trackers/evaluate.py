"""HOTA, CLEAR and IDF1 of tracking results against MOTChallenge ground truth, computed by TrackEval.

TrackEval reads a fixed tree of folders; here its metrics get arrays, prepared by the benchmark's own rules.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackers.association import iou
from trackers.mot_format import MotRows

PEDESTRIAN = 1
DISTRACTORS = (2, 7, 8, 12)
"""MOT16/17 classes whose matched results count neither for nor against: person on vehicle, static person,
distractor, reflection (Milan et al. 2016, section 4.1)."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Accuracy of tracking. Shares are in 0..1; MOTA may be negative.

    Attributes:
        HOTA, DetA, AssA, LocA: Luiten et al. 2021, averaged over the localisation thresholds 0.05 to 0.95.
        MOTA, MOTP: Bernardin and Stiefelhagen 2008, at IoU 0.5.
        IDF1, IDP, IDR: Ristani et al. 2016, at IoU 0.5.
        IDSW, Frag: identity switches and fragmentations. TP, FP, FN: detections.
        MT, ML: mostly tracked and mostly lost objects.
    """

    HOTA: float
    DetA: float
    AssA: float
    LocA: float
    MOTA: float
    MOTP: float
    IDF1: float
    IDP: float
    IDR: float
    IDSW: int
    Frag: int
    TP: int
    FP: int
    FN: int
    MT: int
    ML: int


def evaluate(sequences: Mapping[str, tuple[MotRows, MotRows]]) -> tuple[Figures, dict[str, Figures]]:
    """Figures over all sequences together, and of each.

    Args:
        sequences: (ground truth, result) by name, as `mot_format.read` gives them.

    Raises:
        ImportError: TrackEval is not installed.
        ValueError: no sequences, or a result that shows one id twice in a frame.
    """
    from trackeval.metrics import CLEAR, HOTA, Identity

    if not sequences:
        raise ValueError("no sequences to evaluate")
    metrics = {
        "hota": HOTA(),
        "clear": CLEAR({"THRESHOLD": 0.5, "PRINT_CONFIG": False}),
        "identity": Identity({"THRESHOLD": 0.5, "PRINT_CONFIG": False}),
    }
    results: dict[str, dict[str, Any]] = {key: {} for key in metrics}
    for name, (truth, result) in sequences.items():
        data = _prepared(name, truth, result)
        for key, metric in metrics.items():
            results[key][name] = metric.eval_sequence(data)
    total = {key: metric.combine_sequences(results[key]) for key, metric in metrics.items()}
    each = {name: _figures({key: results[key][name] for key in metrics}) for name in sequences}
    return _figures(total), each


def _figures(found: Mapping[str, Mapping[str, Any]]) -> Figures:
    hota, clear, identity = found["hota"], found["clear"], found["identity"]
    means = {name: float(np.mean(hota[name])) for name in ("HOTA", "DetA", "AssA", "LocA")}
    shares = {name: float(clear[name]) for name in ("MOTA", "MOTP")}
    ids = {name: float(identity[name]) for name in ("IDF1", "IDP", "IDR")}
    counts = {name: int(clear[name]) for name in ("IDSW", "Frag", "MT", "ML")}
    boxes = {name: int(clear[f"CLR_{name}"]) for name in ("TP", "FP", "FN")}
    return Figures(**means, **shares, **ids, **counts, **boxes)  # type: ignore[arg-type]


def _prepared(name: str, truth: MotRows, result: MotRows) -> dict[str, Any]:
    """One sequence in the form TrackEval's metrics take, after the benchmark's rules on what counts."""
    last = int(max(truth.frame.max(initial=0), result.frame.max(initial=0)))
    truths = _by_frame(truth, last)
    results = _by_frame(result, last)
    gt_ids, tracker_ids, similarities = [], [], []
    for number, (there, shown) in enumerate(zip(truths, results, strict=True), 1):
        if len(np.unique(shown.id)) < len(shown):
            raise ValueError(f"{name}: the result shows one id twice in frame {number}")
        similarity = iou(there.xyxy, shown.xyxy)
        kept = ~_on_distractor(there, similarity)
        counts = (there.confidence != 0) & np.isin(there.class_id, (PEDESTRIAN, -1))
        gt_ids.append(there.id[counts])
        tracker_ids.append(shown.id[kept])
        similarities.append(similarity[counts][:, kept])
    numbered_gt, gt_count = _renumbered(gt_ids)
    numbered_tracker, tracker_count = _renumbered(tracker_ids)
    return {
        "gt_ids": numbered_gt,
        "tracker_ids": numbered_tracker,
        "similarity_scores": similarities,
        "num_gt_ids": gt_count,
        "num_tracker_ids": tracker_count,
        "num_gt_dets": sum(map(len, gt_ids)),
        "num_tracker_dets": sum(map(len, tracker_ids)),
        "num_timesteps": last,
    }


def _on_distractor(there: MotRows, similarity: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which results, matched one-to-one with all that is annotated at IoU 0.5, lie on a distractor."""
    from scipy.optimize import linear_sum_assignment

    on = np.zeros(similarity.shape[1], bool)
    distracts = np.isin(there.class_id, DISTRACTORS)
    if distracts.any() and similarity.size:
        score = np.where(similarity >= 0.5 - np.finfo(float).eps, similarity, 0.0)
        rows, cols = linear_sum_assignment(-score)
        on[cols[(score[rows, cols] > 0) & distracts[rows]]] = True
    return on


def _by_frame(rows: MotRows, last: int) -> list[MotRows]:
    order = np.argsort(rows.frame, kind="stable")
    bounds = np.searchsorted(rows.frame[order], np.arange(1, last + 2))
    return [rows[order[first:end]] for first, end in itertools.pairwise(bounds)]


def _renumbered(ids: Iterable[NDArray[np.int64]]) -> tuple[list[NDArray[np.int64]], int]:
    """The same ids per frame, numbered from 0 without gaps, and how many there are."""
    ids = list(ids)
    known = np.unique(np.concatenate(ids)) if ids else np.zeros(0, np.int64)
    return [np.searchsorted(known, one) for one in ids], len(known)
