"""Kafka: every frame as a message to a topic of a cluster."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote

from pydantic import Field, field_validator

from pipeline.errors import MissingExtra
from pipeline.files.output import PLACEHOLDER, check_placeholders
from pipeline.sending.delivery import NetworkSink, Peer, Settled, Unreachable, checked_url, topic_of

_PORTS = {"kafka": 9092, "kafkas": 9093}

# Kafka's own rule for names of topics. The id of a source may hold other letters.
_TOPIC_LETTERS = 249
_OTHER = re.compile(r"[^A-Za-z0-9._-]")

# Answers that are about what a message holds, by librdkafka's names; after all others it is sent again.
_REFUSED = ("MSG_SIZE_TOO_LARGE", "_MSG_SIZE_TOO_LARGE", "INVALID_MSG", "INVALID_MSG_SIZE", "INVALID_RECORD")


class Kafka(NetworkSink):
    """Produces one JSON object a frame to `kafka://user:password@host:9092/topic`, or `kafkas://` (TLS).

    The key is the id of the source, so that frames of one source are in one partition, and in order.
    """

    name = "kafka"

    url: str = Field(
        repr=False, description="kafka(s)://user:password@host:port/topic; {source} in the topic is its id"
    )
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "PLAIN", description="how user and password are told (SASL)"
    )

    @field_validator("url")
    @classmethod
    def _has_a_topic(cls, url: str) -> str:
        checked_url(url, _PORTS)
        check_placeholders(topic_of(url), PLACEHOLDER)
        topic = topic_of(url).replace(PLACEHOLDER, "source")
        if not topic or len(topic) > _TOPIC_LETTERS or _OTHER.search(topic):
            raise ValueError(
                "the address names a topic of letters, digits, '.', '_' and '-': kafka://host:9092/framechain"
            )
        return url

    def open(self) -> None:
        """As every network sink.

        Raises:
            MissingExtra: confluent-kafka is not installed.
            UsageError: the certificates cannot be read, or the spool cannot be used.
        """
        try:
            import confluent_kafka  # noqa: F401  told now, not when the first message is sent
        except ImportError as error:
            raise MissingExtra("Kafka messages", "kafka") from error
        super().open()

    def peer(self) -> Peer:
        """A producer of the cluster."""
        return _Cluster(self.url, self.mechanism, self.timeout, self.ca, self.max_message)


class _Cluster(Peer):
    def __init__(self, url: str, mechanism: str, timeout: float, ca: Path | None, largest: int) -> None:
        parts = checked_url(url, _PORTS)
        scheme = parts.scheme.lower()
        tls, host = scheme == "kafkas", parts.hostname or ""
        self._topic, self._timeout = topic_of(url), timeout
        self._settings: dict[str, Any] = {
            "bootstrap.servers": f"{f'[{host}]' if ':' in host else host}:{parts.port or _PORTS[scheme]}",
            "client.id": "framechain",
            "acks": "all",
            "enable.idempotence": True,  # its own retries neither repeat nor overtake,
            "enable.gapless.guarantee": True,  # and after one that failed it sends none, until it is made anew
            "message.max.bytes": largest + 2**10,
            "message.timeout.ms": round(1000 * timeout),
            "socket.timeout.ms": max(1000, round(1000 * timeout)),
            "linger.ms": 0,  # messages come here together already
            "log_level": 0,  # what it would print is told by delivery, in a line
            "security.protocol": ("SASL_" if parts.username else "") + ("SSL" if tls else "PLAINTEXT"),
        }
        if parts.username:
            self._settings |= {
                "sasl.mechanism": mechanism,
                "sasl.username": unquote(parts.username),
                "sasl.password": unquote(parts.password or ""),
            }
        if tls and ca is not None:
            self._settings["ssl.ca.location"] = str(ca.expanduser())
        self._producer: Any = None
        self._trouble = ""

    def connect(self) -> None:
        from confluent_kafka import KafkaException, Producer

        self._trouble = ""
        self._producer = Producer(self._settings | {"error_cb": self._on_error})
        try:
            self._producer.list_topics(timeout=self._timeout)
        except KafkaException as error:
            raise Unreachable(self._trouble or error.args[0].str()) from error

    def send(self, messages: Sequence[tuple[str, bytes]], settled: Settled) -> None:
        answers: dict[int, str | None] = {}  # "" or why it is refused, None: to be sent again; by place
        for place, (source, body) in enumerate(messages):
            self._produce(source, body, partial(answers.__setitem__, place))
        self._producer.flush(2 * self._timeout)
        for place in range(len(messages)):
            answer = answers.get(place)
            if answer is None:
                raise Unreachable(self._trouble or f"it confirms no message within {self._timeout:g} s")
            settled(answer)

    def disconnect(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.purge()  # they are in the spool still
            with suppress(Exception):  # what was under way then is a fatal error to it, which may come out of here
                producer.flush(self._timeout)

    def _produce(self, source: str, body: bytes, tell: Callable[[str | None], None]) -> None:
        """Hand a message over; what becomes of it is told while it is flushed, or at once."""
        from confluent_kafka import KafkaException

        topic = _OTHER.sub("_", self._topic.replace(PLACEHOLDER, source))[:_TOPIC_LETTERS]
        try:
            self._producer.produce(
                topic, body, key=source, on_delivery=lambda error, _: tell(self._judged(error) if error else "")
            )
        except KafkaException as error:
            tell(self._judged(error.args[0]))

    def _judged(self, error: Any) -> str | None:
        if error.name() in _REFUSED:
            return str(error.str())
        self._trouble = self._trouble or str(error.str())
        return None

    def _on_error(self, error: Any) -> None:
        self._trouble = str(error.str())
