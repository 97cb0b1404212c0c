"""What happens to outputs when things fail in mid-run, each a real event: kill -9, a full disk, peers that go away.

A camera (motion JPEG over HTTP) runs through `framechain run` as a user starts it; other programs judge the outputs.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from command import complaint, framechain
from peers import Broker, Server, Subscriber, fill, small_disk, until
from recording import RATE, RECOVERY, Run, in_database, lines_of, probed, rows, running

OUTAGE = 60.0
"""Seconds for which peers are away, while the other tests of this file run."""


@dataclass
class Outage:
    """A recording whose peers went away.

    Attributes:
        since: monotonic clock. away: frames that were recorded before.
    """

    folder: Path
    broker: Broker
    server: Server
    reader: Subscriber
    run: Run
    since: float
    away: int


@pytest.fixture(scope="module")
def outage(camera: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outage]:
    """A broker and a server that go away as soon as they were given something."""
    folder = tmp_path_factory.mktemp("outage")
    (folder / "broker").mkdir()
    keep = (f"persistence_location {folder}/broker/", "persistence true", "max_queued_messages 0")
    broker, server = Broker(folder, "allow_anonymous true", *keep), Server()
    broker.start()
    server.start()
    reader = Subscriber(broker.port, session="reader")
    small = {"spool_bytes": 2**20, "max_message": 2**16}
    sinks = {
        "jsonl": {"path": "out.jsonl"},
        "mqtt": {"url": f"mqtt://user:s3cret@127.0.0.1:{broker.port}/site/{{source}}", "spool": "m", **small},
        "webhook": {"url": f"http://user:s3cret@127.0.0.1:{server.port}/", "spool": "w", **small},
    }
    lines = folder / "out.jsonl"
    try:
        with running(folder, camera, sinks, "--report", "report.json") as run:
            run.until(lambda: len(reader.seen) > RATE and len(server.seen) > RATE)
            reader.subscribed.clear()
            broker.stop()
            server.stop()
            since = time.monotonic()
            run.until(lambda: run.log().count("cannot be reached") == 2)
            yield Outage(folder, broker, server, reader, run, since, lines_of(lines))
    finally:
        broker.stop()
        server.stop()
        reader.close()


@pytest.fixture(scope="module", autouse=True)
def _meanwhile(request: pytest.FixtureRequest) -> None:
    """The outage begins before all other tests of this file, if there can be one."""
    with suppress(pytest.skip.Exception):
        request.getfixturevalue("outage")


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
    sent = [row["frame"] for row in server.seen]
    killed = next(n for n in range(1, len(sent)) if sent[n] < sent[n - 1])
    # each sink has a thread of its own: when it was killed, one of them may have been a frame or two ahead
    assert abs(killed - len(recorded)) <= 2
    both = min(killed, len(recorded))
    assert sent[:both] == recorded[:both], "nothing of the killed run is missing, nothing comes twice"
    assert sent[killed:] == rows(lines)[len(recorded) :]
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
        (("--rotate", "1,5GB", "--jsonl", "b.jsonl"), "like 1h or 1.5GB or 1h,2GB, not '1' in '1,5GB'"),
        (("--rotate", "1h,2h", "--jsonl", "b.jsonl"), "'1h,2h' holds two; leave one out"),
        (("--mqtt", "mqtt://u:hunter2@h"), "names a topic to publish to"),
    ):
        line = complaint(framechain(*source, *flags, cwd=tmp_path), 2)
        assert said in line
        assert "hunter2" not in line


def test_peers_that_are_away_for_a_minute_get_everything_in_order_when_they_are_back(outage: Outage) -> None:
    run, broker, server, reader = outage.run, outage.broker, outage.server, outage.reader
    lines, report = outage.folder / "out.jsonl", outage.folder / "report.json"
    run.until(lambda: time.monotonic() - outage.since >= OUTAGE)
    assert lines_of(lines) > outage.away + 0.8 * RATE * (OUTAGE - 5), "it is recorded as if nothing had happened"
    assert run.log().count("cannot be reached") == 2, "said once a peer"
    waiting = [sum(file.stat().st_size for file in (outage.folder / spool).rglob("*")) for spool in ("m", "w")]
    assert all(100 * (lines_of(lines) - outage.away) < size < 1.2 * 2**20 for size in waiting)

    counts = len(reader.seen), len(server.seen)
    broker.start()
    server.start()
    back = time.monotonic()
    until(lambda: len(reader.seen) > counts[0] and len(server.seen) > counts[1])
    assert time.monotonic() - back <= RECOVERY
    run.until(lambda: min(len(reader.seen), len(server.seen)) >= lines_of(lines) - RATE)
    said = run.stop()
    until(lambda: reader.seen[-1][1]["frame"] == rows(lines)[-1])
    everything = rows(lines)
    assert everything == sorted(set(everything))
    assert {topic for topic, _ in reader.seen} == {"site/cam"}
    for seen in ([row["frame"] for _, row in reader.seen], [row["frame"] for row in server.seen]):
        assert list(dict.fromkeys(seen)) == everything, "all of them in order; some may come twice"
        assert len(seen) < len(everything) + 150
    assert "s3cret" not in said + report.read_text()
    stages = json.loads(report.read_text())["metrics"]["stages"]
    assert [(stage["dropped"], stage["pending"]) for stage in stages if stage["kind"] == "sink"] == [({}, 0)] * 4
