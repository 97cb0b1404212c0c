"""The annotate stage: what is drawn, where, in which colours; what is remembered."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline import drawing
from pipeline.detections import Detections
from pipeline.frame import Frame
from pipeline.stages.annotate import Annotate
from pipeline.text import Text
from trackers.tracks import Tracks

GREY = 90
NAMES = ("person", "car")


def tracks(*boxes: tuple[float, ...], ids: tuple[int, ...] | None = None, lost: Tracks | None = None) -> Tracks:
    n = len(boxes)
    return Tracks(
        id=np.array(ids or range(1, n + 1), np.int64),
        xyxy=np.array(boxes, float).reshape(n, 4),
        score=np.full(n, 0.9),
        class_id=np.zeros(n, np.int64),
        det_index=np.full(n, 0 if lost is not None else -1, np.int64),
        age=np.ones(n),
        since_seen=np.full(n, 0.0 if lost is not None else 0.5),
        velocity=np.zeros((n, 2)),
        _hidden=lost,
    )


def seen(*boxes: tuple[float, ...], ids: tuple[int, ...] | None = None) -> Tracks:
    return tracks(*boxes, ids=ids, lost=Tracks())


def frame(
    found: Tracks | None = None, size: tuple[int, int] = (640, 480), at: float = 0.0, source: str = "street"
) -> Frame:
    image = np.full((size[1], size[0], 3), GREY, np.uint8)
    return Frame(image, source, round(at * 10), at, 0.0, Detections(names=NAMES), Tracks() if found is None else found)


def drawn(one: Frame, stage: Annotate | None = None) -> NDArray[np.uint8]:
    (stage or Annotate()).process([one])
    assert one.canvas is not None
    return one.canvas


def touched(canvas: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return (canvas != GREY).any(axis=2)


def shows(canvas: NDArray[np.uint8], colour: drawing.Colour) -> NDArray[np.bool_]:
    return (canvas == colour).all(axis=2)


def test_the_image_itself_is_never_touched() -> None:
    one = frame(seen((100, 100, 200, 300)))
    one.image.flags.writeable = False
    canvas = drawn(one)
    assert (one.image == GREY).all()
    assert canvas.shape == one.image.shape
    assert canvas.flags.writeable
    assert touched(canvas).any()


def test_nothing_found_gives_a_plain_copy() -> None:
    assert not touched(drawn(frame())).any()


@pytest.mark.parametrize("size", [(320, 240), (768, 576), (1920, 1080), (3840, 2160), (1080, 1920)])
def test_lines_and_letters_grow_with_the_frame(size: tuple[int, int]) -> None:
    width, height = size
    canvas = drawn(frame(seen((width * 0.3, height * 0.3, width * 0.7, height * 0.8)), size), Annotate(trail=0))
    row = touched(canvas)[round(height * 0.6)]
    thickness = row[: width // 2].sum()
    assert thickness == max(1, round(0.7 + 2.1 * np.sqrt(width * height) / 960))
    above = touched(canvas)[: round(height * 0.3) - thickness].any(axis=1).sum()
    assert above >= 13  # letters of 10 pixels and their margin
    assert 0.012 * min(size) < above < 0.08 * max(height, 240)


def test_the_box_has_the_colour_of_its_id() -> None:
    canvas = drawn(frame(seen((100, 100, 200, 300), (300, 100, 400, 300), ids=(7, 8))))
    assert shows(canvas, drawing.distinct_colour(7))[100:300, 95:205].sum() > 400
    assert shows(canvas, drawing.distinct_colour(8))[100:300, 295:405].sum() > 400
    assert not shows(canvas, drawing.distinct_colour(8))[:, :250].any()


def test_lost_tracks_are_broken_and_dimmer() -> None:
    box = (100, 100, 300, 400)
    hidden = tracks(box, ids=(7,))
    canvas = drawn(frame(tracks(lost=hidden)))
    colour = drawing.dimmed(drawing.distinct_colour(7))
    edge = shows(canvas, colour)[110:390, 98:103].any(axis=1)
    assert 0.3 < edge.mean() < 0.7
    assert np.abs(np.diff(edge.astype(int))).sum() > 6
    assert shows(drawn(frame(seen(box, ids=(7,)))), drawing.distinct_colour(7))[110:390, 98:103].any(axis=1).all()


def test_tracks_out_of_sight_for_long_are_not_drawn() -> None:
    one = frame(tracks(lost=tracks((100, 100, 300, 400), ids=(7,))))  # lost for 0.5 s
    assert touched(drawn(one, Annotate(lost=0.6))).any()
    assert not touched(drawn(one, Annotate(lost=0.4))).any()


def test_detections_are_drawn_only_where_no_tracker_works() -> None:
    one = frame()
    one.detections = Detections(np.float32([[50, 60, 150, 260]]), np.float32([0.8]), np.array([1]), names=NAMES)
    stage = Annotate()
    assert shows(drawn(one, stage), drawing.distinct_colour(1)).sum() > 300
    one.tracks = seen((300, 100, 400, 300))
    assert not touched(drawn(one, stage))[60:260, 40:160].any()
    one.tracks = Tracks()
    assert not touched(drawn(one, stage)).any()
    one.source = "another"
    assert touched(drawn(one, stage)).any()


def corners(canvas: NDArray[np.uint8], colour: drawing.Colour) -> list[tuple[int, int, int, int]]:
    """Filled tags of a colour: x, y, width, height."""
    filled = shows(canvas, colour).astype(np.uint8)
    filled = cv2.morphologyEx(filled, cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8))
    filled = cv2.morphologyEx(filled, cv2.MORPH_OPEN, np.ones((9, 9), np.uint8))
    return [tuple(row[:4]) for row in cv2.connectedComponentsWithStats(filled)[2][1:].tolist()]


@pytest.mark.parametrize(
    "box", [(0, 0, 60, 100), (590, 0, 640, 90), (600, 400, 640, 480), (0, 380, 30, 480), (-50, -80, 700, 600)]
)
def test_labels_stay_within_the_frame(box: tuple[float, ...]) -> None:
    stage = Annotate(trail=0)
    middle = drawn(frame(seen((280, 200, 340, 300), ids=(5,))), stage)
    edge = drawn(frame(seen(box, ids=(5,))), stage)
    (whole,), (moved,) = corners(middle, drawing.distinct_colour(5)), corners(edge, drawing.distinct_colour(5))
    assert moved[3] >= whole[3] - 3
    assert moved[2] >= 20


def test_labels_do_not_cover_each_other() -> None:
    boxes = [(200.0 + 6 * n, 200.0 + 3 * n, 240.0 + 6 * n, 300.0 + 3 * n) for n in range(5)]
    canvas = drawn(frame(seen(*boxes)), Annotate(trail=0))
    for n in range(5):
        assert corners(canvas, drawing.distinct_colour(n + 1)), f"the label of {n + 1} is hidden"


def test_trails_follow_and_fade() -> None:
    stage = Annotate(trail=1.0)
    for n in range(31):
        canvas = drawn(frame(seen((20 + 10 * n, 100, 60 + 10 * n, 200), ids=(3,)), at=n / 10), stage)
    line = touched(canvas)[197:204]
    x_now = 40 + 10 * 30
    assert line[:, x_now - 90 : x_now - 25].any(axis=0).mean() > 0.9
    assert not touched(canvas)[:, : x_now - 110].any()
    stage.forget("street")
    again = drawn(frame(seen((320, 100, 360, 200), ids=(3,)), at=3.1), stage)
    assert not touched(again)[:, :310].any()


def test_trails_are_bounded_and_belong_to_their_source() -> None:
    stage = Annotate(trail=2.0)
    for n in range(2000):
        canvas = drawn(frame(seen((n % 500, 50, 90 + n % 500, 90), ids=(n // 100 + 1,)), (640, 120), n / 100), stage)
    memory = stage._memories["street"]
    assert len(memory.trails) <= 3
    assert all(len(trail) < 60 for trail in memory.trails.values())
    other = drawn(frame(seen((400, 50, 490, 90), ids=(200,)), (640, 120), 20.0, "yard"), stage)
    assert touched(canvas)[85:, 450:495].any()
    assert not touched(other)[:, :390].any()


def test_texts_ride_on_their_track_or_stand_alone() -> None:
    one = frame(seen((100, 100, 260, 300), ids=(4,)))
    one.texts = (
        Text("AB-123", 0.9, (100, 100, 260, 300), track_id=4),
        Text("EXIT", 0.8, (400, 50, 500, 80)),
        Text("gone", 0.8, (400, 350, 500, 380), track_id=99),
    )
    paper = shows(drawn(one), (245, 245, 245))
    assert paper[295:340, 95:300].sum() > 300
    assert paper[80:110, 395:520].sum() > 200
    assert not paper[340:, 350:].any()


@pytest.mark.parametrize("text", ["né Straße", "京A·12345", "Привет", "a\nb\tc", "", "x" * 500, "🚗", "\ud800"])
def test_any_text_can_be_drawn(text: str) -> None:
    one = frame()
    one.texts = (Text(text, 0.9, (100, 100, 300, 150)),)
    canvas = drawn(one)
    assert shows(canvas, (245, 245, 245)).any()


@pytest.mark.skipif(not hasattr(cv2, "FontFace"), reason="OpenCV 4 has letters for ASCII only")
def test_other_scripts_are_no_question_marks() -> None:
    tags = drawing.Tags()
    question = tags.shape(["?"], 20)
    for character in "é京ПあßΩ":
        assert tags.shape([character], 20).shape != question.shape or (tags.shape([character], 20) != question).any()
    assert (tags.shape(["京"], 20) != tags.shape(["都"], 20)).any()


def test_colours_are_stable_and_told_apart() -> None:
    assert drawing.distinct_colour(12) == drawing.distinct_colour(12)
    colours = np.array([[drawing.distinct_colour(n) for n in range(1, 31)]], np.uint8)
    lab = cv2.cvtColor(colours.astype(np.float32) / 255, cv2.COLOR_BGR2Lab)[0]
    apart = np.linalg.norm(lab[:, None] - lab[None], axis=2)[~np.eye(30, dtype=bool)]
    assert apart.min() > 7  # 2.3 is just noticeable
    neighbours = np.linalg.norm(np.diff(lab, axis=0), axis=1)
    assert neighbours.min() > 40


def test_labels_have_contrast() -> None:
    def luminance(colour: drawing.Colour) -> float:
        linear = np.array(colour[::-1]) / 255
        linear = np.where(linear <= 0.04045, linear / 12.92, ((linear + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    for number in range(200):
        for colour in (drawing.distinct_colour(number), drawing.dimmed(drawing.distinct_colour(number))):
            dark, light = sorted((luminance(colour), luminance(drawing.readable_on(colour))))
            assert (light + 0.05) / (dark + 0.05) >= 4.0


def test_the_same_frames_give_the_same_canvas_in_any_batch() -> None:
    def run(batch: int) -> list[bytes]:
        stage, frames = Annotate(hud=True), []
        for n in range(12):
            frames.append(frame(seen((20 + 9 * n, 60, 90 + 9 * n, 200), (300, 80, 350, 220)), at=n / 10))
            frames.append(frame(seen((30, 60 + 9 * n, 90, 200 + 9 * n)), at=n / 10, source="yard"))
        for start in range(0, len(frames), batch):
            stage.process(frames[start : start + batch])
        return [one.canvas.tobytes() for one in frames if one.canvas is not None]

    assert run(1) == run(8) == run(24)


def test_absurd_boxes_and_tiny_frames_do_no_harm() -> None:
    wild = tracks((-1e9, -1e9, 1e12, 1e12), (5e8, 0, 6e8, 10), (50, 50, 20, 10))
    for size in ((640, 480), (8, 8), (1, 1), (300, 2)):
        drawn(frame(tracks((0, 0, 5, 5), (-1e12, 3, 1e12, 4), ids=(8, 9), lost=wild), size))


def test_hud_names_source_time_and_count() -> None:
    assert not touched(drawn(frame(), Annotate())).any()
    assert touched(drawn(frame(), Annotate(hud=True)))[:60, :300].any()
