"""`framechain train embedder` as a user runs it, on identities of a few colours."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from identity_data import figure, write_identities

from pipeline.detections import Detections
from pipeline.frame import Frame
from pipeline.stages.embed import Embed
from pipeline.training import embedder_network
from pipeline.training.embedder_training import vectors
from pipeline.training.identities import read_identities

TINY = "--backbone none --blocks 3 --dimension 16 --batches 3 --identities 3 --crops 2 --precision fp32 --device cpu"


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_identities(tmp_path_factory.mktemp("people"), identities=8, views=4)


def train(
    *arguments: str | Path, launcher: tuple[str, ...] = (sys.executable, "-m")
) -> subprocess.CompletedProcess[str]:
    words = [*launcher, "pipeline", "train", "embedder", *TINY.split(), *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, timeout=300, check=False, env=_environment())


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def weights(path: Path) -> dict[str, Any]:
    return dict(torch.load(path, weights_only=True))


def test_a_run_leaves_settings_figures_curves_and_a_network_for_the_chain(people: Path, tmp_path: Path) -> None:
    done = train(people, "--out", tmp_path / "run", "--epochs", "2")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "run"
    assert {path.name for path in folder.iterdir()} == {
        "config.yaml", "metrics.csv", "curves.png", "last.pt", "best.pt", "embedder.onnx", "embedder.torchscript"
    }  # fmt: skip
    rows = list(csv.DictReader((folder / "metrics.csv").open()))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert all(0 <= float(row["mAP"]) <= 1 for row in rows)
    assert cv2.imread(str(folder / "curves.png")) is not None

    # the exported file gives what the trained network gives
    network = embedder_network.create(3, 16)
    network.load_state_dict(weights(folder / "best.pt"))
    data = read_identities([str(people)])
    expected = vectors(network, data, "cpu")
    stage = Embed(runtime="native", weights=folder / "embedder.onnx")
    for row in (0, 9, 17):
        frame = Frame(np.ascontiguousarray(data.boxes()[row]))
        frame.detections = Detections(
            np.array([[0, 0, 128, 256]], np.float32), np.ones(1, np.float32), np.zeros(1, np.int64)
        )
        stage.process([frame])
        assert frame.detections.features is not None
        assert float(frame.detections.features[0] @ expected[row]) > 0.999


def test_training_makes_it_tell_people_apart(people: Path, tmp_path: Path) -> None:
    long = "--epochs 4 --batches 12 --rate 0.003 --coarse 1 --ema 0.5 --augmentation light"
    done = train(people, "--out", tmp_path / "run", *long.split())
    assert done.returncode == 0, done.stderr
    network = embedder_network.create(3, 16)
    network.load_state_dict(weights(tmp_path / "run" / "last.pt")["network"])
    strangers = write_identities(tmp_path / "strangers", identities=6)
    data = read_identities([str(strangers)])
    found = vectors(network, data, "cpu")
    similarity = found @ found.T
    same = data.identity[:, None] == data.identity
    off = ~np.eye(len(data), dtype=bool)
    assert similarity[same & off].mean() > similarity[~same].mean() + 0.3


def test_a_run_that_was_interrupted_ends_as_if_it_had_not_been(people: Path, tmp_path: Path) -> None:
    whole = train(people, "--out", tmp_path / "whole", "--epochs", "3")
    assert whole.returncode == 0, whole.stderr
    words = [sys.executable, "-m", "pipeline", "train", "embedder", str(people), "--out", str(tmp_path / "cut")]
    words += ["--epochs", "3", *TINY.split()]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=_environment()) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("epoch 1/3"):
                # the checkpoint of an epoch is written after its line; wait for it, then interrupt the second epoch
                while not (tmp_path / "cut" / "last.pt").exists():
                    assert process.poll() is None
                process.send_signal(signal.SIGINT)
                break
        rest = process.stderr.read()
    if process.returncode != 0:  # unless it was faster than the signal
        assert process.returncode == 130, rest
        assert "--resume" in rest
    resumed = train(people, "--out", tmp_path / "cut", "--epochs", "3", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    one, two = weights(tmp_path / "whole" / "last.pt"), weights(tmp_path / "cut" / "last.pt")
    assert one["epoch"] == two["epoch"] == 3
    for name, value in one["network"].items():
        assert torch.equal(value, two["network"][name]), name


def test_two_processes_train_one_network(people: Path, tmp_path: Path) -> None:
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")
    done = train(people, "--out", tmp_path / "run", "--epochs", "2", launcher=launcher)
    assert done.returncode == 0, done.stderr
    assert "2 × cpu" in done.stderr
    assert done.stderr.count("epoch 2/2") == 1  # the leader alone talks
    alone = train(people, "--out", tmp_path / "alone", "--epochs", "2")
    assert alone.returncode == 0, alone.stderr
    # twice the crops in a step: another result than alone
    one, two = weights(tmp_path / "run" / "last.pt"), weights(tmp_path / "alone" / "last.pt")
    assert any(not torch.equal(value, two["network"][name]) for name, value in one["network"].items())


def complaint(done: subprocess.CompletedProcess[str], code: int) -> str:
    assert done.returncode == code, done.stderr
    line = done.stderr.strip().splitlines()[-1]
    assert line.startswith("framechain: ")
    assert "Traceback" not in done.stderr
    return line


def test_a_folder_in_use_is_not_overwritten(people: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("mine")
    assert "--resume" in complaint(train(people, "--out", tmp_path / "run"), 2)
    assert (tmp_path / "run" / "thesis.txt").read_text() == "mine"


def test_other_settings_are_not_resumed(people: Path, tmp_path: Path) -> None:
    assert train(people, "--out", tmp_path / "run", "--epochs", "1").returncode == 0
    line = complaint(train(people, "--out", tmp_path / "run", "--epochs", "1", "--seed", "5", "--resume"), 2)
    assert "seed = 0, not 5" in line


def test_a_single_identity_is_refused(tmp_path: Path) -> None:
    cv2.imwrite(str((tmp_path / "only").mkdir() or tmp_path / "only" / "a.png"), figure(1, 1))
    assert "identit" in complaint(train(tmp_path, "--out", tmp_path / "run"), 2)


def test_a_full_disk_keeps_the_last_checkpoint(people: Path, tmp_path: Path) -> None:
    # files may not grow beyond 20 kB: settings fit, a checkpoint does not
    script = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000));"
        "from pipeline.cli import main; main(sys.argv[1:])"
    )
    words = [sys.executable, "-c", script, "train", "embedder", str(people), "--out", str(tmp_path / "run")]
    done = subprocess.run([*words, *TINY.split()], capture_output=True, text=True, timeout=300, check=False)
    line = complaint(done, 1)
    assert "cannot write the checkpoint" in line
    assert "make room" in line
    assert not list((tmp_path / "run").glob(".*part*"))


def test_what_cannot_be_is_told_in_one_line(people: Path, tmp_path: Path) -> None:
    for arguments, said in (
        (("--out", tmp_path / "a", "--device", "cuda:7"), "PyTorch has no device 'cuda:7' here"),
        (("--out", "/proc/run"), "cannot write /proc/run"),
    ):
        done = train(people, *arguments)
        assert done.returncode == 2, done.stderr
        assert said in done.stderr.strip().splitlines()[-1]
        assert "Traceback" not in done.stderr
