"""`framechain doctor`, `stages`, `config` and `bench` as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest
from command import complaint, framechain


def test_doctor_tries_everything(tmp_path: Path) -> None:
    done = framechain("doctor", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    findings = {finding["what"]: finding for finding in json.loads(done.stdout)}
    for what in ("numpy", "onnxruntime CPU", "H.264 in MP4", "rapidocr"):
        assert findings[what]["works"], findings[what]
    assert all(finding["works"] is not False for finding in findings.values())


@pytest.mark.parametrize("name", ["detect", "embed", "track", "read_text", "annotate", "jsonl", "deepsort"])
def test_stages_lists_every_component_with_its_options(name: str, tmp_path: Path) -> None:
    done = framechain("stages", name, "--json", cwd=tmp_path)
    (entry,) = [entry for entry in json.loads(done.stdout) if entry["name"] == name]
    assert entry["about"]
    assert all(option["about"] and option["type"] for option in entry["options"]), entry["options"]
    table = framechain("stages", name, cwd=tmp_path)
    assert all(option["name"] in table.stdout for option in entry["options"])


def test_an_unknown_component_gets_a_suggestion(tmp_path: Path) -> None:
    assert "did you mean 'detect'?" in complaint(framechain("stages", "detct", cwd=tmp_path), 2)


@pytest.mark.parametrize(
    ("name", "chain"),
    [
        ("people", "detect → embed → track"),
        ("plates", "detect → track → read_text"),
        ("multi_camera", "detect → embed → track"),
        ("street", "detect → embed → track → read_text"),
    ],
)
def test_every_shipped_configuration_is_valid(name: str, chain: str, tmp_path: Path) -> None:
    path = Path(__file__).resolve().parents[2] / "configs" / f"{name}.yaml"
    done = framechain("config", "check", path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert chain in done.stdout


def test_a_wrong_configuration_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "chain.yaml").write_text("stages:\n  - detect:\n      weigths: a.onnx\n")
    line = complaint(framechain("config", "check", "chain.yaml", cwd=tmp_path), 2)
    assert "chain.yaml line 3" in line
    assert "did you mean 'weights'?" in line


def test_the_schema_is_json(tmp_path: Path) -> None:
    document = json.loads(framechain("config", "schema", cwd=tmp_path).stdout)
    assert {"sources", "stages", "sinks", "keep_going"} <= set(document["properties"])


def test_bench_measures_each_part_and_the_chain(data: Path, tmp_path: Path) -> None:
    weights = data / "weights" / "nanodet_g.onnx"
    arguments = ("bench", "test:320x240@25", "--weights", weights, "--frames", "20", "--rounds", "2")
    done = framechain(*arguments, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert list(result["alone"]) == ["decode", "detect", "embed", "track", "read_text"]
    slowest = min(result["alone"], key=lambda name: result["alone"][name]["fps"])
    assert result["bottleneck"] in (slowest, "cores")
    assert result["efficiency"] > 0
    assert 0 < result["utilisation"] <= 1
    assert result["advice"]
    assert result["frames"] == 20
    shown = framechain(*arguments, "--plot", "bench.png", "--trace", "trace.json", cwd=tmp_path).stdout
    assert "of its slowest part alone" in shown
    assert "of what is possible" in shown
    assert cv2.imread(str(tmp_path / "bench.png")).shape[1] > 600
    parts = {event["name"] for event in json.loads((tmp_path / "trace.json").read_text())["traceEvents"]}
    assert {"decode", "detect", "track"} <= parts


def test_bench_compares_chains_and_counts_cameras(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("stages: [{detect: {runtime: native}}, track]\n")
    (tmp_path / "b.yaml").write_text("stages: [{gate: {every: 4}}, {detect: {runtime: native}}, track]\n")
    source = "test:320x240@5"
    run = ("bench", source, "--compare", "a.yaml", "b.yaml", "--frames", "40", "--rounds", "1")
    assert json.loads(framechain(*run, "--json", "--plot", "c.png", cwd=tmp_path).stdout)["ratio"] > 1
    assert "times as fast as a.yaml" in framechain(*run, cwd=tmp_path).stdout
    streams = ("bench", source, "--config", "b.yaml", "--streams", "2", "--seconds", "2", "--latency", "2")
    done = json.loads(framechain(*streams, "--json", "--plot", "s.svg", cwd=tmp_path).stdout)
    assert done["held"] == 2
    assert (tmp_path / "c.png").is_file()
    assert (tmp_path / "s.svg").is_file()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--streams", "few"), "--streams few is no number of cameras"),
        (("--plot", "a.bmp"), "end its name in .png"),
        (("--streams", "2", "--trace", "a.json"), "give one of them"),
        (("--compare", "none.yaml", "b.yaml"), "cannot read the configuration none.yaml"),
    ],
)
def test_a_bench_that_cannot_be_is_one_line(options: tuple[str, ...], said: str, tmp_path: Path) -> None:
    assert said in complaint(framechain("bench", "test:64x64", *options, cwd=tmp_path), 2)
