"""Kafka Connect with Iceberg's sink, standalone: what lakeflow is compared with in benchmarks/connect.py."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.rig.cache import jars
from tests.rig.process import HOST, Process, free_ports

NAME = "connect"
CONNECTOR = "iceberg"
CONTROL_TOPIC = "control-iceberg"
SECONDS = 60
JVM = ("-Xms256M", "-Xmx2G", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35")
"""As Kafka's own scripts start it (kafka-run-class.sh, connect-standalone.sh)."""


class Connect:
    """One worker without connectors, until `sink` gives it one. CONTROL_TOPIC must be on the broker."""

    def __init__(self, folder: Path, bootstrap: str) -> None:
        self._folder = folder
        self._class_path = jars(NAME)
        self._bootstrap = bootstrap
        self._url = ""
        self.process: Process | None = None

    def start(self) -> None:
        (port,) = free_ports(1)
        self._url = f"http://{HOST}:{port}"
        properties = self._folder / "worker.properties"
        settings = {
            "bootstrap.servers": self._bootstrap,
            "listeners": self._url,
            "offset.storage.file.filename": str(self._folder / "offsets"),
            # A task without records sleeps this long, and hears of no commit meanwhile; the default is a minute.
            "offset.flush.interval.ms": "1000",
            "key.converter": "org.apache.kafka.connect.converters.ByteArrayConverter",
            "value.converter": "org.apache.kafka.connect.json.JsonConverter",
            "value.converter.schemas.enable": "false",
        }
        properties.write_text("".join(f"{name}={value}\n" for name, value in settings.items()), encoding="utf-8")
        main = ["org.apache.kafka.connect.cli.ConnectStandalone", str(properties)]
        command = ["java", *JVM, "-cp", self._class_path, *main]
        self.process = Process(NAME, command, self._folder / "log", self._is_ready)
        self.process.start()

    def _is_ready(self) -> bool:
        try:
            return bool(self._ask("/connectors") == [])
        except OSError:
            return False

    def sink(self, topic: str, table: str, catalog: Mapping[str, str], commit_seconds: float, **more: str) -> None:
        """Lands a topic of JSON in a table that is there, from the topic's beginning, by one task."""
        settings = {
            "connector.class": "org.apache.iceberg.connect.IcebergSinkConnector",
            "tasks.max": "1",
            "topics": topic,
            "consumer.override.auto.offset.reset": "earliest",
            "iceberg.tables": table,
            "iceberg.control.topic": CONTROL_TOPIC,
            "iceberg.control.commit.interval-ms": str(round(commit_seconds * 1000)),
            "iceberg.kafka.bootstrap.servers": self._bootstrap,
            "iceberg.catalog.type": "rest",
            "iceberg.catalog.uri": catalog["uri"],
            "iceberg.catalog.io-impl": "org.apache.iceberg.aws.s3.S3FileIO",
            "iceberg.catalog.http-client.type": "urlconnection",
            "iceberg.catalog.client.region": catalog["s3.region"],
            "iceberg.catalog.s3.endpoint": catalog["s3.endpoint"],
            "iceberg.catalog.s3.path-style-access": "true",
            "iceberg.catalog.s3.access-key-id": catalog["s3.access-key-id"],
            "iceberg.catalog.s3.secret-access-key": catalog["s3.secret-access-key"],
            **more,
        }
        self._ask("/connectors", {"name": CONNECTOR, "config": settings})

    def failure(self) -> str | None:
        """What the connector or its task ended with; None while they run."""
        try:
            status = self._ask(f"/connectors/{CONNECTOR}/status")
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise
        for part in (status["connector"], *status["tasks"]):
            if part["state"] == "FAILED":
                return str(part.get("trace"))
        return None

    def _ask(self, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            return json.load(answer)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
