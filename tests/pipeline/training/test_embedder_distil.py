"""`framechain train distil` with an embedder as the teacher, on a real video."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import yaml

from pipeline.training.identities import read_identities


def test_a_student_learns_similarities_from_unlabelled_video(data: Path, tmp_path: Path) -> None:
    video = str(data / "video" / "TUD-Campus.mp4")
    words = [sys.executable, "-m", "pipeline", "train", "distil", video, "--epochs", "1", "--batch", "8"]
    words += ["--teacher", str(data / "weights" / "osnet_x0_25_msmt17.onnx"), "--student", "none"]
    words += ["--out", str(tmp_path / "run")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    settings = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert settings["triplet"] == settings["identity"] == 0
    assert (tmp_path / "run" / "embedder.onnx").exists()
    assert cv2.imread(str(tmp_path / "run" / "curves.png")) is not None
    (tracks,) = (tmp_path / "run-tracks").iterdir()
    assert read_identities([f"{video}={tracks}"]).count >= 6  # eight people walk through it


def test_what_is_for_detectors_is_refused(data: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "pipeline", "train", "distil", "clip.mp4", "--classes", "person"]
    words += ["--teacher", str(data / "weights" / "osnet_x0_25_msmt17.onnx"), "--out", str(tmp_path / "run")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 2, done.stderr
    assert "is an embedder" in done.stderr
    assert not (tmp_path / "run").exists()
