"""`make demo` on a fresh machine: installed from the package index once, then without any network."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import av
import pytest

ROOT = Path(__file__).resolve().parents[2]
OFFLINE = ["unshare", "--map-root-user", "--net"]


def make(folder: Path, *arguments: str, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [*before, "make", f"PYTHON={sys.executable}", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=600)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A copy of what the repository holds, with the light installation that the demo makes for itself."""
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if tracked.returncode:
        pytest.skip(f"{ROOT} is not a git checkout, so what belongs to it is not known")
    folder = tmp_path / "framechain"
    for name in filter(None, tracked.stdout.split("\0")):
        if (ROOT / name).is_file():  # deleted and not yet committed
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    done = make(folder, ".venv/demo.installed")
    if done.returncode:
        pytest.skip(f"no package index to install the demo from: {done.stderr.strip().splitlines()[-1]}")
    return folder


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
def test_the_demo_runs_without_network_and_torch(installed: Path) -> None:
    if subprocess.run([*OFFLINE, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system does not let us make a network namespace (unshare --map-root-user --net)")
    done = make(installed, "demo", before=tuple(OFFLINE))
    assert done.returncode == 0, done.stdout + done.stderr
    out = installed / "out"
    frames = [json.loads(line) for line in (out / "demo.jsonl").read_text().splitlines()]
    with av.open(str(out / "demo.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == len(frames) == 300
    assert max(len(frame["tracks"]) for frame in frames) >= 4
    assert (out / "demo.txt").read_text().count("\n") > 1000
    truth = json.loads((out / "street" / "plates.json").read_text())["text"].replace(" ", "")
    texts = [text["text"] for frame in frames for text in frame["texts"]]
    assert max(set(texts), key=texts.count) == truth, "the plate of the bus"
    report = json.loads((out / "demo.json").read_text())
    assert report["result"] == "finished"
    assert report["objects"]["street"]["person"] >= 5
    library = next((installed / ".venv" / "lib").glob("python*")) / "site-packages"
    assert not {"torch", "torchvision", "openvino"} & {path.name for path in library.iterdir()}
