"""Which detection belongs to which track: overlap of boxes and optimal assignment, over candidate pairs only.

No N x M matrix is built for a crowd: candidate pairs come from a sorted sweep, pairs without a rival are taken
at once, and the solver of the assignment problem sees only groups in which several tracks want the same detections.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trackers.compiled import kernels

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

_DENSE = 4096
"""Up to so many cells one array operation over all of them beats sorting and splitting (measured, NumPy 2.4)."""

_TOGETHER = 80
"""Tracks and detections of a part: solving small problems one by one costs more than solving them together."""

_NONE = np.zeros(0, np.int64)


def area(xyxy: Floats) -> Floats:
    """(N,) areas of (N, 4) boxes.

    >>> area(np.array([[0.0, 0.0, 2.0, 3.0]]))
    array([6.])
    """
    side = xyxy[:, 2:] - xyxy[:, :2]
    return np.asarray(side[:, 0] * side[:, 1])


def _plain(xyxy: Floats) -> Floats:
    """The same in the one layout that compiled loops take."""
    flags = xyxy.flags
    return xyxy if flags.c_contiguous and flags.writeable else np.array(xyxy, order="C")


def centre(xyxy: Floats) -> Floats:
    """(N, 2) centres of (N, 4) boxes.

    >>> centre(np.array([[0.0, 0.0, 2.0, 3.0]]))
    array([[1. , 1.5]])
    """
    return np.asarray((xyxy[:, :2] + xyxy[:, 2:]) / 2)


def lead(group: Indices, value: Floats) -> Floats:
    """(P,) for each pair that has the largest value of its group, by how much; 0 for the others, and for one alone.

    >>> lead(np.array([0, 0, 1]), np.array([5.0, 3.0, 4.0]))
    array([2., 0., 0.])
    """
    order = np.lexsort((-value, group))
    first = np.ones(len(order), bool)
    first[1:] = group[order[1:]] != group[order[:-1]]
    out = np.zeros(len(order))
    second = first[:-1] & ~first[1:]
    out[order[:-1][second]] = value[order[:-1][second]] - value[order[1:][second]]
    return out


def contested(rows: Indices, cols: Indices) -> NDArray[np.bool_]:
    """(P,) pairs whose row or column stands in another pair as well.

    >>> contested(np.array([0, 0, 1]), np.array([0, 1, 2]))
    array([ True,  True, False])
    """
    if not len(rows):
        return np.zeros(0, bool)
    return np.asarray((np.bincount(rows)[rows] > 1) | (np.bincount(cols)[cols] > 1))


def unsettled(rows: Indices, cols: Indices, cost: Floats, margin: float) -> NDArray[np.bool_]:
    """(P,) pairs that have a rival which a change of the costs by less than `margin` could put in their place.

    A pair that is cheaper by the margin than all others of its row and of its column is settled, and so are the pairs
    that it beats.

    >>> rows, cols = np.array([0, 0, 1]), np.array([0, 1, 1])
    >>> unsettled(rows, cols, np.array([0.1, 0.9, 0.2]), 0.5).tolist()
    [False, False, False]
    >>> unsettled(rows, cols, np.array([0.1, 0.3, 0.2]), 0.5).tolist()
    [True, True, True]
    """
    open_ = contested(rows, cols)
    if not open_.any():
        return open_
    clear = _least_of_others(rows, cost) - cost > margin
    clear &= _least_of_others(cols, cost) - cost > margin
    taken_rows, taken_cols = np.zeros(rows.max() + 1, bool), np.zeros(cols.max() + 1, bool)
    taken_rows[rows[clear]] = taken_cols[cols[clear]] = True
    left = (~taken_rows[rows] & ~taken_cols[cols]).nonzero()[0]
    open_[:] = False
    open_[left] = contested(rows[left], cols[left])
    return open_


def _least_of_others(group: Indices, cost: Floats) -> Floats:
    """(P,) for each pair the least cost of the other pairs of its group; infinite where there is none."""
    least = np.full(group.max() + 1, np.inf)
    np.minimum.at(least, group, cost)
    best = cost == least[group]
    second = np.full(len(least), np.inf)
    np.minimum.at(second, group[~best], cost[~best])
    ties = np.bincount(group[best], minlength=len(least)) > 1
    second[ties] = least[ties]
    return np.where(best, second[group], least[group])


def overlapping(a: Floats, b: Floats, groups: tuple[Indices, Indices] | None = None) -> tuple[Indices, Indices]:
    """Index pairs (i, j) for which box a[i] and box b[j] overlap or touch, ordered by i, then j.

    Args:
        a: (N, 4) boxes xyxy. b: (M, 4) boxes xyxy; zero width or height is allowed, so points are too.
        groups: (N,) and (M,) whole numbers, equal for what may be paired; without, all may.
    """
    if not len(a) or not len(b):
        return _NONE, _NONE
    if fast := kernels():
        found: tuple[Indices, Indices] = fast.overlapping(_plain(a), _plain(b), *(groups or (_NONE, _NONE)))
        return found
    if len(a) * len(b) <= _DENSE:
        near = (a[:, None, :2] <= b[None, :, 2:]) & (b[None, :, :2] <= a[:, None, 2:])
        hit = near[..., 0] & near[..., 1]
        if groups is not None:
            hit &= groups[0][:, None] == groups[1]
        rows, cols = hit.nonzero()
        return rows, cols
    # b sorted by left edge, group by group: those that can reach a[i] are one stretch, as none is wider than the widest
    low, widest = b[:, 0], (b[:, 2] - b[:, 0]).max()
    reach = np.stack([a[:, 0] - widest, a[:, 2]])
    if groups is not None:
        index = np.unique(np.concatenate(groups), return_inverse=True)[1]
        start = min(low.min(), reach[0].min())
        aside = index * (1.001 * (max(low.max(), reach[1].max()) - start) + 1)  # each group beside the last
        slack = 1e-9 * (abs(start) + aside.max())  # for the rounding
        low, reach = low + aside[len(a) :], reach + aside[: len(a)] + np.array([[-slack], [slack]])
    order = np.argsort(low, kind="stable")
    left = low[order]
    first = np.searchsorted(left, reach[0], side="left")
    count = np.maximum(np.searchsorted(left, reach[1], side="right") - first, 0)
    rows = np.repeat(np.arange(len(a)), count)
    cols = order[np.arange(len(rows)) + np.repeat(first - (np.cumsum(count) - count), count)]
    mine, other = a[rows], b[cols]
    near = (mine[:, :2] <= other[:, 2:]) & (other[:, :2] <= mine[:, 2:])
    touch = near[:, 0] & near[:, 1]
    if groups is not None:
        touch &= groups[0][rows] == groups[1][cols]
    rows, cols = rows[touch], cols[touch]
    order = np.lexsort((cols, rows))
    return rows[order], cols[order]


def iou_of_pairs(a: Floats, rows: Indices, b: Floats, cols: Indices) -> Floats:
    """(P,) intersection over union of box a[rows[p]] with box b[cols[p]].

    >>> iou_of_pairs(np.array([[0.0, 0.0, 2.0, 2.0]]), np.array([0]), np.array([[1.0, 0.0, 3.0, 2.0]]), np.array([0]))
    array([0.33333333])
    """
    if fast := kernels():
        found: Floats = fast.iou_of_pairs(_plain(a), rows, _plain(b), cols)
        return found
    return paired_iou(a[rows], b[cols])


def paired_iou(a: Floats, b: Floats) -> Floats:
    """(P,) intersection over union of box a[p] with box b[p], both (P, 4) with positive areas.

    >>> paired_iou(np.array([[0.0, 0.0, 2.0, 2.0]]), np.array([[1.0, 0.0, 3.0, 2.0]])).round(3)
    array([0.333])
    """
    side = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    np.maximum(side, 0.0, out=side)
    shared = side[:, 0] * side[:, 1]
    return np.asarray(shared / (area(a) + area(b) - shared))


def paired_giou(a: Floats, b: Floats) -> Floats:
    """(P,) generalised IoU in -1..1 of box a[p] with box b[p] (Rezatofighi et al. 2019): apart is worse the farther.

    >>> paired_giou(np.array([[0.0, 0.0, 2.0, 2.0]]), np.array([[2.0, 0.0, 4.0, 2.0]])).round(3)
    array([0.])
    """
    side = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    np.maximum(side, 0.0, out=side)
    shared = side[:, 0] * side[:, 1]
    union = area(a) + area(b) - shared
    hull = np.maximum(a[:, 2:], b[:, 2:]) - np.minimum(a[:, :2], b[:, :2])
    around = hull[:, 0] * hull[:, 1]
    return np.asarray(shared / union - (around - union) / around)


def paired_diou(a: Floats, b: Floats) -> Floats:
    """(P,) distance IoU in -1..1 of box a[p] with box b[p] (Zheng et al. 2020): less what the centres are apart.

    >>> paired_diou(np.array([[0.0, 0.0, 2.0, 2.0]]), np.array([[0.0, 0.0, 2.0, 2.0]]))
    array([1.])
    """
    hull = np.maximum(a[:, 2:], b[:, 2:]) - np.minimum(a[:, :2], b[:, :2])
    apart = (a[:, :2] + a[:, 2:] - b[:, :2] - b[:, 2:]) / 2
    return np.asarray(paired_iou(a, b) - (apart * apart).sum(axis=1) / (hull * hull).sum(axis=1))


def paired_height_iou(a: Floats, b: Floats) -> Floats:
    """(P,) overlap of the vertical extents of box a[p] and box b[p] (Yang et al. 2024, Hybrid-SORT).

    >>> paired_height_iou(np.array([[0.0, 0.0, 2.0, 4.0]]), np.array([[9.0, 0.0, 12.0, 2.0]]))
    array([0.5])
    """
    shared = np.minimum(a[:, 3], b[:, 3]) - np.maximum(a[:, 1], b[:, 1])
    return np.asarray(np.maximum(shared, 0.0) / (np.maximum(a[:, 3], b[:, 3]) - np.minimum(a[:, 1], b[:, 1])))


def iou(a: Floats, b: Floats) -> Floats:
    """(N, M) intersection over union of every box of `a` with every box of `b`."""
    out = np.zeros((len(a), len(b)))
    rows, cols = overlapping(a, b)
    out[rows, cols] = paired_iou(a[rows], b[cols])
    return out


def expand(xyxy: Floats, ratio: float | Floats) -> Floats:
    """Boxes grown by `ratio` of their width and height on every side (Yang et al. 2023, buffered IoU).

    >>> expand(np.array([[0.0, 0.0, 10.0, 20.0]]), 0.5)
    array([[ -5., -10.,  15.,  30.]])
    """
    margin = (xyxy[:, 2:] - xyxy[:, :2]) * ratio
    return np.concatenate([xyxy[:, :2] - margin, xyxy[:, 2:] + margin], axis=1)


def assign(rows: Indices, cols: Indices, cost: Floats, unmatched: float) -> Indices:
    """The cheapest one-to-one choice among candidate pairs.

    Minimises the sum of the costs of chosen pairs plus `unmatched` for each pair that could have been made and
    was not. That is the dense problem in which every pair that is no candidate costs `unmatched` and is
    rejected afterwards, and it has the same optimum, group by group:

    - `unmatched` = the gate: DeepSORT's saturated costs; a bad pair is not made for the sake of another pair.
    - `unmatched` very large: as many pairs as possible, and of those choices the cheapest.
    - cost = -IoU and `unmatched` = 0: SORT.

    Args:
        rows, cols: (P,) the candidate pairs, each pair at most once. cost: (P,) finite.
        unmatched: pairs that cost more are never chosen.

    Returns:
        positions within `rows` and `cols` of the chosen pairs, ascending.
    """
    if fast := kernels():
        best: Indices = fast.assign(rows, cols, cost, unmatched)
        return best
    worth = cost < unmatched
    candidates = np.arange(len(rows)) if worth.all() else worth.nonzero()[0]
    if not len(candidates):
        return candidates
    rows, cols, cost = rows[candidates], cols[candidates], cost[candidates]
    alone = (np.bincount(rows)[rows] == 1) & (np.bincount(cols)[cols] == 1)
    if alone.all():
        return candidates
    chosen = [alone.nonzero()[0]]
    tangled = (~alone).nonzero()[0]
    groups = _groups(rows, cols, tangled)
    chosen += [group[_solve(rows[group], cols[group], cost[group], unmatched)] for group in groups]
    return np.asarray(candidates[np.sort(np.concatenate(chosen))])


def mutual_best(rows: Indices, cols: Indices, cost: Floats, unmatched: float) -> Indices:
    """Pairs that are the cheapest of both their row and their column, then the same among what is left, until none is.

    Greedy where `assign` is optimal, as in TrackTrack (Shim et al. 2025): a good pair is never given up to make a bad
    one possible. Arguments and result are those of `assign`; of equal costs the first pair wins.
    """
    order = np.argsort(cost, kind="stable")
    order = order[cost[order] < unmatched]
    chosen = []
    while len(order):
        # the first in which a row, or a column, stands is its cheapest
        r, c = rows[order], cols[order]
        first = np.zeros((2, len(order)), bool)
        first[0, np.unique(r, return_index=True)[1]] = True
        first[1, np.unique(c, return_index=True)[1]] = True
        best = order[first[0] & first[1]]
        chosen.append(best)
        order = order[~(np.isin(r, rows[best]) | np.isin(c, cols[best]))]
    return np.sort(np.concatenate(chosen)) if chosen else order


def _groups(rows: Indices, cols: Indices, tangled: Indices) -> list[Indices]:
    """Pairs split into parts that share neither rows nor columns, each about as large as pays to solve at once."""
    r, c = np.unique(rows[tangled], return_inverse=True)[1], np.unique(cols[tangled], return_inverse=True)[1]
    height, width = int(r.max()) + 1, int(c.max()) + 1
    if height * width <= _DENSE:
        return [tangled]
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    size = height + width
    graph = coo_array((np.ones(len(r), np.int8), (r, c + height)), shape=(size, size))
    label = connected_components(graph, directed=False)[1]
    part = (np.cumsum(np.bincount(label)) // _TOGETHER)[label][r]
    order = np.argsort(part, kind="stable")
    return np.split(tangled[order], np.flatnonzero(np.diff(part[order])) + 1)


def _solve(rows: Indices, cols: Indices, cost: Floats, unmatched: float) -> Indices:
    """Positions of the chosen pairs of one group, by the dense solver."""
    from scipy.optimize import linear_sum_assignment

    r, c = np.unique(rows, return_inverse=True)[1], np.unique(cols, return_inverse=True)[1]
    shape = int(r.max()) + 1, int(c.max()) + 1
    dense = np.full(shape, unmatched)
    pair = np.full(shape, -1)
    dense[r, c] = cost
    pair[r, c] = np.arange(len(r))
    picked = pair[linear_sum_assignment(dense)]
    return np.asarray(picked[picked >= 0])
