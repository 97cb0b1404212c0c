"""The timeline against any history of connections, clocks and gaps."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.frame import Frame
from pipeline.live.timeline import Timeline


def frame(index: int, timestamp: float, side: int = 8) -> Frame:
    return Frame(np.zeros((side, side, 3), np.uint8), "gate", index, timestamp)


seconds = st.floats(0, 20)
histories = st.lists(
    st.lists(st.tuples(seconds, st.floats(-4000, 4000), st.integers(0, 3)), max_size=8), min_size=1, max_size=6
)


@given(histories)
def test_indices_never_repeat_and_time_never_goes_back(history: list[list[tuple[float, float, int]]]) -> None:
    timeline, now, placed, first = Timeline(), 0.0, [], True
    for connection in history:
        index, raw, new = 0, 0.0, True
        for gap, step, skipped in connection:
            now, raw, index = now + gap, raw + step, index + skipped
            one = frame(index, raw)
            timeline.place(one, now)
            assert one.discontinuity or first or not new
            placed.append((one.index, one.timestamp))
            index, new, first = index + 1, False, False
        timeline.reconnected(index + 2)  # two more were seen and not given
    indices, times = zip(*placed, strict=True) if placed else ((), ())
    assert all(after > before for before, after in itertools.pairwise(indices))
    assert all(after >= before for before, after in itertools.pairwise(times))


def test_what_was_seen_and_not_given_keeps_its_place() -> None:
    timeline = Timeline()
    timeline.place(frame(0, 0.0), 100.0)
    timeline.reconnected(seen=4)
    after = frame(1, 0.2)
    timeline.place(after, 105.0)
    assert (after.index, after.discontinuity) == (5, True)
    assert after.timestamp == pytest.approx(5.0), "the clock on the wall went on"


@pytest.mark.parametrize("jump", [-3600.0, 3600.0, -1.5])
def test_a_clock_that_jumps_is_followed_by_the_wall_clock(jump: float) -> None:
    timeline, raw, told = Timeline(), 50.0, []
    for n in range(20):
        raw += 0.04 + (jump if n == 10 else 0)
        one = frame(n, raw)
        timeline.place(one, 1000 + 0.04 * n)
        told.append(one)
    assert [one.index for one in told if one.discontinuity] == [10]
    assert [one.timestamp for one in told] == pytest.approx([50.04 + 0.04 * n for n in range(20)])


def test_what_comes_late_all_at_once_has_not_jumped() -> None:
    timeline, told = Timeline(), []
    for n in range(100):
        one = frame(n, n / 25)
        timeline.place(one, n / 25 if n < 25 else max(3.0, n / 25))  # nothing for 2 s, then what waited
        told.append(one)
    assert not any(one.discontinuity for one in told)
    assert [one.timestamp for one in told] == [n / 25 for n in range(100)]


@pytest.mark.parametrize("speed", [0.5, 1.5])
def test_a_clock_of_another_speed_is_put_right_now_and_then(speed: float) -> None:
    timeline, told = Timeline(), []
    for n in range(3000):
        one = frame(n, speed * n / 10)
        timeline.place(one, n / 10)
        told.append(one)
    assert all(after.timestamp >= before.timestamp for before, after in itertools.pairwise(told))
    # what the first half minute is wrong by stays, and what half a minute adds to it
    assert all(abs(one.timestamp - n / 10) <= 31 for n, one in enumerate(told))
    assert 3 < sum(one.discontinuity for one in told) < 12


def test_a_clock_that_stood_still_is_put_right() -> None:
    timeline, told = Timeline(), []
    for n in range(1000):
        now = n / 10 + (5 if n >= 400 else 0)
        one = frame(n, n / 10)
        timeline.place(one, now)
        told.append(one)
    assert told[-1].timestamp == pytest.approx(999 / 10 + 5)
    assert sum(one.discontinuity for one in told) == 1


def test_segments_that_come_all_at_once_are_no_drift() -> None:
    timeline, told = Timeline(), []
    for n in range(3000):
        one = frame(n, n / 25)
        timeline.place(one, 6 * (n // 150) + (0.5 if n % 300 < 150 else 0))
        told.append(one)
    assert not any(one.discontinuity for one in told)


def test_other_sizes_and_silence_are_marked() -> None:
    timeline = Timeline()
    told = [frame(0, 0.0), frame(1, 0.1), frame(2, 0.2, side=16), frame(3, 0.3, side=16), frame(4, 0.4, side=16)]
    for n, one in enumerate(told):
        timeline.place(one, n / 10, silence=n == 4)
    assert [one.discontinuity for one in told] == [False, False, True, False, True]
