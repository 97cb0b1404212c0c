"""JSON lines, CSV and MOT: what they hold, where they go, and what happens when they cannot go there."""

import csv
import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.detections import Detections
from pipeline.errors import FramechainError, UsageError
from pipeline.files.lines import LineSink
from pipeline.files.output import check_writable, file_safe, replace_file
from pipeline.frame import Frame
from pipeline.sink import sinks
from pipeline.sinks.csv import Csv
from pipeline.sinks.jsonl import JsonLines
from pipeline.sinks.mot import Mot
from pipeline.source import SourceInfo
from pipeline.text import Text
from trackers.tracks import Tracks

IMAGE = np.zeros((8, 8, 3), np.uint8)


def tracks(*rows: tuple[int, float, float, float, float], det_index: list[int], lost: Tracks | None = None) -> Tracks:
    n = len(rows)
    table = np.array(rows, float).reshape(n, 5)
    return Tracks(
        id=table[:, 0].astype(np.int64),
        xyxy=table[:, 1:],
        score=np.full(n, 0.91234),
        class_id=np.ones(n, np.int64),
        det_index=np.array(det_index, np.int64),
        age=np.ones(n),
        since_seen=np.full(n, 0.0 if lost is not None else 0.4),
        velocity=np.zeros((n, 2)),
        _hidden=lost,
    )


def frame(source: str = "street", index: int = 4) -> Frame:
    boxes = np.float32([[10, 20, 30.126, 60], [5, 5, 9, 9], [1, 2, 3, 4]])
    return Frame(
        IMAGE,
        source,
        index,
        index / 30,
        1.7e9,
        Detections(boxes, np.float32([0.91234, 0.3, 0.25]), np.array([1, 0, 7]), names=("person", "car")),
        tracks((3, 10.004, 20, 30.126, 60), det_index=[0], lost=tracks((2, 100, 100, 120.5, 140), det_index=[-1])),
        (Text("né 京A-1", 0.87654, (11, 21, 29, 30.5), track_id=3, readings=4), Text('a "b", c', 0.5, (0, 0, 4, 4))),
    )


def info(source: str) -> SourceInfo:
    return SourceInfo(source, source, 8, 8, 30.0)


def written(sink: LineSink, *frames: Frame) -> None:
    sink.open()
    seen: list[str] = []
    for one in frames:
        if one.source not in seen:
            sink.begin(info(one.source))
            seen.append(one.source)
        sink.write(one)
    for source in seen:
        sink.end(source)
    sink.close()


def test_json_holds_every_object_once(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    written(JsonLines(path=path), frame(), Frame(IMAGE, "street", 5, 0.2))
    first, second = (json.loads(line) for line in path.read_text("utf-8").splitlines())
    assert first == {
        "source": "street",
        "frame": 4,
        "time": 0.133333,
        "tracks": [{"id": 3, "class": "car", "class_id": 1, "score": 0.9123, "xyxy": [10.0, 20.0, 30.13, 60.0]}],
        "lost": [
            {
                "id": 2,
                "class": "car",
                "class_id": 1,
                "score": 0.9123,
                "xyxy": [100.0, 100.0, 120.5, 140.0],
                "since_seen": 0.4,
            }
        ],
        "detections": [
            {"class": "person", "class_id": 0, "score": 0.3, "xyxy": [5.0, 5.0, 9.0, 9.0]},
            {"class": "7", "class_id": 7, "score": 0.25, "xyxy": [1.0, 2.0, 3.0, 4.0]},
        ],
        "texts": [
            {"text": "né 京A-1", "confidence": 0.8765, "track": 3, "readings": 4, "xyxy": [11, 21, 29, 30.5]},
            {"text": 'a "b", c', "confidence": 0.5, "track": None, "readings": 1, "xyxy": [0, 0, 4, 4]},
        ],
    }
    assert second == {
        "source": "street", "frame": 5, "time": 0.2, "tracks": [], "lost": [], "detections": [], "texts": []
    }  # fmt: skip


def test_wall_clock_is_in_json_only_on_request(tmp_path: Path) -> None:
    written(JsonLines(path=tmp_path / "out.jsonl", captured_at=True), frame())
    assert json.loads((tmp_path / "out.jsonl").read_text("utf-8"))["captured_at"] == 1.7e9
    with_clock = frame()
    with_clock.captured_at = 5.0
    written(JsonLines(path=tmp_path / "a"), frame())
    written(JsonLines(path=tmp_path / "b"), with_clock)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_csv_is_one_row_per_track(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    written(Csv(path=path), frame(), Frame(IMAGE, "street", 5), frame("gate, left", 0))
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0] == {
        "source": "street", "frame": "4", "time": "0.133333", "id": "3", "class_id": "1", "class": "car",
        "score": "0.9123", "x1": "10.00", "y1": "20.00", "x2": "30.13", "y2": "60.00", "text": "né 京A-1",
    }  # fmt: skip
    assert [(row["source"], row["frame"]) for row in rows] == [("street", "4"), ("gate, left", "0")]


def test_mot_rows_count_frames_from_one(tmp_path: Path) -> None:
    written(Mot(path=tmp_path / "out.txt"), frame(), frame(index=5))
    assert (tmp_path / "out.txt").read_text() == (
        "5,3,10.00,20.00,20.12,40.00,0.9123,-1,-1,-1\n6,3,10.00,20.00,20.12,40.00,0.9123,-1,-1,-1\n"
    )


@pytest.mark.parametrize("kind", [JsonLines, Csv, Mot])
def test_source_in_the_path_makes_a_file_each(kind: type[LineSink], tmp_path: Path) -> None:
    written(kind(path=tmp_path / "{source}" / "r.txt"), frame("a/b"), frame("cam"), frame("a_b"))
    sizes = {str(file.relative_to(tmp_path)): file.stat().st_size for file in tmp_path.glob("*/*")}
    assert sizes.keys() == {"a_b/r.txt", "cam/r.txt", "a_b-2/r.txt"}
    assert all(sizes.values())


@pytest.mark.parametrize(
    ("classes", "rows"),
    [((), 1), (("car",), 1), (("person",), 0), (("person", "car"), 1), (("boat",), 1)],
    ids=["all", "that", "another", "both", "one the detector does not have"],
)
def test_mot_writes_the_classes_it_is_told(tmp_path: Path, classes: tuple[str, ...], rows: int) -> None:
    path = tmp_path / "out.txt"
    written(Mot(path=path, classes=classes), frame())  # its one track is a car
    assert len(path.read_text().splitlines()) == rows


def test_mot_of_two_sources_needs_two_files(tmp_path: Path) -> None:
    sink = Mot(path=tmp_path / "out.txt")
    sink.open()
    sink.begin(info("a"))
    with pytest.raises(UsageError, match=r"put \{source\} into its path"):
        sink.begin(info("b"))
    sink.close()


def test_old_results_stay_until_a_source_begins(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_text("old")
    sink = Csv(path=path)
    sink.open()
    sink.close()
    assert path.read_text() == "old"
    written(Csv(path=path))
    assert path.read_text() == "old"
    written(Csv(path=path), frame())
    assert path.read_text().startswith("source,frame,")


def test_a_sink_can_be_used_again(tmp_path: Path) -> None:
    sink = JsonLines(path=tmp_path / "{source}.jsonl")
    written(sink, frame())
    once = (tmp_path / "street.jsonl").read_bytes()
    written(sink, frame())
    assert [file.name for file in tmp_path.iterdir()] == ["street.jsonl"]
    assert (tmp_path / "street.jsonl").read_bytes() == once


@pytest.mark.parametrize("source", ["..", "/etc/passwd", "a\0b", "x" * 500, "", "…", "rtsp://u@h:1/?q=1&r"])
def test_a_source_never_leaves_its_directory(source: str, tmp_path: Path) -> None:
    written(Csv(path=tmp_path / "{source}.csv"), frame(source))
    assert [file.parent for file in tmp_path.rglob("*.csv")] == [tmp_path]


def test_directories_are_made_and_the_check_leaves_nothing(tmp_path: Path) -> None:
    check_writable(tmp_path / "a" / "b" / "out.csv")
    check_writable(tmp_path / "c" / "{source}" / "out.csv")
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == ["a", "a/b", "c"]


def test_unwritable_paths_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "out.csv", Path("/proc/out.csv"), Path("/proc/x/{source}.csv")):
        with pytest.raises(UsageError) as refused:
            Csv(path=path).open()
        assert str(path) in str(refused.value)
        assert "\n" not in str(refused.value)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and permission bits")
def test_missing_permission_is_refused(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from pipeline.files.output import check_writable\n"
        "if os.getuid() == 0: os.setuid(65534)\n"  # root may write everywhere
        "check_writable(Path(sys.argv[1]))"
    )
    (tmp_path / "kept.csv").write_text("old")
    (tmp_path / "kept.csv").chmod(0o444)
    tmp_path.chmod(0o555)
    for parent in tmp_path.parents[:2]:
        parent.chmod(0o755)
    try:
        for name in ("new.csv", "kept.csv", "{source}.csv"):
            run = subprocess.run(
                [sys.executable, "-c", code, str(tmp_path / name)], capture_output=True, text=True, check=False
            )
            assert "UsageError: cannot write" in run.stderr
            assert "Permission denied; give a path in a directory that you can write" in run.stderr
    finally:
        tmp_path.chmod(0o755)


FILL = """
import resource, sys
from pathlib import Path
sys.path.insert(0, "tests/pipeline")
from test_sinks_lines import frame, info
from pipeline.errors import FramechainError
from pipeline.sink import sinks
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
sink = sinks.load(sys.argv[1])(path=Path(sys.argv[2]))
sink.open(); sink.begin(info("street"))
try:
    for index in range(1000):
        sink.write(frame(index=index))
except FramechainError as error:
    sink.close()
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
@pytest.mark.parametrize("name", ["jsonl", "csv", "mot"])
def test_a_full_disk_ends_in_one_line_and_leaves_whole_lines(name: str, tmp_path: Path) -> None:
    path = tmp_path / "out"
    run = subprocess.run(
        [sys.executable, "-c", FILL, name, str(path)], capture_output=True, text=True, check=True,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert run.stdout.startswith(f"cannot write {path}: {os.strerror(errno.EFBIG)}; ")
    assert run.stdout.count("\n") == 1
    text = path.read_text("utf-8")
    assert 9_000 < len(text.encode()) <= 10_000
    assert text.endswith("\n")
    width = {"jsonl": 1, "csv": 12, "mot": 10}[name]
    for line in text.splitlines():
        assert isinstance(json.loads(line), dict) if name == "jsonl" else len(next(csv.reader([line]))) == width


def test_a_full_device_is_reported(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    sink = JsonLines(path=Path("/dev/full"))
    sink.open()
    sink.begin(info("street"))
    with pytest.raises(FramechainError, match="cannot write /dev/full: No space left on device"):
        sink.write(frame())
    sink.close()


def test_a_killed_run_leaves_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    code = FILL.replace("resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))", "").replace("1000", "10**9")
    with subprocess.Popen([sys.executable, "-c", code, "jsonl", str(path)], cwd=Path(__file__).parents[2]) as run:
        while not path.exists() or path.stat().st_size < 50_000:
            assert run.poll() is None
        run.kill()
    text = path.read_text("utf-8")
    assert text.endswith("\n")
    assert [json.loads(line)["frame"] for line in text.splitlines()] == list(range(text.count("\n")))


def test_standard_output_can_be_the_file(capfd: pytest.CaptureFixture[str]) -> None:
    if not Path("/dev/stdout").exists():
        pytest.skip("no /dev/stdout here")
    written(Mot(path=Path("/dev/stdout")), frame())
    assert capfd.readouterr().out.startswith("5,3,")


def test_replace_file_is_all_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    replace_file(path, "1")
    replace_file(path, "2")
    assert path.read_text() == "2"
    with pytest.raises(FramechainError, match="cannot write"):
        replace_file(tmp_path / "none" / "report.json", "3")
    with pytest.raises(UnicodeEncodeError):
        replace_file(path, "\ud800")
    assert path.read_text() == "2"
    assert [file.name for file in tmp_path.iterdir()] == ["report.json"]


def test_names_and_registration() -> None:
    assert {"csv", "jsonl", "mot"} <= set(sinks.names())
    assert file_safe("камера 1") == "камера_1"
