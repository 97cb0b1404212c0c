"""Identities read from every kind of data."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from identity_data import figure, write_identities

from pipeline.errors import UsageError
from pipeline.training.identities import HEIGHT, MARGIN, WIDTH, cut, read_identities


def test_a_cut_box_is_what_the_box_shows() -> None:
    # a picture whose colour is its place: after cutting and scaling, places must fit
    x, y = np.meshgrid(np.arange(300), np.arange(400))
    image = np.dstack([x * 255 / 300, y * 255 / 400, 0 * x]).astype(np.uint8)
    down, right = MARGIN
    crop = cut(image, (50, 100, 50 + 2 * WIDTH / 2, 100 + HEIGHT))
    expected_x = (50 + (np.arange(WIDTH) + 0.5) - 0.5) * 255 / 300
    expected_y = (100 + (np.arange(HEIGHT) + 0.5) - 0.5) * 255 / 400
    inner = crop[down : down + HEIGHT, right : right + WIDTH]
    assert crop.shape == (HEIGHT + 2 * down, WIDTH + 2 * right, 3)
    assert np.abs(inner[0, :, 0] - expected_x).max() <= 1.5
    assert np.abs(inner[:, 0, 1] - expected_y).max() <= 1.5


def test_a_box_beyond_the_image_shows_only_what_is_inside() -> None:
    image = np.zeros((100, 100, 3), np.uint8)
    image[:, :50] = 255
    down, right = MARGIN
    inner = cut(image, (-50, 0, 50, 100))[down : down + HEIGHT, right : right + WIDTH]
    assert inner.min() > 100  # the edge between white and black lies on the border of the box


def test_a_folder_of_identities(tmp_path: Path) -> None:
    found = read_identities([str(write_identities(tmp_path, 3, 4))])
    assert len(found) == 12
    assert found.count == 3
    assert np.bincount(found.identity).tolist() == [4, 4, 4]
    assert np.isnan(found.time).all()


def test_what_cannot_be_used_is_named_and_the_rest_is_read(tmp_path: Path) -> None:
    write_identities(tmp_path, 2, 2)
    (tmp_path / "nobody").mkdir()
    (tmp_path / "person0" / "torn.png").write_bytes(b"\x89PNG not really")
    found = read_identities([str(tmp_path)])
    assert len(found) == 4
    assert len(found.problems) == 2
    assert any("nobody" in line and "without images" in line for line in found.problems)
    assert any("torn.png" in line for line in found.problems)


def test_names_of_market_1501_tell_identity_and_camera(tmp_path: Path) -> None:
    for name in (
        "0002_c1s1_000451_01.jpg",
        "0002_c2s1_000777_01.jpg",
        "0005_c1s1_000003_02.jpg",
        "-1_c1s1_000001_01.jpg",
    ):
        cv2.imwrite(str(tmp_path / name), figure(1, 1))
    found = read_identities([str(tmp_path)])
    assert len(found) == 3  # -1 is a distractor
    assert len(found.groups) == 2


def test_most_crops_of_an_identity_are_spread_evenly(tmp_path: Path) -> None:
    found = read_identities([str(write_identities(tmp_path, 2, 9))], crops=3)
    assert np.bincount(found.identity).tolist() == [3, 3]


def test_a_video_with_its_ground_truth(data: Path) -> None:
    item = f"{data}/video/TUD-Campus.mp4={data}/mot/MOT15/TUD-Campus"
    found = read_identities([item], crops=10)
    assert found.count <= 8  # people in its ground truth; those always covered are left out
    assert found.count >= 6
    assert np.nanmax(found.time) < 71 / 25 + 0.1
    # crops of one person and frame do not exist twice
    assert len(set(zip(found.identity.tolist(), found.time.tolist(), strict=True))) == len(found)


def test_persons_in_yolo_format_are_identities_seen_once(data: Path) -> None:
    found = read_identities([str(data / "train" / "pennfudan")])
    assert found.count == len(found) > 300


def test_identities_of_two_items_are_never_one(tmp_path: Path) -> None:
    one, two = write_identities(tmp_path / "a", 2, 2), write_identities(tmp_path / "b", 2, 2)
    assert read_identities([str(one), str(two)]).count == 4


def test_split_keeps_whole_identities_out(tmp_path: Path) -> None:
    found = read_identities([str(write_identities(tmp_path, 10, 3))])
    train, kept = found.split(0.2, seed=1)
    assert (train.count, kept.count) == (8, 2)
    assert len(train) + len(kept) == len(found)


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ("missing", "is no folder"),
        ("empty", "no crop of anybody"),
        ("video.mp4=tracks.txt", "cannot read the tracks"),
    ],
)
def test_what_is_no_data_is_refused_by_name(tmp_path: Path, item: str, reason: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=reason):
        read_identities([str(tmp_path / item)])


def test_tracks_of_another_format_are_refused_by_line(tmp_path: Path, data: Path) -> None:
    tracks = tmp_path / "tracks.txt"
    tracks.write_text("1,1,hello\n")
    with pytest.raises(UsageError, match="line 1"):
        read_identities([f"{data}/video/TUD-Campus.mp4={tracks}"])
