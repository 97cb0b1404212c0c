"""Training a detector: what a run leaves, what freezing freezes, interruptions, and bad data said by name."""

from __future__ import annotations

import csv
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pipeline.errors import FramechainError, UsageError
from pipeline.frame import Frame
from pipeline.stages.detect import Detect
from pipeline.training.detector import DetectorSettings, Trained, train_detector, trainer_of
from pipeline.training.detector_data import read_data, repeat_factors, write_data
from pipeline.training.distributed import Process
from pipeline.training.yolo_dataset import LabelledImage, read_yolo

torch = pytest.importorskip("torch")
libreyolo = pytest.importorskip("libreyolo")

ALONE = Process(0, 1, "cpu")
QUICK = {"epochs": 2, "image_size": 96, "batch": 4, "augment": "light"}
COMMAND = [sys.executable, "-m", "pipeline", "train", "detector"]
FLAGS = ["--model", "yolox-n", "--image-size", "96", "--batch", "4", "--augment", "none", "--device", "cpu"]

pytestmark = pytest.mark.filterwarnings("ignore")  # what the training libraries have to say of themselves


def dataset(folder: Path, count: int = 8, classes: int = 2) -> Path:
    """Grey pictures with a bright rectangle each, at a place that the labels tell."""
    draw = np.random.default_rng(0)
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    for n in range(count):
        image = np.full((96, 128, 3), 90, np.uint8)
        x, y = int(draw.integers(5, 80)), int(draw.integers(5, 50))
        image[y : y + 30, x : x + 24] = (30, 60, 250) if n % classes else (250, 200, 30)
        cv2.imwrite(str(folder / "images" / f"{n}.png"), image)
        line = f"{n % classes} {(x + 12) / 128} {(y + 15) / 96} {24 / 128} {30 / 96}\n"
        (folder / "labels" / f"{n}.txt").write_text(line)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dataset(tmp_path_factory.mktemp("data") / "shapes")


def train(data: Path, out: Path, *, resume: bool = False, on_epoch: Any = lambda _: None, **options: Any) -> Trained:
    settings = DetectorSettings(**{"data": str(data), "model": "yolox-n", **QUICK, **options})
    return train_detector(settings, out, resume=resume, process=ALONE, on_epoch=on_epoch)


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_a_run_leaves_a_detector_that_runs_and_all_that_was_measured(data: Path, tmp_path: Path) -> None:
    told: list[Mapping[str, float]] = []
    trained = train(data, tmp_path / "run", on_epoch=told.append)
    assert {file.name for file in (tmp_path / "run").iterdir()} >= {
        "config.yaml", "metrics.csv", "curves.png", "best.pt", "last.pt", "best.onnx", "library.log",
    }  # fmt: skip
    assert [row["epoch"] for row in rows(tmp_path / "run")] == ["1", "2"]
    assert [figures["epoch"] for figures in told] == [1, 2]
    assert all(float(row["loss"]) > 0 for row in rows(tmp_path / "run"))
    image = cv2.imread(str(data / "images" / "0.png"))
    found = []
    for weights in (trained.best, trained.exported):
        with Detect(runtime="native", weights=weights, confidence=0.001, device="cpu") as stage:
            frame = Frame(np.asarray(image, np.uint8))
            stage.process([frame])
            assert stage.names == ("0", "1")
            found.append(frame.detections.confidence[:3])
    np.testing.assert_allclose(found[0], found[1], rtol=1e-3)  # the export is the checkpoint


def test_a_frozen_backbone_stays_as_it_was_and_then_learns(data: Path, tmp_path: Path) -> None:
    states: list[dict[str, Any]] = []

    def keep(_: object) -> None:
        state = torch.load(tmp_path / "run" / "last.pt", weights_only=True)
        states.append({key: tensor.clone() for key, tensor in state["train_model"].items()})

    network = libreyolo.LibreYOLOX(None, size="n", device="cpu")  # of 80 classes: it gets a new head for two
    network.save(str(tmp_path / "start.pt"))
    begin = {key: tensor.clone() for key, tensor in network.model.state_dict().items()}
    train(data, tmp_path / "run", model=str(tmp_path / "start.pt"), freeze_epochs=1, learning_rate=0.05, on_epoch=keep)
    backbone = [key for key in begin if key.startswith("backbone.") and key.endswith("conv.weight")]
    head = [key for key in begin if key.startswith("head.stems") and key.endswith("conv.weight")]
    frozen, free = states
    assert all(torch.equal(begin[key], frozen[key]) for key in backbone)
    assert any(not torch.equal(begin[key], frozen[key]) for key in head)
    assert any(not torch.equal(frozen[key], free[key]) for key in backbone)


@pytest.mark.parametrize("model", ["yolox-n", "yolov8n.yaml"])
def test_an_interrupted_run_goes_on_where_it_was(model: str, data: Path, tmp_path: Path) -> None:
    if model.endswith(".yaml"):
        pytest.importorskip("ultralytics")

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    options: dict[str, Any] = {"model": model, "epochs": 3, "freeze_epochs": 1}
    for _ in range(2):  # within the first phase's end, then within the second phase
        with pytest.raises(KeyboardInterrupt):
            train(data, tmp_path / "run", resume=(tmp_path / "run").exists(), on_epoch=interrupt, **options)
    trained = train(data, tmp_path / "run", resume=True, **options)
    assert [row["epoch"] for row in rows(tmp_path / "run")] == ["1", "2", "3"]
    assert trained.epochs == 3
    with Detect(runtime="native", weights=trained.exported, device="cpu"):
        pass
    with pytest.raises(UsageError, match=r"has batch = 4, not 2"):
        train(data, tmp_path / "run", resume=True, **options, batch=2)


def test_ctrl_c_on_the_command_line(data: Path, tmp_path: Path) -> None:
    arguments = [*COMMAND, str(data), *FLAGS, "--epochs", "500", "--out", str(tmp_path / "run")]
    running = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 240
    while not (tmp_path / "run" / "curves.png").exists():
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=120)
    assert running.returncode == 130
    last = errors.strip().splitlines()[-1]
    assert last.startswith("framechain: interrupted after")
    assert "--resume" in last
    assert "Traceback" not in errors
    state = torch.load(tmp_path / "run" / "last.pt", weights_only=True)
    assert state["epoch"] + 1 == len(rows(tmp_path / "run")) > 0


def _no_large_files() -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))


def test_no_space_for_a_checkpoint(data: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [*COMMAND, str(data), *FLAGS, "--epochs", "2", "--quiet", "--out", str(tmp_path / "run")],
        capture_output=True, text=True, timeout=240, check=False, preexec_fn=_no_large_files,
    )  # fmt: skip
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert "no space for a checkpoint" in line
    assert "--resume" in line
    assert not (tmp_path / "run" / "last.pt").exists()


def test_two_processes_train_one_model(data: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", "-m", "pipeline",
         "train", "detector", str(data), *FLAGS, "--epochs", "1", "--out", str(tmp_path / "run")],
        capture_output=True, text=True, timeout=300, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "rank=0/2" in (tmp_path / "run" / "library.log").read_text()
    assert len(rows(tmp_path / "run")) == 1
    with Detect(runtime="native", weights=tmp_path / "run" / "best.onnx", device="cpu"):
        pass


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"model": "yolo9-z"}, "libreyolo has no yolo9 of size 'z'; there are: t, s, m, c"),
        ({"model": "yolo99-t"}, "libreyolo has no detector 'yolo99'; did you mean 'yolo9'?"),
        ({"model": "fcos-r50"}, "libreyolo runs fcos and does not train it; it trains: "),
        ({"model": "yolo11n.pt"}, "there is no model 'yolo11n.pt'"),
        ({"freeze_epochs": 2}, "--freeze-epochs 2 leaves nothing of 2 epochs"),
        ({"precision": "bf16"}, "use --precision fp32"),
        ({"validation": "1.5"}, "a share of 1.5 cannot be kept"),
        ({"validation": "/nowhere"}, "there is no data at /nowhere"),
        ({"model": "yolov8n.yaml", "ema": False}, "leave --no-ema out"),
    ],
)
def test_what_cannot_be_trained_is_said_in_a_line(
    options: dict[str, Any], said: str, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as error:
        train(data, tmp_path / "run", **options)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()  # nothing in the way of the next try


def test_a_network_that_only_computes_is_refused(tmp_path: Path) -> None:
    script = torch.jit.trace(torch.nn.Conv2d(3, 1, 1), torch.zeros(1, 3, 8, 8))
    torch.jit.save(script, str(tmp_path / "script.pt"))
    with pytest.raises(UsageError, match="only computes"):
        trainer_of(str(tmp_path / "script.pt"))


def test_bad_data_is_named_and_left_out(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "d")
    (folder / "images" / "8.png").write_text("not a picture")
    (folder / "labels" / "1.txt").write_text("1 0.5 0.5 0.2 0.2\n0 1.9 0.5 0.1 0.1\nperson 0 0 1 1\n")
    (folder / "data.yaml").write_text("train: images\nval: images\nnames: [blue, red, green]\n")
    found = read_data(folder, "", 0)
    told = "\n".join(found.problems)
    for part in ("8.png", "1.txt, line 2", "1.txt, line 3", "no object of class green"):
        assert part in told
    assert found.names == ("blue", "red", "green")
    assert sum(len(image.class_id) for image in found.train) == 8


def test_data_without_objects_or_with_other_classes(tmp_path: Path) -> None:
    folder, other = dataset(tmp_path / "d"), dataset(tmp_path / "other")
    for file in (folder / "labels").iterdir():
        file.write_text("")
    with pytest.raises(UsageError, match="has a labelled object"):
        read_data(folder, "", 0)
    (other / "data.yaml").write_text("train: images\nval: images\nnames: [cat, dog]\n")
    third = dataset(tmp_path / "third")
    (third / "data.yaml").write_text("train: images\nval: images\nnames: [dog, cat]\n")
    with pytest.raises(UsageError, match=r"\(dog, cat\) are not those to train on \(cat, dog\)"):
        read_data(other, str(third), 0)
    with pytest.raises(UsageError, match="one image cannot be divided"):
        read_data(dataset(tmp_path / "one", count=1), "", 0)


def test_a_part_for_validation_is_taken_as_it_is(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "d")
    for n in range(8):
        part = "val" if n < 3 else "train"
        for kind, ending in (("images", "png"), ("labels", "txt")):
            (folder / kind / part).mkdir(exist_ok=True)
            (folder / kind / f"{n}.{ending}").rename(folder / kind / part / f"{n}.{ending}")
    found = read_data(folder, "", 0)
    assert [image.path.stem for image in found.validation] == ["0", "1", "2"]
    assert len(found.train) == 5
    share = read_data(folder, "0.25", 0)
    assert (len(share.train), len(share.validation)) == (6, 2)
    assert [image.path for image in share.train] == [image.path for image in read_data(folder, "0.25", 0).train]


def test_what_is_written_reads_back_the_same(data: Path, tmp_path: Path) -> None:
    found = read_data(data, "0.25", 0)
    file = write_data(found, tmp_path / "written", balanced=False, seed=0)
    assert file == (tmp_path / "written" / "data.yaml").resolve()
    file.unlink()  # it lists the images one by one; without it the folders are read
    back = read_yolo(tmp_path / "written", ("0", "1"))
    boxes = {image.path.stem.split("_")[-1]: image for image in back.images}
    for image in (*found.train, *found.validation):
        np.testing.assert_allclose(boxes[image.path.stem].xyxy, image.xyxy, atol=1e-5)
        np.testing.assert_array_equal(boxes[image.path.stem].class_id, image.class_id)
    listed = (tmp_path / "written" / "train.txt").read_text().split()
    assert len(listed) == len(found.train)


def test_rare_classes_are_listed_more_often_by_the_root_of_how_rare_they_are() -> None:
    def image(*classes: int) -> LabelledImage:
        return LabelledImage(Path("x"), np.array(classes, np.int64), np.zeros((len(classes), 4), np.float32))

    images = [image(0)] * 1000 + [image(1)] * 250 + [image()] * 10
    factors = repeat_factors(images, seed=0)
    assert factors[:1000] == [1] * 1000
    assert factors[1250:] == [1] * 10
    assert np.mean(factors[1000:1250]) == pytest.approx((625 / 250) ** 0.5, abs=0.1)
    assert factors == repeat_factors(images, seed=0)
    assert repeat_factors([image(0), image(1)], seed=0) == [1, 1]


def test_what_is_there_is_not_overwritten(data: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="already there"):
        train(data, tmp_path / "run")
    with pytest.raises(UsageError, match="no run to resume"):
        train(data, tmp_path / "new", resume=True)
    assert [file.name for file in (tmp_path / "run").iterdir()] == ["thesis.txt"]


def test_a_hostile_checkpoint_to_resume_from_runs_nothing(data: Path, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "sprung"),)

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(data, tmp_path / "run", on_epoch=interrupt)
    state = torch.load(tmp_path / "run" / "last.pt", weights_only=True)
    torch.save({**state, "config": Trap()}, tmp_path / "run" / "last.pt")
    with pytest.raises(FramechainError, match=r"last\.pt is not a checkpoint"):
        train(data, tmp_path / "run", resume=True)
    assert not (tmp_path / "sprung").exists()
