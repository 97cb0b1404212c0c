"""Updates per second of our trackers beside a textbook DeepSORT loop over filterpy filters, on synthetic crowds.

    python benchmarks/tracking.py [--sizes 10 50 200] [--json]

Each crowd walks through a hall with 10 % misses and 5 % false alarms. The textbook loop is what DeepSORT's paper says,
written out: one Kalman filter object a track, one dense cost matrix, one assignment. It stands for the libraries
that are built so. Both see the same detections, taking turns in one process.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import numpy as np
from filterpy.kalman import KalmanFilter
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

import trackers

Scene = list[NDArray[np.float64]]


def crowd(size: int, frames: int, seed: int = 0) -> Scene:
    """(N, 4) detections of each frame."""
    rng = np.random.default_rng(seed)
    hall = 150.0 * size**0.5
    place, velocity = rng.uniform(0, hall, (size, 2)), rng.normal(0, 3, (size, 2))
    scene = []
    for _ in range(frames):
        place += velocity
        velocity[(place < 0) | (place > hall)] *= -1
        seen = place[rng.random(size) > 0.1] + rng.normal(0, 1, 2)
        corners = np.concatenate([seen, rng.uniform(0, hall, (max(1, size // 20), 2))])
        scene.append(np.concatenate([corners, corners + np.array([40.0, 110.0])], axis=1))
    return scene


class Textbook:
    """One filterpy filter a track, dense IoU, one assignment a frame."""

    def __init__(self) -> None:
        self.filters: list[tuple[KalmanFilter, list[int]]] = []

    def update(self, boxes: NDArray[np.float64]) -> None:
        """Predict, match, correct, one object at a time."""
        for kalman, age in self.filters:
            kalman.predict()
            age[0] += 1
        predicted = np.array([self._box(kalman) for kalman, _ in self.filters]).reshape(-1, 4)
        cost = np.array([[1 - self._iou(a, b) for b in boxes] for a in predicted]).reshape(len(predicted), len(boxes))
        rows, cols = linear_sum_assignment(cost) if cost.size else ([], [])
        used = set()
        for row, col in zip(rows, cols, strict=True):
            if cost[row, col] < 0.7:
                kalman, age = self.filters[row]
                kalman.update(self._measure(boxes[col]))
                age[0] = 0
                used.add(col)
        self.filters = [entry for entry in self.filters if entry[1][0] < 30]
        self.filters += [(self._new(box), [0]) for n, box in enumerate(boxes) if n not in used]

    def _new(self, box: NDArray[np.float64]) -> KalmanFilter:
        kalman = KalmanFilter(dim_x=8, dim_z=4)
        kalman.F = np.eye(8) + np.eye(8, k=4)
        kalman.H = np.eye(4, 8)
        kalman.x[:4] = self._measure(box)
        return kalman

    @staticmethod
    def _measure(box: NDArray[np.float64]) -> NDArray[np.float64]:
        width, height = box[2] - box[0], box[3] - box[1]
        return np.array([[box[0] + width / 2], [box[1] + height / 2], [width / height], [height]])

    @staticmethod
    def _box(kalman: KalmanFilter) -> list[float]:
        x, y, ratio, height = kalman.x[:4, 0]
        return [x - ratio * height / 2, y - height / 2, x + ratio * height / 2, y + height / 2]

    @staticmethod
    def _iou(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
        width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
        if width <= 0 or height <= 0:
            return 0.0
        shared = width * height
        return float(shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared))


def rate(update: Callable[[NDArray[np.float64]], object], scene: Scene) -> float:
    """Updates a second, after a few to settle."""
    for boxes in scene[:5]:
        update(boxes)
    start = time.perf_counter()
    for boxes in scene[5:]:
        update(boxes)
    return (len(scene) - 5) / (time.perf_counter() - start)


def measure(size: int, rounds: int) -> dict[str, float]:
    """Median updates a second of each, and how many times faster ours are."""
    scene = crowd(size, 60 if size <= 100 else 25)
    rates: dict[str, list[float]] = {"deepsort": [], "sort": [], "textbook": []}
    for _ in range(rounds):
        rates["deepsort"].append(rate(trackers.create("deepsort").update, scene))
        rates["sort"].append(rate(trackers.create("sort").update, scene))
        rates["textbook"].append(rate(Textbook().update, scene))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    return medians | {"ratio": medians["deepsort"] / medians["textbook"]}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 50, 200])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    results = {size: measure(size, arguments.rounds) for size in arguments.sizes}
    if arguments.json:
        print(json.dumps(results))
        return
    for size, result in results.items():
        print(
            f"{size:5} boxes: deepsort {result['deepsort']:8.0f}/s, sort {result['sort']:8.0f}/s, "
            f"textbook {result['textbook']:7.1f}/s: {result['ratio']:.0f} times faster"
        )


if __name__ == "__main__":
    main()
