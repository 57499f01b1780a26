"""A project that lands topics of an embedded broker, with a schema registry beside it, and writers of its topics."""

from __future__ import annotations

import io
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import fastavro
from google.protobuf.json_format import ParseDict
from google.protobuf.message_factory import GetMessageClass

from lakeflow.topics.embedded import EmbeddedBroker
from lakeflow.topics.registered import SchemaKind
from tests.integration.cli.conftest import Ran, Shop
from tests.lakes import query
from tests.property.protobuf_schemas import compiled
from tests.rig.registry import SchemaRegistry

SECONDS = 30
TABLE, TOPIC = "bronze.items", "items"
Result = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Site:
    """The project, its broker and its registry."""

    shop: Shop
    broker: EmbeddedBroker
    registry: SchemaRegistry
    registered: dict[tuple[str, str], int] = field(default_factory=dict)

    def configure(self, more: str = "", registry: str | None = None, connect_seconds: float = 5.0) -> None:
        """`more` goes to [run], behind what the servers need; `registry` is in the place of its url."""
        self.shop.configure(
            f'\n[kafka]\n"bootstrap.servers" = "{self.broker.bootstrap}"\n'
            f'[registry]\nurl = "{registry or self.registry.url}"\ntimeout = "1"\n'
            f"[run]\npoll_seconds = 0.05\nconnect_seconds = {connect_seconds}\n{more}"
        )

    def declare(self, text: str) -> None:
        """The tables of the project, in place of those before."""
        self.shop.declare("tables/shop.sql", text)

    def send(self, topic: str, *records: Sequence[Any]) -> None:
        """Records as EmbeddedBroker.produce has them."""
        self.broker.produce(topic, records)

    def land(self, *words: str, code: int = 0) -> list[Result]:
        """`lakeflow land`, which ends with `code`; in each result every record that was read is accounted for."""
        ran = self.shop("land", *words, "--output", "json")
        assert ran.code == code, ran.err
        return [accounted(result) for result in ran.json]

    def landed(self, *words: str, code: int = 0) -> Result:
        """The same of one table."""
        (result,) = self.land(*words, code=code)
        return result

    def refused(self, *words: str, code: int = 1) -> Ran:
        """A landing that must fail, and what it says, its lines as one."""
        ran = self.shop("land", *words, "--output", "json")
        assert ran.code == code, ran.err or ran.out
        return Ran(ran.code, ran.out, " ".join(ran.err.split()))

    def follow(self, *words: str, meanwhile: Callable[[], None], code: int = 143) -> Ran:
        """`lakeflow land --follow`, until `meanwhile` is done: then a signal comes. What that raises is raised here."""
        failed: list[BaseException] = []

        def act() -> None:
            try:
                meanwhile()
            except BaseException as error:  # noqa: BLE001 (raised again, in the test's own thread)
                failed.append(error)
            finally:
                os.kill(os.getpid(), signal.SIGTERM)

        thread = threading.Thread(target=act)
        thread.start()
        ran = self.shop("land", *words, "--follow", "--output", "json")
        thread.join()
        if failed:
            raise failed[0]
        assert ran.code == code, ran.err
        return ran

    def rows(self, table: str, sql: str = "SELECT * FROM rows ORDER BY ALL") -> list[tuple[Any, ...]]:
        """By DuckDB, of the table's files; none where there is no table yet."""
        lake = self.shop.project.lake
        return query(lake.table(table), sql) if lake.exists(table) else []

    def letters(self, sql: str = 'SELECT "offset", kind FROM rows ORDER BY ALL') -> list[tuple[Any, ...]]:
        return self.rows("lakeflow.dead_letters", sql)

    def avro(self, subject: str, schema: dict[str, Any], row: Any) -> bytes:
        """`row` in the registry's wire format, its schema registered."""
        return framed(self.register(subject, schema), avro_body(schema, row))

    def register(self, subject: str, schema: Any, kind: SchemaKind = SchemaKind.AVRO) -> int:
        """The schema's id; a registry compiles what it is given anew each time, so it is given each once."""
        text = schema if isinstance(schema, str) else json.dumps(schema)
        if (subject, text) not in self.registered:
            self.registered[subject, text] = self.registry.store.register(subject, kind, text)
        return self.registered[subject, text]

    def proto(self, subject: str, schema: str, **fields: Any) -> bytes:
        """A record of the schema's first message."""
        return framed(self.register(subject, schema, SchemaKind.PROTOBUF), b"\0" + proto_body(schema, **fields))


def accounted(result: Result) -> Result:
    if "read" in result and "written" in result:
        parts = [result[name] for name in ("written", "dead_lettered", "skipped", "filtered")]
        assert result["read"] == sum(parts), result
    return result


def framed(schema_id: int, body: bytes) -> bytes:
    return b"\0" + schema_id.to_bytes(4, "big") + body


def avro_body(schema: dict[str, Any], row: Any) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), row)
    return out.getvalue()


def proto_body(schema: str, **fields: Any) -> bytes:
    message = GetMessageClass(next(iter(compiled(schema).message_types_by_name.values())))()
    body: bytes = ParseDict(fields, message).SerializeToString()
    return body


def in_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def record(*fields: tuple[str, Any], name: str = "Row") -> dict[str, Any]:
    """An Avro record of fields by name and type; those of a union with null have the default null."""
    made = [
        {"name": name, "type": kind} | ({"default": None} if isinstance(kind, list) and kind[0] == "null" else {})
        for name, kind in fields
    ]
    return {"type": "record", "name": name, "fields": made}


def declared(
    columns: str, options: str = "", *, table: str = TABLE, topic: str = f"'topic' = '{TOPIC}'", more: str = ""
) -> str:
    """A CREATE TABLE; `more` stands between the columns and WITH."""
    listed = f"({columns}) " if columns else ""
    return f"CREATE TABLE {table} {listed}{more} WITH ('connector' = 'kafka', {topic}{options});\n"


def keyed(columns: str, key: str = "id", options: str = ", 'key.format' = 'json'", **more: str) -> str:
    """The same of a table by key."""
    listed = f"{columns}, PRIMARY KEY ({key}) NOT ENFORCED" if columns else f"PRIMARY KEY ({key}) NOT ENFORCED"
    return declared(listed, f", 'changelog.mode' = 'upsert'{options}", **more)


def values(rows: Iterable[Any]) -> list[tuple[None, bytes]]:
    """Records of these JSON values, without keys."""
    return [(None, in_json(row)) for row in rows]


def wait_for(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not happened():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
