"""`lakeflow land` of what is broken: a clear word, nothing lost, nothing twice.

| what | where else it is proven |
|---|---|
| a schema that the table cannot evolve to | test_land_schemas.py, test_land_declared.py |
| a registry that is away when a table is there | test_land_schemas.py |
| what a registry may answer, and how long it may take | tests/unit/topics/test_registry_client.py |
| a wrong password, an authority that is not the broker's, topics and groups without rights | test_real_kafka_security.py |
| records that are gone, topics made anew, transactions | test_real_kafka.py, test_real_kafka_changes.py |
| a topic deleted under `--follow`, an object store that denies or is away | test_real_bad_input.py |
| what each error of librdkafka becomes | tests/unit/topics/test_kafka_errors.py, test_kafka_shared.py |
| a disk that is full under the catalog, and in every call of the lake | tests/unit/lake/test_failures.py |
| the cost of bad records | tests/property, `benchmarks/` |
"""

from __future__ import annotations

import resource
import sys
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from typing import Any

import pytest

from tests.integration.cli.landings import (
    TABLE,
    TOPIC,
    Site,
    avro_body,
    declared,
    framed,
    in_json,
    keyed,
    proto_body,
    record,
    values,
    wait_for,
)
from tests.lakes import live_paths, path_of, stored_files

UNKNOWN_SCHEMA = 4242
ROW = record(("id", "long"), ("on", ["null", {"type": "int", "logicalType": "date"}]))
PROTO = """
syntax = "proto3";
import "google/protobuf/timestamp.proto";
message Row { int64 id = 1; google.protobuf.Timestamp seen = 2; }
message Other { int64 id = 1; }
"""
JSON_SCHEMA = '{"type": "object", "properties": {"id": {"type": "integer"}, "on": {"type": "string", "format": "date"}}}'
FAR = 2**31 - 1
"""Days, past the year 9999."""


@dataclass(frozen=True)
class Case:
    """A format, its good records by number, and bad ones with the kind of each."""

    name: str
    columns: str
    options: str

    def good(self, site: Site, number: int) -> bytes:
        raise NotImplementedError

    def bad(self, site: Site) -> list[tuple[bytes | None, str]]:
        raise NotImplementedError


class Json(Case):
    def good(self, site: Site, number: int) -> bytes:
        return in_json({"id": number})

    def bad(self, site: Site) -> list[tuple[bytes | None, str]]:
        return [(None, "tombstone"), (b"{broken", "malformed"), (b'{"id": "\xff"}', "malformed"), (b'{"id": "1"}', "misfit")]


class Avro(Case):
    def good(self, site: Site, number: int) -> bytes:
        return site.avro("items-value", ROW, {"id": number, "on": None})

    def bad(self, site: Site) -> list[tuple[bytes | None, str]]:
        number = site.register("items-value", ROW)
        far = avro_body(record(("id", "long"), ("on", ["null", "int"])), {"id": 1, "on": FAR})
        return [
            (None, "tombstone"), (b"", "malformed"), (b"{}", "malformed"), (framed(number, b"\x80"), "malformed"),
            (framed(number, far), "misfit"), (framed(UNKNOWN_SCHEMA, b"\0"), "schema"),
        ]  # fmt: skip


class Protobuf(Case):
    def good(self, site: Site, number: int) -> bytes:
        return site.proto("items-value", PROTO, id=number)

    def bad(self, site: Site) -> list[tuple[bytes | None, str]]:
        number = int.from_bytes(self.good(site, 1)[1:5], "big")
        finer = proto_body(PROTO, seen="2013-01-01T00:00:00.000000001Z")
        return [
            (None, "tombstone"), (b"\1", "malformed"), (framed(number, b"\0\x0f"), "malformed"),
            (framed(number, b"\0" + finer), "misfit"), (framed(number, b"\x02\x02"), "misfit"),
            (framed(UNKNOWN_SCHEMA, b"\0"), "schema"),
        ]  # fmt: skip


class JsonSchema(Case):
    def number(self, site: Site) -> int:
        from lakeflow.topics.registered import SchemaKind

        return site.register("items-value", JSON_SCHEMA, SchemaKind.JSON)

    def good(self, site: Site, number: int) -> bytes:
        return framed(self.number(site), in_json({"id": number}))

    def bad(self, site: Site) -> list[tuple[bytes | None, str]]:
        number = self.number(site)
        return [
            (None, "tombstone"), (b"{}", "malformed"), (framed(number, b"{"), "malformed"),
            (framed(number, b'{"on": "yesterday"}'), "misfit"), (framed(UNKNOWN_SCHEMA, b"{}"), "schema"),
        ]  # fmt: skip


class Raw(Case):
    def good(self, site: Site, number: int) -> bytes:
        return number.to_bytes(8, "big")

    def bad(self, site: Site) -> list[tuple[bytes | None, str]]:
        return [(None, "tombstone"), (b"123", "malformed"), (b"", "malformed")]


class Debezium(Case):
    def good(self, site: Site, number: int) -> bytes:
        return in_json({"op": "c", "before": None, "after": {"id": number}})

    def bad(self, site: Site) -> list[tuple[bytes | None, str]]:
        return [
            (b"{", "malformed"), (b'{"op": "z"}', "misfit"), (b'{"op": "d", "before": null}', "misfit"),
            (b'{"op": "c", "after": {"id": null}}', "misfit"), (b'{"op": "c", "after": {"id": "x"}}', "misfit"),
        ]  # fmt: skip


CASES = [
    Json("json", "id BIGINT NOT NULL", ""),
    Avro("avro", "", ", 'value.format' = 'avro-registry'"),
    Avro("avro declared", 'id BIGINT NOT NULL, "on" DATE', ", 'value.format' = 'avro-registry'"),
    Protobuf("protobuf", "", ", 'value.format' = 'proto-registry'"),
    JsonSchema("json schema", "", ", 'value.format' = 'json-registry'"),
    Raw("raw", "id BIGINT", ", 'value.format' = 'raw'"),
    Debezium("debezium", "id BIGINT NOT NULL", ", 'value.format' = 'debezium-json', 'changelog.mode' = 'append'"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
class TestRejects:
    def sent(self, site: Site, case: Case) -> list[tuple[int, str]]:
        """A good record, then each bad one with a good one behind it; the offsets and kinds of the bad."""
        bad = case.bad(site)
        site.send(TOPIC, (None, case.good(site, 0)))
        for place, (value, _) in enumerate(bad, 1):
            site.send(TOPIC, (b"key", value), (None, case.good(site, place)))
        return [(2 * place + 1, kind) for place, (_, kind) in enumerate(bad)]

    def ids(self, site: Site) -> list[int]:
        return [row[0] for row in site.rows(TABLE, "SELECT id FROM rows ORDER BY id")]

    def test_dead_letters_are_kept_each_with_its_kind_and_its_bytes(self, site: Site, case: Case) -> None:
        expected = self.sent(site, case)
        site.declare(declared(case.columns, case.options + ", 'on_error' = 'dead_letter'"))
        assert site.landed()["dead_lettered"] == len(expected)
        assert site.letters() == expected
        assert self.ids(site) == list(range(len(expected) + 1))
        kept = site.letters('SELECT value, key, length(error) > 10 FROM rows ORDER BY "offset"')
        assert kept == [(value, b"key", True) for value, _ in case.bad(site)]

    def test_skipped_ones_are_counted(self, site: Site, case: Case) -> None:
        expected = self.sent(site, case)
        site.declare(declared(case.columns, case.options + ", 'on_error' = 'skip'"))
        assert site.landed()["skipped"] == len(expected)
        assert self.ids(site) == list(range(len(expected) + 1))

    def test_each_suspends_in_its_place_until_something_is_mended(self, site: Site, case: Case) -> None:
        expected = self.sent(site, case)
        suspend = declared(case.columns, case.options)
        skip_one = declared(case.columns, case.options + ", 'on_error' = 'skip', 'commit.max-rows' = '1'")
        site.declare(suspend)
        offset, _ = expected[0]
        for _ in range(2):
            assert f"suspended at topic '{TOPIC}', partition 0, offset {offset}:" in site.refused().err
            assert self.ids(site) == [0]
        site.declare(skip_one)
        assert site.landed()["skipped"] == len(expected)
        assert self.ids(site) == list(range(len(expected) + 1))


class TestPoison:
    GOOD = 300

    @pytest.mark.parametrize("bad", [1, 1_000, 100_000])
    @pytest.mark.parametrize("case", [CASES[0], CASES[1], CASES[3]], ids=lambda case: case.name)
    def test_good_records_among_many_bad_ones_all_land(self, site: Site, case: Case, bad: int) -> None:
        kinds = [(value, kind) for value, kind in case.bad(site) if kind != "schema"]
        good = [case.good(site, number) for number in range(self.GOOD)]
        poison = [kinds[place % len(kinds)] for place in range(bad)]
        sent: list[bytes | None] = [*good, *(value for value, _ in poison)]
        Random(7).shuffle(sent)
        site.send(TOPIC, *((None, value) for value in sent))
        site.declare(declared(case.columns, case.options + ", 'on_error' = 'dead_letter'"))
        result = site.landed()
        assert (result["read"], result["written"], result["dead_lettered"]) == (self.GOOD + bad, self.GOOD, bad)
        assert site.rows(TABLE, "SELECT count(DISTINCT id), count(*), max(id) FROM rows") == [
            (self.GOOD, self.GOOD, self.GOOD - 1)
        ]
        assert site.letters('SELECT count(*), count(DISTINCT "offset") FROM rows') == [(bad, bad)]
        assert dict(site.letters("SELECT kind, count(*) FROM rows GROUP BY ALL")) == Counter(kind for _, kind in poison)


@dataclass
class Gate:
    """Stands before a registry and lets requests through, or does to them what `mode` says; `met` counts them."""

    url: str
    mode: str = "up"
    met: int = 0
    own: str = field(default="", init=False)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.met += 1
        body, status = b"<html>Welcome</html>", 200
        match self.mode:
            case "away":
                handler.connection.close()
                return
            case "slow":
                threading.Event().wait(1.5)
            case "failing":
                status = 503
            case "up":
                try:
                    with urllib.request.urlopen(self.url + handler.path, timeout=5) as found:
                        body = found.read()
                except urllib.error.HTTPError as error:
                    status, body = error.code, error.read()
            case _:
                pass
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)


@contextmanager
def gate_before(site: Site) -> Iterator[Gate]:
    gate = Gate(site.registry.url)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            gate.answer(self)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: the test's own output matters."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """A client that is gone is none of the gate's business."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    gate.own = f"http://127.0.0.1:{server.server_address[1]}"
    site.configure(registry=gate.own)
    try:
        yield gate
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def gate(site: Site) -> Iterator[Gate]:
    with gate_before(site) as opened:
        yield opened


AVRO = ", 'value.format' = 'avro-registry'"
TROUBLES = ["away", "slow", "failing", "garbage"]


class TestTheRegistry:
    def sent(self, site: Site, *fields: tuple[str, Any], **row: Any) -> None:
        site.send(TOPIC, (None, site.avro("items-value", record(*fields), row)))

    @pytest.mark.parametrize("trouble", TROUBLES)
    def test_in_trouble_at_the_start_no_table_is_made(self, site: Site, gate: Gate, trouble: str) -> None:
        site.declare(declared("", AVRO))
        self.sent(site, ("id", "long"), id=1)
        gate.mode = trouble
        ran = site.refused()
        assert "the schema registry" in ran.err
        assert gate.own in ran.err
        assert not site.shop.project.lake.exists(TABLE)
        gate.mode = "up"
        assert site.landed()["written"] == 1
        assert site.rows(TABLE) == [(1,)]

    @pytest.mark.parametrize("trouble", TROUBLES)
    def test_in_trouble_in_the_middle_nothing_is_taken_for_a_bad_record(self, site: Site, gate: Gate, trouble: str) -> None:
        site.declare(declared("", AVRO + ", 'on_error' = 'skip', 'commit.max-rows' = '1'"))
        self.sent(site, ("id", "long"), id=1)
        assert site.landed()["written"] == 1
        self.sent(site, ("id", "long"), ("n", ["null", "int"]), id=2, n=2)
        self.sent(site, ("id", "long"), id=3)
        gate.mode = trouble
        assert "the schema registry" in site.refused().err
        gate.mode = "up"
        assert site.landed()["skipped"] == 0
        assert site.rows(TABLE) == [(1, None), (2, 2), (3, None)]

    def test_in_trouble_while_following_the_landing_waits_for_it(self, site: Site, gate: Gate) -> None:
        site.declare(declared("", AVRO + ", 'on_error' = 'skip', 'commit.interval' = '0.1'"))
        self.sent(site, ("id", "long"), id=1)

        def meanwhile() -> None:
            wait_for(lambda: site.rows(TABLE) == [(1,)])
            gate.mode, gate.met = "failing", 0
            self.sent(site, ("id", "long"), ("n", ["null", "int"]), id=2, n=2)
            wait_for(lambda: gate.met >= 5)
            gate.mode = "up"
            wait_for(lambda: len(site.rows(TABLE)) == 2)

        site.follow(meanwhile=meanwhile)
        assert site.rows(TABLE) == [(1, None), (2, 2)]

    def test_a_schema_that_is_registered_later_is_taken_by_the_next_landing(self, site: Site) -> None:
        site.declare(declared("", AVRO))
        self.sent(site, ("id", "long"), id=1)
        later = record(("id", "long"), ("n", ["null", "int"]))
        site.send(TOPIC, (None, framed(2, avro_body(later, {"id": 2, "n": 2}))))
        assert "offset 1: schema 2 is not in the registry" in site.refused().err
        assert site.rows(TABLE) == [(1,)]
        assert site.register("items-value", later) == 2
        assert site.landed()["written"] == 1
        assert site.rows(TABLE) == [(1, None), (2, 2)]

    def test_a_schema_of_another_kind_is_no_schema_of_the_table(self, site: Site) -> None:
        site.declare(declared("id BIGINT", AVRO + ", 'on_error' = 'dead_letter'"))
        self.sent(site, ("id", "long"), id=1)
        site.send(TOPIC, (None, site.proto("other-value", PROTO, id=2)))
        assert site.landed()["written"] == 1
        assert site.letters() == [(1, "schema")]

    def test_no_registry_at_all_is_a_setting_that_is_missing(self, site: Site) -> None:
        site.declare(declared("", AVRO))
        site.shop.configure(f'\n[kafka]\n"bootstrap.servers" = "{site.broker.bootstrap}"\n')
        ran = site.refused(code=2)
        assert "needs a schema registry" in ran.err
        assert "[registry]" in ran.err


class TestSizes:
    def test_records_larger_than_a_commit_land(self, site: Site) -> None:
        site.configure("buffer_bytes = 1048576\n")
        site.declare(declared("id INT, text STRING", ", 'commit.max-bytes' = '1 kb'"))
        texts = ["a", "b" * 700_000, "c", "d" * 900_000]
        site.send(TOPIC, *values({"id": place, "text": text} for place, text in enumerate(texts)))
        assert site.landed()["written"] == 4
        assert site.rows(TABLE, "SELECT id, length(text) FROM rows ORDER BY id") == [
            (i, len(text)) for i, text in enumerate(texts)
        ]

    @pytest.mark.parametrize("on_error", ["dead_letter", "skip"])
    def test_a_bad_record_larger_than_a_commit_is_a_reject_as_any(self, site: Site, on_error: str) -> None:
        site.configure("buffer_bytes = 1048576\n")
        site.declare(declared("id INT", f", 'on_error' = '{on_error}', 'commit.max-bytes' = '1 kb'"))
        large = b'{"id": "' + b"x" * 800_000
        site.send(TOPIC, *values([{"id": 1}]), (None, large), *values([{"id": 2}]))
        site.landed()
        assert site.rows(TABLE) == [(1,), (2,)]
        if on_error == "dead_letter":
            assert site.letters("SELECT octet_length(value), length(error) < 2000 FROM rows") == [(len(large), True)]


FUTURE = 253_402_300_800_000
"""Milliseconds, the first of the year 10000: from there on, what a producer writes is no time."""
STAMPS = [1_357_000_000_000, FUTURE - 1, FUTURE, 2**53, 2**63 - 1, 1]


class TestClocks:
    def test_times_of_any_clock_land_and_can_be_looked_at(self, site: Site) -> None:
        columns = ", 'metadata.columns' = 'offset, timestamp'"
        site.declare(declared("id INT", columns + ", 'on_error' = 'dead_letter'"))
        for number, stamp in enumerate(STAMPS):
            site.send(TOPIC, (None, in_json({"id": number}), 0, stamp), (b"k", b"broken", 0, stamp))
        assert site.landed()["written"] == len(STAMPS)
        known = [stamp if stamp < FUTURE else None for stamp in STAMPS]
        sql = "SELECT epoch_us({}) FROM rows ORDER BY {}"
        expected = [(None if stamp is None else stamp * 1000,) for stamp in known]
        assert site.rows(TABLE, sql.format("kafka_timestamp", "id")) == expected
        assert site.letters(sql.format('"timestamp"', '"offset"')) == expected
        for words in (
            ("deadletters", "list"),
            ("deadletters", "list", "--output", "json"),
            ("tables", "show", TABLE),
            ("status",),
        ):
            ran = site.shop(*words)
            assert ran.code == 0, (words, ran.err)
        ran = site.shop("query", f"SELECT * FROM {TABLE}")
        assert ran.code == 0, ran.err

    def test_of_two_partitions_the_later_time_wins_however_wrong(self, site: Site) -> None:
        site.declare(keyed("id INT, v STRING"))
        site.send(TOPIC, (b'{"id": 1}', in_json({"id": 1, "v": "future"}), 0, FUTURE))
        site.send(TOPIC, (b'{"id": 1}', in_json({"id": 1, "v": "now"}), 0, 1_357_000_000_000))
        site.landed()
        assert site.rows(TABLE) == [(1, "now")], "within a partition the offset orders"


class TestBrokers:
    @pytest.mark.parametrize("request_number", [2, 3], ids=["list offsets", "metadata"])
    def test_brokers_that_do_not_know_a_request_are_said_to_be_too_old(self, site: Site, request_number: int) -> None:
        site.configure(connect_seconds=2.0)
        site.declare(declared("id INT"))
        site.send(TOPIC, *values([{"id": 1}]))
        site.broker._cluster.leave_out(request_number)
        ran = site.shop("land")
        assert ran.code != 0
        assert "the brokers" in ran.err
        assert site.rows(TABLE) == []
        for verb in ("plan", "status", "doctor"):
            site.shop(verb)

    def test_brokers_that_go_away_and_come_back_while_following(self, site: Site) -> None:
        site.declare(declared("id INT", ", 'commit.interval' = '0.1'"))
        site.send(TOPIC, *values([{"id": 1}]))

        def meanwhile() -> None:
            wait_for(lambda: site.rows(TABLE) == [(1,)])
            site.broker.stop()
            threading.Event().wait(1.0)
            site.broker.start()
            site.send(TOPIC, *values([{"id": 2}]))
            wait_for(lambda: site.rows(TABLE) == [(1,), (2,)])

        site.follow(meanwhile=meanwhile)


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """No file of this process grows past `size` bytes: so a disk is full, for whatever user."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_FSIZE behaves so on Linux")
class TestAFullDisk:
    @pytest.mark.parametrize("by_key", [False, True], ids=["append", "by key"])
    def test_nothing_lands_nothing_is_left_and_with_room_all_lands(self, site: Site, by_key: bool) -> None:
        columns = "id INT, text STRING"
        site.declare((keyed if by_key else declared)(columns))
        site.send(TOPIC, *((in_json({"id": 0}), one) for _, one in values([{"id": 0, "text": "first"}])))
        site.landed()
        chance = Random(7)
        rows = [{"id": number, "text": chance.randbytes(8_000).hex()} for number in range(1, 200)]
        site.send(TOPIC, *((in_json({"id": row["id"]}), in_json(row)) for row in rows))
        with files_up_to(700_000):
            ran = site.refused()
        assert "no room" in ran.err
        assert "free space" in ran.err
        table = site.shop.project.lake.table(TABLE)
        assert stored_files(table) == {path_of(path) for path in live_paths(table)}
        assert not list((site.shop.folder / ".lakeflow" / "tmp").glob("*"))
        assert site.landed()["written"] == len(rows)
        assert site.rows(TABLE, "SELECT count(*), count(DISTINCT id) FROM rows") == [(200, 200)]

    def test_letters_that_have_no_room_are_not_passed(self, site: Site) -> None:
        site.declare(declared("id INT", ", 'on_error' = 'dead_letter'"))
        chance = Random(7)
        site.send(TOPIC, *values([{"id": 1}]), *((None, chance.randbytes(16_000)) for _ in range(100)), *values([{"id": 2}]))
        with files_up_to(700_000):
            assert "no room" in site.refused().err
        assert site.rows(TABLE) == []
        assert site.landed()["dead_lettered"] == 100
        assert site.rows(TABLE) == [(1,), (2,)]
        assert site.letters('SELECT count(*), count(DISTINCT "offset") FROM rows') == [(100, 100)]
