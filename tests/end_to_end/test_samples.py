"""Every sample and every shipped configuration, run as its first lines say."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from pathlib import Path

import av
import pytest
from command import framechain

ROOT = Path(__file__).resolve().parents[2]


def sample(name: str, *arguments: str | Path, cwd: Path) -> str:
    command = [sys.executable, str(ROOT / "samples" / name), *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def clip(data: Path) -> Path:
    """71 frames of a street; 8 people in its ground truth."""
    return data / "video" / "TUD-Campus.mp4"


@pytest.fixture(scope="module")
def nanodet(data: Path) -> Path:
    return data / "weights" / "nanodet_g.onnx"


def test_count_people(clip: Path, nanodet: Path, tmp_path: Path) -> None:
    counted = re.fullmatch(r"(\d+) people\n", sample("count_people.py", clip, "--weights", nanodet, cwd=tmp_path))
    assert counted
    assert 6 <= int(counted[1]) <= 10


def test_stages_alone(clip: Path, nanodet: Path, data: Path, tmp_path: Path) -> None:
    embedder = data / "weights" / "osnet_x0_25_msmt17.onnx"
    printed = sample(
        *("stages_alone.py", clip, "--weights", nanodet, "--embedder", embedder, "--max-frames", "12"), cwd=tmp_path
    )
    assert re.search(r"^11 1 \[", printed, re.MULTILINE), "track 1 of the last frame"


def test_own_stage(clip: Path, nanodet: Path, tmp_path: Path) -> None:
    assert printed_fps(sample("own_stage.py", clip, "--weights", nanodet, cwd=tmp_path)) > 0


def printed_fps(text: str) -> float:
    found = re.search(r"([\d.]+) FPS", text)
    assert found
    return float(found[1])


def test_animate(clip: Path, tmp_path: Path) -> None:
    sample("animate.py", clip, "a.webp", "--seconds", "1", "--width", "160", cwd=tmp_path)
    assert (tmp_path / "a.webp").read_bytes()[8:12] == b"WEBP"


def test_the_people_configuration(clip: Path, nanodet: Path, tmp_path: Path) -> None:
    done = framechain(
        "run",
        clip,
        "--config",
        ROOT / "configs" / "people.yaml",
        "--weights",
        nanodet,
        "--max-frames",
        "20",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader((tmp_path / "out" / "people.csv").open()))
    assert {row["class"] for row in rows} == {"person"}
    with av.open(str(tmp_path / "out" / "people.mp4")) as video:
        assert video.streams.video[0].frames == 20


@pytest.mark.parametrize("name", ["plates", "street"])
def test_the_configurations_that_read_plates(name: str, data: Path, nanodet: Path, tmp_path: Path) -> None:
    """A street photograph as a source: what is read looks like a plate, as the pattern asks."""
    done = framechain(
        *("run", data / "ocr" / "plates" / "us_us10.jpg", "--config", ROOT / "configs" / f"{name}.yaml"),
        *("--weights", nanodet, "--jsonl", "out/texts.jsonl"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "texts.jsonl").read_text().count("\n") == 1


def test_the_configuration_of_several_cameras(clip: Path, nanodet: Path, tmp_path: Path) -> None:
    done = framechain(
        *("run", clip, "test:320x240@25", "--config", ROOT / "configs" / "multi_camera.yaml", "--weights", nanodet),
        *("--max-frames", "15"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("cameras.jsonl", "TUD-Campus.txt", "TUD-Campus.mp4", "test.txt", "test.mp4")
    }
