"""What loading networks does to the process around it: nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PREAMBLE = """
import gc, os, sys
import cv2
import numpy as np
from pipeline.errors import UsageError
from pipeline.frame import Frame
from pipeline.stages.detect import Detect
image = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
"""

LEAVES_NO_TRACE = """
cv2.setNumThreads(3)
before = dict(os.environ), cv2.getNumThreads(), np.get_printoptions()
for weights in sys.argv[1:]:
    try:
        with Detect(runtime="native", weights=weights, device="cpu") as stage:
            stage.process([Frame(image)])
    except UsageError:
        assert "broken" in weights, weights
after = dict(os.environ), cv2.getNumThreads(), np.get_printoptions()
assert after == before, [pair for pair in zip(before, after) if pair[0] != pair[1]]
"""

KEEPS_ITS_MEMORY = """
def megabytes():
    gc.collect()
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
def open_and_close(times):
    for _ in range(times):
        with Detect(runtime="native", weights=sys.argv[1], device="cpu") as stage:
            stage.process([Frame(image)])
    return megabytes()
settled = open_and_close(3)
grown = open_and_close(8) - settled
assert grown < 48, grown
"""


def run(program: str, *arguments: Path) -> None:
    """In a process of its own, that ends well and prints nothing."""
    done = subprocess.run(
        [sys.executable, "-c", PREAMBLE + program, *map(str, arguments)],
        env={key: value for key, value in os.environ.items() if not key.startswith("YOLO_")},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("package", ["onnxruntime", "openvino", "ultralytics"])
def test_no_output_and_no_settings_changed(package: str, data: Path, tmp_path: Path) -> None:
    pytest.importorskip(package)
    folder = data / "weights"
    good, ending = {
        "onnxruntime": (folder / "nanodet_g.onnx", ".onnx"),
        "openvino": (folder / "yolo11n_int8_openvino_model", ".xml"),
        "ultralytics": (folder / "yolo11n.pt", ".pt"),
    }[package]
    text, half, other = (tmp_path / f"broken-{how}{ending}" for how in ("text", "half", "other"))
    text.write_text("this is not a network\n" * 20)
    other.write_text("<net><layers/></net>")
    whole = (good / "yolo11n.xml" if good.is_dir() else good).read_bytes()
    half.write_bytes(whole[: len(whole) // 2])
    run(LEAVES_NO_TRACE, text, half, other, good)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the memory in use from Linux's /proc")
@pytest.mark.parametrize("weights", ["nanodet_g.onnx", "yolo11n_int8_openvino_model"])
def test_networks_that_are_closed_give_their_memory_back(weights: str, data: Path) -> None:
    """A leaked network of these is 15 or 8 MB of weights and more for its buffers, eight times over."""
    if weights.endswith("openvino_model"):
        pytest.importorskip("openvino")
    run(KEEPS_ITS_MEMORY, data / "weights" / weights)
