"""Loops over boxes, tracks and pairs, compiled by numba. Each does what the NumPy function that calls it does.

All arrays are C-contiguous; boxes are (N, 4) float64, xyxy. Nothing here checks its arguments.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache, partial
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

F = TypeVar("F", bound=Callable[..., Any])
Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]

_DENSE = 1 << 11
"""Up to so many pairs all are looked at; beyond, those of neighbouring cells of a grid."""

_LAYERS = 64
"""Groups whose boxes are kept apart in the grid; of more, some share."""


@cache
def _tell_nowhere() -> None:
    """Once, not for each function: numba undoes Python's own way to that."""
    warnings.warn(
        "trackers are compiled at every start, for half a minute; set NUMBA_CACHE_DIR to a folder that you can write",
        RuntimeWarning,
        stacklevel=2,
    )


def _compiled(signature: str, fastmath: bool = False) -> Callable[[F], F]:
    """Compiled for these types when first imported, and kept on disk, where there is a folder for it."""

    def compiled(function: F) -> F:
        compiler = partial(njit, signature, nogil=True, error_model="numpy", fastmath=fastmath)
        try:
            return cast(F, compiler(cache=True)(function))
        except RuntimeError:  # neither this folder nor the user's own can be written, as in a service
            _tell_nowhere()
            return cast(F, compiler()(function))

    return compiled


@_compiled("UniTuple(i8, 4)(f8[:,::1], f8[::1], f8, f8)")
def unusable(boxes: Floats, scores: Floats, far: float, small: float) -> tuple[int, int, int, int]:
    """How many rows have a box that is not finite, that is empty, a score that is not finite, one outside 0..1."""
    wild = empty = unsure = outside = 0
    for n in range(len(boxes)):
        x1, y1, x2, y2 = boxes[n]
        if not (abs(x1) <= far and abs(y1) <= far and abs(x2) <= far and abs(y2) <= far):
            wild += 1
        elif not (x2 >= x1 + small and y2 >= y1 + small):
            empty += 1
        elif not np.isfinite(scores[n]):
            unsure += 1
        elif scores[n] < 0 or scores[n] > 1:
            outside += 1
    return wild, empty, unsure, outside


@_compiled("f8[:,::1](f8[:,::1], i8)")
def encode(boxes: Floats, model: int) -> Floats:
    """Boxes to what a model filters; models by their code: 0 xysr, 1 xyah, 2 xywh."""
    out = np.empty((len(boxes), 4))
    for n in range(len(boxes)):
        w, h = boxes[n, 2] - boxes[n, 0], boxes[n, 3] - boxes[n, 1]
        out[n, 0], out[n, 1] = boxes[n, 0] + w / 2.0, boxes[n, 1] + h / 2.0
        if model == 0:
            out[n, 2], out[n, 3] = w * h, w / h
        elif model == 1:
            out[n, 2], out[n, 3] = w / h, h
        else:
            out[n, 2], out[n, 3] = w, h
    return out


@_compiled("f8[:,::1](f8[:,::1], i8)")
def decode(position: Floats, model: int) -> Floats:
    """What a model filters to boxes."""
    out = np.empty((len(position), 4))
    for n in range(len(position)):
        x, y, c, d = position[n]
        if model == 0:
            w = np.sqrt(c * d)
            half_w, half_h = w / 2.0, c / w / 2.0
        elif model == 1:
            half_h = d / 2.0
            half_w = c * half_h
        else:
            half_w, half_h = c / 2.0, d / 2.0
        out[n, 0], out[n, 1], out[n, 2], out[n, 3] = x - half_w, y - half_h, x + half_w, y + half_h
    return out


@_compiled("void(f8[:,::1], f8[:,::1], f8[:,::1], f8[:,::1], f8[:,::1], f8[::1], f8[:,:,::1], i8[::1], b1[::1], f8)")
def predict(
    position: Floats,
    velocity: Floats,
    pp: Floats,
    pv: Floats,
    vv: Floats,
    steps: Floats,
    noise: Floats,
    grows_with: Indices,
    positive: Mask,
    rate: float,
) -> None:
    """Advance all filters, in place; `steps` has one for all or one for each."""
    size = np.empty(4)
    for t in range(len(position)):
        dt = steps[t] if len(steps) > 1 else steps[0]
        n = dt * rate
        spread = n * (n - 1) * (2 * n - 1) / 6
        for k in range(4):
            size[k] = position[t, grows_with[k]]
        for k in range(4):
            if positive[k] and position[t, k] + dt * velocity[t, k] <= 0:
                velocity[t, k] = 0.0
            scaled_p, scaled_v = size[k] * noise[0, 1, k], size[k] * noise[1, 1, k]
            noise_p = scaled_p * scaled_p + noise[0, 0, k]
            noise_v = scaled_v * scaled_v + noise[1, 0, k]
            position[t, k] += dt * velocity[t, k]
            gain = dt * vv[t, k]
            pp[t, k] += dt * (2 * pv[t, k] + gain) + (n * noise_p + spread * noise_v)
            pv[t, k] += gain + (n * (n - 1) / 2 * rate) * noise_v
            vv[t, k] += (n * rate**2) * noise_v


@_compiled("UniTuple(f8[:,::1], 3)(f8[:,::1], i8, f8[:,:,::1], i8[::1], f8)")
def start(boxes: Floats, model: int, noise: Floats, grows_with: Indices, rate: float) -> tuple[Floats, Floats, Floats]:
    """Position, pp and vv of new filters."""
    position = encode(boxes, model)
    pp, vv = np.empty_like(position), np.empty_like(position)
    for n in range(len(boxes)):
        for k in range(4):
            size = position[n, grows_with[k]]
            scaled_p, scaled_v = size * noise[3, 1, k], size * noise[4, 1, k]
            pp[n, k] = scaled_p * scaled_p + noise[3, 0, k]
            vv[n, k] = (scaled_v * scaled_v + noise[4, 0, k]) * rate**2
    return position, pp, vv


@_compiled(
    "void(f8[:,::1], f8[:,::1], f8[:,::1], f8[:,::1], f8[:,::1], i8[::1], f8[:,::1], i8[::1], i8, f8[:,:,::1],"
    " i8[::1], f8[::1])"
)
def correct(
    position: Floats,
    velocity: Floats,
    pp: Floats,
    pv: Floats,
    vv: Floats,
    rows: Indices,
    boxes: Floats,
    cols: Indices,
    model: int,
    noise: Floats,
    grows_with: Indices,
    doubt: Floats,
) -> None:
    """Take in boxes[cols] as measurements of the filters in `rows`, in place; `doubt` may be empty."""
    size, z = np.empty(4), np.empty(4)
    for m in range(len(rows)):
        t = rows[m]
        box = boxes[cols[m]]
        w, h = box[2] - box[0], box[3] - box[1]
        z[0], z[1] = box[0] + w / 2.0, box[1] + h / 2.0
        if model == 0:
            z[2], z[3] = w * h, w / h
        elif model == 1:
            z[2], z[3] = w / h, h
        else:
            z[2], z[3] = w, h
        for k in range(4):
            size[k] = position[t, grows_with[k]]
        for k in range(4):
            scaled = size[k] * noise[2, 1, k]
            variance = scaled * scaled + noise[2, 0, k]
            if len(doubt):
                variance = variance * doubt[m]
            variance = pp[t, k] + variance
            innovation = z[k] - position[t, k]
            gain_p, gain_v = pp[t, k] / variance, pv[t, k] / variance
            position[t, k] = position[t, k] + gain_p * innovation
            velocity[t, k] += gain_v * innovation
            vv[t, k] -= gain_v * pv[t, k]
            pp[t, k] = pp[t, k] - gain_p * pp[t, k]
            pv[t, k] = pv[t, k] - gain_p * pv[t, k]


@_compiled(
    "void(i8[::1], i8[::1], f8[::1], i8[::1], i8[::1], f8[::1], f8[::1], i8[::1], i8[::1],"
    " f8[::1], i8[::1], i8[::1], f8[::1], b1)"
)
def hit(
    rows: Indices,
    cols: Indices,
    score: Floats,
    class_id: Indices,
    det_index: Indices,
    support: Floats,
    seen: Floats,
    hits: Indices,
    streak: Indices,
    found_score: Floats,
    found_class: Indices,
    found_row: Indices,
    now: Floats,
    vote: bool,
) -> None:
    """Tracks `rows` were seen as detections `cols`; see `trackers.lifecycle.Records.hit`."""
    for m in range(len(rows)):
        t, n = rows[m], cols[m]
        if not vote:
            class_id[t] = found_class[n]
            support[t] += found_score[n]
        elif class_id[t] == found_class[n]:
            support[t] += found_score[n]
        else:
            support[t] -= found_score[n]
            if support[t] < 0:
                class_id[t] = found_class[n]
                support[t] = -support[t]
        score[t], det_index[t] = found_score[n], found_row[n]
        seen[t] = now[m] if len(now) > 1 else now[0]
        hits[t] += 1
        streak[t] += 1


@_compiled("i8[::1](i8[::1], i8)")
def _more(array: Indices, used: int) -> Indices:
    """The array with twice the room, if it is full."""
    if used < len(array):
        return array
    wider = np.empty(2 * len(array), np.int64)
    wider[:used] = array
    return wider


@_compiled("UniTuple(i8[::1], 2)(f8[:,::1], f8[:,::1], i8[::1], i8[::1])")
def overlapping(a: Floats, b: Floats, group_a: Indices, group_b: Indices) -> tuple[Indices, Indices]:
    """Pairs of boxes that overlap or touch, of the same group where groups are given, by row, then column."""
    rows, cols = np.empty(4 * (len(a) + 4), np.int64), np.empty(4 * (len(a) + 4), np.int64)
    used = 0
    grouped = len(group_a) > 0
    if len(a) * len(b) <= _DENSE:
        for i in range(len(a)):
            x1, y1, x2, y2 = a[i]
            for j in range(len(b)):
                if b[j, 0] <= x2 and b[j, 2] >= x1 and b[j, 1] <= y2 and b[j, 3] >= y1:
                    if grouped and group_a[i] != group_b[j]:
                        continue
                    rows, cols = _more(rows, used), _more(cols, used)
                    rows[used], cols[used] = i, j
                    used += 1
        return rows[:used].copy(), cols[:used].copy()
    # a grid of cells as large as the largest box of b, each with the boxes whose left top corner lies in it; and a
    # grid for each group, or for several
    layers = 1
    for j in range(len(group_b)):
        layers = max(layers, min(abs(group_b[j]) + 1, _LAYERS))
    left, top = b[:, 0].min(), b[:, 1].min()
    widest, tallest = (b[:, 2] - b[:, 0]).max(), (b[:, 3] - b[:, 1]).max()
    most = int(np.sqrt(len(b) / layers)) + 1
    cell_w = max(widest, (b[:, 0].max() - left) / most, 1e-9)
    cell_h = max(tallest, (b[:, 1].max() - top) / most, 1e-9)
    across, down = int((b[:, 0].max() - left) / cell_w) + 1, int((b[:, 1].max() - top) / cell_h) + 1
    cell = np.empty(len(b), np.int64)
    start = np.zeros(across * down * layers + 1, np.int64)
    for j in range(len(b)):
        x, y = min(int((b[j, 0] - left) / cell_w), across - 1), min(int((b[j, 1] - top) / cell_h), down - 1)
        layer = abs(group_b[j]) % layers if grouped else 0
        cell[j] = (layer * down + y) * across + x
        start[cell[j] + 1] += 1
    for c in range(len(start) - 1):
        start[c + 1] += start[c]
    members, filled = np.empty(len(b), np.int64), start[:-1].copy()
    for j in range(len(b)):
        members[filled[cell[j]]] = j
        filled[cell[j]] += 1
    for i in range(len(a)):
        begin = used
        x1, y1, x2, y2 = a[i]
        # one cell more on every side than arithmetic says, for its rounding
        x_low = max((x1 - widest - left) / cell_w - 1e-6, 0.0)
        x_high = min((x2 - left) / cell_w + 1e-6, across - 1.0)
        y_low = max((y1 - tallest - top) / cell_h - 1e-6, 0.0)
        y_high = min((y2 - top) / cell_h + 1e-6, down - 1.0)
        if x_high < 0 or y_high < 0 or int(x_low) > int(x_high) or int(y_low) > int(y_high):
            continue
        layer = abs(group_a[i]) % layers if grouped else 0
        for y in range(int(y_low), int(y_high) + 1):
            row = (layer * down + y) * across
            for place in range(start[row + int(x_low)], start[row + int(x_high) + 1]):
                j = members[place]
                if b[j, 0] <= x2 and b[j, 2] >= x1 and b[j, 1] <= y2 and b[j, 3] >= y1:
                    if grouped and group_a[i] != group_b[j]:
                        continue
                    rows, cols = _more(rows, used), _more(cols, used)
                    rows[used] = i
                    spot = used
                    while spot > begin and cols[spot - 1] > j:
                        cols[spot] = cols[spot - 1]
                        spot -= 1
                    cols[spot] = j
                    used += 1
    return rows[:used].copy(), cols[:used].copy()


@_compiled("f8(f8[:,::1], i8, f8[:,::1], i8)")
def _iou(a: Floats, i: int, b: Floats, j: int) -> float:
    width = max(min(a[i, 2], b[j, 2]) - max(a[i, 0], b[j, 0]), 0.0)
    height = max(min(a[i, 3], b[j, 3]) - max(a[i, 1], b[j, 1]), 0.0)
    shared = width * height
    area_a = (a[i, 2] - a[i, 0]) * (a[i, 3] - a[i, 1])
    area_b = (b[j, 2] - b[j, 0]) * (b[j, 3] - b[j, 1])
    return float(shared / (area_a + area_b - shared))


@_compiled("f8[::1](f8[:,::1], i8[::1], f8[:,::1], i8[::1])")
def iou_of_pairs(a: Floats, rows: Indices, b: Floats, cols: Indices) -> Floats:
    """IoU of a[rows[p]] with b[cols[p]]."""
    out = np.empty(len(rows))
    for p in range(len(rows)):
        out[p] = _iou(a, rows[p], b, cols[p])
    return out


@_compiled("i8(i8[::1], i8)")
def _root(parent: Indices, node: int) -> int:
    while parent[node] != node:
        parent[node] = parent[parent[node]]
        node = parent[node]
    return node


@_compiled("i8[::1](f8[:,::1])")
def _cheapest(cost: Floats) -> Indices:
    """The column of each row in the cheapest complete assignment; no more rows than columns.

    Shortest augmenting paths with dual variables (Jonker and Volgenant 1987; Crouse 2016, section II).
    """
    height, width = cost.shape
    u, v = np.zeros(height), np.zeros(width)
    column_of, row_of = np.full(height, -1), np.full(width, -1)
    came_from = np.empty(width, np.int64)
    distance = np.empty(width)
    in_rows, in_cols = np.empty(height, np.bool_), np.empty(width, np.bool_)
    for start in range(height):
        in_rows[:] = False
        in_cols[:] = False
        distance[:] = np.inf
        row, reached, sink = start, 0.0, -1
        while sink < 0:
            in_rows[row] = True
            nearest, lowest = -1, np.inf
            for j in range(width):
                if in_cols[j]:
                    continue
                through = reached + cost[row, j] - u[row] - v[j]
                if through < distance[j]:
                    distance[j], came_from[j] = through, row
                # of equally near columns a free one ends the search
                if distance[j] < lowest or (distance[j] == lowest and row_of[j] < 0):
                    nearest, lowest = j, distance[j]
            reached = lowest
            in_cols[nearest] = True
            if row_of[nearest] < 0:
                sink = nearest
            else:
                row = row_of[nearest]
        u[start] += reached
        for i in range(height):
            if in_rows[i] and i != start:
                u[i] += reached - distance[column_of[i]]
        for j in range(width):
            if in_cols[j]:
                v[j] -= reached - distance[j]
        j = sink
        while True:
            i = came_from[j]
            row_of[j] = i
            before = column_of[i]
            column_of[i] = j
            if i == start:
                break
            j = before
    return column_of


@_compiled("void(i8[::1], i8[::1], f8[::1], f8, i8[::1], i8[::1], i8[::1], b1[::1])")
def _choose(
    rows: Indices,
    cols: Indices,
    cost: Floats,
    unmatched: float,
    pairs: Indices,
    row_at: Indices,
    col_at: Indices,
    chosen: Mask,
) -> None:
    """Mark the chosen pairs of one group."""
    height = width = 0
    for p in pairs:
        if row_at[rows[p]] < 0:
            row_at[rows[p]] = height
            height += 1
        if col_at[cols[p]] < 0:
            col_at[cols[p]] = width
            width += 1
    flat = height <= width
    dense = np.full((min(height, width), max(height, width)), unmatched)
    which = np.full((min(height, width), max(height, width)), -1)
    for p in pairs:
        i, j = row_at[rows[p]], col_at[cols[p]]
        if not flat:
            i, j = j, i
        dense[i, j], which[i, j] = cost[p], p
    best = _cheapest(dense)
    for i in range(len(best)):
        if which[i, best[i]] >= 0:
            chosen[which[i, best[i]]] = True
    for p in pairs:
        row_at[rows[p]] = col_at[cols[p]] = -1


@_compiled("i8[::1](i8[::1], i8[::1], f8[::1], f8)")
def assign(rows: Indices, cols: Indices, cost: Floats, unmatched: float) -> Indices:
    """Positions of the pairs of the cheapest assignment, ascending; see `trackers.association.assign`."""
    tall = wide = 0
    for p in range(len(rows)):
        tall, wide = max(tall, rows[p] + 1), max(wide, cols[p] + 1)
    in_row, in_col = np.zeros(tall, np.int64), np.zeros(wide, np.int64)
    for p in range(len(rows)):
        if cost[p] < unmatched:
            in_row[rows[p]] += 1
            in_col[cols[p]] += 1
    chosen = np.zeros(len(rows), np.bool_)
    parent = np.arange(tall + wide)
    tangled = 0
    for p in range(len(rows)):
        if cost[p] < unmatched:
            if in_row[rows[p]] == 1 and in_col[cols[p]] == 1:
                chosen[p] = True
            else:
                tangled += 1
                one, other = _root(parent, rows[p]), _root(parent, tall + cols[p])
                parent[max(one, other)] = min(one, other)
    if tangled:
        # the pairs of each group one after the other
        size = np.zeros(tall + wide + 1, np.int64)
        for p in range(len(rows)):
            if cost[p] < unmatched and not chosen[p]:
                size[_root(parent, rows[p]) + 1] += 1
        for n in range(tall + wide):
            size[n + 1] += size[n]
        start, pairs = size.copy(), np.empty(tangled, np.int64)
        for p in range(len(rows)):
            if cost[p] < unmatched and not chosen[p]:
                group = _root(parent, rows[p])
                pairs[size[group]] = p
                size[group] += 1
        row_at, col_at = np.full(tall, -1), np.full(wide, -1)
        for group in range(tall + wide):
            if start[group + 1] > start[group]:
                _choose(rows, cols, cost, unmatched, pairs[start[group] : start[group + 1]], row_at, col_at, chosen)
    return chosen.nonzero()[0]


@_compiled("void(f8[:,::1], i8[::1], b1[::1], i8[::1], f8, b1[::1], i8[::1])")
def covered(
    boxes: Floats, ids: Indices, visible: Mask, groups: Indices, share_needed: float, is_covered: Mask, by: Indices
) -> None:
    """Who stands behind whom; see `trackers.occlusion.Occlusions.look`."""
    seen = visible.nonzero()[0]
    front_groups = groups[seen] if len(groups) else groups
    behind, front = overlapping(boxes, boxes[seen], groups, front_groups)
    total, largest = np.zeros(len(boxes)), np.full(len(boxes), -1.0)
    by[:] = -1
    for p in range(len(behind)):
        i, j = behind[p], seen[front[p]]
        if i == j or (visible[i] and boxes[j, 3] <= boxes[i, 3]):
            continue
        width = min(boxes[i, 2], boxes[j, 2]) - max(boxes[i, 0], boxes[j, 0])
        height = min(boxes[i, 3], boxes[j, 3]) - max(boxes[i, 1], boxes[j, 1])
        share = width * height / ((boxes[i, 2] - boxes[i, 0]) * (boxes[i, 3] - boxes[i, 1]))
        total[i] += share
        if share >= largest[i]:
            largest[i], by[i] = share, ids[j]
    for i in range(len(boxes)):
        is_covered[i] = total[i] > share_needed
        if not is_covered[i]:
            by[i] = -1


@_compiled("void(f8[::1], f8, f8[::1])")
def _expand(box: Floats, ratio: float, out: Floats) -> None:
    margin_x, margin_y = (box[2] - box[0]) * ratio, (box[3] - box[1]) * ratio
    out[0], out[1], out[2], out[3] = box[0] - margin_x, box[1] - margin_y, box[2] + margin_x, box[3] + margin_y


@_compiled(
    "Tuple((i8[::1], i8[::1], f8[::1]))(f8[:,::1], i8[::1], f8[::1], b1[::1], f8[:,::1], i8[::1], f8[::1], b1[::1],"
    " i8[::1], i8[::1], f8[::1])"
)
def bids(
    predicted: Floats,
    tracks: Indices,
    missing: Floats,
    confirmed: Mask,
    boxes: Floats,
    found: Indices,
    scores: Floats,
    high: Mask,
    track_groups: Indices,
    found_groups: Indices,
    weights: Floats,
) -> tuple[Indices, Indices, Floats]:
    """Pairs of tracks and detections that may be matched, and their costs; see `trackers.tether.Tether._bids`."""
    buffer, growth, height_weight, score_weight, faint_penalty, faint_overlap = weights[:6]
    tentative_penalty, lost_penalty, low_score, faint_for, limit = weights[6:]
    grown, around = np.empty((len(tracks), 4)), np.empty((len(found), 4))
    for i in range(len(tracks)):
        box, ratio = predicted[tracks[i]], buffer + growth * min(missing[tracks[i]], 1.0)
        _expand(box, ratio, grown[i])
    for j in range(len(found)):
        _expand(boxes[found[j]], buffer, around[j])
    if len(track_groups):
        track_groups, found_groups = track_groups[tracks], found_groups[found]
    rows, cols = overlapping(grown, around, track_groups, found_groups)
    costs, used = np.empty(len(rows)), 0
    for p in range(len(rows)):
        t, n = tracks[rows[p]], found[cols[p]]
        faint = not high[n]
        if faint and not (confirmed[t] and missing[t] < faint_for and scores[n] >= low_score):
            continue
        overlap = _iou(grown, rows[p], around, cols[p])
        if height_weight:
            shared = min(predicted[t, 3], boxes[n, 3]) - max(predicted[t, 1], boxes[n, 1])
            both = max(predicted[t, 3], boxes[n, 3]) - min(predicted[t, 1], boxes[n, 1])
            overlap *= (max(shared, 0.0) / both) ** height_weight
        cost = 1 - overlap * scores[n] ** score_weight
        if faint:
            cost += faint_penalty
        if not confirmed[t]:
            cost += tentative_penalty
        cost += lost_penalty * min(missing[t], 1.0)
        if cost < limit and not (faint and overlap < faint_overlap):
            rows[used], cols[used], costs[used] = t, n, cost
            used += 1
    return rows[:used].copy(), cols[:used].copy(), costs[:used].copy()


@_compiled("f8[:,::1](f8[:,::1], i8[::1], f8[:,::1], i8[::1], i8, f8[::1])")
def common_motions(
    predicted: Floats, tracks: Indices, found: Floats, detections: Indices, streams: int, constants: Floats
) -> Floats:
    """What all tracks of a stream are away from where they were expected; see `trackers.camera.common_motions`."""
    near, rival, least_overlap, least, certain = constants
    shift = np.zeros((streams, 2))
    moved, mine, around = np.empty_like(predicted), np.empty_like(predicted), np.empty_like(found)
    for j in range(len(found)):
        _expand(found[j], near, around[j])
    for _ in range(2):
        for i in range(len(predicted)):
            moved[i, :2] = predicted[i, :2] + shift[tracks[i]]
            moved[i, 2:] = predicted[i, 2:] + shift[tracks[i]]
            _expand(moved[i], near, mine[i])
        rows, cols = overlapping(mine, around, tracks, detections)
        overlap = iou_of_pairs(mine, rows, around, cols)
        first, second = np.full(len(predicted), -1.0), np.zeros(len(predicted))
        best, top = np.full(len(predicted), -1), np.zeros(len(found))
        for p in range(len(rows)):
            i, j = rows[p], cols[p]
            if overlap[p] > first[i]:
                if best[i] >= 0:
                    second[i] = first[i]
                first[i], best[i] = overlap[p], j
            elif overlap[p] > second[i]:
                second[i] = overlap[p]
            top[j] = max(top[j], overlap[p])
        sure = np.zeros(len(predicted), np.bool_)
        for i in range(len(predicted)):
            if best[i] >= 0:
                sure[i] = second[i] < rival * first[i] and first[i] == top[best[i]] and first[i] > least_overlap
        witnesses = sure.nonzero()[0]
        for stream in range(streams):
            who = witnesses if streams == 1 else witnesses[tracks[witnesses] == stream]
            if len(who) < least:
                continue
            tall = np.empty(len(who))
            for n in range(len(who)):
                tall[n] = predicted[who[n], 3] - predicted[who[n], 1]
            height = np.median(tall)
            for axis in range(2):
                apart = np.empty(len(who))
                for n in range(len(who)):
                    i, j = who[n], best[who[n]]
                    theirs = found[j, axis] + found[j, axis + 2]
                    apart[n] = (theirs - predicted[i, axis] - predicted[i, axis + 2]) / 2 - shift[stream, axis]
                middle = np.median(apart)
                error = 1.25 * (1.4826 * np.median(np.abs(apart - middle))) / len(who) ** 0.5
                if abs(middle) > certain * (error + 1e-3 * height):
                    shift[stream, axis] += middle
    return shift


@_compiled("f8[:,::1](f8[:,::1], f8[:,::1])")
def rising(real: Floats, every: Floats) -> Floats:
    """Shares that never fall along a row; see `trackers.calibration`."""
    out = np.empty_like(real)
    ones, totals, sizes = np.empty(real.shape[1]), np.empty(real.shape[1]), np.empty(real.shape[1], np.int64)
    for row in range(len(real)):
        pools = 0
        for n in range(real.shape[1]):
            ones[pools], totals[pools], sizes[pools] = real[row, n], every[row, n], 1
            pools += 1
            while pools > 1 and ones[pools - 2] * totals[pools - 1] > ones[pools - 1] * totals[pools - 2]:
                ones[pools - 2] += ones[pools - 1]
                totals[pools - 2] += totals[pools - 1]
                sizes[pools - 2] += sizes[pools - 1]
                pools -= 1
        n = 0
        for pool in range(pools):
            out[row, n : n + sizes[pool]] = ones[pool] / totals[pool]
            n += sizes[pool]
    return out


@_compiled("f8[::1](f4[:,:,::1], i8[::1], i8[::1], f4[:,::1], i8[::1])", fastmath=True)
def nearest_look(
    pool: NDArray[np.float32], slots: Indices, counts: Indices, vectors: NDArray[np.float32], cols: Indices
) -> Floats:
    """1 - the largest product of vectors[cols[p]] with any of the first counts[p] vectors of pool[slots[p]]."""
    out = np.empty(len(slots))
    for p in range(len(slots)):
        best = np.float32(-1.0)
        for n in range(min(counts[p], pool.shape[1])):
            total = np.float32(0.0)
            for k in range(pool.shape[2]):
                total += pool[slots[p], n, k] * vectors[cols[p], k]
            best = max(best, total)
        out[p] = 1.0 - best
    return out
