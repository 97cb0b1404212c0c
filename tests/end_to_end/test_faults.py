"""Faults of cameras, each a real one of a real stream: what was lost is counted, the others go on, all come back."""

from __future__ import annotations

import json
import logging
import socket
import subprocess
import time
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from cameras import HttpCamera, LossyRelay, RtspCamera, need_rtsp
from command import FRAMECHAIN, complaint, framechain
from site_of_cameras import RECOVERY, Site, balanced, until


def test_faults_side_by_side(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """Twelve cameras in one chain; most of them fail, each in its own way and at the same time."""
    need_rtsp()
    caplog.set_level(logging.INFO, "framechain")
    with ExitStack() as stack:
        killed, frozen = stack.enter_context(RtspCamera()), stack.enter_context(RtspCamera())
        relay = stack.enter_context(LossyRelay(killed.port))
        slow, fast = stack.enter_context(HttpCamera(rate=1)), stack.enter_context(HttpCamera(rate=40))
        steady, garbage, resized, clock = (stack.enter_context(HttpCamera(rate=10)) for _ in range(4))
        denied = stack.enter_context(HttpCamera(password="right"))
        dead = stack.enter_context(closing(socket.create_server(("127.0.0.1", 0))))  # accepts and never answers
        wait = {"open_timeout": 5, "read_timeout": 3}
        for name, camera in (
            ("steady", steady),
            ("slow", slow),
            ("fast", fast),
            ("garbage", garbage),
            ("size", resized),
        ):
            site.add(name, f"http://127.0.0.1:{camera.port}/mjpeg", **wait)
        site.add("clock", f"http://127.0.0.1:{clock.port}/ts", **wait)
        site.add("killed", f"rtsp://admin:s3cret@127.0.0.1:{killed.port}/live", **wait)
        site.add("frozen", f"rtsp://admin:s3cret@127.0.0.1:{frozen.port}/live", **wait)
        site.add("lossy", f"rtsp://admin:s3cret@127.0.0.1:{relay.port}/live", transport="udp", **wait)
        site.add("dead", f"http://admin:s3cret@127.0.0.1:{dead.getsockname()[1]}/mjpeg", open_timeout=1)
        site.add("nameless", "rtsp://admin:s3cret@camera.invalid/live", **wait)
        site.add("denied", f"http://admin:s3cret@127.0.0.1:{denied.port}/mjpeg", **wait)
        site.start()
        sound = [name for name in site.cameras if name not in ("dead", "nameless", "denied")]
        until(lambda: all(len(site.seen[name]) > 2 for name in sound), "all sound cameras give frames")

        # packets are lost first: its camera is the one that is killed
        relay.loss = 0.1
        until(lambda: relay.lost > 20 and site.source("lossy").dropped.get("corrupt", 0) > 0, "packets are lost")
        relay.loss = 0.0

        storm, shown = time.monotonic(), -steady.sent
        killed.kill()
        frozen.freeze()
        garbage.garbage = 5
        resized.size = (96, 80)
        clock.back_an_hour = True
        until(lambda: site.source("killed").state in ("backing off", "connecting"), "the killed one is missed")
        until(lambda: site.source("frozen").state in ("backing off", "connecting"), "the frozen one is missed")
        until(lambda: site.seen["size"][-1].size == (96, 80), "the other size")
        until(lambda: any(seen.discontinuity and seen.at > storm for seen in site.seen["clock"]), "the jump")
        over, shown = time.monotonic(), shown + steady.sent

        back = time.monotonic()
        frozen.thaw()
        assert site.returned("frozen", back) < RECOVERY
        killed.start()
        back = time.monotonic()
        assert site.returned("killed", back) < RECOVERY
        assert site.returned("lossy", back) < RECOVERY
        assert site.returned("garbage", storm) < RECOVERY
        port = dead.getsockname()[1]
        dead.close()
        stack.enter_context(HttpCamera(port=port))
        back = time.monotonic()
        assert site.returned("dead", back) < RECOVERY
        assert site.source("nameless").state in ("connecting", "backing off")
        assert denied.asked <= 2, "a refused password is not tried again and again"

        site.pipeline.stop()
        snapshot = site.pipeline.wait(20)

    assert balanced(snapshot)
    for source in snapshot.sources:
        assert source.in_flight == 0
        late = sum(source.dropped.get(reason, 0) for reason in ("stale", "aborted"))
        assert source.finished <= len(site.seen[source.id]) <= source.finished + late
    for name in sound:
        seen = site.seen[name]
        assert [one.index for one in seen] == sorted({one.index for one in seen}), name
        assert [one.timestamp for one in seen] == sorted(one.timestamp for one in seen), name
        if name not in ("frozen", "lossy"):  # its clock stood still, or packets came late: put right in half a minute
            span = seen[-1].timestamp - seen[0].timestamp
            begun = 2 if name == "clock" else 0  # seconds: of MPEG-TS 20 pictures are read before the first is given
            assert span == pytest.approx(seen[-1].captured_at - seen[0].captured_at, abs=begun + 2), name
    for name in ("steady", "slow", "fast"):  # nothing happened to them
        source = next(one for one in snapshot.sources if one.id == name)
        assert source.connections == 1
        assert set(source.dropped) <= {"starting", "queue full", "stale", "aborted"}
        assert not any(one.discontinuity for one in site.seen[name])
        for one in site.seen[name]:
            assert one.grey == pytest.approx(20 + one.index % 200, abs=2)
    during = sum(storm <= one.at <= over for one in site.seen["steady"])
    assert during >= 0.8 * shown, "nor do the others hold them up"
    for name in ("killed", "frozen"):
        assert any(one.discontinuity for one in site.seen[name])
    assert "s3cret" not in caplog.text + json.dumps(snapshot.to_dict())
    told = {source.id: " ".join(change.why for change in source.changes) for source in snapshot.sources}
    assert "user or password" in told["denied"]
    assert "names a host that is not known here" in told["nameless"]


def test_a_camera_that_comes_back_in_a_run_by_command(tmp_path: Path) -> None:
    """The camera is switched off and on again; the outputs tell, and no password is in any of them."""
    need_rtsp()
    config = tmp_path / "chain.yaml"
    outputs = [tmp_path / name for name in ("out.jsonl", "report.json", "trace.json")]
    with RtspCamera() as camera:
        source = f"{{uri: 'rtsp://admin:s3cret@127.0.0.1:{camera.port}/live?token=s3cret', id: gate, max_frames: 60}}"
        config.write_text(f"sources: [{source}]\nsinks: [jsonl: {{path: {outputs[0]}}}]\n")
        command = [*FRAMECHAIN, "run", "--config", config, "--report", outputs[1], "--trace", outputs[2]]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        with subprocess.Popen(list(map(str, command)), **pipes) as run:  # type: ignore[call-overload]
            until(lambda: outputs[0].exists() and len(outputs[0].read_text().splitlines()) > 10, "frames are written")
            titles = Path(f"/proc/{run.pid}").glob("task/*/comm")
            assert not any("s3cret" in title.read_text() for title in titles)
            assert "s3cret" not in Path(f"/proc/{run.pid}/cmdline").read_text()
            camera.kill()
            camera.start()
            told = "".join(run.communicate(timeout=60))
        assert run.returncode == 0, told
    rows = [json.loads(line) for line in outputs[0].read_text().splitlines()]
    assert [row["frame"] for row in rows if row.get("discontinuity")] != []
    assert [row["time"] for row in rows] == sorted(row["time"] for row in rows)
    figures = json.loads(outputs[1].read_text())["metrics"]["sources"][0]
    assert figures["finished"] == len(rows)
    assert figures["captured"] == figures["finished"] + sum(figures["dropped"].values())
    assert figures["connections"] == 2
    states = [change["state"] for change in figures["changes"]]
    assert states[:2] == ["connecting", "live"]
    assert "backing off" in states
    assert states[-1] == "ended"
    assert "gate is back after" in told
    assert "s3cret" not in told + "".join(path.read_text() for path in outputs)


def test_a_wrong_password_or_name_ends_a_run_at_once(tmp_path: Path) -> None:
    with HttpCamera(password="right") as camera:
        address = f"http://admin:s3cret@127.0.0.1:{camera.port}/mjpeg"
        told = complaint(framechain("run", address, "--no-embed", "--no-text", cwd=tmp_path), 1)
        assert "wants another user or password" in told
        assert camera.asked <= 2
    assert "s3cret" not in told
    with HttpCamera() as camera:  # with --keep-going the run goes on without it, and ends
        nothing = f"http://admin:s3cret@127.0.0.1:{camera.port}/nothing"
        (tmp_path / "bare.yaml").write_text("sinks: [jsonl: {path: out.jsonl}]\n")
        done = framechain("run", nothing, "test:,frames=5", "--config", "bare.yaml", "--keep-going", cwd=tmp_path)
    assert done.returncode == 0
    assert "is not found on that server" in done.stderr
    assert "s3cret" not in done.stderr
    told = complaint(framechain("run", "rtsp://admin:s3cret@camera.invalid/live", cwd=tmp_path), 1)
    assert "names a host that is not known here" in told
    assert "s3cret" not in told


def test_a_file_played_as_a_camera(tmp_path: Path) -> None:
    (tmp_path / "bare.yaml").write_text("sinks: [jsonl: {path: out.jsonl}]\n")
    source = "test:64x64@50,frames=25"
    run = ("run", source, "--config", "bare.yaml")
    flags = ("--realtime", "--loop", "--max-frames", "60", "--report", "report.json")
    assert framechain(*run, *flags, cwd=tmp_path).returncode == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["sources"][0]["live"]
    assert report["metrics"]["elapsed"] > 59 / 50
    assert report["metrics"]["sources"][0]["captured"] == 60
    assert "add --realtime" in complaint(framechain(*run, "--loop", cwd=tmp_path), 2)
    nothing = framechain("run", "rtsp://127.0.0.1:1/live", "--config", "bare.yaml", "--realtime", cwd=tmp_path)
    assert "--realtime is for video files" in complaint(nothing, 2)
