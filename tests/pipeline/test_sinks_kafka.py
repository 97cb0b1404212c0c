"""Kafka against a broker that speaks its protocol: librdkafka's own, in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from peers import until

from pipeline.config import Document
from pipeline.errors import MissingExtra, UsageError
from pipeline.frame import Frame
from pipeline.sinks.jsonl import JsonLines
from pipeline.sinks.kafka import Kafka
from pipeline.source import SourceInfo

PICTURE = np.zeros((4, 4, 3), np.uint8)

BROKER = """
import sys
from confluent_kafka import Producer
producer = Producer({"bootstrap.servers": "127.0.0.1:1", "test.mock.num.brokers": 1, "log_level": 0})
broker = next(iter(producer.list_topics(timeout=10).brokers.values()))
print(broker.port, flush=True)
sys.stdin.read()
"""


class Broker:
    def __init__(self) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process: subprocess.Popen[Any] = subprocess.Popen([sys.executable, "-c", BROKER], text=True, **pipes)  # type: ignore[call-overload]
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def read(self, topic: str, count: int) -> list[tuple[str, Any]]:
        """(key, message) of a topic, of which there are `count` different ones."""
        from confluent_kafka import Consumer, TopicPartition

        consumer = Consumer({"bootstrap.servers": f"127.0.0.1:{self.port}", "group.id": "test", "log_level": 0})
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
        seen: list[tuple[str, Any]] = []

        def all_there() -> bool:
            for message in consumer.consume(100, timeout=0.2):
                assert message.error() is None
                seen.append((message.key().decode(), json.loads(message.value())))
            return len({(key, row["frame"]) for key, row in seen}) >= count

        until(all_there)
        consumer.close()
        return seen


@pytest.fixture
def broker() -> Iterator[Broker]:
    pytest.importorskip("confluent_kafka")
    made = Broker()
    yield made
    made.process.kill()
    made.process.communicate()


def frame(source: str = "street", index: int = 0) -> Frame:
    return Frame(PICTURE, source, index, index / 10, 1e9 + index)


def begun(sink: Kafka, *sources: str) -> Kafka:
    sink.open()
    for name in sources or ("street",):
        sink.begin(SourceInfo(name, name, 4, 4))
    return sink


def test_messages_are_the_lines_of_jsonl_in_order_with_the_source_as_key(broker: Broker, tmp_path: Path) -> None:
    url = f"kafka://127.0.0.1:{broker.port}/site.{{source}}"
    sink = begun(Kafka(url=url, spool=tmp_path / "s", captured_at=False), "street", "Büro/1")
    for index in range(150):
        sink.write(frame(index=index))
    sink.write(frame("Büro/1"))
    sink.close()
    assert (sink.pending, dict(sink.dropped)) == (0, {})
    lines = JsonLines(path=tmp_path / "o")
    assert broker.read("site.street", 150) == [
        ("street", json.loads(lines.lines(frame(index=index)))) for index in range(150)
    ]
    assert len(broker.read("site.B_ro_1", 1)) == 1


def test_what_came_while_it_hung_follows_in_order(
    broker: Broker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"kafka://127.0.0.1:{broker.port}/frames"
    sink = begun(Kafka(url=url, spool=tmp_path / "s", timeout=1, grace=20))
    for index in range(10):
        sink.write(frame(index=index))
    until(lambda: not sink.pending)
    os.kill(broker.process.pid, signal.SIGSTOP)
    for index in range(10, 300):
        sink.write(frame(index=index))
    until(lambda: "cannot be reached" in caplog.text)
    assert sink.pending == 290
    os.kill(broker.process.pid, signal.SIGCONT)
    until(lambda: not sink.pending)
    sink.close()
    assert not sink.dropped
    assert "is back" in caplog.text
    indices = [row["frame"] for _, row in broker.read("frames", 300)]
    assert list(dict.fromkeys(indices)) == list(range(300)), "at least once, and the first of each in order"


def test_without_a_broker_messages_wait_and_nothing_is_told_of_the_password(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("confluent_kafka")
    sink = begun(Kafka(url="kafka://gate:s3cr%23t@127.0.0.1:1/a", spool=tmp_path / "s", timeout=0.3, grace=0.1))
    for index in range(50):
        sink.write(frame(index=index))
    assert sink.pending == 50
    until(lambda: "cannot be reached" in caplog.text)
    sink.close()
    assert "50 messages could not be delivered to kafka://127.0.0.1:1/a" in caplog.text
    for secret in ("s3cr", "gate:", "%23"):
        assert secret not in caplog.text + repr(sink)


@pytest.mark.parametrize(
    "url", ["kafka://h:9092", "kafka://h/a/b", "kafka://h/a%20b", "mqtt://h/a", "kafka://h/" + 250 * "a"]
)
def test_addresses_are_checked(url: str) -> None:
    with pytest.raises(UsageError, match=r"a topic of letters|give kafka:// or kafkas://"):
        Document({"sources": ["test:"], "sinks": [{"kafka": {"url": url}}]}).build()


def test_without_its_package_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    with pytest.raises(MissingExtra, match=r"pip install 'framechain\[kafka\]'"):
        Kafka(url="kafka://h/a", spool=tmp_path / "s").open()
