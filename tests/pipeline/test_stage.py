"""The check of a chain, before anything is loaded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from chains import Call, Stateful

from pipeline.errors import UsageError
from pipeline.frame import Frame
from pipeline.stage import Stage, check_chain


class Tracks(Stage):
    """Needs detections."""

    name = "needs"
    requires = frozenset({"detections"})
    provides = frozenset({"tracks"})

    def open(self) -> None:
        raise AssertionError("checking a chain loads nothing")

    def process(self, frames: Sequence[Frame]) -> None:
        raise AssertionError


class Finds(Tracks):
    """Gives detections."""

    name = "finds"
    requires = frozenset()
    provides = frozenset({"detections"})


def test_a_chain_that_fits_passes() -> None:
    check_chain([Finds(), Tracks(), Call(workers=4)], [("mot", frozenset({"tracks"}))])


def test_what_nothing_provides_is_refused_by_name_with_the_cure() -> None:
    with pytest.raises(
        UsageError, match="stage 'needs' needs detections, which nothing before it provides; put 'detect'"
    ):
        check_chain([Tracks(), Finds()])
    with pytest.raises(UsageError, match="sink 'mot' needs tracks"):
        check_chain([Finds()], [("mot", frozenset({"tracks"}))])


def test_a_stage_with_state_runs_in_one_worker() -> None:
    with pytest.raises(UsageError, match="stage 'stateful' keeps state"):
        check_chain([Stateful(workers=2)])


def test_a_picture_of_another_kind_is_refused_where_it_comes_in() -> None:
    for image in (np.zeros((4, 6), np.uint8), np.zeros((4, 6, 3), np.float32), np.zeros((4, 6, 4), np.uint8)):
        with pytest.raises(ValueError, match=r"is \(H, W, 3\) uint8, BGR, not .*; cv2.cvtColor makes one"):
            Frame(image)  # type: ignore[arg-type]
