"""The synthetic scene, and which kind of source reads what."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import UsageError
from pipeline.source import open_source, source_for, sources
from pipeline.sources.test_pattern import SyntheticScene


def test_the_spec_says_it_all() -> None:
    source = SyntheticScene(uri="test:320x180@12.5,frames=20,seed=3")
    info = source.open()
    frames = list(source)
    assert (info.id, info.width, info.height, info.fps, info.frame_count) == ("test", 320, 180, 12.5, 20)
    assert [frame.index for frame in frames] == list(range(20))
    assert [frame.timestamp for frame in frames] == [index / 12.5 for index in range(20)]
    assert all(frame.image.shape == (180, 320, 3) and frame.image.flags.c_contiguous for frame in frames)
    assert all((one.image != other.image).any() for one, other in itertools.pairwise(frames))


def test_an_image_depends_on_spec_and_index_alone() -> None:
    with open_source("test:320x180,frames=20", every=3) as source:
        sparse = {frame.index: frame.image for frame in source}
    with open_source("test:320x180,frames=20") as source:
        for frame in source:
            if frame.index in sparse:
                np.testing.assert_array_equal(frame.image, sparse[frame.index])
    with open_source("test:320x180,seed=1", max_frames=1) as one, open_source("test:320x180,seed=2") as other:
        first, second = one.read(), other.read()
    assert first is not None
    assert second is not None
    assert (first.image != second.image).mean() > 0.5


def test_endless_unless_told_otherwise() -> None:
    source = SyntheticScene(uri="test:32x32@1000")
    assert source.open().frame_count is None
    assert sum(1 for _ in zip(range(3000), source, strict=False)) == 3000
    assert SyntheticScene(uri="test:", max_frames=5).open().frame_count == 5


@pytest.mark.parametrize(
    "uri", ["test:x", "test:640", "test:640x", "test:frames", "test:8x8", "test:frames=0", "test:@0"]
)
def test_malformed_specs(uri: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_source(uri)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("clip.mp4", "video"), ("no/such/clip", "video"), (r"C:\clips\a b.MP4", "video"), ("ü ber.avi", "video"),
        ("file:///clips/a.mp4", "video"), ("a[1].mp4", "images"), ("*.jpg", "images"), ("a.JPG", "images"),
        ("./0", "video"), ("0", "webcam"), ("/dev/video0", "webcam"), ("rtsp://a/b", "stream"), ("-", "stdin"),
        ("http://a/b.jpg?x=*", "stream"), ("test:", "test_pattern"), ("test:640x360@25", "test_pattern"),
    ],
)  # fmt: skip
def test_exactly_one_kind_reads_a_uri(uri: str, name: str) -> None:
    assert [kind for kind in sources.names() if sources.load(kind).matches(uri)] == [name]
    assert source_for(uri).name == name


def test_brackets_in_the_name_of_a_file_are_no_pattern(tmp_path: Path) -> None:
    path = tmp_path / "cam[1].mp4"
    path.touch()
    assert source_for(str(path)).name == "video"
    assert source_for(str(tmp_path)).name == "images"


def test_an_unknown_scheme_is_no_source() -> None:
    with pytest.raises(UsageError, match="is no source"):
        source_for("ftp://host/clip.mp4")
