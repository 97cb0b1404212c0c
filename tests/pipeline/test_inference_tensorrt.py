"""TensorRT as far as it goes without a GPU: its files, its refusals, and its calls, answered by an engine of ours."""

from __future__ import annotations

import ctypes
import json
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.errors import UsageError
from pipeline.inference.lanes import Lanes
from pipeline.inference.metadata import Metadata
from pipeline.inference.model import BrokenDevice, native
from pipeline.inference.tensorrt import Complaints, Engine, UnfitEngine, described_by, parted, refused
from pipeline.inference.views import View, Views
from pipeline.normalisation import IMAGENET

pytest.importorskip("torch")

PLAN = b"ftrt" + bytes(3000)

Mode = Enum("Mode", ["INPUT", "OUTPUT"])
Kind = Enum("Kind", ["FLOAT", "HALF", "FP4"])


class Averages:
    """An engine and its context in one: means of the channels, read and written by address as TensorRT does it."""

    def __init__(self, shape: tuple[int, ...] = (-1, 3, -1, -1), kind: Kind = Kind.FLOAT) -> None:
        self.shape, self.kind, self.fails = shape, kind, ""
        self.num_io_tensors = 2
        self.given: tuple[int, ...] = shape
        self.at: dict[str, int] = {}

    def get_tensor_name(self, n: int) -> str:
        return ("images", "means")[n]

    def get_tensor_mode(self, name: str) -> Mode:
        return Mode.INPUT if name == "images" else Mode.OUTPUT

    def get_tensor_dtype(self, name: str) -> Kind:
        return self.kind

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.given if name == "images" else (self.given[0], 3)

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        return [(1, 3, 4, 4), (1, 3, 8, 8), (4, 3, 16, 16)]

    def create_execution_context(self) -> Any:
        return self

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        if max(shape[2:]) > 16:
            return False
        self.given = shape
        return True

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.at[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        if self.fails:
            return False
        dtype = np.float16 if self.kind is Kind.HALF else np.float32
        self.array("means", (self.given[0], 3), dtype)[:] = self.array("images", self.given, dtype).mean((2, 3))
        return True

    def array(self, name: str, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        return np.frombuffer((ctypes.c_char * size).from_address(self.at[name]), dtype).reshape(shape)


def images(count: int, side: int = 8) -> NDArray[np.float32]:
    return np.random.default_rng(count).uniform(0, 1, (count, 3, side, side)).astype(np.float32)


@pytest.mark.parametrize("kind", [Kind.FLOAT, Kind.HALF])
def test_an_engine_is_given_addresses_and_its_outputs_come_back(kind: Kind) -> None:
    engine, lanes = Engine(Averages(kind=kind), Complaints(), "cpu"), Lanes("cpu")
    assert engine.input_shape == (None, 3, None, None)
    assert engine.largest == (4, 3, 16, 16)
    for batch in (images(1), images(3), images(2, 12)):
        (means,) = lanes.run(batch, engine)
        assert means.dtype == np.float32
        np.testing.assert_allclose(means, batch.mean((2, 3)), rtol=1e-5 if kind is Kind.FLOAT else 2e-2)


def test_views_reach_it_as_planes_one_after_the_other() -> None:
    """The gather leaves channels last in memory, which an engine would read as something else."""
    image = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)
    views = Views(tuple(View(image, (n, n, n + 8, n + 12)) for n in range(3)), (12, 8), IMAGENET)
    (means,) = Lanes("cpu").run_views(views, Engine(Averages(), Complaints(), "cpu"))
    np.testing.assert_allclose(means, views.prepared().mean((2, 3)), rtol=1e-4, atol=1e-5)


def test_a_size_that_it_is_not_built_for() -> None:
    engine = Engine(Averages(), Complaints(), "cpu")
    with pytest.raises(UsageError, match=r"takes inputs from \(1, 3, 4, 4\) to \(4, 3, 16, 16\)"):
        Lanes("cpu").run(images(1, 20), engine)


def test_what_it_complains_about_is_in_the_error() -> None:
    said, averages = Complaints(), Averages()
    engine = Engine(averages, said, "cpu")
    averages.fails = "yes"
    said.hear("WARNING", "the moon is full")
    said.hear("ERROR", "Error Code 2: OutOfMemory (Requested size was 268435456 bytes.)")
    with pytest.raises(RuntimeError, match="OutOfMemory") as told:
        Lanes("cpu").run(images(1), engine)
    assert "moon" not in str(told.value)


def test_an_engine_that_takes_no_images_or_gives_unknown_numbers() -> None:
    with pytest.raises(UnfitEngine, match="does not take images"):
        Engine(Averages((1, 16)), Complaints(), "cpu")
    with pytest.raises(UnfitEngine, match="FP4"):
        Engine(Averages(kind=Kind.FP4), Complaints(), "cpu")


@pytest.mark.parametrize(
    ("notes", "expected"),
    [
        ({"names": {"0": "person"}, "imgsz": [640, 640], "precision": "fp16"}, "fp16"),
        ({"names": {"0": "person"}, "args": {"half": True, "int8": False}}, "fp16"),
        ({"names": {"0": "person"}, "args": {"int8": True}}, "int8"),
        ({"names": {"0": "person"}}, ""),
    ],
)
def test_what_stands_before_an_engine_is_read(notes: dict[str, Any], expected: str) -> None:
    head = json.dumps(notes).encode()
    found, engine = parted(len(head).to_bytes(4, "little") + head + PLAN)
    assert engine == PLAN
    assert described_by(found).names == ("person",)
    assert described_by(found).precision == expected


def test_an_engine_without_anything_before_it_is_one_as_well() -> None:
    assert parted(PLAN) == ({}, PLAN)
    assert described_by({}) == Metadata()


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        (
            "The engine plan file is generated on an incompatible device, expecting compute 8.9 got compute 9.0",
            "another",
        ),
        ("Version tag does not match. Note: Current Version: 237, Serialized Engine Version: 239", "another version"),
        (
            "Serialization assertion magicTagRead == kMAGIC_TAG failed. Magic tag does not match",
            "not a TensorRT engine",
        ),
        ("", "framechain export WEIGHTS --format tensorrt"),
    ],
)
def test_why_an_engine_is_refused_and_what_to_do(reason: str, said: str) -> None:
    line = str(refused(Path("yolo11n.engine"), reason))
    assert line.startswith("yolo11n.engine")
    assert said in line
    assert reason in line


def test_no_memory_for_an_engine_is_not_the_engines_fault() -> None:
    assert isinstance(refused(Path("a.engine"), "Error Code 2: OutOfMemory"), BrokenDevice)


@pytest.mark.parametrize("content", [b"no engine\n" * 500, b"ftrt\0", b"\x02\0\0\0{}" + b"text " * 900])
def test_what_is_plainly_no_engine_is_refused_without_tensorrt(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.engine").write_bytes(content)
    with pytest.raises(UsageError, match="not a TensorRT engine"):
        native(tmp_path / "a.engine")


def test_a_file_for_gpus_where_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the package, as far as it is asked before a GPU is."""
    import sys

    from pipeline.inference.torch import torch_devices

    if len(torch_devices()) > 1:
        pytest.skip("there is a GPU")
    from pipeline.inference.model import load

    monkeypatch.setitem(sys.modules, "tensorrt", SimpleNamespace(__version__="10.16.1"))  # type: ignore[arg-type]
    (tmp_path / "a.plan").write_bytes(PLAN)
    with pytest.raises(UsageError, match="finds no device here that it can use"):
        load(tmp_path / "a.plan")
