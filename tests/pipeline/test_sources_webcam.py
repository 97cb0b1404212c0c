"""Webcams: there is none where tests run, so a video file plays the camera; it goes through OpenCV all the same."""

import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from clips import without_threads, write_clip

from pipeline.engine import Pipeline
from pipeline.errors import FramechainError, UsageError
from pipeline.source import open_source
from pipeline.sources.webcam import Webcam


@pytest.mark.parametrize("uri", ["873", "/dev/video873"])
def test_a_camera_that_is_not_there(uri: str, capfd: pytest.CaptureFixture[str]) -> None:
    level = cv2.utils.logging.getLogLevel()
    with pytest.raises(UsageError) as caught:
        open_source(uri)
    assert uri in str(caught.value)
    assert "there are:" in str(caught.value) or "no camera was found" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""
    assert cv2.utils.logging.getLogLevel() == level


def test_a_camera_that_is_unplugged(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "camera.avi", "mjpeg", frames=5)

    class Recording(Webcam):
        def _connect(self) -> Any:
            return cv2.VideoCapture(str(path))

    source = Recording(uri="2")
    info = source.open()
    frames = []
    with pytest.raises(FramechainError, match="stopped giving pictures"):
        frames.extend(iter(source))
    source.close()
    assert (info.id, info.width, info.height, info.fps, info.live) == ("webcam2", 160, 120, 25, True)
    # The first picture proves that the camera works and is not given.
    for frame, (_, image) in zip(frames, without_threads(path)[1:], strict=True):
        np.testing.assert_array_equal(frame.image, image)
    assert [frame.index for frame in frames] == [0, 1, 2, 3]
    times = [frame.timestamp for frame in frames]
    assert times == sorted(times)
    assert abs(frames[-1].captured_at - time.time()) < 10


def test_a_camera_whose_cable_is_loose(tmp_path: Path) -> None:
    """Each connection gives four frames and breaks off."""
    path = write_clip(tmp_path / "camera.avi", "mjpeg", frames=5)

    class Loose(Webcam):
        def _connect(self) -> Any:
            return cv2.VideoCapture(str(path))

    snapshot = Pipeline([Loose(uri="2", max_frames=10, every=2)], queue=50).run()
    source = snapshot.sources[0]
    assert source.id == "webcam2"
    assert source.connections >= 4
    assert source.captured == source.finished + sum(source.dropped.values())
    assert source.finished + sum(count for reason, count in source.dropped.items() if reason != "every") >= 10
