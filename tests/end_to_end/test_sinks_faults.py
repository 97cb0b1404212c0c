"""What happens to outputs when things fail in mid-run, each a real event: kill -9, a full disk, peers that go away.

A camera (motion JPEG over HTTP) runs through `framechain run` as a user starts it; other programs judge the outputs.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import time
from pathlib import Path

import pytest
from command import complaint, framechain
from peers import Broker, Server, Subscriber, fill, small_disk, until
from recording import RATE, RECOVERY, in_database, lines_of, probed, rows, running


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_kill_9_in_mid_recording_leaves_every_output_valid(camera: str, tmp_path: Path) -> None:
    server = Server()
    hook = {"webhook": {"url": f"http://127.0.0.1:{server.port}/", "spool": "spool"}}
    sinks = {
        "video": {"path": "v/{source}.mp4", "rotate": {"seconds": 2}},
        "jsonl": {"path": "out.jsonl", "append": True},
        "sqlite": {"path": "out.db"},
        **hook,
    }
    lines = tmp_path / "out.jsonl"
    with running(tmp_path, camera, sinks) as run:
        run.until(lambda: lines_of(lines) > 6 * RATE)
        run.process.kill()
        run.process.wait()
    recorded = rows(lines)
    assert recorded == sorted(set(recorded)), "the camera's frames that came too late are left out"
    parts = sorted((tmp_path / "v").glob("cam-*.mp4"))
    assert len(parts) >= 3
    assert sum(map(probed, parts)) > len(recorded) - 3 * RATE, "the last fragment and what the encoder held"
    assert in_database(tmp_path / "out.db") == recorded[: len(in_database(tmp_path / "out.db"))]
    assert len(in_database(tmp_path / "out.db")) > len(recorded) - 2 * RATE, "one transaction"

    # half a line, as a power cut leaves it; and a server for what waits in the spool
    with lines.open("a") as end:
        end.write('{"source":"cam","fra')
    server.start()
    with running(tmp_path, camera, {"jsonl": sinks["jsonl"], "sqlite": sinks["sqlite"], **hook}) as run:
        run.until(lambda: lines_of(lines) > len(recorded) + RATE)
        run.stop()
    server.stop()
    assert rows(lines)[: len(recorded)] == recorded
    assert rows(lines)[len(recorded)] < RATE, "the second run follows at once"
    assert [row["frame"] for row in server.seen] == rows(lines), (
        "nothing of the killed run is missing, nothing comes twice"
    )
    base = sqlite3.connect(tmp_path / "out.db")
    assert base.execute("SELECT count(*) FROM runs").fetchone() == (2,)
    base.close()


def test_a_full_disk_pauses_recording_and_nothing_else(camera: str, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 8) as disk:
        paths = {"video": "disk/out.mp4", "jsonl": "disk/out.jsonl", "sqlite": "disk/out.db"}
        sinks = {name: {"path": path} for name, path in paths.items()}
        with running(tmp_path, camera, sinks, "--report", "report.json") as run:
            lines = disk / "out.jsonl"
            run.until(lambda: lines_of(lines) > 3 * RATE)
            hog = fill(disk)
            # what one sink frees goes as well, until all of them have noticed
            run.until(lambda: fill(disk) and run.log().count("there is no room left in") == 3)
            time.sleep(1)
            hog.unlink()
            freed = time.monotonic()
            run.until(lambda: run.log().count("there is room in") == 3)
            assert time.monotonic() - freed <= RECOVERY
            before = lines_of(lines)
            run.until(lambda: lines_of(lines) > before + RATE)
            said = run.stop()
        metrics = json.loads((tmp_path / "report.json").read_text())["metrics"]
        (source,) = metrics["sources"]
        assert source["finished"] == source["captured"] - sum(source["dropped"].values())
        written = {stage["name"]: (stage["frames"], stage["dropped"]) for stage in metrics["stages"]}
        held = {
            "sink:video": sum(map(probed, disk.glob("*.mp4"))),
            "sink:jsonl": len(rows(lines)),
            "sink:sqlite": len(in_database(disk / "out.db")),
        }
        for name, count in held.items():
            frames, dropped = written[name]
            assert frames == source["finished"], "it went on to the end"
            assert dropped.keys() == {"disk full"}
            assert count + dropped["disk full"] == frames, name
            assert f"{name}: {dropped['disk full']} frames are not in its output (disk full" in said
        assert len(list(disk.glob("*.mp4"))) == 2


def test_peers_that_go_away_get_everything_in_order_when_they_are_back(camera: str, tmp_path: Path) -> None:
    (tmp_path / "broker").mkdir()
    keep = (f"persistence_location {tmp_path}/broker/", "persistence true", "max_queued_messages 0")
    broker, server = Broker(tmp_path, "allow_anonymous true", *keep), Server()
    broker.start()
    server.start()
    reader = Subscriber(broker.port, session="reader")
    sinks = {
        "jsonl": {"path": "out.jsonl"},
        "mqtt": {"url": f"mqtt://user:s3cret@127.0.0.1:{broker.port}/site/{{source}}", "spool": "m"},
        "webhook": {"url": f"http://user:s3cret@127.0.0.1:{server.port}/", "spool": "w"},
    }
    lines = tmp_path / "out.jsonl"
    try:
        with running(tmp_path, camera, sinks, "--report", "report.json") as run:
            run.until(lambda: len(reader.seen) > RATE and len(server.seen) > RATE)
            reader.subscribed.clear()
            broker.stop()
            server.stop()
            run.until(lambda: run.log().count("cannot be reached") == 2)
            away = lines_of(lines)
            run.until(lambda: lines_of(lines) > away + 4 * RATE)
            counts = len(reader.seen), len(server.seen)
            broker.start()
            server.start()
            back = time.monotonic()
            until(lambda: len(reader.seen) > counts[0] and len(server.seen) > counts[1])
            assert time.monotonic() - back <= RECOVERY
            said = run.stop()
        until(lambda: reader.seen and reader.seen[-1][1]["frame"] == rows(lines)[-1])
    finally:
        broker.stop()
        server.stop()
        reader.close()
    everything = rows(lines)
    assert len(everything) > 5 * RATE
    assert everything == sorted(set(everything))
    assert {topic for topic, _ in reader.seen} == {"site/cam"}
    for seen in ([row["frame"] for _, row in reader.seen], [row["frame"] for row in server.seen]):
        assert list(dict.fromkeys(seen)) == everything, "all of them in order; some may come twice"
        assert len(seen) < len(everything) + 150
    assert "s3cret" not in said + (tmp_path / "report.json").read_text()
    stages = json.loads((tmp_path / "report.json").read_text())["metrics"]["stages"]
    assert [(stage["dropped"], stage["pending"]) for stage in stages if stage["kind"] == "sink"] == [({}, 0)] * 4


def test_flags_write_parts_and_a_database(tmp_path: Path) -> None:
    (tmp_path / "chain.yaml").write_text("sources: ['test:320x240@25,frames=50']\n")
    source = ("run", "--config", "chain.yaml", "-q")
    files = ("--jsonl", "a.jsonl", "--video", "a.mp4", "--sqlite", "a.db")
    done = framechain(*source, *files, "--rotate", "1s,100MB", "--keep", "1d", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = sorted(path.name for path in tmp_path.glob("a*"))
    assert found == ["a-000001.jsonl", "a-000001.mp4", "a-000002.jsonl", "a-000002.mp4", "a.db"]
    assert rows(tmp_path / found[0]) == list(range(25))
    assert [probed(tmp_path / found[1]), probed(tmp_path / found[3])] == [25, 25]
    assert in_database(tmp_path / "a.db") == list(range(50))
    for flags, said in (
        (("--rotate", "1h"), "--rotate is for files, and none is written; add --video, --jsonl, --csv or --mot"),
        (("--keep", "1d", "--jsonl", "b.jsonl"), "--keep is for what --rotate makes; give both"),
        (("--mqtt", "mqtt://u:hunter2@h"), "names a topic to publish to"),
    ):
        line = complaint(framechain(*source, *flags, cwd=tmp_path), 2)
        assert said in line
        assert "hunter2" not in line
