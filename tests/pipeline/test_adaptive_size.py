"""Adaptive image size: smaller while all is large, decided by earlier full looks of the same source alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from pipeline.adaptive_size import AdaptiveSize
from pipeline.detections import Detections
from pipeline.engine import Pipeline
from pipeline.frame import Frame
from pipeline.sinks.jsonl import JsonLines
from pipeline.source import create_source
from pipeline.stages.detect import Detect

IMAGE = np.zeros((480, 640, 3), np.uint8)


def frame(n: int, source: str = "cam") -> Frame:
    return Frame(IMAGE, source, n, n / 10)


def found(*heights: float) -> Detections:
    n = len(heights)
    xyxy = np.array([(0, 0, 10, height) for height in heights], np.float32).reshape(n, 4)
    return Detections(xyxy, np.ones(n, np.float32), np.zeros(n, np.int64))


def shares(sizes: AdaptiveSize, frames: Sequence[Frame], seen: dict[int, Detections], batch: int) -> list[float]:
    """The share each frame is given at; what a full look at frame n finds is `seen[n]`, or else one 130 pixels tall."""
    given: list[float] = []
    for start in range(0, len(frames), batch):
        for together in sizes.rounds(frames[start : start + batch]):
            given += [share for _, share in together]
            last = together[-1][0]
            sizes.learn(last, seen.get(last.index, found(130)), 1.0)
    return given


@pytest.mark.parametrize("batch", [1, 4, 16, 100])
def test_smaller_once_two_full_looks_agree_and_larger_at_once(batch: int) -> None:
    frames = [frame(n) for n in range(60)]
    given = shares(AdaptiveSize(1.0), frames, {20: found(200, 90), 40: found(20)}, batch)
    assert given[:11] == [1.0] * 11, "one look is not enough"
    assert given[11:20] == [0.5] * 9
    assert given[20:31] == [1.0] + [0.8] * 9 + [1.0], "the least counts, and an older look that allowed less still does"
    assert given[31:40] == [0.8] * 9
    assert given[40:] == [1.0] * 20


def test_sources_do_not_touch_each_other_and_nothing_found_allows_nothing() -> None:
    sizes = AdaptiveSize(1.0)
    busy = [frame(n) for n in range(30)]
    empty = [frame(n, "empty") for n in range(30)]
    mixed = [one for pair in zip(busy, empty, strict=True) for one in pair]
    given: dict[str, list[float]] = {"cam": [], "empty": []}
    for together in sizes.rounds(mixed):
        for one, share in together:
            given[one.source].append(share)
        last = together[-1][0]
        sizes.learn(last, found(130) if last.source == "cam" else found(), 1.0)
    assert given["cam"][11:20] == [0.5] * 9
    assert set(given["empty"]) == {1.0}


def test_it_needs_one_worker() -> None:
    with pytest.raises(ValidationError, match="leave workers out"):
        Detect(adaptive=1.0, workers=2)


def test_the_same_bytes_whatever_the_batch_and_smaller_inputs_where_people_are_large(
    data: Path, tmp_path: Path
) -> None:
    video, outputs, sizes = str(data / "video" / "TUD-Stadtmitte.mp4"), [], set()

    class Watched(Detect):
        def open(self) -> None:
            super().open()
            run = self.detector.model.run_views
            self.detector.model.run_views = lambda views: (sizes.add(views.size), run(views))[1]  # type: ignore[method-assign]

    for batch in (1, 7):
        stage = Watched(
            weights="nanodet-g", runtime="native", classes=("person",), confidence=0.6, adaptive=0.4, batch=batch
        )
        path = tmp_path / f"{batch}.jsonl"
        Pipeline([create_source(video, max_frames=40)], [stage], [JsonLines(path=path)]).run()
        outputs.append(path.read_bytes())
    assert outputs[0] == outputs[1]
    assert len(sizes) > 1
    assert max(width for _, width in sizes) == 416
