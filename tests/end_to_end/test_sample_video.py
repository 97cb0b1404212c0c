"""The rendered sample video: deterministic, and its ground truth is what the pixels show."""

import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import pytest

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
SIZE = (480, 270)
FRAMES = 30


@pytest.fixture(scope="module", autouse=True)
def samples_importable() -> Iterator[None]:
    sys.path.insert(0, str(SAMPLES))
    yield
    sys.path.remove(str(SAMPLES))


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    from street.assets import MissingPhotograph, photograph

    try:
        return photograph(None)
    except MissingPhotograph as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="module")
def video(photo: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("street") / "street.mp4"
    command = [
        sys.executable,
        SAMPLES / "render_street.py",
        path,
        "--seconds",
        "1.2",
        "--size",
        "480x270",
        "--seed",
        "3",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return path


def pictures(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)])


def truth(video: Path) -> np.ndarray:
    return np.loadtxt(video.with_suffix("") / "gt" / "gt.txt", delimiter=",")


def test_length_size_and_codec(video: Path) -> None:
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height) == SIZE
        assert stream.codec_context.name == "h264"
        assert stream.average_rate == 25
        assert sum(1 for _ in container.decode(stream)) == FRAMES


def test_same_seed_same_pictures_and_another_seed_another_film(
    photo: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pictures as drawn: of equal pictures x264 makes other bytes now and then on a very busy machine."""
    from street import render

    drawn: dict[str, list[np.ndarray]] = {}

    @contextmanager
    def keep(path: Path, size: tuple[int, int], rate: int) -> Iterator[Callable[[np.ndarray], None]]:
        yield lambda image: drawn.setdefault(path.stem, []).append(image.copy())

    monkeypatch.setattr(render, "recorder", keep)
    for name, seed in (("one", 3), ("same", 3), ("other", 4)):
        render.render(photo, tmp_path / f"{name}.mp4", 0.4, SIZE, seed)
    np.testing.assert_array_equal(drawn["one"], drawn["same"])
    np.testing.assert_array_equal(truth(tmp_path / "one.mp4"), truth(tmp_path / "same.mp4"))
    assert not np.array_equal(drawn["one"], drawn["other"])


def test_boxes_are_inside_and_visibility_is_a_share(video: Path) -> None:
    rows = truth(video)
    left, top, width, height, visibility = *rows[:, 2:6].T, rows[:, 8]
    assert (rows[:, 0].min(), rows[:, 0].max()) == (1, FRAMES)
    assert left.min() >= 0
    assert top.min() >= 0
    # written with two decimals
    assert (left + width).max() <= SIZE[0] + 0.011
    assert (top + height).max() <= SIZE[1] + 0.011
    assert (width > 0).all()
    assert (height > 0).all()
    assert visibility.min() >= 0
    assert visibility.max() <= 1


def test_an_identity_is_one_thing_that_moves_steadily(video: Path) -> None:
    kinds, tracks = defaultdict(set), defaultdict(dict)
    for row in truth(video):
        kinds[int(row[1])].add(int(row[7]))
        tracks[int(row[1])][int(row[0])] = row[2:6]
    assert all(len(kind) == 1 for kind in kinds.values())
    assert sum(kind == {1} for kind in kinds.values()) >= 5
    assert sum(kind == {3} for kind in kinds.values()) == 1
    for track in tracks.values():
        frames = sorted(track)
        assert frames == list(range(frames[0], frames[-1] + 1))
        whole = np.array([track[frame] for frame in frames if inside(track[frame])]).reshape(-1, 4)
        middles = whole[:, 0] + whole[:, 2] / 2
        assert np.abs(np.diff(middles)).max(initial=0) < 12  # the bus comes at 10 pixels a frame
        assert np.abs(np.diff(whole[:, 1])).max(initial=0) < 5


def inside(box: np.ndarray) -> bool:
    x, y, width, height = box
    return bool(x > 3 and y > 3 and x + width < SIZE[0] - 3 and y + height < SIZE[1] - 3)


def test_boxes_enclose_what_a_person_changes_in_the_picture(photo: np.ndarray) -> None:
    """Drawn with and without one person, the picture differs in that person's box and in his shadow, nowhere else."""
    from street.scene import CAST, Scene

    time = 3.0
    with_him = Scene(photo, SIZE, 0, CAST[:1])
    without = Scene(photo, SIZE, 0, ())
    image, found = with_him.draw(time, 0.04)
    empty, others = without.draw(time, 0.04)
    him = next(appearance for appearance in found if appearance.id == 1)
    assert 1 not in [appearance.id for appearance in others]
    changed = np.abs(image.astype(int) - empty).max(axis=2)
    # shadows only darken, and by at most 60 %, so what got lighter or much darker is him
    lighter = (image.astype(int) - empty).max(axis=2) > 12
    rows, columns = np.flatnonzero(lighter.any(axis=1)), np.flatnonzero(lighter.any(axis=0))
    x0, y0, x1, y1 = him.box
    assert rows[0] >= y0 - 1
    assert rows[-1] < y1 + 1
    assert columns[0] >= x0 - 1
    assert columns[-1] < x1 + 1
    above_ground = changed[: int(y1) - 12] > 24  # his shadow falls lower
    columns = np.flatnonzero(above_ground.any(axis=0))
    rows = np.flatnonzero(above_ground.any(axis=1))
    assert abs(rows[0] - y0) <= 2
    assert columns[0] >= x0 - 2
    assert columns[-1] < x1 + 2


def test_visibility_is_what_others_leave(photo: np.ndarray) -> None:
    """Two walkers on one line of sight: the far one is less visible than alone, the near one is not."""
    from street.scene import CAST, Scene

    times = np.arange(0, 12, 0.4)
    everyone, alone = Scene(photo, SIZE, 0), Scene(photo, SIZE, 0, CAST[:2])
    visible = {identity: [] for identity in (4, 5, 6, 7, 8)}
    for time in times:
        for appearance in everyone.draw(float(time), 0.04)[1]:
            visible.get(appearance.id, []).append(appearance.visibility)
        pair = {a.id: a for a in alone.draw(float(time), 0.04)[1]}
        full = {a.id: a for a in everyone.draw(float(time), 0.04)[1]}
        for identity in pair.keys() & full.keys() & {1, 2}:
            assert full[identity].visibility <= pair[identity].visibility + 1e-9
            assert full[identity].box == pair[identity].box
    hidden = [identity for identity, shares in visible.items() if min(shares) == 0.0 and max(shares) > 0.9]
    assert hidden  # somebody vanishes behind something, and is seen whole at another time


def test_plate_lies_on_the_bus_and_is_large_enough_to_read(photo: np.ndarray, tmp_path: Path) -> None:
    from street.render import plate
    from street.scene import BUS_ID, PLATE, Scene

    scene = Scene(photo, (1280, 720), 0, ())
    image, found = scene.draw(6.0, 0.04)
    lies = plate(scene, 150, (0.0, 0.0))
    assert lies is not None
    corners = np.array(lies["corners"])
    x0, y0, x1, y1 = next(appearance.box for appearance in found if appearance.id == BUS_ID)
    assert (corners >= (x0, y0)).all()
    assert (corners <= (x1, y1)).all()
    assert float(str(lies["character_height"])) >= 24
    left, top = corners.min(axis=0).astype(int)
    right, bottom = corners.max(axis=0).astype(int)
    crop = image[top:bottom, left:right].mean(axis=2)
    assert np.percentile(crop, 90) - np.percentile(crop, 10) > 90  # black on white
    assert len(PLATE) == 8


def test_plates_file_names_the_track(video: Path) -> None:
    plates = json.loads((video.with_suffix("") / "plates.json").read_text())
    assert plates["text"] == "4826 KTR"
    vehicles = {int(row[1]) for row in truth(video) if row[7] == 3}
    assert vehicles == {plates["id"]}


def test_missing_photograph_is_one_line_with_the_cure(tmp_path: Path) -> None:
    command = [sys.executable, SAMPLES / "render_street.py", tmp_path / "out.mp4", "--assets", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "pip install --no-deps ultralytics" in done.stderr
    assert not (tmp_path / "out.mp4").exists()
