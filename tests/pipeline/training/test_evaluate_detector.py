"""The detect stage judged on real pictures, through the command as far as that goes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline import coco, models
from pipeline.cli import main
from pipeline.errors import UsageError
from pipeline.models import DETECTOR
from pipeline.stages.detect import Detect
from pipeline.training.corruptions import CORRUPTIONS
from pipeline.training.detection_data import read_detection_data
from pipeline.training.evaluate_detector import LEAST_SCORE, MOST, evaluate, match_classes


def detector(weights: Path | str = DETECTOR) -> Detect:
    return Detect(runtime="native", weights=Path(weights), confidence=LEAST_SCORE, max_detections=MOST)


def told(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as done:
        main(["eval", "detector", *map(str, arguments)])
    return int(done.value.code or 0)


def complaint(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    assert told(*arguments) == 2
    (line,) = [line for line in capsys.readouterr().err.strip().splitlines() if "fastest" not in line]
    return line


@pytest.fixture
def sequence(tmp_path: Path) -> Path:
    """Six frames of a MOTChallenge sequence: a person who counts, and all kinds of others."""
    folder = tmp_path / "MOT16-X"
    (folder / "gt").mkdir(parents=True)
    (folder / "img1").mkdir()
    rows = ["1,10,10,20,40,1,1,1", "2,30,10,20,40,0,1,1", "3,50,10,20,40,1,7,1", "4,70,10,20,40,1,3,1"]
    rows += ["5,90,10,20,40,1,1,0.3", "6,110,10,20,40,0,12,1"]
    lines = [f"{frame},{row}" for frame in range(1, 7) for row in rows]
    (folder / "gt" / "gt.txt").write_text("\n".join(lines))
    for frame in range(1, 7):
        cv2.imwrite(str(folder / "img1" / f"{frame:06d}.png"), np.full((80, 160, 3), frame, np.uint8))
    return folder


def test_pedestrians_count_others_are_ignored_cars_are_not_there(sequence: Path) -> None:
    examples = list(read_detection_data(sequence, visible=0))
    assert len(examples) == 6
    assert examples[0].xyxy[:, 0].tolist() == [10, 30, 50, 90, 110]
    assert examples[0].ignored.tolist() == [False, True, True, False, True]
    seen = next(iter(read_detection_data(sequence, visible=0.5)))
    assert seen.ignored.tolist() == [False, True, True, True, True]


def test_frames_and_truth_may_lie_apart(sequence: Path) -> None:
    frames = sequence / "img1"
    for truth in (sequence, sequence / "gt" / "gt.txt"):
        apart, together = (list(read_detection_data(item)) for item in (f"{frames}={truth}", sequence))
        assert [one.xyxy.tolist() for one in apart] == [one.xyxy.tolist() for one in together]
        assert all((one.image == two.image).all() for one, two in zip(apart, together, strict=True))


def test_the_flag_alone_counts_in_mot15(sequence: Path) -> None:
    """Ten columns: no class and no visibility, three world coordinates instead."""
    (sequence / "gt" / "gt.txt").write_text("1,1,10,10,20,40,1,-4.1,-7.3,0\n1,2,30,10,20,40,0,-4.1,-7.3,0\n")
    (example,) = read_detection_data(sequence, visible=0.9)
    assert example.ignored.tolist() == [False, True]


def test_every_and_limit(sequence: Path) -> None:
    data = read_detection_data(sequence, every=2, limit=2)
    assert len(data) == 2
    assert [int(example.image[0, 0, 0]) for example in data] == [1, 3]


def test_a_video_that_is_too_short_is_named(sequence: Path) -> None:
    (sequence / "img1" / "000006.png").unlink()
    data = read_detection_data(sequence)
    assert len(list(data)) == 5
    assert "frame 6" in data.problems[0]


def test_classes_match_by_name() -> None:
    matching = match_classes(["person", "car", "dog"], ["Dog", "cat", "Person"])
    assert matching.truth == (2, -1, 0)
    assert matching.names == {0: "Dog", 2: "Person"}
    assert "cat" in matching.notes[0]


@pytest.mark.parametrize(
    ("network", "numbers", "truth", "said"),
    [
        (coco.NAMES, {0, 79}, tuple(range(80)), "COCO"),
        (coco.NAMES, {0}, (0, *[-1] * 79), "person"),
        (["car", "person"], {0}, (-1, 0), "person"),
        (["0", "1"], {0, 1}, (0, 1), "taken for the same"),
    ],
)
def test_names_that_are_assumed_are_told(
    network: Sequence[str], numbers: set[int], truth: tuple[int, ...], said: str
) -> None:
    matching = match_classes(network, [], numbers=numbers)
    assert matching.truth == truth
    assert said in matching.notes[0]


@pytest.mark.parametrize(("network", "highest"), [(["person", "car"], 1), (coco.NAMES, 80)])
def test_no_names_are_assumed_that_do_not_fit(network: Sequence[str], highest: int) -> None:
    with pytest.raises(UsageError, match=rf"numbers go to {highest}.*\(person, .*--names"):
        match_classes(network, [], numbers={0, highest})


@pytest.mark.parametrize(
    ("network", "truth", "wanted", "said"),
    [
        (["person"], ["tram", "bus"], [], "none of the classes tram, bus"),
        (["person"], ["person", "tram"], ["tram"], "knows no class 'tram'"),
        (["person"], ["person"], ["persn"], "did you mean 'person'"),
        ([], ["person"], [], "names no classes"),
    ],
)
def test_classes_that_do_not_match_are_named(
    network: list[str], truth: list[str], wanted: list[str], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        match_classes(network, truth, wanted)


def test_the_bundled_detector_finds_people(data: Path) -> None:
    """A sixteenth of the data, where it does as well as on the whole: AP50 0.63 on all 128 images."""
    found = evaluate(detector(), read_detection_data(data / "train" / "coco", every=4), ["person"], (), attack=False)
    assert set(found.conditions) == {"clean"}
    assert found.conditions["clean"].mean.ap50 > 0.5


def test_the_bundled_detector_on_a_street(data: Path) -> None:
    """Of everybody in the ground truth, hidden or not, AP50 is 0.67 on all frames: see docs/evaluate.md."""
    street = f"{data}/video/MOT17-09.mp4={data}/mot/MOT17/MOT17-09-FRCNN"
    examples = read_detection_data(street, every=30, limit=8, visible=0.5)
    found = evaluate(detector(), examples, corruptions=(), attack=False)
    assert found.images == 8
    assert found.ignored > 0
    assert found.conditions["clean"].mean.ap50 >= 0.85


def test_damage_and_attack_make_it_worse(data: Path) -> None:
    pytest.importorskip("ultralytics")
    examples = read_detection_data(data / "train" / "coco", every=32)
    found = evaluate(detector(data / "weights" / "yolo11n.pt"), examples, ["person"]).conditions
    assert list(found) == ["clean", *CORRUPTIONS, "attack"]
    assert all(scores.mean.ap < found["clean"].mean.ap for name, scores in found.items() if name != "clean")
    assert found["attack"].mean.ap < 0.8 * found["clean"].mean.ap


def test_figures_do_not_depend_on_what_else_is_tried(data: Path) -> None:
    examples = read_detection_data(data / "train" / "coco", limit=3)
    alone = evaluate(detector(), examples, corruptions=["noise"], attack=False)
    among = evaluate(detector(), examples, corruptions=["darkness", "noise"], attack=False)
    assert alone.conditions["noise"] == among.conditions["noise"]


def test_the_command_writes_table_json_and_plot(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures, chart = tmp_path / "figures.json", tmp_path / "chart.png"
    images = data / "train" / "coco"
    assert told(images, "--limit", "4", "--corruptions", "blur", "--json", figures, "--plot", chart) == 0
    shown = capsys.readouterr()
    assert all(len(line) <= 80 for line in shown.out.splitlines())
    for word in ("AP50-95", "clean", "blur", "attack", "—", "vase"):
        assert word in shown.out
    assert "assumed to be numbered as COCO's" in shown.err
    (found,) = json.loads(figures.read_text()).values()
    assert found["images"] == 4
    assert set(found["conditions"]) == {"clean", "blur"}
    assert set(found["conditions"]["clean"]["mean"]) == {"ap", "ap50", "ap75"}
    assert cv2.imread(str(chart)) is not None


def test_bad_input_is_one_line(data: Path, sequence: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = data / "train" / "coco"
    assert "there is no data" in complaint(capsys, tmp_path / "nowhere")
    assert "no image" in complaint(capsys, tmp_path)
    assert "did you mean 'blur'" in complaint(capsys, images, "--corruptions", "blurr")
    assert "did you mean 'person'" in complaint(capsys, images, "--classes", "persn", "--limit", "1")
    assert "none of the classes zebrafish" in complaint(capsys, data / "train" / "pennfudan", "--names", "zebrafish")
    assert "there is no video" in complaint(capsys, f"{tmp_path}/gone.mp4={sequence}")
    assert "no such folder" in complaint(capsys, images, "--split", "val")
    assert "no split" in complaint(capsys, sequence, "--split", "val")
    assert "only a MOTChallenge" in complaint(capsys, images, "--visible", "0.5")
    assert "no detector that is known" in complaint(
        capsys, images, "--weights", data / "weights" / "osnet_x0_25_msmt17.onnx"
    )
    assert "cannot write" in complaint(capsys, images, "--json", "/proc/figures.json")
    (sequence / "gt" / "gt.txt").write_text("1,2,three\n")
    assert "line 1" in complaint(capsys, sequence)
    (sequence / "gt" / "gt.txt").unlink()
    assert "gt.txt" in complaint(capsys, sequence)


def test_what_is_wrong_with_the_data_is_named_and_counted(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    whole = sorted((data / "train" / "pennfudan" / "images").rglob("*.*"))[0]
    (tmp_path / "images" / whole.name).write_bytes(whole.read_bytes())
    label = next((data / "train" / "pennfudan" / "labels").rglob(f"{whole.stem}.txt"))
    (tmp_path / "labels" / label.name).write_text(label.read_text().rstrip() + "\n0 1.5 0.5 0.2 0.2\n")
    (tmp_path / "images" / "broken.jpg").write_bytes(b"no picture")
    _, jpeg = cv2.imencode(".jpg", cv2.imread(str(whole)))
    (tmp_path / "images" / "cut.jpg").write_bytes(jpeg.tobytes()[:5000])
    assert told(tmp_path, "--clean") == 0
    shown = capsys.readouterr()
    words = ("broken.jpg: not an image", "cut.jpg: not an image", "without area inside the image", "3 problems in the")
    assert all(word in shown.err for word in words), shown.err
    assert shown.out.startswith(f"1 images, {len(label.read_text().split()) // 5} objects\n")


def test_two_detectors_of_one_name_are_told_apart(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
        shutil.copy(models.resolve(DETECTOR), folder / "best.onnx")
    weights = [word for folder in folders for word in ("--weights", folder / "best.onnx")]
    assert told(data / "train" / "pennfudan", "--limit", "1", "--clean", *weights) == 0
    shown = capsys.readouterr().out
    assert all(len(line) <= 80 for line in shown.splitlines())
    assert len([line for line in shown.splitlines() if "clean" in line]) == 2
    column = "".join(line[:26].strip() for line in shown.splitlines())  # long paths are folded
    assert all(str(folder / "best.onnx") in column for folder in folders)
