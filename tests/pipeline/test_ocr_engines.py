"""OCR engines against text whose truth is known."""

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.errors import FramechainError
from pipeline.frame import Frame
from pipeline.ocr.characters import Characters
from pipeline.ocr.consensus import Reading
from pipeline.ocr.engine import Engine, Line, engines, reading_order
from pipeline.ocr.isolated import EngineDied, IsolatedEngine
from pipeline.ocr.quality import Quality
from pipeline.stages.read_text import ReadText
from trackers.registry import UnknownName


@pytest.fixture(scope="module")
def rapidocr() -> Engine:
    return engines.load("rapidocr")()


def rendered(*lines: str, height: int = 120, width: int = 480) -> np.ndarray:
    image = np.full((height * len(lines), width, 3), 235, np.uint8)
    for row, line in enumerate(lines):
        cv2.putText(image, line, (30, height * row + 85), cv2.FONT_HERSHEY_DUPLEX, 2.2, (20, 20, 20), 4, cv2.LINE_AA)
    return image


@pytest.mark.parametrize("text", ["KX47PLM", "HELLO", "2026", "B-MW 318"])
def test_rapidocr_reads_a_rendered_line(rapidocr: Engine, text: str) -> None:
    read, confidences = rapidocr.recognize(rendered(text))
    assert read == text
    assert len(confidences) == len(text)
    assert min(confidences) > 0.5


def test_lines_are_located_where_they_are_and_read_in_order(rapidocr: Engine) -> None:
    page = np.full((720, 1280, 3), 235, np.uint8)
    page[100:340, 400:880] = rendered("STATION", "NORTH 12")
    lines = rapidocr.read(page, 640)
    assert [line.text for line in lines] == ["STATION", "NORTH 12"]
    for line, top in zip(lines, (100, 220), strict=True):
        x1, y1, x2, y2 = line.xyxy
        assert 400 <= x1 < x2 <= 880
        assert top <= y1 < y2 <= top + 120


def test_a_line_that_runs_downwards_is_read(rapidocr: Engine) -> None:
    page = np.full((640, 640, 3), 235, np.uint8)
    page[80:560, 260:380] = np.rot90(rendered("PLATFORM"), -1)
    assert [line.text for line in rapidocr.read(page, 640)] == ["PLATFORM"]


def test_an_empty_image_holds_no_text(rapidocr: Engine) -> None:
    grey = np.full((200, 300, 3), 128, np.uint8)
    assert rapidocr.read(grey, 640) == []
    assert rapidocr.read_line(grey) == []


def test_words_of_street_scenes(rapidocr: Engine, data: Path) -> None:
    with (data / "ocr" / "words" / "labels.csv").open(newline="", encoding="utf-8") as rows:
        words = list(csv.DictReader(rows))[1::10]
    right = 0
    for word in words:
        read, _ = rapidocr.recognize(cv2.imread(str(data / "ocr" / "words" / word["file"])))
        right += _letters(read) == _letters(word["text"])
    assert right / len(words) >= 0.85


def _letters(text: str) -> str:
    return "".join(character for character in text.lower() if character.isalnum())


def test_easyocr_reads_a_rendered_page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("easyocr", reason="the extra easyocr is not installed")
    pytest.importorskip("easyocr_en_models", reason="the extra easyocr is not installed")
    monkeypatch.setenv("HOME", str(tmp_path))
    engine = engines.load("easyocr")()
    assert engine.recognize(rendered("STATION"))[0] == "STATION"
    assert "".join(line.text for line in engine.read(rendered("STATION", "NORTH"), 320)) == "STATIONNORTH"
    assert not list(tmp_path.iterdir()), "nothing is downloaded or written"


def test_rapidocr_says_nothing() -> None:
    code = (
        "import numpy as np; from pipeline.ocr.engine import engines; "
        "engines.load('rapidocr')().read(np.zeros((64, 64, 3), np.uint8), 128)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_an_unknown_engine_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean 'rapidocr'"):
        engines.load("rapidorc")


def test_reading_order_of_a_tilted_row() -> None:
    words = [("one", 0, 6), ("two", 50, 3), ("three", 100, 0), ("below", 20, 22)]
    lines = [Line(text, (), (x, y, x + 40, y + 20)) for text, x, y in reversed(words)]
    assert [line.text for line in reading_order(lines)] == ["one", "two", "three", "below"]


@pytest.mark.parametrize(
    ("allowed", "kept"),
    [("", "aB-1 é"), ("A-Z0-9", "AB1"), ("a-z", "ab"), ("A-Za-z", "aB"), ("0-9-", "-1"), ("-1", "-1")],
)
def test_characters_are_kept_with_their_confidences(allowed: str, kept: str) -> None:
    reading = Characters(allowed).keep(Reading("aB-1 é", (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)))
    assert reading.text == kept
    assert len(reading.confidences) == len(kept)


def test_a_backward_range_is_refused() -> None:
    with pytest.raises(ValueError, match="write A-Z"):
        Characters("Z-A")


def test_blur_lowers_sharpness_and_enlarging_does_not_raise_it() -> None:
    crop = rendered("KX47PLM")
    blurred = cv2.GaussianBlur(crop, (0, 0), 6)
    assert Quality.of(crop).better_than(Quality.of(blurred))
    assert not Quality.of(blurred).better_than(Quality.of(crop))
    assert Quality.of(cv2.resize(crop, None, fx=2, fy=2)).sharpness < 1.5 * Quality.of(crop).sharpness


@pytest.fixture(scope="module")
def isolated() -> Iterator[IsolatedEngine]:
    engine = IsolatedEngine("rapidocr")
    yield engine
    engine.close()


def test_an_engine_in_a_process_of_its_own_reads_the_same(rapidocr: Engine, isolated: IsolatedEngine) -> None:
    page = rendered("STATION", "NORTH 12")
    assert isolated.read(page, 640) == rapidocr.read(page, 640)
    assert isolated.read_line(rendered("KX47PLM")) == rapidocr.read_line(rendered("KX47PLM"))


def test_an_engine_that_crashes_costs_one_crop_and_comes_back(isolated: IsolatedEngine) -> None:
    stage = ReadText(on="frame", isolation="process", interval=0)
    stage._engine = isolated  # loaded once for all tests
    page = rendered("STATION")

    def read(index: int) -> tuple[str, ...]:
        frame = Frame(page, index=index, timestamp=float(index))
        stage.process([frame])
        return tuple(text.text for text in frame.texts)

    assert read(0) == ("STATION",)
    assert isolated.process is not None
    os.kill(isolated.process, signal.SIGSEGV)
    assert read(1) == ()
    assert stage.faults == {"crops failed: engine died": 1}
    deadline = time.monotonic() + 60
    while not (texts := read(2)):
        assert time.monotonic() < deadline
    assert texts == ("STATION",)


def test_an_engine_that_will_not_load_in_its_process_is_told() -> None:
    with pytest.raises(EngineDied, match="ended with exit code 1"):
        IsolatedEngine("no-such-engine")
    stage = ReadText.model_construct(**(ReadText(isolation="process").model_dump() | {"engine": "no-such-engine"}))
    with pytest.raises(FramechainError, match="ended with exit code 1 while it loaded its models"):
        stage.open()
