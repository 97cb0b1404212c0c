"""A running chain follows its configuration file."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from cameras import HttpCamera
from peers import until

from pipeline.config import Document
from pipeline.engine import Pipeline
from pipeline.watch import Watch

wait_for = partial(until, seconds=10)


class Followed:
    """A run of a configuration file and what follows it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.write("door", "yard")
        document = self.read()
        self.pipeline: Pipeline = document.build(more=True).pipeline(service=True)
        self.watch = Watch(path, self.pipeline, document, self.read)
        self.pipeline.start()
        self.watch.start()

    def write(self, *names: str, rest: str = "") -> None:
        entries = [f"  - {{uri: 'test:32x32@20', realtime: true, id: {name}}}\n" for name in names]
        self.path.write_text(f"sources:\n{''.join(entries) or '  []'}\n{rest}")

    def read(self) -> Document:
        document = Document.read(self.path)
        document.build(more=True)
        return document

    @property
    def ids(self) -> list[str]:
        return sorted(info.id for info in self.pipeline.infos)


@pytest.fixture
def followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Followed]:
    monkeypatch.setattr("pipeline.watch._POLL", 0.02)
    one = Followed(tmp_path / "chain.yaml")
    yield one
    one.pipeline.stop()
    one.watch.close()
    assert one.pipeline.join(10)


def test_sources_come_and_go_with_the_file_and_the_others_are_not_touched(followed: Followed) -> None:
    followed.write("yard", "gate")
    wait_for(lambda: followed.ids == ["gate", "yard"])
    followed.write()
    wait_for(lambda: followed.ids == [])
    assert not followed.pipeline.join(0), "it goes on without any"
    followed.write("hall")
    wait_for(lambda: followed.ids == ["hall"])
    yard = next(one for one in followed.pipeline.metrics.snapshot().sources if one.id == "yard")
    assert yard.connections == 1


def test_cameras_that_do_not_answer_hold_up_nobody(followed: Followed, tmp_path: Path) -> None:
    """Twenty that wait for an answer for ever, and one that is there."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        address = f"rtsp://127.0.0.1:{silent.getsockname()[1]}"
        dead = "".join(f"  - {{uri: '{address}/{n}', id: dead{n}}}\n" for n in range(20))
        followed.path.write_text(f"sources:\n{dead}  - {{uri: 'test:32x32@20', realtime: true, id: hall}}\n")
        wait_for(lambda: followed.ids == ["hall"])
        followed.write("yard")
        wait_for(lambda: followed.ids == ["yard-2"])  # while the others are still being opened


def test_one_that_is_gone_again_before_it_was_open_does_not_stay(
    followed: Followed, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with HttpCamera() as camera:
        camera.frozen = True
        followed.path.write_text(f"sources: [{{uri: 'http://127.0.0.1:{camera.port}/mjpeg', id: late}}]")
        wait_for(lambda: camera.asked)
        followed.write("door")
        wait_for(lambda: followed.ids == ["door-2"])
        camera.frozen = False
        wait_for(lambda: "source late is removed" in caplog.text)
    assert followed.ids == ["door-2"]


def test_a_broken_file_changes_nothing_and_is_one_line(followed: Followed, caplog: pytest.LogCaptureFixture) -> None:
    followed.path.write_text("sources: [")
    wait_for(lambda: "correct the YAML; nothing is changed" in caplog.text)
    followed.path.write_text("sources: ['test:', {uri: nowhere.mp4, idd: x}]")
    wait_for(lambda: "did you mean 'id'?; nothing is changed" in caplog.text)
    followed.path.unlink()
    wait_for(lambda: "cannot read the configuration" in caplog.text)
    followed.watch.ask()
    wait_for(lambda: caplog.text.count("cannot read the configuration") == 2)
    assert len(caplog.records) == 4
    assert followed.ids == ["door", "yard"]


def test_a_file_that_is_being_written_or_a_pipe_removes_nothing(
    followed: Followed, caplog: pytest.LogCaptureFixture
) -> None:
    for text, told in (
        ("", "is empty"),
        ("sinks: []\n", "names no sources any more"),
        ("sources:\n", "names no sources any more"),
        ("sources: {}\n", "sources is a list"),
        ("sources: false\n", "sources is a list"),
        ("sources: [~nobodyhere/clip.mp4]\n", "cannot be followed"),
    ):
        caplog.clear()
        followed.path.write_text(text)
        wait_for(lambda told=told: told in caplog.text)
    followed.path.unlink()
    os.mkfifo(followed.path)
    wait_for(lambda: "is no file any more" in caplog.text)
    assert followed.ids == ["door", "yard"]
    followed.path.unlink()
    followed.write()
    wait_for(lambda: followed.ids == [])


def test_what_needs_a_restart_is_told_once_and_the_sources_follow(
    followed: Followed, caplog: pytest.LogCaptureFixture
) -> None:
    followed.write("door", rest="queue: 9")
    wait_for(lambda: followed.ids == ["door"])
    followed.write("door", "hall", rest="queue: 9")
    wait_for(lambda: followed.ids == ["door", "hall"])
    assert caplog.text.count("only sources are changed in a run; restart it for the rest") == 1


def test_a_source_that_cannot_be_opened_is_tried_when_the_file_is_read_again(
    followed: Followed, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    picture = tmp_path / "still.png"
    followed.path.write_text(
        f"sources: [{{uri: 'test:32x32@20', realtime: true, id: door}}, {{uri: '{picture}', id: late}}]"
    )
    wait_for(lambda: "the other sources go on" in caplog.text)
    assert followed.ids == ["door"]
    cv2.imwrite(str(picture), np.zeros((32, 32, 3), np.uint8))
    followed.watch.ask()
    wait_for(lambda: any(one.id == "late" for one in followed.pipeline.metrics.snapshot().sources))
