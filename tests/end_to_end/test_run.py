"""`framechain run` on real video, as a user runs it; its outputs judged by independent programs."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import av
import numpy as np
import pytest
from command import FRAMECHAIN, framechain

from trackers import mot_format
from trackers.evaluate import evaluate


@pytest.fixture(scope="module")
def weights(data: Path) -> Path:
    return data / "weights"


@pytest.fixture(scope="module")
def street(data: Path) -> Path:
    return data / "video" / "vtest.avi"


def test_the_main_job_reaches_the_accuracy_it_promises(data: Path, street: Path, weights: Path, tmp_path: Path) -> None:
    """All 795 frames of PETS09-S2L1 with yolo11n and default settings, judged by TrackEval."""
    done = framechain(
        *("run", street, "--weights", weights / "yolo11n.pt", "--classes", "person"),
        *("--mot", "out.txt", "--video", "out.mp4", "--report", "report.json"),
        cwd=tmp_path,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    truth = mot_format.read(data / "mot" / "MOT15" / "PETS09-S2L1" / "gt" / "gt.txt")
    figures, _ = evaluate({"PETS09-S2L1": (truth, mot_format.read(tmp_path / "out.txt"))})
    assert figures.MOTA >= 0.78
    assert figures.IDF1 >= 0.74

    report = json.loads((tmp_path / "report.json").read_text())
    metrics = report["metrics"]
    assert metrics["frames"] == 795
    source = metrics["sources"][0]
    assert [change["state"] for change in source.pop("changes")] == ["connecting", "reading", "ended"]
    assert source | {"age": 0} == {
        **{"id": "vtest", "captured": 795, "finished": 795, "in_flight": 0, "dropped": {}, "age": 0},
        **{"state": "ended", "connections": 1},
    }
    assert 0 < metrics["efficiency"] <= 1
    assert [stage["name"] for stage in metrics["stages"]][:4] == ["decode", "detect", "embed", "track"]
    with av.open(str(tmp_path / "out.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == 795
    assert "795 frames" in done.stdout


def two_sources(folder: Path, data: Path, *options: str) -> dict[str, bytes]:
    """Run two videos through the whole chain and return every output by name."""
    folder.mkdir()
    video, weights = data / "video", data / "weights"
    done = framechain(
        *("run", video / "vtest.avi", video / "TUD-Campus.mp4", "--max-frames", "30"),
        *("--weights", weights / "nanodet_g.onnx", "--embedder", weights / "osnet_x0_25_msmt17.onnx"),
        *("--mot", "out.txt", "--jsonl", "out.jsonl", "--csv", "out.csv", "--quiet", *options),
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_results_are_the_same_bytes_whatever_the_batch_and_workers(data: Path, tmp_path: Path) -> None:
    plain = two_sources(tmp_path / "plain", data, "--batch", "1")
    assert set(plain) == {"out-vtest.txt", "out-TUD-Campus.txt", "out.jsonl", "out.csv"}
    assert plain["out-vtest.txt"].count(b"\n") > 50
    for number, options in enumerate((("--batch", "8"), ("--workers", "3"), ("--batch", "8", "--workers", "2"))):
        assert two_sources(tmp_path / str(number), data, *options) == plain, options


def test_all_outputs_of_one_run_agree(street: Path, weights: Path, tmp_path: Path) -> None:
    done = framechain(
        *("run", street, "--max-frames", "40", "--every", "2", "--weights", weights / "nanodet_g.onnx"),
        *("--classes", "person", "--video", "a.mp4", "--jsonl", "a.jsonl", "--csv", "a.csv", "--mot", "a.txt"),
        *("--report", "a.json"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    frames = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [frame["frame"] for frame in frames] == list(range(0, 80, 2))
    seen = {(frame["frame"], track["id"]) for frame in frames for track in frame["tracks"]}
    rows = list(csv.DictReader((tmp_path / "a.csv").open()))
    assert seen == {(int(row["frame"]), int(row["id"])) for row in rows}
    mot = np.loadtxt(tmp_path / "a.txt", delimiter=",")
    everyone = {(int(frame) - 1, int(track)) for frame, track in mot[:, :2]}
    lost = {(frame["frame"], track["id"]) for frame in frames for track in frame["lost"]}
    assert seen < everyone <= seen | lost, "those who are behind others are somewhere, too"
    report = json.loads((tmp_path / "a.json").read_text())
    assert report["objects"]["vtest"]["person"] == len({track for _, track in seen})
    assert report["metrics"]["sources"][0]["dropped"] == {"every": 40} or report["metrics"]["sources"][0][
        "dropped"
    ] == {"every": 39}
    with av.open(str(tmp_path / "a.mp4")) as video:
        times = [float(frame.pts * frame.time_base) for frame in video.decode(video=0)]
    assert np.allclose(times, np.arange(0, 8, 0.2), atol=1e-3)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_run_leaves_valid_files(number: signal.Signals, weights: Path, tmp_path: Path) -> None:
    arguments = (
        *("run", "test:640x360@25", "--weights", str(weights / "nanodet_g.onnx")),
        *("--video", "a.mp4", "--jsonl", "a.jsonl", "--mot", "a.txt", "--report", "a.json"),
    )
    log = tmp_path / "log"
    with log.open("w") as output:
        # who started the tests with nohup has SIGHUP ignored, and all that they start inherits that
        command = ["env", "--default-signal", *FRAMECHAIN, *arguments]
        process = subprocess.Popen(command, cwd=tmp_path, stderr=output, stdout=output)
    lines = tmp_path / "a.jsonl"
    deadline = time.monotonic() + 60
    try:
        while not (lines.exists() and lines.stat().st_size) and time.monotonic() < deadline:
            assert process.poll() is None, log.read_text()
            time.sleep(0.05)
        process.send_signal(number)
        assert process.wait(timeout=30) == 128 + number, log.read_text()
    finally:
        process.kill()
    frames = [json.loads(line) for line in lines.read_text().splitlines()]
    with av.open(str(tmp_path / "a.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == len(frames)
    report = json.loads((tmp_path / "a.json").read_text())
    assert report["result"] == f"stopped by {number.name}"
    assert report["metrics"]["frames"] == len(frames)
    assert "Traceback" not in log.read_text()


def test_piped_output_is_plain_lines_and_quiet_is_silent(weights: Path, tmp_path: Path) -> None:
    arguments = ("run", "test:320x240@25,frames=20", "--weights", weights / "nanodet_g.onnx")
    loud, quiet = framechain(*arguments, cwd=tmp_path), framechain(*arguments, "--quiet", cwd=tmp_path)
    assert loud.returncode == quiet.returncode == 0
    assert "20 frames in" in loud.stdout
    assert "\x1b" not in loud.stdout + loud.stderr, "no terminal codes where there is no terminal"
    assert quiet.stdout == quiet.stderr == ""


def test_a_pipe_is_a_source(street: Path, weights: Path, tmp_path: Path) -> None:
    command = [
        *FRAMECHAIN,
        "run",
        "-",
        "--weights",
        str(weights / "nanodet_g.onnx"),
        "--mot",
        "a.txt",
        "--max-frames",
        "20",
    ]
    with street.open("rb") as video:
        done = subprocess.run(
            command, stdin=video, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
        )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.txt").read_text().count("\n") > 20


def test_flags_win_over_the_file(street: Path, weights: Path, tmp_path: Path) -> None:
    (tmp_path / "chain.yaml").write_text(
        f"sources: [{street}]\nstages:\n  - detect: {{weights: absent.onnx, classes: [car]}}\n  - track\n"
        "sinks:\n  - jsonl: {path: file.jsonl}\n"
    )
    done = framechain(
        *("run", "--config", "chain.yaml", "--weights", weights / "nanodet_g.onnx", "--classes", "person"),
        *("--max-frames", "10", "--jsonl", "flag.jsonl", "-q"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "file.jsonl").exists()
    frames = [json.loads(line) for line in (tmp_path / "flag.jsonl").read_text().splitlines()]
    assert {track["class"] for frame in frames for track in frame["tracks"]} == {"person"}


def test_nothing_is_fetched_and_torch_stays_out_of_a_light_chain(weights: Path, tmp_path: Path) -> None:
    script = (
        "import sys; from pipeline.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "heavy = {'torch', 'ultralytics', 'easyocr'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    arguments = ["run", "test:320x240@25,frames=5", "--weights", str(weights / "nanodet_g.onnx"), "-q"]
    subprocess.run([FRAMECHAIN[0], "-c", script, *arguments], cwd=tmp_path, check=True, timeout=120, env=os.environ)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_what_runtimes_would_report_is_off(runtime: str, tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key not in ("CI", "ORT_DISABLE_TELEMETRY")}
    environment |= {"XDG_CACHE_HOME": str(tmp_path / "cache"), "HOME": str(tmp_path)}
    arguments = ["run", "test:320x240@25,frames=3", "--runtime", runtime, "--no-embed", "-q"]
    subprocess.run([*FRAMECHAIN, *arguments], cwd=tmp_path, check=True, timeout=120, env=environment)
    # the ids that they would keep
    assert not [*tmp_path.rglob("*.onnxruntime*"), *tmp_path.rglob("*_cid"), *tmp_path.glob("intel")]
