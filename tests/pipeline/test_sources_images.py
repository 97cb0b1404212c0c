"""Image folders: natural order, every kind of image as 8-bit BGR, damage counted, nothing printed."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from clips import scenes

from pipeline.errors import UsageError
from pipeline.source import open_source
from pipeline.sources.images import ImageFolder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """img1 ... img12, written in another order, and something that is no image."""
    path = tmp_path / "größe 1"
    path.mkdir()
    images = list(scenes(12))
    for number in (10, 2, 1, 12, 3, 4, 5, 6, 7, 8, 9, 11):
        write(path / f"img{number}.png", images[number - 1])
    (path / "notes.txt").write_text("no image")
    return path


def write(path: Path, image: np.ndarray) -> None:
    path.write_bytes(cv2.imencode(path.suffix, image)[1].tobytes())


def test_natural_order_and_times(folder: Path) -> None:
    source = ImageFolder(uri=str(folder), fps=4)
    info = source.open()
    frames = list(source)
    assert (info.id, info.width, info.height, info.fps, info.frame_count) == ("größe 1", 160, 120, 4, 12)
    for frame, image in zip(frames, scenes(12), strict=True):
        np.testing.assert_array_equal(frame.image, image)
    assert [frame.timestamp for frame in frames] == [index / 4 for index in range(12)]
    assert frames[0].captured_at == (folder / "img1.png").stat().st_mtime


def test_glob_single_image_and_address(folder: Path) -> None:
    for uri, count, name in (
        (str(folder / "img1*.png"), 4, "größe 1"),
        (str(folder / "img7.png"), 1, "img7"),
        (folder.as_uri(), 12, "größe 1"),
    ):
        with open_source(uri) as source:
            assert (len(list(source)), source.id) == (count, name)


def test_every_reads_only_what_it_gives(folder: Path) -> None:
    (folder / "img2.png").write_bytes(b"damaged, but not asked for")
    with open_source(str(folder), every=5) as source:
        assert [frame.index for frame in source] == [0, 5, 10]
        assert source.dropped == {"every": 9}


def test_unreadable_images_are_counted_and_nothing_is_printed(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    whole = (folder / "img1.png").read_bytes()
    (folder / "img1.png").write_bytes(whole[: len(whole) // 2])
    (folder / "img5.png").write_bytes(b"")
    (folder / "img6.png").write_text("text")
    _, jpeg = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8))
    (folder / "img8.png").write_bytes(jpeg.tobytes())
    (folder / "img9.png").write_bytes(jpeg.tobytes()[: len(jpeg) // 2])  # OpenCV would give it a grey rest
    with open_source(str(folder)) as source:
        assert [frame.index for frame in source] == [1, 2, 3, 6, 7, 9, 10, 11]
        assert source.dropped == {"corrupt": 4}
    assert capfd.readouterr().err == ""


def test_every_kind_becomes_bgr_of_8_bits(tmp_path: Path) -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    write(tmp_path / "1.png", grey)
    write(tmp_path / "2.png", grey.astype(np.uint16) * 256 + 77)
    write(tmp_path / "3.tif", grey.astype(np.uint16) * 256)
    write(tmp_path / "4.png", np.dstack([grey, grey, grey, np.full_like(grey, 9)]))
    write(tmp_path / "5.bmp", np.dstack([grey] * 3))
    with open_source(str(tmp_path)) as source:
        frames = list(source)
    assert len(frames) == 5
    for frame in frames:
        assert frame.image.dtype == np.uint8
        assert frame.image.flags.c_contiguous
        np.testing.assert_array_equal(frame.image, np.dstack([grey] * 3))


def test_sizes_may_differ(tmp_path: Path) -> None:
    for number, (width, height) in enumerate([(64, 48), (32, 80)]):
        write(tmp_path / f"{number}.webp", next(scenes(1, width, height)))
    with open_source(str(tmp_path)) as source:
        assert [frame.image.shape for frame in source] == [(48, 64, 3), (80, 32, 3)]


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    image = np.zeros((32, 64, 3), np.uint8)
    image[:16, :16] = 255
    jpeg = cv2.imencode(".jpg", image)[1].tobytes()
    entry = (0x0112).to_bytes(2, "big") + (3).to_bytes(2, "big") + (1).to_bytes(4, "big") + (6).to_bytes(2, "big")
    tiff = b"MM\0*" + (8).to_bytes(4, "big") + (1).to_bytes(2, "big") + entry + b"\0\0" + bytes(4)
    exif = b"Exif\0\0" + tiff
    (tmp_path / "phone.jpg").write_bytes(jpeg[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + jpeg[2:])
    with open_source(str(tmp_path / "phone.jpg")) as source:
        frame = source.read()
    assert frame is not None
    assert frame.image.shape == (64, 32, 3)  # orientation 6: to be turned clockwise
    assert frame.image[4, 28].min() > 200
    assert frame.image[4, 4].max() < 50


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "holds no images"),
        ("*.png", "no file matches"),
        ("img01.png", "does not exist"),
        ("empty.png", "holds no image that can be decoded"),
        ("text.png", "holds no image that can be decoded"),
    ],
)
def test_mistakes(tmp_path: Path, name: str, words: str) -> None:
    path = tmp_path / name
    if name == "empty.png":
        path.touch()
    if name == "text.png":
        path.write_text("text")
    with pytest.raises(UsageError, match=words) as caught:
        open_source(str(path))
    assert "\n" not in str(caught.value)
