"""Spark with Iceberg's runtime: a reader of tables that no one here wrote. One JVM, which answers SQL over HTTP."""

from __future__ import annotations

import json
import shutil
import urllib.error
import urllib.request
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.rig.cache import HERE, jars
from tests.rig.process import HOST, Process, free_ports, java

NAME = "spark"
HEAP_MIB = 768
SECONDS = 120
LAKE = "lakeflow"
"""The name of a catalog that names itself no other way, as lakeflow opens it."""
SCHEMA_KEY = b"org.apache.spark.sql.parquet.row.metadata"
OPENED = ("lang", "lang.invoke", "lang.reflect", "io", "net", "nio", "util", "util.concurrent", "util.concurrent.atomic")
"""What Spark asks of Java 17 (its launcher's JavaModuleOptions), beside the sun packages below."""
OPENED_SUN = ("sun.nio.ch", "sun.nio.cs", "sun.security.action", "sun.util.calendar")
SETTINGS = {
    "spark.ui.enabled": "false",
    "spark.driver.host": HOST,
    "spark.driver.bindAddress": HOST,
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.shuffle.partitions": "1",
    "spark.sql.parquet.datetimeRebaseModeInWrite": "CORRECTED",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.sql.extensions": "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions",
}


class RefusedBySpark(Exception):
    """Spark cannot answer a query; the message is Spark's own."""


class Spark:
    """`rows(catalog, sql)` asks any catalog that lakeflow can open, by the same options; each has a session of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "spark"
        self._class_path = jars(NAME)
        self._answers = count()
        self._url = ""
        self.process: Process | None = None

    def start(self) -> None:
        (port,) = free_ports(1)
        self._url = f"http://{HOST}:{port}/"
        self._folder.mkdir(parents=True)
        places = {"spark.sql.warehouse.dir": str(self._folder / "warehouse"), "spark.local.dir": str(self._folder / "local")}
        settings = [f"{name}={value}" for name, value in {**SETTINGS, **places}.items()]
        packages = [*(f"java.{name}" for name in OPENED), *OPENED_SUN]
        opened = [part for name in packages for part in ("--add-opens", f"java.base/{name}=ALL-UNNAMED")]
        program, *rest = java(HEAP_MIB, self._class_path)
        command = [program, *opened, *rest, str(HERE / "SparkReader.java"), str(port), *settings]
        self.process = Process(NAME, command, self._folder / "log", self._is_ready)
        self.process.start()

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(self._url, timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def rows(self, catalog: Mapping[str, str], sql: str) -> pa.Table:
        """What Spark answers. Tables are named as in lakeflow, `namespace.table`; `catalog` is [catalog] of the project.

        Times with a zone come in UTC, in microseconds. Raises RefusedBySpark where Spark cannot answer.
        """
        place = self._folder / f"answer{next(self._answers)}"
        settings = "\n".join(f"{name}={value}" for name, value in session_settings(catalog).items())
        request = urllib.request.Request(self._url, f"{place}\n{settings}\n\n{sql}".encode(), method="POST")
        try:
            with urllib.request.urlopen(request, timeout=SECONDS):
                pass
        except urllib.error.HTTPError as error:
            raise RefusedBySpark(error.read().decode()) from None
        answer = pa.concat_tables([pq.read_table(file) for file in sorted(place.glob("*.parquet"))])
        shutil.rmtree(place)
        return answer

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()


def types(answer: pa.Table) -> dict[str, Any]:
    """The types of the columns of an answer, in Spark's own words (its schema as JSON)."""
    fields = json.loads(answer.schema.metadata[SCHEMA_KEY])["fields"]
    return {field["name"]: field["type"] for field in fields}


def session_settings(catalog: Mapping[str, str]) -> dict[str, str]:
    """[catalog] of a project as the settings of a Spark session. A SQL catalog is read as Iceberg's JDBC catalog, whose
    tables in the database have the same form."""
    name = catalog.get("name", LAKE)
    settings = {"warehouse": catalog["warehouse"], "cache-enabled": "false"}
    if catalog["type"] == "rest":
        settings |= {"type": "rest", "uri": catalog["uri"]}
    else:
        settings |= {"type": "jdbc", "jdbc.schema-version": "V1", **_jdbc(catalog["uri"])}
    if "s3.endpoint" in catalog:
        settings |= {
            "io-impl": "org.apache.iceberg.aws.s3.S3FileIO",
            "http-client.type": "urlconnection",
            "client.region": catalog["s3.region"],
            "s3.endpoint": catalog["s3.endpoint"],
            "s3.path-style-access": "true",
            "s3.access-key-id": catalog["s3.access-key-id"],
            "s3.secret-access-key": catalog["s3.secret-access-key"],
        }
    prefix = f"spark.sql.catalog.{name}"
    named = {f"{prefix}.{key}": value for key, value in settings.items()}
    return {"spark.sql.defaultCatalog": name, prefix: "org.apache.iceberg.spark.SparkCatalog", **named}


def _jdbc(uri: str) -> dict[str, str]:
    """SQLAlchemy's address of a database as JDBC's."""
    if uri.startswith("sqlite:///"):
        return {"uri": f"jdbc:sqlite:file:{uri.removeprefix('sqlite:///')}"}
    credentials, _, place = uri.partition("://")[2].rpartition("@")
    user, _, password = credentials.partition(":")
    return {"uri": f"jdbc:postgresql://{place}", "jdbc.user": user, "jdbc.password": password}
