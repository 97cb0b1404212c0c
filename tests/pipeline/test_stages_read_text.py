"""ReadText on rendered plates and on real ones, through a real engine."""

import csv
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from pipeline.detections import Detections
from pipeline.errors import UsageError
from pipeline.frame import Frame
from pipeline.ocr.rapidocr import RapidOCREngine
from pipeline.stage import check_chain
from pipeline.stages.read_text import ReadText
from trackers.tracks import Tracks

NAMES = ("person", "car", "license_plate")
CAR, PLATE = 1, 2


@pytest.fixture(scope="module")
def engine() -> RapidOCREngine:
    return RapidOCREngine()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, engine: RapidOCREngine) -> list[tuple[int, int]]:
    """Sizes (height, width) of the images that the real engine is given: it goes on doing its work."""
    given: list[tuple[int, int]] = []
    read, read_line = engine.read, engine.read_line
    monkeypatch.setattr(engine, "read", lambda image, size: (given.append(image.shape[:2]), read(image, size))[1])
    monkeypatch.setattr(engine, "read_line", lambda image: (given.append(image.shape[:2]), read_line(image))[1])
    return given


def stage_with(engine: RapidOCREngine, **options: object) -> ReadText:
    stage = ReadText(**options)  # type: ignore[arg-type]
    stage._engine = engine  # loaded once for all tests
    return stage


def plate(text: str, scale: float = 1.0, blur: float = 0.0) -> np.ndarray:
    image = np.full((60, 240, 3), 235, np.uint8)
    cv2.putText(image, text, (14, 44), cv2.FONT_HERSHEY_DUPLEX, 1.3, (20, 20, 20), 2, cv2.LINE_AA)
    if blur:
        image = cv2.GaussianBlur(image, (0, 0), blur)
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def frame_of(
    objects: Sequence[tuple[int, int, np.ndarray, int, int]], *, timestamp: float = 0.0, source: str = "camera"
) -> Frame:
    """A frame that shows images at (x, y), each of them a track: (id, class, image, x, y)."""
    image = np.full((480, 800, 3), 90, np.uint8)
    boxes = []
    for _, _, picture, x, y in objects:
        height, width = picture.shape[:2]
        image[y : y + height, x : x + width] = picture
        boxes.append((x, y, x + width, y + height))
    n = len(objects)
    xyxy = np.array(boxes, np.float64).reshape(n, 4)
    classes = np.array([o[1] for o in objects], np.int64)
    return Frame(
        image,
        source=source,
        timestamp=timestamp,
        detections=Detections(xyxy.astype(np.float32), np.ones(n, np.float32), classes, names=NAMES),
        tracks=Tracks(
            np.array([o[0] for o in objects], np.int64), xyxy, np.ones(n), classes, np.arange(n), np.zeros(n),
            np.zeros(n), np.zeros((n, 2)),
        ),
    )  # fmt: skip


def texts(frame: Frame) -> dict[int | None, str]:
    return {text.track_id: text.text for text in frame.texts}


def test_a_track_is_read_once_and_its_text_rides_on_it(engine: RapidOCREngine, calls: list) -> None:
    stage = stage_with(engine)
    picture = plate("KX47PLM")
    frames = [frame_of([(7, PLATE, picture, 100 + 10 * n, 200)], timestamp=n / 10) for n in range(20)]
    stage.process(frames)
    assert len(calls) == 1
    for n, frame in enumerate(frames):
        (text,) = frame.texts
        assert (text.text, text.track_id, text.readings) == ("KX47PLM", 7, 1)
        assert text.xyxy == pytest.approx((100 + 10 * n, 200, 340 + 10 * n, 260))


def test_a_crop_is_read_again_when_it_is_larger_or_sharper_until_two_readings_agree(
    engine: RapidOCREngine, calls: list
) -> None:
    stage = stage_with(engine)
    blurred, sharper = plate("KX47PLM", 0.8, 2.0), plate("KX47PLM", 0.8)
    crops = [blurred, blurred, sharper, plate("KX47PLM", 2.0)]
    frames = [frame_of([(1, PLATE, crop, 50, 50)], timestamp=n) for n, crop in enumerate(crops)]
    stage.process(frames)
    assert calls == [crop.shape[:2] for crop in (blurred, sharper)], "two agree: the last is not read"
    assert [frame.texts[0].readings for frame in frames] == [1, 1, 2, 2]
    assert texts(frames[-1]) == {1: "KX47PLM"}


def test_a_smaller_or_equal_crop_is_not_read_again(engine: RapidOCREngine, calls: list) -> None:
    stage = stage_with(engine)
    for n, scale in enumerate((1.5, 1.5, 1.2, 1.0, 0.7, 1.55)):
        stage.process([frame_of([(1, PLATE, plate("KX47PLM", scale), 50, 50)], timestamp=n)])
    assert len(calls) == 1


def test_the_text_on_a_vehicle_is_located_in_it(engine: RapidOCREngine) -> None:
    car = np.full((260, 380, 3), (60, 40, 120), np.uint8)
    car[170:230, 70:310] = plate("KX47PLM")
    frame = frame_of([(3, CAR, car, 200, 100)])
    stage_with(engine, pattern="[A-Z0-9]{7}").process([frame])
    (text,) = frame.texts
    assert text.text == "KX47PLM"
    x1, y1, x2, y2 = text.xyxy
    assert 265 <= x1 < x2 <= 515
    assert 265 <= y1 < y2 <= 335


def test_a_plate_of_two_lines_is_read_from_top_to_bottom(engine: RapidOCREngine) -> None:
    picture = np.vstack([plate("KX47"), plate("PLM")])[:, :150]
    frame = frame_of([(1, PLATE, picture, 100, 100)])
    stage_with(engine).process([frame])
    assert texts(frame) == {1: "KX47 PLM"}
    frame = frame_of([(1, PLATE, picture, 100, 100)])
    stage_with(engine, pattern="[A-Z0-9]{7}").process([frame])
    assert texts(frame) == {1: "KX47PLM"}


def test_only_the_wanted_classes_are_read(engine: RapidOCREngine, calls: list) -> None:
    shown = [(1, 0, plate("PERSON"), 50, 50), (2, PLATE, plate("KX47PLM"), 50, 200)]
    frame = frame_of(shown)
    stage_with(engine).process([frame])
    assert texts(frame) == {2: "KX47PLM"}
    frame = frame_of(shown)
    stage_with(engine, classes=["person"], locate=False, min_size=12).process([frame])
    assert texts(frame) == {1: "PERSON"}


def test_small_crops_are_left_alone(engine: RapidOCREngine, calls: list) -> None:
    stage_with(engine).process([frame_of([(1, PLATE, plate("KX47PLM", 0.15), 50, 50), (2, CAR, plate("A"), 50, 200)])])
    assert calls == []


def test_a_frame_with_many_new_tracks_does_not_stall_the_chain(engine: RapidOCREngine, calls: list) -> None:
    stage = stage_with(engine, reads_per_frame=2)
    shown = [(n, PLATE, plate(f"KX4{n}PLM", 1 + n / 100), 20 + 260 * (n % 3), 20 + 80 * (n // 3)) for n in range(1, 6)]
    expected = {n: f"KX4{n}PLM" for n in range(1, 6)}
    for frame_number, known in enumerate(({4, 5}, {2, 3, 4, 5}, {1, 2, 3, 4, 5}, {1, 2, 3, 4, 5})):
        frame = frame_of(shown, timestamp=frame_number)
        stage.process([frame])
        assert texts(frame) == {n: expected[n] for n in known}, "larger crops first, then those that waited"
    assert len(calls) == 5


@pytest.mark.parametrize("batch", [1, 3, 12])
def test_results_do_not_depend_on_the_batch(engine: RapidOCREngine, batch: int) -> None:
    def frames() -> list[Frame]:
        return [
            frame_of([(1, PLATE, plate("KX47PLM", 0.5 + n / 20, 1.5), 50, 50)], timestamp=n, source=source)
            for n in range(6)
            for source in ("a", "b")
        ]

    alone, together = frames(), frames()
    one, many = stage_with(engine), stage_with(engine)
    for frame in alone:
        one.process([frame])
    for start in range(0, len(together), batch):
        many.process(together[start : start + batch])
    assert [frame.texts for frame in together] == [frame.texts for frame in alone]


def test_sources_do_not_share_tracks_and_are_forgotten(engine: RapidOCREngine, calls: list) -> None:
    stage = stage_with(engine)
    for source, text in (("a", "KX47PLM"), ("b", "HR26DKX")):
        frame = frame_of([(1, PLATE, plate(text), 50, 50)], source=source)
        stage.process([frame])
        assert texts(frame) == {1: text}
    stage.forget("a")
    stage.process([frame_of([(1, PLATE, plate("KX47PLM"), 50, 50)], source=source) for source in ("a", "b")])
    assert len(calls) == 3


def test_tracks_not_seen_for_long_are_forgotten(engine: RapidOCREngine, calls: list) -> None:
    stage = stage_with(engine, forget_after=10)
    shown = [(1, PLATE, plate("KX47PLM"), 50, 50)]
    for timestamp, reads in ((0.0, 1), (9.0, 1), (19.0, 1)):
        stage.process([frame_of(shown, timestamp=timestamp)])
        assert len(calls) == reads
    stage.process([frame_of([], timestamp=29.5)])
    stage.process([frame_of(shown, timestamp=29.6)])
    assert len(calls) == 2


def test_the_frame_is_read_once_an_interval_of_media_time(engine: RapidOCREngine, calls: list) -> None:
    stage = stage_with(engine, on="frame", interval=1.0, size=512)
    shown = [(1, PLATE, plate("KX47PLM"), 100, 200)]
    frames = [frame_of(shown, timestamp=n / 4) for n in range(9)]
    stage.process(frames)
    assert len(calls) == 3
    for frame in frames:
        (text,) = frame.texts
        assert (text.text, text.track_id) == ("KX47PLM", None)
        assert 90 <= text.xyxy[0] < text.xyxy[2] <= 350
    late = frame_of([], timestamp=2.9)
    gone = frame_of([], timestamp=3.0)
    stage.process([late, gone])
    assert late.texts == frames[-1].texts
    assert gone.texts == ()


@pytest.mark.parametrize("region", [(400, 0, 800, 240), (0.5, 0, 1, 0.5), (400, 0, 9999, 240)])
def test_a_region_is_read_in_pixels_and_in_fractions(engine: RapidOCREngine, region: tuple) -> None:
    frame = frame_of([(1, PLATE, plate("LEFT"), 50, 50), (2, PLATE, plate("RIGHT"), 500, 50)])
    stage_with(engine, on="region", region=region, size=512).process([frame])
    (text,) = frame.texts
    assert text.text == "RIGHT"
    assert 490 <= text.xyxy[0] < text.xyxy[2] <= 745


def test_two_stages_add_their_texts(engine: RapidOCREngine) -> None:
    frame = frame_of([(1, PLATE, plate("KX47PLM"), 50, 50)])
    stage_with(engine).process([frame])
    stage_with(engine, on="frame", size=512).process([frame])
    assert [text.track_id for text in frame.texts] == [1, None]


def test_real_plates(engine: RapidOCREngine, data: Path) -> None:
    with (data / "ocr" / "plates" / "labels.csv").open(newline="", encoding="utf-8") as rows:
        labelled = list(csv.DictReader(rows))[1::6]
    stage = stage_with(engine, allow="A-Z0-9", confidence=0)
    right = 0
    for number, row in enumerate(labelled, 1):
        image = np.asarray(cv2.imread(str(data / "ocr" / "plates" / row["file"])), np.uint8)
        x, y, w, h = (int(row[key]) for key in "xywh")
        frame = frame_of([(number, PLATE, np.zeros((1, 1, 3), np.uint8), 0, 0)], timestamp=number)
        frame.image = image
        box = np.array([[x, y, x + w, y + h]], np.float32)
        frame.detections = Detections(box, np.ones(1, np.float32), np.array([PLATE]), names=NAMES)
        stage.process([frame])
        right += [text.text for text in frame.texts] == [row["text"]]
    assert right / len(labelled) >= 0.7, f"{right} of {len(labelled)}"


def test_what_a_chain_must_provide_depends_on_where_text_is_read() -> None:
    check_chain([ReadText(on="frame")])
    check_chain([ReadText(on="region", region=(0, 0, 1, 1))])
    with pytest.raises(UsageError, match="'read_text' needs tracks"):
        check_chain([ReadText()])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "rapidorc"}, "did you mean 'rapidocr'"),
        ({"pattern": "[A-Z"}, r"'\[A-Z' is no regular expression"),
        ({"allow": "Z-A"}, "write A-Z"),
        ({"on": "region"}, "give both"),
        ({"region": (0, 0, 1, 1)}, "give both"),
        ({"on": "region", "region": (0.5, 0, 0.2, 1)}, "is empty"),
        ({"on": "region", "region": (-5, 0, 20, 10)}, "is empty"),
    ],
)
def test_options_that_cannot_work_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ReadText(**options)


def test_a_class_that_the_detector_does_not_know_is_named(engine: RapidOCREngine) -> None:
    with pytest.raises(UsageError, match=r"no class 'cars'; did you mean 'car'\?"):
        stage_with(engine, classes=["cars"]).process([frame_of([(1, CAR, plate("A"), 0, 0)])])


def test_a_region_outside_the_frame_is_named(engine: RapidOCREngine) -> None:
    with pytest.raises(UsageError, match="outside the 800×480 pixels of camera"):
        stage_with(engine, on="region", region=(900, 0, 1000, 100)).process([frame_of([])])
