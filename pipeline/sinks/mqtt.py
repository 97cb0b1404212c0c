"""MQTT: every frame as a message to a broker."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote

from pydantic import Field, field_validator

from pipeline.errors import MissingExtra
from pipeline.files.output import PLACEHOLDER, check_placeholders
from pipeline.sending.delivery import NetworkSink, Peer, Settled, Unreachable, checked_url, topic_of, trusted

_PORTS = {"mqtt": 1883, "mqtts": 8883}

# Names of topics are strings of so many bytes at most (MQTT 5.0, section 1.5.4).
_TOPIC_BYTES = 65_535

# What a packet holds besides topic and message, at most: header, length, number, no properties.
_PACKET_BYTES = 16


class Mqtt(NetworkSink):
    """Publishes one JSON object a frame, QoS 1, to `mqtt://user:password@host:1883/topic/{source}`, or `mqtts://`."""

    name = "mqtt"

    url: str = Field(repr=False, description="mqtt(s)://user:password@host:port/topic; {source} in the topic is its id")
    version: Literal["5", "3.1.1"] = Field(
        "5", description="of the protocol; brokers tell only in 5 that they refuse a message"
    )

    @field_validator("url")
    @classmethod
    def _has_a_topic(cls, url: str) -> str:
        checked_url(url, _PORTS)
        topic = topic_of(url)
        check_placeholders(topic, PLACEHOLDER)
        if not topic or set(topic) & set("+#\0") or len(topic.encode()) > _TOPIC_BYTES - 100:
            raise ValueError(
                "the address names a topic to publish to, without + and #: mqtt://host:1883/framechain/{source}"
            )
        return url

    def open(self) -> None:
        """As every network sink.

        Raises:
            MissingExtra: paho-mqtt is not installed.
            UsageError: the certificates cannot be read, or the spool cannot be used.
        """
        try:
            import paho.mqtt.client  # noqa: F401  told now, not when the first message is sent
        except ImportError as error:
            raise MissingExtra("MQTT messages", "mqtt") from error
        super().open()

    def peer(self) -> Peer:
        """A connection to the broker."""
        return _Broker(self.url, self.version, self.timeout, self.ca)


class _Broker(Peer):
    def __init__(self, url: str, version: str, timeout: float, ca: Path | None) -> None:
        self._parts, self._topic = checked_url(url, _PORTS), topic_of(url)
        self._version, self._timeout = version, timeout
        self._tls = trusted(ca) if self._parts.scheme.lower() == "mqtts" else None
        self._client: Any = None
        self._changed = threading.Condition()
        self._answers: dict[int, str] = {}  # "" or why it was refused, by the number of the message
        self._greeting: str | None = None  # "" or why we may not come in
        self._gone = ""
        self._largest: int | None = None  # packet that the broker takes; it would end the connection over a larger one

    def connect(self) -> None:
        from paho.mqtt.client import Client, MQTTv5, MQTTv311
        from paho.mqtt.enums import CallbackAPIVersion

        client = Client(
            CallbackAPIVersion.VERSION2,
            protocol=MQTTv5 if self._version == "5" else MQTTv311,
            reconnect_on_failure=False,  # it would send again by itself what is still in the spool
        )
        client.connect_timeout = self._timeout
        if self._parts.username is not None:
            password = self._parts.password
            client.username_pw_set(unquote(self._parts.username), None if password is None else unquote(password))
        if self._tls is not None:
            client.tls_set_context(self._tls)
        client.on_connect, client.on_disconnect = self._on_connect, self._on_disconnect
        client.on_publish = self._on_publish
        self._greeting, self._gone = None, ""
        self._answers.clear()
        self._client = client
        port = self._parts.port or _PORTS[self._parts.scheme.lower()]
        try:
            client.connect(str(self._parts.hostname), port, keepalive=30)
        except (OSError, ValueError) as error:
            raise Unreachable(str(getattr(error, "strerror", "") or error)) from error
        client.loop_start()
        with self._changed:
            self._changed.wait_for(lambda: self._greeting is not None or self._gone, self._timeout)
            if self._greeting != "":
                raise Unreachable(self._greeting or self._gone or f"no answer within {self._timeout:g} s")

    def send(self, messages: Sequence[tuple[str, bytes]], settled: Settled) -> None:
        numbers: list[int | None] = []
        for source, body in messages:
            topic = self._topic.replace(PLACEHOLDER, source)
            if self._largest is not None and len(topic.encode()) + len(body) + _PACKET_BYTES > self._largest:
                numbers.append(None)
                continue
            published = self._client.publish(topic, body, qos=1)
            if published.rc not in (0, 4):  # 4: the connection went just now, which is told below
                raise Unreachable(f"the client refuses with code {published.rc}")
            numbers.append(published.mid)
        for number in numbers:
            settled(self._answer(number))

    def _answer(self, number: int | None) -> str:
        if number is None:
            return f"it takes {self._largest} bytes at most"
        with self._changed:
            self._changed.wait_for(lambda: number in self._answers or self._gone, self._timeout)
            answer = self._answers.pop(number, None)
        if answer is None:
            raise Unreachable(self._gone or f"it confirms no message within {self._timeout:g} s")
        return answer

    def disconnect(self) -> None:
        if self._client is not None:
            self._client.disconnect()
            self._client.loop_stop()
            self._client = None

    def _on_connect(self, client: Any, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        with self._changed:
            self._largest = getattr(properties, "MaximumPacketSize", None)
            self._greeting = str(reason) if reason.is_failure else ""
            self._changed.notify_all()

    def _on_disconnect(self, client: Any, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        with self._changed:
            self._gone = f"the connection ended: {reason}"
            self._changed.notify_all()

    def _on_publish(self, client: Any, userdata: Any, number: int, reason: Any, properties: Any) -> None:
        with self._changed:
            self._answers[number] = str(reason) if reason.is_failure else ""
            self._changed.notify_all()
