"""BoT-SORT: two-score association with camera motion and appearance (Aharon et al. 2022, arXiv:2206.14651)."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np

from trackers.association import iou_of_pairs
from trackers.averaged import AveragedLooks
from trackers.bytetrack import ByteTrack
from trackers.lifecycle import Floats, Indices, Mask
from trackers.matching import Matching
from trackers.motion import XYWH
from trackers.observed import Observed
from trackers.tracker import Choice, Range


class BoTSORT(AveragedLooks, ByteTrack):
    """ByteTrack's association on boxes that follow the camera, with looks where boxes overlap.

    The steps are those of ByteTrack. In the first and the last, a pair costs 1 - overlap times score, or half the
    cosine distance of their looks where that is less, the boxes overlap and the looks are alike enough. A track's look
    is an exponential average.

    Args:
        max_cosine: largest cosine distance of looks that are alike.
        look_iou_threshold: least overlap of boxes whose looks are compared.
        look_memory: share of a track's look that stays when it is seen again.
        camera: how camera motion is estimated from the frames, where they are given to `update`.
    """

    name = "botsort"
    _model = XYWH()
    _kept = 2

    def __init__(
        self,
        *,
        max_cosine: Annotated[float, Range(0, 2)] = 0.5,
        look_iou_threshold: Annotated[float, Range(0, 1)] = 0.5,
        look_memory: Annotated[float, Range(0, 1)] = 0.9,
        camera: Annotated[str, Choice(("flow", "ecc", "none"))] = "flow",
        **common: Any,
    ) -> None:
        self._max_cosine = max_cosine
        self._look_iou_threshold = look_iou_threshold
        self._look_memory = look_memory
        self._camera = camera
        super().__init__(**common)

    def _by_worth(
        self, matching: Matching, tracks: Mask, detections: Mask, predicted: Floats, seen: Observed, least: float
    ) -> None:
        free, found = matching.free(tracks, detections)
        i, j = matching.candidates(free, predicted[free], found, seen.xyxy[found])
        rows, cols = free[i], found[j]
        overlap = iou_of_pairs(predicted, rows, seen.xyxy, cols)
        cost = 1 - overlap * seen.scores[cols]
        if seen.has_features:
            near = (overlap >= self._look_iou_threshold).nonzero()[0]
            distance = self._looks.distance(rows[near], seen, cols[near])
            alike = distance < self._max_cosine
            cost[near[alike]] = np.minimum(cost[near[alike]], distance[alike] / 2)
        matching.take(rows, cols, cost, 1 - least)

    def _remember(self, rows: Indices, seen: Observed, cols: Indices) -> None:
        clear = seen.scores[cols] >= self._high_score
        self._looks.store(rows[clear], seen.features(cols[clear]), self._look_memory)
