"""What computes a network fastest is found by trying, once; conversions are whole or not there at all."""

from __future__ import annotations

import json
import logging
import shutil
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from networks import averages

from pipeline.errors import FramechainError, UsageError
from pipeline.inference import cache
from pipeline.inference.candidates import Wish, candidates
from pipeline.inference.choice import fastest, remembered
from pipeline.inference.model import load, runtimes
from pipeline.models import EMBEDDER

IMAGES = np.random.default_rng(0).uniform(0, 1, (1, 3, 32, 32)).astype(np.float32)
SMALL = Wish(device="cpu", size=(32, 32))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FRAMECHAIN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "converted"


@pytest.fixture
def network(tmp_path: Path) -> Path:
    return averages(tmp_path / "averages.onnx", ["n", 3, "h", "w"])


def refused(weights: str | Path, wish: Wish, error: type[Exception] = UsageError) -> str:
    with pytest.raises(error) as told:
        fastest(weights, wish)
    assert "\n" not in str(told.value)
    return str(told.value)


def test_all_that_is_installed_is_tried_once_and_the_winner_said_and_remembered(
    network: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("openvino")
    with caplog.at_level(logging.INFO, "framechain"):
        model = fastest(network, SMALL)
    np.testing.assert_allclose(model.run(IMAGES)[0], IMAGES.mean((2, 3)), rtol=0.01)
    ((_, choice),) = remembered()
    tried = [choice.chosen, *choice.others]
    assert {one.runtime for one in tried} == {"onnxruntime", "openvino"}
    assert all(one.seconds and not one.fault for one in tried)
    # what wins is the fastest, unless one that computes more exactly is as good as equal
    assert choice.chosen.seconds * 0.95 <= min(one.seconds for one in tried)
    assert f"averages.onnx: {choice.chosen}" in caplog.text
    assert "is the fastest here, and remembered" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO, "framechain"):
        again = fastest(network, SMALL)
    assert again.name == model.name
    assert f"averages.onnx: {choice.chosen}, the fastest when all were tried" in caplog.text
    assert "trying" not in caplog.text


def test_the_same_weights_elsewhere_are_not_tried_again(network: Path, tmp_path: Path) -> None:
    fastest(network, SMALL)
    moved = tmp_path / "moved.onnx"
    network.rename(moved)
    assert fastest(moved, SMALL).run(IMAGES)[0].shape == (1, 3)
    assert len(list(remembered())) == 1


def test_other_weights_and_other_wishes_are_choices_of_their_own(network: Path, tmp_path: Path) -> None:
    fastest(network, SMALL)
    fastest(averages(tmp_path / "b.onnx", ["n", 3, 32, 32]), SMALL)
    fastest(network, Wish(device="cpu", precision="fp32", runtime="onnxruntime", size=(32, 32)))
    assert len(list(remembered())) == 3


def test_the_number_of_workers_does_not_change_what_computes_it(network: Path) -> None:
    fastest(network, SMALL)
    for requests in (1, 2, 5):
        fastest(network, replace(SMALL, requests=requests))
    assert len(list(remembered())) == 1


def test_a_single_way_is_taken_without_timing_it(network: Path) -> None:
    fastest(network, Wish(device="cpu", precision="fp32", runtime="onnxruntime"))
    ((_, choice),) = remembered()
    assert choice.chosen.seconds is None
    assert not choice.others


@pytest.mark.parametrize("damage", ["", "{}", '{"weights": "x", "chosen": {"runtime": "gone"}, "others": []}'])
def test_what_was_remembered_makes_no_sense(
    damage: str, network: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wish = Wish(device="cpu", precision="fp32", runtime="onnxruntime")
    fastest(network, wish)
    (file,) = folder.glob("*.json")
    file.write_text(damage)
    for _ in range(2):  # and is put right, so that it is told once
        assert fastest(network, wish).name == "onnxruntime"
    assert caplog.text.count("is damaged, or from another version; all runtimes are tried again") == 1


def test_a_file_in_its_own_runtime_is_not_tried_at_all(network: Path, folder: Path) -> None:
    assert fastest(network, Wish(device="cpu", runtime="native")).name == "onnxruntime"
    assert not folder.exists()


def test_a_checkpoint_is_converted_once_and_computes_the_same(folder: Path, data: Path) -> None:
    """A damaged conversion is made once more."""
    pytest.importorskip("ultralytics")
    weights = data / "weights" / "yolo11n.pt"
    (expected,) = load(weights, "cpu").run(IMAGES)
    wish = Wish(device="cpu", precision="fp32", runtime="onnxruntime", size=(32, 32))
    np.testing.assert_allclose(fastest(weights, wish).run(IMAGES)[0], expected, rtol=1e-3, atol=1e-3)
    (made,) = folder.glob("*.onnx")
    before = made.stat().st_mtime_ns
    assert fastest(weights, wish).metadata.names[0] == "person"
    assert made.stat().st_mtime_ns == before
    made.write_bytes(made.read_bytes()[:1000])
    np.testing.assert_allclose(fastest(weights, wish).run(IMAGES)[0], expected, rtol=1e-3, atol=1e-3)
    assert made.stat().st_size > 1000


@pytest.mark.parametrize("device", ["cuda", "cuda:3", "tpu"])
def test_a_device_that_is_not_there(device: str, network: Path) -> None:
    line = refused(network, Wish(device=device))
    assert f"'{device}'" in line
    assert "cpu" in line


def test_a_runtime_that_does_not_exist_or_does_not_suit(network: Path) -> None:
    assert "did you mean 'openvino'?" in refused(network, Wish(runtime="opnvino"))
    assert "use --runtime auto" in refused(network, Wish(runtime="torch", device="cpu"))


def test_a_precision_that_is_not_there(network: Path) -> None:
    line = refused(network, Wish(device="cpu", precision="fp16"))
    assert "fp16" in line
    assert "fp32" in line


def test_8_bits_without_data_to_calibrate_with(network: Path) -> None:
    line = refused(network, Wish(device="cpu", precision="int8"))
    assert "--calibration VIDEO" in line


def test_a_bundled_network_has_its_twin_in_8_bits_tried_as_well() -> None:
    found = candidates("nanodet-g", Wish(device="cpu"))
    assert {one.quantised for one in found} == {True, False}
    assert not any(one.quantised for one in candidates("nanodet-g", Wish(device="cpu", precision="fp32")))
    assert not any(one.quantised for one in candidates(EMBEDDER, Wish(device="cpu")))


def test_what_cannot_be_written_is_said_and_the_work_goes_on(
    network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("FRAMECHAIN_CACHE", str(tmp_path / "file"))
    model = fastest(network, Wish(device="cpu", precision="fp32", runtime="onnxruntime"))
    assert model.run(IMAGES)[0].shape == (1, 3)
    assert "it will be tried again next time" in caplog.text


def test_many_that_make_the_same_file_at_once_all_get_the_first(folder: Path) -> None:
    start = threading.Barrier(8)

    def make(number: int) -> bytes:
        start.wait()
        return bytes([number]) * 1_000_000

    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(lambda n: cache.kept("abc.onnx", lambda: make(n)), range(8)))
    assert set(paths) == {folder / "abc.onnx"}
    data = paths[0].read_bytes()
    assert len(data) == 1_000_000
    assert len(set(data)) == 1
    assert [entry.digest for entry in cache.entries()] == ["abc"]
    assert list(folder.iterdir()) == paths[:1]


def test_half_a_file_of_a_process_that_died_is_never_taken_and_goes_with_the_rest(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / ".half").write_bytes(b"12345")
    cache.kept("a.onnx", lambda: b"123")
    assert [entry.path.name for entry in cache.entries()] == ["a.onnx"]
    assert cache.clear() == (2, 8)
    assert not list(folder.iterdir())


def test_making_it_fails_and_nothing_is_left(folder: Path) -> None:
    def fail() -> bytes:
        raise FramechainError("no")

    with pytest.raises(FramechainError):
        cache.kept("a.onnx", fail)
    assert not folder.exists() or not list(folder.iterdir())


def test_nothing_computes_it(network: Path, tmp_path: Path) -> None:
    """Every way fails: all reasons are told."""
    pytest.importorskip("openvino")
    broken = tmp_path / "broken.onnx"
    shutil.copy(network, broken)
    onnx = pytest.importorskip("onnx")
    model = onnx.load(str(broken))
    model.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(model, str(broken))
    assert "broken.onnx" in refused(broken, SMALL)


def test_every_runtime_says_what_it_computes_in() -> None:
    for name, runtime in runtimes.kinds():
        if name == "tensorrt":
            continue  # what it builds depends on its version, and it may not be installed
        assert "fp32" in runtime.precisions("cpu", Path("network.onnx"))


def test_a_runtime_that_does_not_load_is_told_each_time_and_the_others_are_used(
    network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "openvino.py").write_text("raise OSError('libtbb.so.12: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "openvino", raising=False)
    for _ in range(2):
        caplog.clear()
        with caplog.at_level(logging.INFO, "framechain"):
            assert fastest(network, SMALL).name == "onnxruntime"
        assert "OpenVINO fp32 on cpu does not work: the package openvino is installed and does not load" in caplog.text
        assert "framechain cache clear" in caplog.text
    assert "libtbb.so.12" in refused(network, Wish(device="cpu", runtime="openvino"))


def test_a_gpu_that_the_driver_shows_and_nothing_can_use(
    network: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "gpus" / "0000:01:00.0").mkdir(parents=True)
    monkeypatch.setattr("pipeline.inference.installed.gpus.__defaults__", (tmp_path / "gpus",))
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UsageError, match="install onnxruntime-gpu, tensorrt or PyTorch"):
        candidates(network, Wish(device="cuda"))


def test_a_choice_can_be_read_by_others(network: Path, folder: Path) -> None:
    fastest(network, Wish(device="cpu", precision="fp32", runtime="onnxruntime"))
    (file,) = folder.glob("*.json")
    said = json.loads(file.read_text())
    assert said["weights"] == "averages.onnx"
    assert said["chosen"]["runtime"] == "onnxruntime"
