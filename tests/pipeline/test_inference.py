"""Runtimes: the same network gives the same numbers in each, and what is no network is refused in one line."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks import averages
from numpy.typing import NDArray

from pipeline import models
from pipeline.errors import MissingExtra, UsageError
from pipeline.inference.library import LibraryModel
from pipeline.inference.metadata import Metadata
from pipeline.inference.model import Model, load, runtimes
from pipeline.models import EMBEDDER

torch_loader = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")


GPU_ONLY = ("onnxruntime-tensorrt", "tensorrt")
ON_CPUS = [name for name in runtimes.names() if name not in GPU_ONLY]
ANY_NETWORK = [name for name in ON_CPUS if not issubclass(runtimes.load(name), LibraryModel)]


def images(count: int, height: int = 8, width: int = 6) -> NDArray[np.float32]:
    return np.random.default_rng(count).uniform(0, 1, (count, 3, height, width)).astype(np.float32)


def network(path: Path, kind: str, batch: int | str = "n") -> Path:
    """The averages of each channel, as a file of each runtime."""
    file = averages(path / "averages.onnx", [batch, 3, "h", "w"], names="{0: 'person', 1: 'car'}", stride="16")
    if kind == "onnxruntime":
        return file
    if kind == "openvino":
        openvino = pytest.importorskip("openvino")
        openvino.save_model(openvino.convert_model(str(file)), str(path / "averages.xml"))
        (path / "metadata.yaml").write_text("names: {0: person, 1: car}\nstride: 16\n")
        return path / "averages.xml"
    torch = pytest.importorskip("torch")

    class Averages(torch.nn.Module):  # type: ignore[misc,name-defined]
        def forward(self, x: Any) -> Any:
            return x.mean((2, 3))

    script = torch.jit.trace(Averages(), torch.zeros(1, 3, 4, 4))
    config = '{"names": {"0": "person", "1": "car"}, "stride": 16}'
    torch.jit.save(script, str(path / "averages.pt"), {"config.txt": config})
    return path / "averages.pt"


@torch_loader
@pytest.mark.parametrize("kind", ANY_NETWORK)
def test_every_runtime_computes_the_same(kind: str, tmp_path: Path) -> None:
    model = load(network(tmp_path, kind), "cpu")
    assert model.name == kind
    assert model.device == "cpu"
    assert not model.batches
    assert model.metadata == Metadata(names=("person", "car"), stride=16)
    assert model.input_shape[1] in (3, None)
    for batch in (images(1), images(3), images(2, 20, 30)):
        (means,) = model.run(batch)
        np.testing.assert_allclose(means, batch.mean((2, 3)), rtol=1e-5)
        assert means.dtype == np.float32
    model.close()


@torch_loader
@pytest.mark.parametrize("kind", ANY_NETWORK)
def test_results_stay_after_the_next_run_and_from_thread_to_thread(kind: str, tmp_path: Path) -> None:
    model = load(network(tmp_path, kind), "cpu")
    batches = [images(1, 4 + n, 5) for n in range(40)]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(model.run, batches))
    for batch, (means,) in zip(batches, results, strict=True):
        np.testing.assert_allclose(means, batch.mean((2, 3)), rtol=1e-5)


def test_in_openvino_a_crop_s_vector_does_not_depend_on_its_company() -> None:
    runtime = runtimes.load("openvino")
    weights = models.resolve(EMBEDDER)
    model = runtime.load(weights, "cpu", runtime.precisions("cpu", weights)[-1])
    crops = images(5, 256, 128)
    alone = np.concatenate([model.run(crops[n : n + 1])[0] for n in range(len(crops))])
    with ThreadPoolExecutor(3) as pool:
        for (vectors,) in pool.map(model.run, [crops, crops[:3], crops[:2], crops] * 2):
            np.testing.assert_array_equal(vectors, alone[: len(vectors)])
    model.close()


@pytest.mark.parametrize("kind", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("count", [1, 4, 5, 9])
def test_a_network_for_four_images_takes_any_number(kind: str, count: int, tmp_path: Path) -> None:
    model = load(network(tmp_path, kind, batch=4), "cpu")
    assert model.input_shape[0] == 4
    (means,) = model.run(images(count))
    np.testing.assert_allclose(means, images(count).mean((2, 3)), rtol=1e-5)


def test_a_network_stored_in_half_precision(tmp_path: Path) -> None:
    model = load(averages(tmp_path / "half.onnx", ["n", 3, 8, 6], half=True), "cpu")
    (means,) = model.run(images(2))
    assert means.dtype == np.float32
    np.testing.assert_allclose(means, images(2).mean((2, 3)), atol=1e-3)


def test_the_directory_of_an_openvino_network_is_as_good_as_its_file(tmp_path: Path) -> None:
    network(tmp_path, "openvino")
    model = load(tmp_path, "cpu")
    assert model.metadata.names == ("person", "car")


@pytest.mark.parametrize("kind", ON_CPUS)
def test_a_probe_computes_on_the_processor(kind: str) -> None:
    found = {probe.device.lower(): probe for probe in runtimes.load(kind).probe()}
    assert found["cpu"].works
    assert found["cpu"].detail


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({}, Metadata()),
        ({"names": ["a", "b"], "task": "segment", "imgsz": 320}, Metadata(("a", "b"), "segment", (320, 320))),
        ({"names": {"1": "b", "0": "a"}, "imgsz": (384, 640), "stride": 64}, Metadata(("a", "b"), "", (384, 640), 64)),
        ({"names": {10**12: "far"}, "imgsz": "big", "stride": -1}, Metadata()),
        ({"names": 7, "imgsz": [1, 2, 3], "stride": None}, Metadata()),
        ({"imgsz": [0, 640]}, Metadata()),
        ({"head": "RTDETRDecoder"}, Metadata(head="RTDETRDecoder")),
        ({"model_family": "yolox"}, Metadata(head="libreyolo:yolox")),
    ],
)
def test_metadata_that_makes_no_sense_is_left_out(raw: dict[str, Any], expected: Metadata) -> None:
    assert Metadata.parse(raw) == expected


def refused(weights: Path, device: str = "auto") -> str:
    with pytest.raises(UsageError) as error:
        load(weights, device)
    line = str(error.value)
    assert "\n" not in line
    assert len(line) < 400
    return line


@torch_loader
@pytest.mark.parametrize("name", ["text.onnx", "text.pt", "text.xml", "text.torchscript"])
def test_a_file_that_only_has_the_name_of_a_network(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("this is not a network\n" * 20)
    line = refused(tmp_path / name)
    assert name in line
    assert "get the file again or give another" in line


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("absent.onnx", "there are no weights"),
        ("empty.pt", "empty"),
        ("folder", "no OpenVINO network"),
        ("a.mp4", "give an"),
    ],
)
def test_what_is_no_network_at_all(name: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "empty.pt").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "a.mp4").write_text("video")
    line = refused(tmp_path / name)
    assert name in line
    assert said in line


def test_an_openvino_network_without_its_numbers(tmp_path: Path, data: Path) -> None:
    shutil.copy(data / "weights" / "yolo11n_int8_openvino_model" / "yolo11n.xml", tmp_path)
    assert "yolo11n.xml" in refused(tmp_path / "yolo11n.xml")


def test_a_truncated_network(tmp_path: Path, data: Path) -> None:
    for name in ("nanodet_g.onnx", "yolo11n.pt"):
        whole = (data / "weights" / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
        assert name in refused(tmp_path / name)


@pytest.mark.parametrize("shape", [["n", 16], ["n", 1, 8, 8], ["n", 8, 8, 3]])
def test_a_network_that_takes_no_images(shape: list[int | str], tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    kind = onnx.TensorProto.FLOAT
    x, y = (onnx.helper.make_tensor_value_info(name, kind, shape) for name in "xy")
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    onnx.save(onnx.helper.make_model(graph, ir_version=8), str(tmp_path / "numbers.onnx"))
    assert "does not take images" in refused(tmp_path / "numbers.onnx")


@torch_loader
@pytest.mark.parametrize("kind", ANY_NETWORK)
@pytest.mark.parametrize("device", ["cuda:63", "tpu", "cuda:x"])
def test_a_device_that_is_not_there(kind: str, device: str, tmp_path: Path) -> None:
    line = refused(network(tmp_path, kind), device)
    assert f"'{device}'" in line
    assert "cpu" in line


@pytest.mark.parametrize("kind", ["openvino", "torch", "tensorrt"])
def test_a_runtime_that_is_not_installed(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / {"openvino": "a.xml", "torch": "a.pt", "tensorrt": "a.engine"}[kind]
    file.write_bytes(bytes(5000))
    monkeypatch.setitem(sys.modules, kind, None)
    with pytest.raises(MissingExtra, match=rf"framechain\[{kind}\]"):
        load(file)
    with pytest.raises(MissingExtra):
        runtimes.load(kind).probe()


@pytest.mark.parametrize("kind", ["openvino", "torch", "tensorrt", "onnxruntime"])
def test_a_runtime_that_is_installed_and_does_not_load(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"{kind}.py").write_text("raise ImportError('libcudart.so.12: cannot open\\nshared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, kind, raising=False)
    file = tmp_path / {"openvino": "a.xml", "torch": "a.pt", "tensorrt": "a.engine", "onnxruntime": "a.onnx"}[kind]
    file.write_bytes(bytes(5000))
    line = refused(file)
    assert f"{kind} is installed and does not load" in line
    assert "libcudart.so.12" in line
    assert f"pip install --force-reinstall {kind}" in line


@torch_loader
def test_a_gpu_that_cannot_be_used_is_told_and_the_processor_computes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The driver shows it, and PyTorch says why it cannot use it."""
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available() or not torch.version.cuda:
        pytest.skip("PyTorch can use a GPU, or none at all")
    (tmp_path / "gpus" / "0000:01:00.0").mkdir(parents=True)
    monkeypatch.setattr("pipeline.inference.installed.gpus.__defaults__", (tmp_path / "gpus",))
    weights = network(tmp_path, "torch")
    assert load(weights, "auto").device == "cpu"
    assert "PyTorch cannot use 'cuda:0'" in caplog.text
    assert "going on with cpu" in caplog.text
    assert "PyTorch cannot use 'cuda:0'" in refused(weights, "cuda")
    assert [probe.works for probe in runtimes.load("torch").probe()] == [False, True]


class Trap:
    """Pickled, it is a call of the given function."""

    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call[0], self.call[1:]


@torch_loader
@pytest.mark.parametrize("function", ["os.mkdir", "builtins.exec"])
def test_a_checkpoint_cannot_run_code(function: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    sprung = tmp_path / "sprung"
    trap = {
        "os.mkdir": Trap(os.mkdir, str(sprung)),
        "builtins.exec": Trap(exec, f"import os; os.mkdir({str(sprung)!r})"),
    }[function]
    torch.save({"model": trap}, tmp_path / "trap.pt", pickle_protocol=4)
    assert "trap.pt" in refused(tmp_path / "trap.pt")
    assert not sprung.exists()
    torch.load(tmp_path / "trap.pt", weights_only=False)  # the trap does work
    assert sprung.exists()


@torch_loader
@pytest.mark.parametrize(("package", "version"), [("ultralytics", "8.4.66"), ("torch", "2.5.1+cpu")])
def test_versions_that_would_run_code_are_refused(
    package: str, version: str, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ultralytics")
    monkeypatch.setattr(f"{package}.__version__", version)
    line = refused(data / "weights" / "yolo11n.pt")
    assert version in line
    assert "pip install --upgrade ultralytics torch" in line


def test_a_checkpoint_loads_in_silence_and_without_the_network(data: Path, tmp_path: Path) -> None:
    """In a process of its own with no settings and no home, where every connection is an error."""
    pytest.importorskip("ultralytics")
    program = """
import socket, sys
def refuse(*_): sys.exit("the network was asked for")
socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse
from pipeline.inference.model import load
model = load(sys.argv[1], "cpu")
assert model.metadata.names[0] == "person", model.metadata
"""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("YOLO_")}
    done = subprocess.run(
        [sys.executable, "-c", program, str(data / "weights" / "yolo11n.pt")],
        env={**environment, "HOME": str(tmp_path), "YOLO_CONFIG_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_interface_imports_no_runtime() -> None:
    program = """
import sys
import pipeline.stages.detect, pipeline.stages.embed
print({"torch", "openvino", "onnxruntime"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "set()"
    assert issubclass(runtimes.load("onnxruntime"), Model)
