"""DeepSORT: motion, overlap and appearance (Wojke et al. 2017, arXiv:1703.07402)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from trackers.appearance import Galleries
from trackers.association import assign, expand, overlapping, paired_iou
from trackers.columns import Columns
from trackers.lifecycle import LATE, Indices, KalmanTracker, Mask
from trackers.motion import CHI2_95, XYAH, squared_mahalanobis, Floats
from trackers.tracker import Observed, Range
from trackers.tracks import Tracks


class DeepSORT(KalmanTracker):
    """First version.

    Args:
        max_coast: seconds a confirmed track is predicted through an occlusion before it is dropped.
        high_score: detections from this score on are matched first and may start tracks.
        low_score: detections below this score are not used at all.
        new_score: least score of a detection that starts a track.
        min_hits: detections that confirm a track, together with `confirm_after`.
        confirm_after: seconds since its first detection after which a track is confirmed.
        iou_threshold: least overlap.
        buffer: growth of boxes.
        max_cosine: largest cosine distance.
        budget: appearance vectors kept per track.
        frame_period: seconds between calls of `update` that give no timestamp.
    """

    name = "deepsort"
    _model = XYAH()

    def __init__(
        self,
        *,
        max_coast: Annotated[float, Range(0)] = 2.0,
        high_score: Annotated[float, Range(0, 1)] = 0.4,
        low_score: Annotated[float, Range(0, 1)] = 0.1,
        new_score: Annotated[float, Range(0, 1)] = 0.5,
        min_hits: Annotated[int, Range(1)] = 2,
        confirm_after: Annotated[float, Range(0)] = 0.05,
        iou_threshold: Annotated[float, Range(0, 1)] = 0.2,
        low_iou: Annotated[float, Range(0, 1)] = 0.5,
        buffer: Annotated[float, Range(0)] = 0.0,
        lost_buffer: Annotated[float, Range(0)] = 0.0,
        fuse: Annotated[float, Range(0)] = 0.0,
        gate: Annotated[float, Range(0)] = 1.0,
        max_cosine: Annotated[float, Range(0, 2)] = 0.3,
        app_weight: Annotated[float, Range(0)] = 0.5,
        damping: Annotated[float, Range(0)] = 1e9,
        vel_std: Annotated[float, Range(0)] = 1 / 160,
        pos_std: Annotated[float, Range(0)] = 1 / 20,
        recover: Annotated[float, Range(0)] = 1.0,
        budget: Annotated[int, Range(1)] = 32,
        mode: Annotated[int, Range(0)] = 0,
        frame_period: Annotated[float, Range(0)] = 1 / 30,
    ) -> None:
        self._o = {k: v for k, v in locals().items() if k not in ("self", "__class__")}
        self._model = XYAH(pos_std, vel_std)
        self._budget = budget
        super().__init__(frame_period=frame_period)

    def _begin(self) -> None:
        super()._begin()
        self._galleries = Galleries.empty(0, self._budget)

    def _tables(self) -> dict[str, Columns]:
        return {**super()._tables(), "galleries": self._galleries}

    def _born(self, seen: Observed, cols: Indices, now: float) -> None:
        first = len(self._records)
        super()._born(seen, cols, now)
        self._galleries.extend(Galleries.empty(len(cols), self._budget))
        if seen.has_features and len(cols):
            self._galleries.store(first + np.arange(len(cols)), self._f[cols])

    def _hit(self, rows: Indices, seen: Observed, cols: Indices, now: float) -> None:
        super()._hit(rows, seen, cols, now)
        if seen.has_features and len(cols):
            ok = seen.scores[cols] >= self._o["high_score"]
            if ok.any():
                self._galleries.store(rows[ok], self._f[cols[ok]])

    def _step(self, seen: Observed, now: float, dt: float, frame: NDArray[np.uint8] | None) -> Tracks:
        o = self._o
        r = self._records
        m = self._motion
        if seen.has_features:
            self._f = seen.features(np.arange(len(seen)))
        lost_before = (r.id > 0) & (r.det_index < 0)
        if o["damping"] < 1e8 and len(m):
            m.velocity[lost_before] *= np.exp(-dt / o["damping"])
        self._predict(dt)
        predicted = self._model.decode(m.position)
        confirmed = r.id > 0
        free_t = np.ones(len(r), bool)
        free_d = np.ones(len(seen), bool)
        high = seen.scores >= o["high_score"]
        low = (seen.scores >= o["low_score"]) & ~high
        z = self._model.encode(seen.xyxy)
        S = m.innovation_variance(self._model)

        def stage(tmask, dmask, threshold, buf, use_app, gate=True):
            ti = (tmask & free_t).nonzero()[0]
            di = (dmask & free_d).nonzero()[0]
            if not len(ti) or not len(di):
                return
            a = predicted[ti]
            b = seen.xyxy[di]
            grow = np.where(lost_before[ti], buf + o["lost_buffer"], buf)[:, None]
            A = expand(a, grow)
            B = expand(b, buf)
            i, j = overlapping(A, B)
            ov = paired_iou(A[i], B[j])
            if o["fuse"]:
                ov = ov * (1 - o["fuse"] * (1 - seen.scores[di[j]]))
            cost = 1 - ov
            if gate and o["gate"]:
                d2 = squared_mahalanobis(m.position[ti[i]], z[di[j]], S[ti[i]])
                cost = np.where(d2 > CHI2_95[4] * o["gate"], 9.0, cost)
            if use_app and seen.has_features:
                cd = self._galleries.distance(ti[i], di[j], self._f)
                # bonus for those that look alike
                sim = np.clip((o["max_cosine"] - cd) / o["max_cosine"], -1, 1)
                cost = cost - np.where(np.isnan(cd), 0, o["app_weight"] * sim)
            k = assign(i, j, cost, 1 - threshold)
            rows, cols = ti[i[k]], di[j[k]]
            self._hit(rows, seen, cols, now)
            free_t[rows] = False
            free_d[cols] = False

        def mahal_stage(tmask, dmask, df, scale):
            ti = (tmask & free_t).nonzero()[0]
            di = (dmask & free_d).nonzero()[0]
            if not len(ti) or not len(di):
                return
            i, j = (x.ravel() for x in np.indices((len(ti), len(di))))
            d2 = squared_mahalanobis(m.position[ti[i]][:, [0, 1, 3]], z[di[j]][:, [0, 1, 3]], S[ti[i]][:, [0, 1, 3]])
            cost = d2
            k = assign(i, j, cost, CHI2_95[3] * scale)
            rows, cols = ti[i[k]], di[j[k]]
            self._hit(rows, seen, cols, now)
            free_t[rows] = False
            free_d[cols] = False

        stage(confirmed, high, o["iou_threshold"], o["buffer"], True)
        stage(confirmed & ~lost_before, low, o["low_iou"], 0, False)
        if o["recover"]:
            mahal_stage(confirmed & lost_before, high, 3, o["recover"])
        stage(~confirmed, high, o["iou_threshold"], o["buffer"], True)

        self._born(seen, (free_d & (seen.scores >= o["new_score"])).nonzero()[0], now)
        r = self._records
        ripe = (r.hits >= o["min_hits"]) & (now - r.born >= o["confirm_after"] - LATE) & (r.det_index >= 0)
        if getattr(self, "_t0", None) is None:
            self._t0 = now
            ripe[:] = True
        self._name(ripe)
        result = self._result(now)
        r = self._records
        self._keep(np.where(r.id > 0, now - r.seen <= o["max_coast"] + LATE, r.det_index >= 0))
        return result

    def _shown(self) -> Mask:
        return (self._records.id > 0) & (self._records.det_index >= 0)
