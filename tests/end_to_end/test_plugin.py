"""Another package adds a stage, a source, a sink and a tracker by entry points; a tiny one is built and installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PYPROJECT = """\
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "tiny-addon"
version = "1.2"
[project.entry-points."framechain.stages"]
brightness = "tiny_addon:Brightness"
broken = "tiny_addon:Absent"
[project.entry-points."framechain.sources"]
blank = "tiny_addon:Blank"
[project.entry-points."framechain.sinks"]
means = "tiny_addon:Means"
[project.entry-points."framechain.trackers"]
still = "tiny_addon:Still"
[tool.setuptools]
py-modules = ["tiny_addon"]
"""

MODULE = '''\
from pathlib import Path
import numpy as np
from pydantic import Field
from pipeline import Detections, Frame, Sink, Source, SourceInfo, Stage
from trackers import Tracker, Tracks


class Brightness(Stage):
    """Marks the whole frame as one object, as confident as it is bright."""
    name = "brightness"
    provides = frozenset({"detections"})
    scale: float = Field(1.0, gt=0, description="brightness that counts as one")

    def process(self, frames):
        for frame in frames:
            h, w = frame.image.shape[:2]
            score = min(1.0, frame.image.mean() / 255 / self.scale)
            box = np.float32([[0, 0, w, h]])
            frame.detections = Detections(box, np.float32([score]), np.array([0]), names=("frame",))


class Blank(Source):
    """Grey frames: blank:COUNT."""
    name = "blank"

    @classmethod
    def matches(cls, uri):
        return uri.startswith("blank:")

    def open(self):
        self._left = list(range(int(self.uri.split(":")[1])))
        return SourceInfo("blank", self.uri, 32, 16, 10.0, len(self._left))

    _left: list = []

    def read(self):
        if not self._left:
            return None
        n = self._left.pop(0)
        return Frame(np.full((16, 32, 3), 51, np.uint8), index=n, timestamp=n / 10)


class Means(Sink):
    """Writes one score a line."""
    name = "means"
    requires = frozenset({"detections"})
    path: Path

    def open(self):
        self.path.write_text("")

    def write(self, frame):
        with self.path.open("a") as file:
            file.write(f"{frame.index} {frame.detections.confidence[0]:.2f}\\n")


class Still(Tracker):
    """Calls everything track 1."""
    name = "still"

    def _step(self, seen, now, dt, frame):
        return Tracks()
'''


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment variables under which the tiny package is installed."""
    folder = tmp_path_factory.mktemp("addon")
    (folder / "pyproject.toml").write_text(PYPROJECT)
    (folder / "tiny_addon.py").write_text(MODULE)
    site = folder / "site"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--target", str(site), str(folder)], check=True, capture_output=True)
    return {**os.environ, "PYTHONPATH": str(site)}


def framechain(*arguments: str, environment: dict[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipeline", *arguments]
    return subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


def test_its_components_are_listed_with_their_package(environment: dict[str, str], tmp_path: Path) -> None:
    listed = framechain("stages", "--json", environment=environment, cwd=tmp_path)
    assert listed.returncode == 0, listed.stderr
    theirs = {(e["kind"], e["name"]): e for e in json.loads(listed.stdout) if e["package"] == "tiny-addon"}
    assert {("stage", "brightness"), ("source", "blank"), ("sink", "means"), ("tracker", "still")} <= set(theirs)
    scale = next(o for o in theirs["stage", "brightness"]["options"] if o["name"] == "scale")
    assert scale["about"] == "brightness that counts as one"
    assert "cannot be loaded" in theirs["stage", "broken"]["about"]


def test_they_run_in_a_chain(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "chain.yaml").write_text(
        "sources: ['blank:4']\nstages: [brightness: {scale: 0.5}]\nsinks: [means: {path: means.txt}]\n"
    )
    done = framechain("run", "--config", "chain.yaml", "--quiet", environment=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "means.txt").read_text() == "0 0.40\n1 0.40\n2 0.40\n3 0.40\n"


def test_a_broken_one_is_one_line(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "chain.yaml").write_text("sources: ['blank:4']\nstages: [broken]\n")
    done = framechain("run", "--config", "chain.yaml", environment=environment, cwd=tmp_path)
    assert done.returncode == 2
    assert "stage 'broken' of tiny-addon cannot be loaded" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1
