"""Hardware decoding, as far as it can be told without any: clear refusals, software where it fails, equal pixels."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.codec.hwaccel import hwdevices_available
from clips import scenes, write_clip

from pipeline import hardware
from pipeline.config import Document
from pipeline.decode import Decoder, Picture
from pipeline.errors import UsageError
from pipeline.source import open_source

ABSENT = [kind for kind in hardware.KINDS if kind not in hwdevices_available()]


def opening(path: Path) -> Callable[[Any], Any]:
    """Opens a clip; what pretends to be hardware is left out, so that its streams are not decoded there."""
    return lambda accelerator: av.open(str(path))


def images(decoder: Decoder) -> list[np.ndarray]:
    taken = []
    while (picture := decoder.next()) is not None:
        taken.append(decoder.image(picture))
    decoder.close()
    return taken


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "a.mp4", frames=12)


@pytest.mark.skipif(bool(list(hardware._present())), reason="there is hardware here")
def test_hardware_that_is_not_here_is_one_clear_line(clip: Path) -> None:
    with pytest.raises(UsageError, match=r"^there is no cuda here .*; leave decoder at auto, or "):
        open_source(str(clip), decoder="cuda")


@pytest.mark.parametrize("kind", ABSENT)
def test_hardware_that_pyav_was_built_without_is_one_clear_line(clip: Path, kind: str) -> None:
    with pytest.raises(UsageError, match=f"^this build of PyAV decodes by .*, not by {kind}; leave decoder at auto"):
        open_source(str(clip), decoder=kind)


@pytest.mark.parametrize("how", [hardware.decode_file, hardware.decode_stream])
def test_hardware_that_refuses_is_told_and_software_decodes(
    clip: Path, how: Callable[..., Decoder], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(hardware, "_present", lambda: iter(["cuda"]))
    monkeypatch.setattr(hardware, "accelerator", lambda kind: None)
    expected = images(hardware.decode_file("software", opening(clip)))
    assert len(expected) == 12
    np.testing.assert_array_equal(images(how("auto", opening(clip))), expected)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().endswith("it is decoded in software")
    with pytest.raises(UsageError, match=r"^cuda does not decode h264 of 160×120 pixels; leave decoder at auto$"):
        how("cuda", opening(clip))


@pytest.mark.parametrize("same", [True, False])
def test_hardware_is_taken_for_a_file_only_if_it_gives_the_same_pictures(
    clip: Path, tmp_path: Path, same: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    other = write_clip(tmp_path / "b.mp4", frames=12, options={"crf": "40"})
    seconds = iter([1.0, 2.0])  # hardware first
    tried = hardware._try
    monkeypatch.setattr(hardware, "_try", lambda opened: (tried(opened)[0], next(seconds)))
    monkeypatch.setattr(hardware, "_present", lambda: iter(["cuda"]))
    there = clip if same else other
    known = {"ignore_editlist": "0"}
    monkeypatch.setattr(hardware, "_by", lambda kind, opening, make: make(av.open(str(there), options=known)))
    made: list[dict[str, str]] = []

    def make(container: Any, reopen: Any, max_pixels: int) -> Decoder:
        made.append(container.options)
        return Decoder(container, reopen)

    monkeypatch.setattr(hardware, "Decoder", make)
    hardware.decode_file("auto", opening(clip)).close()
    assert (made[-1] == known) == same, "the last decoder that is made is the one that is used"
    assert ("to other pictures" in caplog.text) != same


@pytest.mark.parametrize(("planes", "packed"), [("yuv420p", "nv12"), ("yuv420p10le", "p010le")])
@pytest.mark.parametrize("matrix", [1, 6])
@pytest.mark.parametrize("spread", [1, 2])
def test_the_layout_that_hardware_gives_makes_the_same_pixels(
    clip: Path, planes: str, packed: str, matrix: int, spread: int
) -> None:
    decoder = Decoder(av.open(str(clip)))
    picture = av.VideoFrame.from_ndarray(next(scenes(1)), format="bgr24").reformat(format=planes)
    as_given = picture.reformat(format=packed)
    for frame in (picture, as_given):
        frame.colorspace, frame.color_range = matrix, spread
    expected, image = decoder.image(Picture(0, 0.0, picture)), decoder.image(Picture(0, 0.0, as_given))
    decoder.close()
    np.testing.assert_array_equal(image, expected)


def test_the_flag_sets_the_sources_that_decode_and_no_others(clip: Path) -> None:
    document = Document({"sources": [str(clip), "test:"]})
    document.set_sources_with("decoder", "software")
    assert document.data["sources"] == [{"uri": str(clip), "decoder": "software"}, "test:"]
    document.build()
    with pytest.raises(UsageError, match="none of the sources has that option"):
        Document({"sources": ["test:"]}).set_sources_with("decoder", "cuda")


def test_what_begins_again_is_not_tried_again(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    monkeypatch.setattr(hardware, "_present", lambda: iter(looks.append(1) or ()))
    with open_source(str(clip), realtime=True, loop=True, rate=1000.0) as source:
        assert [source.read().index for _ in range(30)] == list(range(30))  # type: ignore[union-attr]
    assert looks == [1]
