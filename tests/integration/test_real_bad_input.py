"""Trouble that only real servers make: a topic deleted under a landing, records of megabytes, an object store that denies."""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import json
import re
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from confluent_kafka import Producer

from lakeflow.lake.catalog import Lake
from tests.integration.commands import Commands, project
from tests.integration.test_real_catalog import empty
from tests.lakes import live_paths, open_lake, path_of, query, stored_files
from tests.rig.catalog import RestCatalog
from tests.rig.kafka import Kafka
from tests.rig.storage import ACCESS_KEY, BUCKET, REGION, SECRET_KEY, Storage

SECONDS = 90
T0 = 1_357_000_000_000
TABLE = "bronze.items"
numbers = iter(range(1000))


def wait_for(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not happened():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.2)


def opened(
    cluster: Kafka, folder: Path, columns: str, options: str = "", more: str = "", **config: str
) -> tuple[str, Commands]:
    """A topic of its own, and the project that lands it; `more` is further configuration."""
    topic = f"trouble{next(numbers)}"
    cluster.create(topic, 1, **config)
    settings = f'[project]\nname = "{topic}"\n[kafka]\n"bootstrap.servers" = "{cluster.bootstrap}"\n{more}'
    table = f"CREATE TABLE {TABLE} ({columns}) WITH ('connector' = 'kafka', 'topic' = '{topic}'{options});"
    return topic, project(folder / "project", settings, table)


def rows(commands: Commands, sql: str) -> list[tuple[Any, ...]]:
    lake = open_lake(commands.folder / ".lakeflow")
    return query(lake.table(TABLE), sql) if lake.exists(TABLE) else []


class TestTopics:
    def test_one_that_is_deleted_under_a_landing_ends_it_with_all_that_was_read(
        self, real_kafka: Kafka, tmp_path: Path
    ) -> None:
        topic, commands = opened(real_kafka, tmp_path, "id INT", ", 'commit.interval' = '0.2'")
        real_kafka.produce(topic, [(None, b'{"id": %d}' % number, 0, T0) for number in range(10)])
        process = commands.start("land", "--follow")
        wait_for(lambda: len(rows(commands, "SELECT id FROM rows")) == 10)
        real_kafka.delete(topic)
        _, said = process.communicate(timeout=SECONDS)
        assert process.returncode == 1, said
        assert topic in said
        assert "no longer there" in said or "was deleted" in said
        assert "Traceback" not in said
        assert len(rows(commands, "SELECT id FROM rows")) == 10
        for verb in ("plan", "land", "status", "doctor"):
            assert "Traceback" not in commands.run(verb).err
        assert commands.run("land").code != 0

    def test_records_of_megabytes_are_larger_than_buffer_and_commit_and_land(self, real_kafka: Kafka, tmp_path: Path) -> None:
        more = "[run]\nbuffer_bytes = 1048576\n"
        columns, options = "id INT, text STRING", ", 'commit.max-bytes' = '1 mb', 'on_error' = 'dead_letter'"
        topic, commands = opened(real_kafka, tmp_path, columns, options, more, max_message_bytes=str(16 << 20))
        producer = Producer({"bootstrap.servers": real_kafka.bootstrap, "message.max.bytes": 16 << 20})
        sizes = [1, 5 << 20, 1, 9 << 20, 3 << 20]
        for number, size in enumerate(sizes):
            producer.produce(topic, json.dumps({"id": number, "text": "x" * size}).encode())
        producer.produce(topic, b"{" + b"x" * (9 << 20))
        assert producer.flush(SECONDS) == 0
        (landed,) = commands.done("land")
        assert (landed["written"], landed["dead_lettered"]) == (len(sizes), 1)
        assert rows(commands, "SELECT id, length(text) FROM rows ORDER BY id") == list(enumerate(sizes))

    @pytest.mark.parametrize("kind", ["CreateTime", "LogAppendTime"])
    def test_what_kafka_knows_of_a_record_is_in_its_columns(self, real_kafka: Kafka, tmp_path: Path, kind: str) -> None:
        config = {"message_timestamp_type": kind}
        topic, commands = opened(real_kafka, tmp_path, "id INT", ", 'metadata.columns' = 'all'", **config)
        headers: dict[int, list[tuple[str, bytes | None]]] = {0: [("a", b"\xff"), ("b", None), ("a", b"")]}
        before = time.time() * 1000
        real_kafka.produce(topic, [(b"k", b'{"id": 0}', 0, T0), (None, b'{"id": 1}', 0, T0 + 5)], headers)
        commands.done("land")
        first, second = rows(commands, "SELECT * EXCLUDE kafka_timestamp FROM rows ORDER BY id")
        kept = [{"key": name, "value": value} for name, value in headers[0]]
        assert first == (0, topic, 0, 0, kind, 0, kept, b"k", b'{"id": 0}')
        assert second == (1, topic, 0, 1, kind, 0, [], None, b'{"id": 1}')
        stamps = [row[0] for row in rows(commands, "SELECT epoch_ms(kafka_timestamp) FROM rows ORDER BY id")]
        if kind == "CreateTime":
            assert stamps == [T0, T0 + 5]
        else:
            assert all(before - 5_000 <= stamp <= time.time() * 1000 + 5_000 for stamp in stamps)


def signed(storage: Storage, fields: Mapping[str, str]) -> urllib.request.Request:
    """A request to the store's token service, signed by AWS's version 4.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
    """
    body = urlencode(fields).encode()
    now = dt.datetime.now(dt.UTC)
    stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    digest, scope = hashlib.sha256(body).hexdigest(), f"{day}/{REGION}/sts/aws4_request"
    headers = {
        "content-type": "application/x-www-form-urlencoded",
        "host": urlsplit(storage.endpoint).netloc,
        "x-amz-content-sha256": digest,
        "x-amz-date": stamp,
    }
    names = ";".join(headers)
    canonical = "\n".join(["POST", "/", "", *(f"{name}:{value}" for name, value in headers.items()), "", names, digest])
    text = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{SECRET_KEY}".encode()
    for part in (day, REGION, "sts", "aws4_request", text):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    headers["authorization"] = f"AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/{scope}, SignedHeaders={names}, Signature={key.hex()}"
    return urllib.request.Request(storage.endpoint, body, headers)


def read_only(storage: Storage) -> dict[str, str]:
    """Credentials that may read the bucket and write nothing."""
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": ["s3:GetObject", "s3:ListBucket"],
                "Resource": [f"arn:aws:s3:::{BUCKET}", f"arn:aws:s3:::{BUCKET}/*"],
            }
        ],
    }
    fields = {"Action": "AssumeRole", "Version": "2011-06-15", "DurationSeconds": "3600", "Policy": json.dumps(policy)}
    with urllib.request.urlopen(signed(storage, fields), timeout=30) as answer:
        told = answer.read().decode()
    found = {name: re.findall(f"<{name}>(.*?)</{name}>", told) for name in ("AccessKeyId", "SecretAccessKey", "SessionToken")}
    return {
        "s3.access-key-id": found["AccessKeyId"][0],
        "s3.secret-access-key": found["SecretAccessKey"][0],
        "s3.session-token": found["SessionToken"][0],
    }


class TestObjectStore:
    @pytest.fixture
    def catalog(self, rest_catalog: RestCatalog, storage: Storage) -> Iterator[dict[str, str]]:
        empty(rest_catalog.options(), storage)
        yield dict(rest_catalog.options())
        empty(rest_catalog.options(), storage)

    @pytest.mark.parametrize("trouble", ["read only", "wrong secret", "no bucket", "away"])
    def test_whatever_it_refuses_nothing_is_lost(
        self, real_kafka: Kafka, storage: Storage, catalog: dict[str, str], tmp_path: Path, trouble: str
    ) -> None:
        topic, commands = opened(real_kafka, tmp_path, "id INT", ", 'on_error' = 'skip'")
        configuration = (commands.folder / "lakeflow.toml").read_text()

        def connect(**changed: str) -> None:
            options = {**catalog, **changed}
            lines = "".join(f'"{name}" = "{value}"\n' for name, value in options.items())
            (commands.folder / "lakeflow.toml").write_text(f"{configuration}[catalog]\n{lines}")

        connect()
        real_kafka.produce(topic, [(None, b'{"id": 1}', 0, T0)])
        commands.done("land")
        real_kafka.produce(topic, [(None, b'{"id": 2}', 0, T0), (None, b"bad", 0, T0)])
        match trouble:
            case "read only":
                connect(**read_only(storage))
            case "wrong secret":
                connect(**{"s3.secret-access-key": "not-the-secret-of-it"})
            case "no bucket":
                connect(**{"s3.endpoint": storage.endpoint + "/nowhere"})
            case _:
                connect(**{"s3.endpoint": "http://127.0.0.1:1", "s3.connect-timeout": "1", "s3.request-timeout": "1"})
        ended = commands.run("land")
        assert ended.code in (1, 2), ended.err
        assert "Traceback" not in ended.err
        assert "error: " in ended.err
        assert TABLE in ended.err
        assert "next: " in ended.err
        assert "not-the-secret-of-it" not in ended.err + ended.out
        lake = Lake.open(catalog)
        assert query(lake.table(TABLE), "SELECT id FROM rows") == [(1,)]

        connect()
        (landed,) = commands.done("land")
        assert (landed["read"], landed["written"], landed["skipped"]) == (2, 1, 1)
        table = lake.table(TABLE)
        assert query(table, "SELECT id FROM rows ORDER BY id") == [(1,), (2,)]
        assert {path_of(path) for path in live_paths(table)} == stored_files(table)
