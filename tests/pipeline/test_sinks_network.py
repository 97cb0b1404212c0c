"""MQTT and webhook: against a real broker and a real server, that go away, refuse, and do not answer."""

import errno
import json
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from peers import Broker, Server, Subscriber, certificate, fill, small_disk, until
from pydantic import ValidationError
from test_sinks_lines import frame, info

from pipeline.config import Document
from pipeline.errors import MissingExtra, UsageError
from pipeline.sending.delivery import NetworkSink
from pipeline.sending.spool import Spool
from pipeline.sinks.jsonl import JsonLines
from pipeline.sinks.mqtt import Mqtt
from pipeline.sinks.webhook import Webhook


@pytest.fixture
def start_broker(tmp_path: Path) -> Iterator[Callable[..., Broker]]:
    """Starts brokers with the given lines of configuration; all of them end with the test."""
    started: list[Broker] = []

    def start(*lines: str) -> Broker:
        started.append(Broker(tmp_path, *lines))
        started[-1].start()
        return started[-1]

    yield start
    for broker in started:
        broker.stop()


@pytest.fixture
def broker(start_broker: Callable[..., Broker]) -> Broker:
    return start_broker()


@pytest.fixture
def server() -> Iterator[Server]:
    started = Server()
    started.start()
    yield started
    started.stop()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.sending.delivery._RETRY", 0.05)


def begun(sink: NetworkSink, *sources: str) -> None:
    sink.open()
    for source in sources or ("street",):
        sink.begin(info(source))


def indices(seen: list[Any]) -> list[int]:
    return [row["frame"] for row in seen]


def test_mqtt_messages_are_the_lines_of_jsonl_under_a_topic_for_each_source(broker: Broker, tmp_path: Path) -> None:
    reader = Subscriber(broker.port)
    sink = Mqtt(url=f"mqtt://127.0.0.1:{broker.port}/site/{{source}}/frames", spool=tmp_path / "s", captured_at=False)
    begun(sink, "street", "gate/#+1")
    for index in range(100):
        sink.write(frame("street", index))
    sink.write(frame("gate/#+1", 0))
    sink.close()
    until(lambda: len(reader.seen) == 101)
    assert sink.pending == 0
    assert not sink.dropped
    lines = JsonLines(path=tmp_path / "o")
    assert reader.seen[:100] == [
        ("site/street/frames", json.loads(lines.lines(frame("street", index)))) for index in range(100)
    ]
    assert reader.seen[100][0] == "site/gate_1/frames"
    reader.close()


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_mqtt_delivers_in_order_what_came_while_the_broker_was_away(
    version: Any, broker: Broker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reader = Subscriber(broker.port)
    sink = Mqtt(url=f"mqtt://127.0.0.1:{broker.port}/a", spool=tmp_path / "s", version=version)
    begun(sink)
    for index in range(10):
        sink.write(frame(index=index))
    until(lambda: len(reader.seen) == 10)
    until(lambda: not sink.pending)
    broker.stop()
    for index in range(10, 300):
        sink.write(frame(index=index))
    until(lambda: "cannot be reached" in caplog.text)
    assert sink.pending == 290
    assert sink.trouble == f"mqtt://127.0.0.1:{broker.port}/a cannot be reached"
    reader.subscribed.clear()
    broker.start()
    until(lambda: not sink.pending)
    assert not sink.trouble
    sink.close()
    assert not sink.dropped
    assert [record.message.split(";")[0] for record in caplog.records][1:] == [
        f"sink 'mqtt': mqtt://127.0.0.1:{broker.port}/a is back"
    ]
    reader.close()


def test_mqtt_login_is_refused_without_telling_it(
    start_broker: Callable[..., Broker], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broker = start_broker("allow_anonymous false")
    sink = Mqtt(url=f"mqtt://gate:s3cr%23t@127.0.0.1:{broker.port}/a", spool=tmp_path / "s", grace=0.2)
    begun(sink)
    sink.write(frame())
    until(lambda: "cannot be reached" in caplog.text)
    sink.close()
    assert "Not authorized" in caplog.text
    assert "1 messages could not be delivered to mqtt://127.0.0.1" in caplog.text
    for secret in ("s3cr", "gate:", "%23"):
        assert secret not in caplog.text + repr(sink)


def test_mqtt_messages_that_the_broker_refuses_are_counted(
    start_broker: Callable[..., Broker], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "acl").write_text("topic readwrite allowed/#\n")
    broker = start_broker("allow_anonymous true", f"acl_file {tmp_path}/acl")
    sink = Mqtt(url=f"mqtt://127.0.0.1:{broker.port}/{{source}}/x", spool=tmp_path / "s")
    begun(sink, "allowed", "forbidden")
    for index in range(5):
        sink.write(frame("allowed", index))
        sink.write(frame("forbidden", index))
    sink.close()
    assert sink.dropped == {"refused": 5}
    assert "refuses a message (Not authorized)" in caplog.text


def test_mqtt_leaves_out_what_the_broker_would_end_the_connection_over(
    start_broker: Callable[..., Broker], tmp_path: Path
) -> None:
    broker = start_broker("allow_anonymous true", "max_packet_size 2000")
    reader = Subscriber(broker.port)
    sink = Mqtt(url=f"mqtt://127.0.0.1:{broker.port}/a", spool=tmp_path / "s")
    begun(sink, "street", "s" * 3000)
    for source in ("street", "s" * 3000, "street"):
        sink.write(frame(source))
    sink.close()
    until(lambda: len(reader.seen) == 2)
    assert sink.dropped == {"refused": 1}
    reader.close()


def test_without_its_package_mqtt_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "paho.mqtt.client", None)
    with pytest.raises(MissingExtra, match=r"pip install 'framechain\[mqtt\]'"):
        Mqtt(url="mqtt://h/a", spool=tmp_path / "s").open()


def test_mqtt_over_tls(start_broker: Callable[..., Broker], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cert, key = certificate(tmp_path)
    broker = start_broker("allow_anonymous true", f"certfile {cert}", f"keyfile {key}")
    url = f"mqtts://127.0.0.1:{broker.port}/a"
    trusting, doubting = (Mqtt(url=url, spool=tmp_path / name, ca=ca) for name, ca in (("t", cert), ("d", None)))
    for sink in (trusting, doubting):
        begun(sink)
        sink.write(frame())
    until(lambda: "certificate verify failed" in caplog.text or "self-signed" in caplog.text)
    trusting.close()
    doubting.grace = 0
    doubting.close()
    assert (trusting.pending, doubting.pending) == (0, 1)


def test_webhook_posts_lines_of_json(server: Server, tmp_path: Path) -> None:
    url = f"http://gate:s3cret@127.0.0.1:{server.port}/in put?a=1".replace(" ", "%20")
    sink = Webhook(url=url, spool=tmp_path / "s", headers={"X-Site": "north"}, captured_at=False)
    begun(sink)
    for index in range(250):
        sink.write(frame(index=index))
    sink.close()
    lines = JsonLines(path=tmp_path / "o")
    assert server.seen == [json.loads(lines.lines(frame(index=index))) for index in range(250)]
    first = server.headers[0]
    assert first["path"] == "/in%20put?a=1"
    assert first["Content-Type"] == "application/x-ndjson"
    assert first["Authorization"] == "Basic Z2F0ZTpzM2NyZXQ="
    assert first["X-Site"] == "north"
    assert server.connections == 1
    assert "s3cret" not in repr(sink)


def test_webhook_waits_out_a_server_that_fails(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sink = Webhook(url=f"http://127.0.0.1:{server.port}/", spool=tmp_path / "s")
    for status in (500, 503, 404, 401, 301, 0):
        server.answer = lambda lines, status=status: status
        begun(sink)
        for index in range(5):
            sink.write(frame(index=index))
        until(lambda: "cannot be reached" in caplog.text)
        assert f"answers {status} " in caplog.text or not status
        caplog.clear()
        server.answer = lambda lines: 204
        sink.close()
        assert (sink.pending, dict(sink.dropped)) == (0, {})
    assert indices(server.seen) == [*range(5)] * 6


def test_webhook_leaves_out_the_one_message_that_is_refused(server: Server, tmp_path: Path) -> None:
    server.answer = lambda lines: 400 if any(row["frame"] == 3 for row in lines) else 200
    sink = Webhook(url=f"http://127.0.0.1:{server.port}/", spool=tmp_path / "s")
    begun(sink)
    for index in range(10):
        sink.write(frame(index=index))
    sink.close()
    assert indices(server.seen) == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert sink.dropped == {"refused": 1}


def test_webhook_connects_again_when_the_server_hung_up(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sink = Webhook(url=f"http://127.0.0.1:{server.port}/", spool=tmp_path / "s")
    begun(sink)
    for index in range(3):
        sink.write(frame(index=index))
        until(lambda: not sink.pending)
        server.hang_up()
    sink.close()
    assert indices(server.seen) == [0, 1, 2]
    assert not caplog.records, "servers hang up on idle clients; that is no failure"


def test_webhook_over_tls(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    server = Server()
    cert, key = certificate(tmp_path)
    server.start((cert, key))
    url = f"https://127.0.0.1:{server.port}/"
    doubting = Webhook(url=url, spool=tmp_path / "s", grace=0)
    begun(doubting)
    doubting.write(frame())
    until(lambda: "certificate verify failed" in caplog.text)
    doubting.close()
    assert doubting.pending == 1
    trusting = Webhook(url=url, spool=tmp_path / "s", ca=cert)
    begun(trusting)
    trusting.close()
    assert indices(server.seen) == [4], "from the spool of the run before"
    server.stop()


def test_a_peer_that_accepts_and_says_nothing_blocks_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        for sink in (
            Webhook(url=f"http://127.0.0.1:{port}/", spool=tmp_path / "w", timeout=0.2, grace=0.1),
            Mqtt(url=f"mqtt://127.0.0.1:{port}/a", spool=tmp_path / "m", timeout=0.2, grace=0.1),
        ):
            begun(sink)
            for index in range(500):
                sink.write(frame(index=index))
            assert sink.pending == 500
            until(lambda: "cannot be reached" in caplog.text)
            caplog.clear()
            sink.close()
            assert "500 messages could not be delivered" in caplog.text
            caplog.clear()


def test_what_was_not_delivered_comes_first_in_the_next_run(server: Server, tmp_path: Path) -> None:
    server.stop()
    url = f"http://127.0.0.1:{server.port}/"
    for first in (0, 50):
        sink = Webhook(url=url, spool=tmp_path / "s", grace=0)
        begun(sink)
        for index in range(first, first + 50):
            sink.write(frame(index=index))
        sink.close()
    assert sink.pending == 100
    server.start()
    sink = Webhook(url=url, spool=tmp_path / "s")
    begun(sink)
    sink.write(frame(index=100))
    sink.close()
    assert indices(server.seen) == list(range(101))


def test_what_has_no_room_is_counted_and_the_newest_stay(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.stop()
    options: dict[str, Any] = {"spool": tmp_path / "s", "spool_bytes": 2**20, "max_message": 2**16}
    sink = Webhook(url=f"http://127.0.0.1:{server.port}/", **options)
    begun(sink)
    for index in range(3000):
        sink.write(frame(index=index))
    lost = sink.dropped["spool full"]
    assert lost > 1000
    assert lost + sink.pending == 3000
    server.start()
    sink.close()
    # a batch that was being sent stays in memory, so it arrives as well
    assert len(server.seen) + sink.dropped["spool full"] == 3000
    assert indices(server.seen) == sorted(indices(server.seen))
    assert indices(server.seen)[-1] == 2999
    assert caplog.text.count("is full") == 1


def test_a_full_disk_costs_messages_and_nothing_else(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.files.disk_full._RETRY", 0.0)
    server.stop()
    with small_disk(tmp_path / "disk") as disk:
        sink = Webhook(url=f"http://127.0.0.1:{server.port}/", spool=disk / "s")
        begun(sink)
        for index in range(100):
            sink.write(frame(index=index))
        blocker = fill(disk)
        for index in range(100, 200):
            sink.write(frame(index=index))
        assert sink.dropped["disk full"] > 50
        blocker.unlink()
        for index in range(200, 300):
            sink.write(frame(index=index))
        server.start()
        sink.close()
        kept = indices(server.seen)
        assert kept == sorted(set(kept))
        assert len(kept) + sink.dropped["disk full"] == 300
        assert {*range(100), *range(200, 300)} <= set(kept)


def test_a_message_that_is_too_large_is_left_out(server: Server, tmp_path: Path) -> None:
    sink = Webhook(url=f"http://127.0.0.1:{server.port}/", spool=tmp_path / "s", max_message=1024)
    begun(sink, "street", "s" * 2000)
    sink.write(frame("s" * 2000))
    sink.write(frame())
    sink.close()
    assert sink.dropped == {"too large": 1}
    assert [row["source"] for row in server.seen] == ["street"]


def test_delivery_outlives_a_time_without_descriptors(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sink, really = Webhook(url=f"http://127.0.0.1:{server.port}/", spool=tmp_path / "s"), Spool.take

    def none(*_: object) -> list[bytes]:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(Spool, "take", none)
    begun(sink)
    sink.write(frame())
    until(lambda: "cannot be read (Too many open files)" in sink.trouble)
    monkeypatch.setattr(Spool, "take", really)
    until(lambda: len(server.seen) == 1)
    sink.close()
    assert sink.trouble == ""
    assert "cannot be read (Too many open files); it is tried again every second" in caplog.text


def test_of_a_webhook_only_the_server_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With some services the path is all that a key is."""
    sink = Webhook(url="http://me:hunter2@127.0.0.1:1/services/T0/S3CRET?x=S3CRET", grace=0, spool=tmp_path / "s")
    begun(sink)
    sink.write(frame())
    until(lambda: sink.trouble)
    names = [thread.name for thread in threading.enumerate()]
    sink.close()
    assert "http://127.0.0.1:1 cannot be reached" in caplog.text
    assert not re.search("S3CRET|hunter2", f"{caplog.text} {names} {sink.trouble} {sink.address} {sink!r}")


def test_writing_does_not_wait_for_delivery(tmp_path: Path) -> None:
    """No name server answers for this name; looking it up may take its time, and that is not the chain's."""
    sink = Webhook(url="http://name.invalid/", spool=tmp_path / "s", grace=0)
    begun(sink)
    started = time.perf_counter()
    for index in range(100):
        sink.write(frame(index=index))
    assert time.perf_counter() - started < 5
    sink.close()
    assert sink.pending == 100


@pytest.mark.parametrize(
    ("sink", "url", "said"),
    [
        ("mqtt", "http://user:hunter2@h/a", "give mqtt:// or mqtts://"),
        ("mqtt", "mqtt://user:hunter2@h:1883", "names a topic"),
        ("mqtt", "mqtt://user:hunter2@h/a/#", "names a topic"),
        ("mqtt", "mqtt://user:hunter2@h/a%2B", "names a topic"),
        ("mqtt", "mqtt://user:hunter2@h:99999/a", "is no address here"),
        ("webhook", "ftp://user:hunter2@h/", "give http:// or https://"),
        ("webhook", "http://user:hunter2@/x", "is no address here"),
        ("webhook", "http://user:hunter2@h/a b", "is no address here"),
        ("webhook", "user:hunter2@h", "is no address here"),
    ],
)
def test_addresses_are_checked_and_credentials_never_told(sink: str, url: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as refused:
        Document({"sources": ["test:"], "sinks": [{sink: {"url": url}}]}).build()
    assert "hunter2" not in str(refused.value)
    with pytest.raises(ValidationError) as raw:
        (Mqtt if sink == "mqtt" else Webhook)(url=url)
    assert "hunter2" not in str(raw.value)


def test_headers_are_checked_and_their_values_never_told() -> None:
    for headers in ("Authorization: hunter2", {"Authorization": ["hunter2"]}, {"A\nB": "hunter2"}, {"A": "hunter2\n"}):
        with pytest.raises(UsageError) as refused:
            Document({"sources": ["test:"], "sinks": [{"webhook": {"url": "http://h/", "headers": headers}}]}).build()
        assert "hunter2" not in str(refused.value)


def test_runs_that_send_to_one_address_have_a_spool_each(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRAMECHAIN_CACHE", str(tmp_path))
    three = [Webhook(url=f"http://u:secret@127.0.0.1:{server.port}/") for _ in range(3)]
    for number, sink in enumerate(three):
        begun(sink)
        sink.write(frame(index=number))
    for sink in three:
        sink.close()
    assert sorted(indices(server.seen)) == [0, 1, 2]
    folders = sorted(path.name for path in (tmp_path / "spool").iterdir())
    assert folders == [folders[0], f"{folders[0]}_2", f"{folders[0]}_3"]
    assert "secret" not in folders[0]


def test_one_spool_serves_one_sink(tmp_path: Path) -> None:
    one, other = (Webhook(url="http://127.0.0.1:9/", spool=tmp_path / "s", grace=0) for _ in range(2))
    one.open()
    with pytest.raises(UsageError, match="give this sink a folder of its own"):
        other.open()
    one.close()
    other.close()
