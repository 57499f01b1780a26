"""A real Kafka cluster: Apache Kafka in KRaft mode, each process broker and controller."""

from __future__ import annotations

import base64
import subprocess
import uuid
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from tests.rig.cache import Missing, fetch_jars, jars
from tests.rig.process import HOST, Process, answers, free_ports, java

NAME = "kafka"
HEAP_MIB = 320
ADMIN_SECONDS = 30

Row = tuple[bytes | None, bytes | None, int, int]
"""Key, value, partition, timestamp in ms since the epoch."""
Headers = list[tuple[str, bytes | None]]


def fetch() -> None:
    fetch_jars(NAME)


class Kafka:
    """`brokers` processes; `bootstrap` is for bootstrap.servers. `settings` go into server.properties.

    `listeners` are more listeners of a single broker, a port and a protocol each; `format_options` go to the storage tool.
    """

    def __init__(
        self,
        folder: Path,
        brokers: int = 1,
        settings: Mapping[str, str] | None = None,
        *,
        listeners: Mapping[str, tuple[int, str]] | None = None,
        format_options: Sequence[str] = (),
    ) -> None:
        self._folder = folder
        self._class_path = jars(NAME)
        self._count = brokers
        self._settings = dict(settings or {})
        self._more_listeners = dict(listeners or {})
        self._format_options = format_options
        self.brokers: list[Process] = []
        self.bootstrap = ""

    def start(self) -> None:
        ports = free_ports(2 * self._count)
        clients, controllers = ports[: self._count], ports[self._count :]
        voters = ",".join(f"{number + 1}@{HOST}:{port}" for number, port in enumerate(controllers))
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        for number, (port, controller) in enumerate(zip(clients, controllers, strict=True)):
            folder = self._folder / f"kafka{number + 1}"
            folder.mkdir(parents=True)
            properties = folder / "server.properties"
            settings = self._settings | _listeners(port, controller, self._more_listeners)
            properties.write_text(_properties(number + 1, voters, folder, self._count, settings))
            self._format(cluster, properties)
            command = [*java(HEAP_MIB, self._class_path), "kafka.Kafka", str(properties)]
            self.brokers.append(Process(f"kafka{number + 1}", command, folder / "log", lambda port=port: answers(port)))  # type: ignore[misc]
        self.bootstrap = ",".join(f"{HOST}:{port}" for port in clients)
        for broker in self.brokers:
            broker.launch()
        for broker in self.brokers:
            broker.wait()
        self.admin = AdminClient({"bootstrap.servers": self.bootstrap})
        self.admin.list_topics(timeout=ADMIN_SECONDS)

    def _format(self, cluster: str, properties: Path) -> None:
        """KRaft starts on formatted storage only."""
        tool = [
            *java(128, self._class_path),
            "kafka.tools.StorageTool",
            "format",
            f"--cluster-id={cluster}",
            "-c",
            str(properties),
        ]
        command = [*tool, *self._format_options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            raise Missing(f"Kafka's storage was not formatted: {done.stdout}{done.stderr}")

    def stop(self) -> None:
        """At once: nothing that it holds is wanted again, and a quorum takes long over its farewells."""
        for broker in self.brokers:
            broker.kill()

    def create(self, topic: str, partitions: int = 1, **config: str) -> None:
        """Makes a topic that keeps records of any age; `config` with underscores for dots."""
        settings = {"retention.ms": "-1", **{name.replace("_", "."): value for name, value in config.items()}}
        replicas = min(self._count, 3)
        self._done(self.admin.create_topics([NewTopic(topic, partitions, replicas, config=settings)]))

    def produce(self, topic: str, rows: Iterable[Row], headers: Mapping[int, Headers] | None = None) -> None:
        """Writes the rows and waits until the brokers have them all. Raises AssertionError where they refuse one.

        `headers` are those of the row at a place among the rows.
        """
        failed: list[str] = []

        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                failed.append(error.str())

        producer = Producer({"bootstrap.servers": self.bootstrap, "linger.ms": 5, "on_delivery": delivered})
        for place, (key, value, partition, stamp) in enumerate(rows):
            more: dict[str, Any] = {"headers": headers[place]} if headers and place in headers else {}
            producer.produce(topic, value=value, key=key, partition=partition, timestamp=stamp, **more)
            producer.poll(0)
        assert producer.flush(ADMIN_SECONDS) == 0
        assert not failed, failed[0]

    def delete(self, topic: str) -> None:
        self._done(self.admin.delete_topics([topic]))

    def delete_records(self, topic: str, partition: int, before: int) -> None:
        """Truncates a partition: the records before the offset `before` are gone."""
        self._done(self.admin.delete_records([TopicPartition(topic, partition, before)]))

    @staticmethod
    def _done(futures: Mapping[Any, Future[Any]]) -> None:
        for future in futures.values():
            future.result(ADMIN_SECONDS)


def _listeners(port: int, controller: int, more: Mapping[str, tuple[int, str]]) -> dict[str, str]:
    clients = [f"PLAINTEXT://{HOST}:{port}", *(f"{name}://{HOST}:{place}" for name, (place, _) in more.items())]
    protocols = ["CONTROLLER:PLAINTEXT", "PLAINTEXT:PLAINTEXT", *(f"{name}:{kind}" for name, (_, kind) in more.items())]
    return {
        "listeners": ",".join([*clients, f"CONTROLLER://{HOST}:{controller}"]),
        "advertised.listeners": ",".join(clients),
        "listener.security.protocol.map": ",".join(protocols),
    }


def _properties(node: int, voters: str, folder: Path, brokers: int, settings: Mapping[str, str]) -> str:
    replicas = str(min(brokers, 3))
    properties = {
        "process.roles": "broker,controller",
        "node.id": str(node),
        "controller.quorum.voters": voters,
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "log.dirs": str(folder / "data"),
        "num.partitions": "4",
        "auto.create.topics.enable": "false",
        "offsets.topic.replication.factor": replicas,
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": replicas,
        "transaction.state.log.min.isr": "1" if brokers < 3 else "2",
        "transaction.state.log.num.partitions": "4",
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "1000",
        "group.consumer.min.session.timeout.ms": "1000",
        "group.consumer.session.timeout.ms": "6000",
        "group.consumer.min.heartbeat.interval.ms": "500",
        "group.consumer.heartbeat.interval.ms": "1000",
        "log.cleaner.dedupe.buffer.size": str(8 << 20),
        "log.cleaner.backoff.ms": "200",
        "log.initial.task.delay.ms": "200",
        "log.retention.check.interval.ms": "1000",
        **settings,
    }
    return "".join(f"{key}={value}\n" for key, value in properties.items())
