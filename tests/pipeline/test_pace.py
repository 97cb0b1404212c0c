"""Decoding that does not keep up with a camera: what is left out, and that nothing drifts. The clock is the test's."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
import pytest
from cameras import HttpCamera
from chains import Keep
from numpy.typing import NDArray

from pipeline.decode import Decoder, Picture
from pipeline.engine import Pipeline
from pipeline.frame import Frame
from pipeline.live.pace import Pace
from pipeline.source import create_source


@dataclass
class Played:
    """What became of a camera's pictures: how far behind each one was that was given, and when the camera took it."""

    lags: list[float] = field(default_factory=list)
    taken: list[float] = field(default_factory=list)
    skipped: int = 0
    stale: int = 0


def play(
    fps: float, decoding: float, converting: float, clock: float = 1.0, held_up: tuple[float, float] = (0.0, 0.0)
) -> Played:
    """A minute of a camera with a keyframe a second and a clock of that rate, which the network holds up once."""
    now = waited = 0.0
    pace, played = Pace(0.5, lambda: now), Played()
    for n in range(int(60 * fps)):
        taken = n / fps
        wait = max(0.0, (held_up[1] if held_up[0] <= taken < held_up[1] else taken) - now)
        waited, now = waited + wait, now + wait + 2e-4
        if not pace.decodes(1000 + taken * clock, n % round(fps) == 0, waited):
            played.skipped += 1
            continue
        now += decoding
        if not pace.converts():
            played.stale += 1
            continue
        now += converting
        played.lags.append(now - taken)
        played.taken.append(taken)
    assert len(played.lags) + played.skipped + played.stale == int(60 * fps)
    return played


@pytest.mark.parametrize(("decoding", "converting"), [(0.01, 0.005), (0.035, 0.004)])
def test_who_keeps_up_leaves_nothing_out(decoding: float, converting: float) -> None:
    played = play(25, decoding, converting)
    assert (played.skipped, played.stale) == (0, 0)


@pytest.mark.parametrize("clock", [0.96, 1.04])
def test_a_clock_that_is_wrong_is_no_lag(clock: float) -> None:
    played = play(25, 0.01, 0.004, clock)
    assert (played.skipped, played.stale) == (0, 0)


def test_what_decodes_in_time_and_converts_too_slowly_decodes_everything() -> None:
    played = play(60, 0.010, 0.010)
    assert played.skipped == 0
    assert max(played.lags) < 0.7
    assert len(played.lags) > 2000, "of 3600, 3000 can be converted"


@pytest.mark.parametrize(("fps", "decoding"), [(60, 0.02), (60, 0.05), (25, 0.2)])
def test_what_cannot_be_decoded_in_time_goes_on_with_keyframes_and_does_not_drift(fps: float, decoding: float) -> None:
    played = play(fps, decoding, 0.005)
    assert played.skipped
    assert max(played.lags) < 1.5
    assert max(later - earlier for earlier, later in zip(played.taken, played.taken[1:], strict=False)) < 2.0


def test_what_the_network_held_up_is_caught_up_with_and_decoded_whole() -> None:
    played = play(25, 0.01, 0.004, held_up=(20, 23))
    assert played.skipped == 0
    assert played.lags[-1] < 0.1
    assert played.stale < 80, "of the 75 pictures that came at once, and a few after them"


def test_a_camera_that_is_converted_too_slowly_is_followed_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    really = Decoder.image

    def slowly(self: Decoder, picture: Picture) -> NDArray[np.uint8]:
        time.sleep(0.06)  # what a slow machine takes for a large picture
        return really(self, picture)

    monkeypatch.setattr(Decoder, "image", slowly)
    frames: list[Frame] = []
    with HttpCamera(rate=50) as camera:
        source = create_source(f"http://127.0.0.1:{camera.port}/ts", max_lag=0.1)
        pipeline = Pipeline([source], [], [Keep(function=frames.append)])
        pipeline.start()
        deadline = time.monotonic() + 20
        while not (frames and pipeline.metrics.snapshot().sources[0].dropped.get("stale", 0) > 20):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        pipeline.stop()
        (account,) = pipeline.wait(20).sources
    assert account.captured == account.finished + sum(account.dropped.values())
    assert [frame.index for frame in frames] == sorted({frame.index for frame in frames})
    assert account.connections == 1
