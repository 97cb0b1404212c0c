"""Choosing a runtime and `framechain cache`, as a user meets them."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from command import complaint, framechain

RUN = ("run", "test:64x64@10,frames=2", "--no-text")

CRASHES = '''\
"""A runtime whose driver takes the whole process down."""
import os
from pipeline.inference.model import Model, Probe

class Crashes(Model):
    name = "crashes"
    label = "Crashes"

    @classmethod
    def reads(cls, path): return False
    @classmethod
    def takes(cls, path): return path.suffix == ".onnx"
    @classmethod
    def devices(cls): return ["cuda:0"]
    @classmethod
    def load(cls, path, device, precision=None, requests=None): os.abort()
    @classmethod
    def probe(cls): return [Probe("cuda:0", True, "")]
    def _infer(self, batch): return []
'''


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FRAMECHAIN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "converted"


def test_a_choice_is_said_listed_and_cleared(tmp_path: Path) -> None:
    first = framechain(*RUN, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "nanodet-g: trying once what computes it fastest here" in first.stderr
    assert "is the fastest here, and remembered" in first.stderr
    assert "trying" not in framechain(*RUN, cwd=tmp_path).stderr
    listed = json.loads(framechain("cache", "--json", cwd=tmp_path).stdout)
    (choice,) = [one for one in listed["choices"] if "nanodet" in one["weights"]]
    assert choice["chosen"]["seconds"] <= min(one["seconds"] for one in choice["others"] if one["seconds"]) / 0.95
    shown = framechain("cache", cwd=tmp_path).stdout
    assert "nanodet" in shown
    assert str(tmp_path / "cache") in shown
    cleared = framechain("cache", "clear", cwd=tmp_path).stdout
    assert f"deleted {len(listed['files'])} files" in cleared
    assert json.loads(framechain("cache", "--json", cwd=tmp_path).stdout)["files"] == []


def test_a_runtime_that_crashes_is_told_and_another_one_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    (tmp_path / "crashes.py").write_text(CRASHES)
    notes = tmp_path / "crashes-1.0.dist-info"
    notes.mkdir()
    (notes / "METADATA").write_text("Metadata-Version: 2.1\nName: crashes\nVersion: 1.0\n")
    (notes / "entry_points.txt").write_text("[framechain.runtimes]\ncrashes = crashes:Crashes\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    done = framechain(*RUN, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Crashes fp32 on cuda:0 does not work: its process ended with code -6" in done.stderr
    # on processors all are tried then, and not only the first that works
    listed = json.loads(framechain("cache", "--json", cwd=tmp_path).stdout)
    (choice,) = [one for one in listed["choices"] if "nanodet" in one["weights"]]
    tried = [choice["chosen"], *choice["others"]]
    assert {one["runtime"] for one in tried if one["seconds"]} == {"onnxruntime", "openvino"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--device", "cuda"), "no device 'cuda' here"),
        (("--runtime", "tensorflow"), "no runtime is called 'tensorflow'"),
    ],
)
def test_what_cannot_be_had(options: tuple[str, str], said: str, tmp_path: Path) -> None:
    assert said in complaint(framechain(*RUN, *options, cwd=tmp_path), 2)
