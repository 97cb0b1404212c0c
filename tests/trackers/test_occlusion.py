"""Who stands behind whom: told by the tracks, and waited for."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

import trackers
from trackers import Tracks
from trackers.occlusion import Occlusions

NAMES = [name for name in trackers.available() if name != "sort"]


pytestmark = pytest.mark.usefixtures("loops")


def test_the_one_that_reaches_lower_is_in_front() -> None:
    boxes = np.array([[0, 0, 40, 100], [20, 10, 60, 120], [200, 0, 240, 100]], float)
    occlusions = Occlusions(3)
    occlusions.look(boxes, np.array([7, 8, 9]), np.ones(3, bool), 5.0)
    assert occlusions.covered.tolist() == [True, False, False]
    assert occlusions.by.tolist() == [8, -1, -1]
    occlusions.look(boxes, np.array([7, 8, 9]), np.ones(3, bool), 6.5)
    assert occlusions.since[0] == 5.0, "since it was covered first"
    assert occlusions.by[occlusions.covered].tolist() == [8]


def test_what_is_not_seen_is_behind_what_is() -> None:
    boxes = np.array([[0, 0, 40, 130], [0, 10, 40, 120]], float)
    occlusions = Occlusions(2)
    occlusions.look(boxes, np.array([1, 2]), np.array([False, True]), 0.0)
    assert occlusions.by.tolist() == [2, -1]
    occlusions.look(boxes, np.array([1, 2]), np.array([False, False]), 1.0)
    assert not occlusions.covered.any(), "nobody is there to cover anybody"


def passing(name: str) -> list[Tracks]:
    """One person stands; another, nearer, walks past and hides him for a while. 20 frames a second."""
    tracker, results = trackers.create(name), []
    for n in range(100):
        still = [300.0, 100.0, 340.0, 220.0]
        walker = [6.0 * n, 110.0, 6.0 * n + 45, 245.0]
        hidden = abs(walker[0] - still[0]) < 27
        boxes = np.array([walker] if hidden else [walker, still])
        results.append(tracker.update(boxes, np.full(len(boxes), 0.9), timestamp=n / 20))
    return results


@pytest.mark.parametrize("name", NAMES)
def test_tracks_know_who_hides_them_and_for_how_long(name: str) -> None:
    results = passing(name)
    walker = int(results[10].id[results[10].xyxy[:, 0].argmin()])
    lost = [tracks.lost() for tracks in results if len(tracks.lost())]
    assert lost, "he was hidden"
    assert all(part.occluded.all() for part in lost[2:-2])
    assert {int(i) for part in lost[2:-2] for i in part.occluder} == {walker}
    times = [float(part.occluded_for[0]) for part in lost]
    assert all(later > earlier for earlier, later in pairwise(times))
    assert all(not tracks.occluded[tracks.id == walker].any() for tracks in results)
    assert {int(i) for tracks in results for i in tracks.id} == {1, 2}, "he is still himself"


def test_the_default_says_where_the_hidden_one_is() -> None:
    results = passing("tether")
    hidden = [tracks.hidden() for tracks in results]
    missing = [len(tracks) < 2 for tracks in results[5:]]
    assert sum(len(part) for part in hidden[5:]) == sum(missing), "whenever he was not seen it knew that he was there"
    for part in hidden:
        if len(part):
            np.testing.assert_allclose(part.xyxy, [[300, 100, 340, 220]], atol=8)


def test_who_leaves_in_plain_view_is_not_believed_to_be_there() -> None:
    tracker = trackers.create("tether")
    for n in range(40):
        boxes = np.array([[100.0, 100, 140, 220]] if n < 20 else []).reshape(-1, 4)
        tracks = tracker.update(boxes, np.full(len(boxes), 0.9), timestamp=n / 20)
        if n >= 25:
            assert len(tracks.lost()) == 1
            assert len(tracks.hidden()) == 0
