"""The pace of streams that come in pieces, and the memory of what was watched; real ones are in end_to_end."""

from __future__ import annotations

import av
import numpy as np
import pytest

from pipeline.live.playlist import Memory, Playout


def given(playout: Playout, timestamps: list[float], arrivals: list[float]) -> list[float]:
    """When each picture is given: the clock goes on with waiting, and to the next arrival."""
    now, at = 0.0, []
    for timestamp, arrival in zip(timestamps, arrivals, strict=True):
        now = max(now, arrival)
        now += playout.wait(timestamp, now)
        at.append(now)
    return at


def test_what_comes_at_once_is_given_at_its_own_pace() -> None:
    times = [n / 25 for n in range(100)]
    assert given(Playout(2.5), times, [10.0] * 100) == pytest.approx([10 + time for time in times])


def test_a_piece_that_is_late_is_late_once() -> None:
    """Pieces of a second; the third comes 1.5 s too late, and all that follow are as late, without hurry."""
    times = [n / 25 for n in range(125)]
    arrivals = [max(0.0, 1.0 * (n // 25 - 1)) + 2.5 * (n >= 50) for n in range(125)]
    at = given(Playout(2.5), times, arrivals)
    assert np.diff(at).max() == pytest.approx(1.5 + 0.04)
    assert sum(np.diff(at) > 0.041) == 1


def test_one_that_is_hardly_late_hurries() -> None:
    """A hiccup of 0.2 s: what was due meanwhile comes at once, and then all is in time again."""
    times = [n / 25 for n in range(50)]
    at = given(Playout(2.5), times, [0.0] * 10 + [0.6] * 40)
    assert at[20:] == pytest.approx(times[20:])


@pytest.mark.parametrize("jump", [-3600.0, 3600.0, 2.1])
def test_a_jump_of_the_clock_is_not_waited_for(jump: float) -> None:
    times = [n / 25 + (jump if n >= 10 else 0) for n in range(20)]
    at = given(Playout(1.0), times, [0.0] * 20)
    assert at[-1] <= 1.0


def picture(pts: int, seed: int = 0) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(np.random.default_rng(seed).integers(0, 255, (48, 64), np.uint8), format="gray")
    frame.pts = pts
    return frame


def test_what_was_watched_is_known_until_something_new_comes() -> None:
    memory = Memory()
    assert memory.recall().is_over
    for pts in range(5):
        memory.keep(picture(pts))
    recall = memory.recall()
    assert [recall.knows(picture(pts), 0.0) for pts in (2, 3, 4)] == [True] * 3
    assert not recall.is_over
    assert not recall.knows(picture(5), 0.0)
    assert recall.is_over
    assert not recall.knows(picture(2), 0.0), "from then on all is new"
    assert not memory.recall().knows(picture(2, seed=1), 0.0), "an encoder that begins anew repeats times, not pictures"


def test_what_has_to_be_waited_for_is_new() -> None:
    memory = Memory()
    for pts in range(5):
        memory.keep(picture(pts))
    recall = memory.recall()
    assert recall.knows(picture(0), 0.0)
    assert recall.knows(picture(1), 1.0), "the end of what was listed may be late"
    assert not recall.knows(picture(2), 0.0)


def test_memory_is_bounded() -> None:
    memory = Memory()
    for pts in range(5000):
        memory.keep(picture(pts))
    assert len(memory) == 4096
