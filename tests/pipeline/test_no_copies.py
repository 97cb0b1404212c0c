"""A frame is decoded once and copied never: the same memory reaches every stage and every sink."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chains import Call, Keep, Stateful

from pipeline.engine import Pipeline
from pipeline.frame import Frame
from pipeline.source import create_source
from pipeline.stage import Stage
from pipeline.stages.annotate import Annotate
from pipeline.stages.detect import Detect
from pipeline.stages.embed import Embed
from pipeline.stages.gate import Gate
from pipeline.stages.recall import Recall
from pipeline.stages.track import Track


class Witness:
    """Notes which image, and which memory, was seen of each frame; keeps them, so that no address is used again."""

    def __init__(self) -> None:
        self.seen: dict[int, tuple[Any, int]] = {}

    def __call__(self, frame: Frame) -> None:
        self.seen[frame.index] = (frame.image, frame.image.__array_interface__["data"][0])


@pytest.mark.parametrize("drawn", [False, True])
def test_the_same_memory_everywhere(data: Path, drawn: bool) -> None:
    source = create_source(str(data / "video" / "vtest.avi"), max_frames=6)
    parts: list[Stage] = [Gate(motion=True), Detect(weights="nanodet-g"), Recall(), Embed(), Track()]
    parts += [Annotate()] if drawn else []
    witnesses = [Witness() for _ in range(len(parts) + 3)]
    chain: list[Stage] = [Call(function=witnesses[0], workers=2)]
    for part, witness in zip(parts, witnesses[1:], strict=False):
        chain += [part, Stateful(function=witness)]
    canvases: list[np.ndarray] = []

    def keep(frame: Frame) -> None:
        witnesses[-1](frame)
        if frame.canvas is not None:
            canvases.append(frame.canvas)

    Pipeline([source], chain, [Keep(function=witnesses[-2]), Keep(function=keep)]).run()
    first = witnesses[0].seen
    assert sorted(first) == list(range(6))
    for witness in witnesses[1:]:
        for index, (image, address) in witness.seen.items():
            assert image is first[index][0]
            assert address == first[index][1]
        assert sorted(witness.seen) == sorted(first)
    images = [image for image, _ in first.values()]
    assert not any(image.flags.owndata for image in images), "it is what FFmpeg made, not a copy of it"
    assert len({address for _, address in first.values()}) == 6
    assert len(canvases) == (6 if drawn else 0), "only what draws has an image of its own"
    assert not any(np.shares_memory(canvas, image) for canvas, image in zip(canvases, images, strict=False))
