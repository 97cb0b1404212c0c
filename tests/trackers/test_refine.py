"""Offline refinement against what is known: motion that was made up, ground truth cut to pieces, least squares."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trackers import mot_format
from trackers.drift import camera_path
from trackers.filling import FILLED, fill
from trackers.linking import Plausible, link
from trackers.mot_format import MotRows
from trackers.refine import refine
from trackers.smoothing import Noise, smooth

RATE = 25.0


def rows(frame: np.ndarray, track: np.ndarray, xyxy: np.ndarray, confidence: float = 0.9) -> MotRows:
    n = len(frame)
    return MotRows(frame, np.asarray(track), xyxy, np.full(n, confidence), np.full(n, -1), np.ones(n))


def walk(
    track: int,
    frames: range,
    *,
    start: tuple[float, float] = (100, 100),
    velocity: tuple[float, float] = (50, 0),
    height: float = 100,
) -> MotRows:
    """Someone who walks straight on, by pixels a second, from where they are in frame 0."""
    frame = np.array(frames)
    centre = np.array(start) + frame[:, None] / RATE * np.array(velocity)
    half = np.array([0.2, 0.5]) * height
    return rows(frame, np.full(len(frame), track), np.concatenate([centre - half, centre + half], axis=1))


def together(*parts: MotRows) -> MotRows:
    return MotRows(*(np.concatenate([getattr(part, name) for part in parts]) for name in MotRows.__dataclass_fields__))


def ids(found: MotRows) -> list[int]:
    return np.unique(found.id).tolist()


def test_a_hole_in_a_straight_walk_is_filled_exactly() -> None:
    whole = walk(7, range(1, 101), velocity=(50, -20))
    holed = whole[(whole.frame < 30) | (whole.frame > 60)]
    filled = fill(holed, RATE, 2.0)
    np.testing.assert_array_equal(filled.frame, whole.frame)
    np.testing.assert_allclose(filled.xyxy, whole.xyxy)
    np.testing.assert_array_equal(filled.confidence == FILLED, (whole.frame >= 30) & (whole.frame <= 60))


def test_a_gap_is_as_long_as_from_box_to_box() -> None:
    holed = together(walk(1, range(1, 11)), walk(1, range(35, 45)))  # 25 frames from box to box: a second
    assert len(fill(holed, RATE, 0.99)) == len(holed)
    assert len(fill(holed, RATE, 1.0)) == len(holed) + 24
    assert len(fill(holed, 2 * RATE, 0.5)) == len(holed) + 24


def test_filled_boxes_follow_the_camera() -> None:
    """Six stand, each somewhere, and the camera jerks: in a hole the box is where a standing person is seen."""
    rng = np.random.default_rng(1)
    camera = np.cumsum(rng.choice([-9, -4, 0, 4, 9], (50, 2)), axis=0).astype(float)
    stand = [walk(n, range(1, 51), start=(n * 150.0, 200), velocity=(0, 0)) for n in range(1, 7)]
    seen = [replace(one, xyxy=one.xyxy + np.tile(camera, 2)) for one in stand]
    np.testing.assert_allclose(camera_path(together(*seen)).moved, camera - camera[0], atol=1e-9)
    holed = seen[0][(seen[0].frame < 20) | (seen[0].frame > 35)]
    filled = fill(together(holed, *seen[1:]), RATE, 2.0)
    np.testing.assert_allclose(filled[filled.id == 1].xyxy, seen[0].xyxy, atol=1e-9)


def test_three_pieces_of_one_walk_get_the_first_ones_id() -> None:
    pieces = together(walk(9, range(1, 31)), walk(4, range(50, 80)), walk(6, range(100, 130)))
    linked = link(pieces, RATE, 1.0)
    assert ids(linked) == [9]
    np.testing.assert_array_equal(linked.xyxy, pieces.xyxy)
    assert ids(link(pieces, RATE, 0.8)) == [6, 9]  # the second gap is 0.84 s from box to box
    assert ids(link(pieces, RATE, 0.7)) == [4, 6, 9]


@pytest.mark.parametrize(
    ("later", "why"),
    [
        (walk(2, range(30, 60)), "it begins when the first one is still there"),
        (walk(2, range(50, 80), start=(100, 180)), "it is elsewhere"),
        (walk(2, range(50, 80), height=70), "it is smaller"),
        (walk(2, range(50, 80), start=(300, 100), velocity=(-200, 0)), "it comes from elsewhere"),
        (walk(2, range(90, 120)), "it begins too late"),
        (replace(walk(2, range(50, 80)), class_id=np.full(30, 3)), "it is something else"),
    ],
)
def test_what_is_not_plausible_is_not_joined(later: MotRows, why: str) -> None:
    assert ids(link(together(walk(1, range(1, 31)), later), RATE, 1.5)) == [1, 2], why


def test_where_two_would_do_nothing_is_guessed() -> None:
    before = walk(1, range(1, 31))
    up, down = (walk(n, range(40, 70), start=(100, 100 + way)) for n, way in ((2, 3), (3, -3)))
    assert ids(link(together(before, up, down), RATE, 1.0)) == [1, 2, 3]
    assert len(ids(link(together(before, up, down), RATE, 1.0, Plausible(margin=1.0)))) == 2
    assert ids(link(together(before, up), RATE, 1.0)) == [1]


def test_two_who_cross_behind_a_pillar_keep_their_ids() -> None:
    """Where they end and begin they are equally near; only how they move tells them apart."""
    right = {"start": (0.0, 100.0), "velocity": (100.0, 0.0)}
    left = {"start": (200.0, 100.0), "velocity": (-100.0, 0.0)}
    scene = together(
        walk(1, range(1, 22), **right),
        walk(2, range(1, 22), **left),
        walk(3, range(29, 50), **right),
        walk(4, range(29, 50), **left),
    )
    linked = link(scene, RATE, 1.0)
    assert ids(linked) == [1, 2]
    assert set(linked.id[scene.id == 3]) == {1}
    assert set(linked.id[scene.id == 4]) == {2}


@pytest.mark.parametrize("name", ["MOT15/PETS09-S2L1", "MOT15/TUD-Stadtmitte", "MOT17/MOT17-09-FRCNN"])
@pytest.mark.parametrize("seconds", [0.4, 0.8])
def test_ground_truth_cut_to_pieces_is_put_together(name: str, seconds: float, data: Path) -> None:
    folder = data / "mot" / name
    rate = mot_format.read_seqinfo(folder / "seqinfo.ini").frame_rate
    truth = mot_format.read(folder / "gt" / "gt.txt")
    truth = truth[truth.confidence > 0]
    rng = np.random.default_rng(3)
    kept, piece = np.ones(len(truth), bool), truth.id.copy()
    for track in np.unique(truth.id):
        mine = np.flatnonzero(truth.id == track)
        span = truth.frame[mine]
        if span.max() - span.min() > 3 * rate:
            cut = rng.integers(span.min() + rate, span.max() - rate)
            kept[mine[(span > cut) & (span < cut + seconds * rate)]] = False
            piece[mine[span >= cut + seconds * rate]] += 1000
    cuts = len(np.unique(piece[kept])) - len(np.unique(truth.id))
    linked = link(replace(truth, id=piece)[kept], rate, 1.5)
    owners = {(int(one), int(new)) for one, new in zip(truth.id[kept], linked.id, strict=True)}
    pieces = len({new for _, new in owners})
    wrong = len(owners) - pieces  # ids that are several people's
    right = cuts - (len(owners) - len(np.unique(truth.id)))
    assert cuts >= 5
    assert right >= (0.35 if "MOT17" in name else 0.7) * cuts  # in MOT17-09 people come near fast: heights differ
    assert wrong <= 0.1 * cuts


def least_squares(time: np.ndarray, measured: np.ndarray, error: float, push: float, velocity: float) -> np.ndarray:
    """The most likely positions of one quantity, all at once: dense least squares over positions and velocities."""
    n = len(time)
    lines, wanted = [], []

    def say(line: np.ndarray, value: np.ndarray, covariance: np.ndarray) -> None:
        root = np.linalg.cholesky(np.linalg.inv(covariance)).T
        lines.append(root @ line)
        wanted.append(root @ value)

    unit = np.eye(2 * n)
    for k in range(n):
        say(unit[[2 * k]], measured[[k]], np.array([[error**2]]))
    say(unit[[1]], np.zeros(1), np.array([[velocity**2]]))
    for k, dt in enumerate(np.diff(time)):
        move = np.array([[1, dt], [0, 1]])
        noise = push**2 * np.array([[dt**3 / 3, dt**2 / 2], [dt**2 / 2, dt]])
        say(unit[2 * k + 2 : 2 * k + 4] - move @ unit[2 * k : 2 * k + 2], np.zeros(2), noise)
    return np.linalg.lstsq(np.concatenate(lines), np.concatenate(wanted), rcond=None)[0][::2]


def test_smoothing_is_the_least_squares_solution() -> None:
    pytest.importorskip("filterpy")
    rng = np.random.default_rng(5)
    noisy = walk(1, range(1, 41))
    noisy = replace(noisy, xyxy=noisy.xyxy + rng.normal(0, 3, noisy.xyxy.shape))
    noisy = noisy[rng.random(40) < 0.7]
    noise = Noise(measured=0.03, push=0.5, velocity=1.5)
    found = smooth(noisy, RATE, noise)
    height = float(np.median(noisy.xyxy[:, 3] - noisy.xyxy[:, 1]))
    scale = [height * value for value in (noise.measured, noise.push, noise.velocity)]

    def quantities(xyxy: np.ndarray) -> np.ndarray:
        return np.concatenate([(xyxy[:, :2] + xyxy[:, 2:]) / 2, xyxy[:, 2:] - xyxy[:, :2]], axis=1)

    expected = [least_squares(noisy.frame / RATE, column, *scale) for column in quantities(noisy.xyxy).T]
    np.testing.assert_allclose(quantities(found.xyxy), np.stack(expected, axis=1), atol=1e-5)


def test_smoothing_brings_noisy_boxes_nearer_to_the_truth_and_leaves_one_box_alone() -> None:
    pytest.importorskip("filterpy")
    rng = np.random.default_rng(6)
    true = walk(1, range(1, 101))
    noisy = replace(true, xyxy=true.xyxy + rng.normal(0, 3, true.xyxy.shape))
    lone = walk(2, range(50, 51), start=(900, 500))
    found = smooth(together(noisy, lone), RATE)
    assert np.abs(found.xyxy[:100] - true.xyxy).mean() < 0.7 * np.abs(noisy.xyxy - true.xyxy).mean()
    np.testing.assert_array_equal(found.xyxy[100:], lone.xyxy)
    np.testing.assert_allclose(smooth(true, RATE).xyxy, true.xyxy, atol=0.5)  # what is straight stays


def test_without_filterpy_only_smoothing_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "filterpy", None)
    monkeypatch.setitem(sys.modules, "filterpy.kalman", None)
    scene = walk(1, range(1, 20))
    assert len(refine(scene, RATE).rows) == 19
    with pytest.raises(ImportError):
        refine(scene, RATE, smooth=True)


@st.composite
def results(draw: st.DrawFn) -> MotRows:
    """Tracks that come and go, jump and overlap, with few places so that they are often plausible."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    parts = []
    for track in draw(st.lists(st.integers(1, 60), max_size=12, unique=True)):
        first = draw(st.integers(1, 80))
        frame = first + np.flatnonzero(rng.random(draw(st.integers(1, 40))) < draw(st.sampled_from([0.3, 0.8, 1.0])))
        centre = rng.integers(0, 3, 2) * 30 + np.cumsum(rng.normal(0, draw(st.sampled_from([0, 1, 10])), (80, 2)), 0)
        half = rng.choice([[0.0, 0.0], [10.0, 25.0], [11.0, 26.0]], p=[0.1, 0.6, 0.3])
        boxes = np.concatenate([centre - half, centre + half], axis=1)[: len(frame)]
        parts.append(rows(frame, np.full(len(frame), track), boxes, float(rng.uniform(0.1, 1))))
    every = together(MotRows(), *parts)
    return every[rng.permutation(len(every))]


def key(found: MotRows) -> list[tuple[float, ...]]:
    return sorted(map(tuple, np.column_stack([found.frame, found.confidence, found.xyxy]).tolist()))


@settings(max_examples=60, deadline=None)
@given(results(), st.sampled_from([0.0, 0.5, 2.0]), st.sampled_from([0.0, 0.3, 3.0]), st.booleans())
def test_nothing_measured_is_lost_and_no_id_is_twice_in_a_frame(
    scene: MotRows, gap: float, hole: float, moved: bool
) -> None:
    if moved:
        pytest.importorskip("filterpy")
    done = refine(scene, 10.0, link=gap, fill=hole, smooth=moved)
    found = done.rows
    assert len(np.unique(np.column_stack([found.frame, found.id]), axis=0)) == len(found)
    measured = found[found.confidence != FILLED]
    assert len(measured) == len(scene)
    assert len(found) == len(scene) + done.filled
    assert len(ids(found)) == done.tracks - done.joined
    assert set(ids(found)) <= set(ids(scene))
    assert np.isfinite(found.xyxy).all()
    assert (found.xyxy[:, 2:] >= found.xyxy[:, :2] - 1e-9).all()
    if not moved:
        assert key(measured) == key(scene)
        order = np.lexsort((scene.id, scene.frame))
        again = refine(scene[order], 10.0, link=gap, fill=hole).rows
        np.testing.assert_array_equal(again.xyxy, found.xyxy)  # the order of the lines changes nothing
    linked = link(scene, 10.0, gap) if gap else scene
    for track in ids(scene):
        assert len(set(linked.id[scene.id == track])) == 1
    for track in ids(linked):
        mine = linked.id == track
        first = scene.frame[mine].argmin()
        assert scene.id[mine][first] == track  # the earliest one's id
        times = np.sort(linked.frame[mine])
        assert (
            not hole
            or (np.diff(np.sort(found.frame[found.id == track])) > 1).sum()
            == (np.diff(times) > max(1, hole * 10.0)).sum()
        )


def test_nothing_becomes_nothing() -> None:
    done = refine(MotRows(), RATE)
    assert (len(done.rows), done.tracks, done.joined, done.filled) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (walk(-1, range(1, 3)), "frame 1, id -1: an id that is negative"),
        (together(walk(3, range(1, 9)), walk(3, range(5, 6))), "frame 5, id 3: the id is there twice"),
        (walk(1, range(0, 3)), "frames count from 1"),
        (walk(1, range(1, 3), height=-5), "negative side"),
        (walk(1, range(1, 3), start=(1e9, 0)), "in no picture"),
    ],
)
def test_what_is_no_result_is_refused(wrong: MotRows, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        refine(wrong, RATE)


@pytest.mark.parametrize("options", [{"link": -1}, {"fill": float("nan")}, {"rate": 0.0}, {"rate": float("inf")}])
def test_times_that_are_none_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        refine(walk(1, range(1, 5)), options.pop("rate", RATE), **options)


def test_a_file_that_is_written_reads_the_same(tmp_path: Path) -> None:
    scene = walk(3, range(1, 9))
    scene = replace(scene, confidence=np.array([0, 1e-7, 0.25, 0.5, 0.75, 1, -1, 0.123456]))
    (tmp_path / "a.txt").write_text(mot_format.text(scene))
    back = mot_format.read(tmp_path / "a.txt")
    for name in ("frame", "id", "confidence"):
        np.testing.assert_array_equal(getattr(back, name), getattr(scene, name))
    np.testing.assert_allclose(back.xyxy, scene.xyxy, atol=0.0101)
