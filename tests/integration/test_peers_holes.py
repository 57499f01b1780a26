"""Where other systems that land topics in Iceberg lose, repeat or stop in silence, and what becomes of the same here."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import fastavro
import pyarrow as pa
import pytest
from confluent_kafka import Consumer, TopicPartition
from pyiceberg.catalog import Catalog
from pyiceberg.table.snapshots import Snapshot

from lakeflow.cli.app import main
from lakeflow.lake.catalog import Lake
from lakeflow.topics.embedded import EmbeddedBroker
from lakeflow.topics.registered import SchemaKind
from tests.chaos.watch import locks_of
from tests.commit_systems import FaultyCatalog, lost_answer, sent_twice, state_unknown_landed, state_unknown_not_landed
from tests.integration.commands import Commands, Ended, project
from tests.lakes import append, open_lake, query
from tests.rig.registry import SchemaRegistry
from tests.unit.landing.test_writer import Site, goods

TABLE, TOPIC = "bronze.events", "events"
PARTITIONS = 4
SECONDS = 60
DECLARED = "CREATE TABLE bronze.events (id BIGINT NOT NULL) {partitioning} WITH ({options});"
OPTIONS = (
    "'connector' = 'kafka', 'topic' = 'events', 'metadata.columns' = 'partition, offset', 'commit.interval' = '0.2', "
    "'commit.max-rows' = '20', 'properties.session.timeout.ms' = '6000'"
)
SETTINGS = """
[project]
name = "{name}"
[kafka]
"bootstrap.servers" = "{bootstrap}"
[registry]
url = "{registry}"
[run]
poll_seconds = 0.1
connect_seconds = 5.0
{more}
"""

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Flow:
    """A topic, and the project that lands it. Commands run in this process, but those that `processes` starts."""

    broker: EmbeddedBroker
    registry: SchemaRegistry
    processes: Commands
    capsys: pytest.CaptureFixture[str]

    def configure(self, name: str = "holes", more: str = "") -> None:
        text = SETTINGS.format(name=name, bootstrap=self.broker.bootstrap, registry=self.registry.url, more=more)
        (self.folder / "lakeflow.toml").write_text(text, encoding="utf-8")

    def declare(self, text: str) -> None:
        (self.folder / "tables" / "tables.sql").write_text(text, encoding="utf-8")

    def send(self, *ids: int) -> None:
        self.broker.produce(TOPIC, [(None, json.dumps({"id": number}).encode(), number % PARTITIONS) for number in ids])

    def run(self, *words: str) -> Ended:
        self.capsys.readouterr()
        code = main([*words, "--project", str(self.folder)])
        said = self.capsys.readouterr()
        return Ended(code, said.out, said.err)

    def done(self, *words: str) -> list[dict[str, Any]]:
        """The rows of a command that must succeed."""
        ended = self.run(*words, "--output", "json")
        assert ended.code == 0, ended.err
        return ended.rows()

    def land(self, *words: str) -> dict[str, Any]:
        (landed,) = self.done("land", *words)
        return landed

    def fail(self, *words: str, code: int = 1) -> Ended:
        ended = self.run("land", *words)
        assert ended.code == code, ended.err
        return ended

    @property
    def folder(self) -> Path:
        return self.processes.folder

    @property
    def lake(self) -> Lake:
        return open_lake(self.folder / ".lakeflow")

    def rows(self, sql: str = "SELECT id FROM rows ORDER BY ALL", table: str = TABLE) -> list[Row]:
        lake = self.lake
        return query(lake.table(table), sql) if lake.exists(table) else []

    def ids(self) -> list[int]:
        return [row[0] for row in self.rows()]


@pytest.fixture
def flow(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Flow]:
    with EmbeddedBroker(PARTITIONS) as broker, SchemaRegistry() as registry:
        commands = project(tmp_path / "project", "", DECLARED.format(partitioning="", options=OPTIONS))
        flow = Flow(broker, registry, commands, capsys)
        flow.configure()
        yield flow


def wait_for(happened: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + SECONDS
    while not happened():
        assert time.monotonic() < end, f"waited {SECONDS} s for {what}"
        time.sleep(0.1)


def stop(process: subprocess.Popen[str], catalog: Path) -> None:
    """SIGSTOP, but not while it holds the lock of the catalog's file, which nobody else could take then."""
    state = Path(f"/proc/{process.pid}/stat")
    while True:
        process.send_signal(signal.SIGSTOP)
        wait_for(lambda: state.read_text().rpartition(")")[2].split()[0] == "T", "a process to stop")
        if not locks_of(process.pid, catalog):
            return
        process.send_signal(signal.SIGCONT)
        time.sleep(0.05)


@pytest.mark.skipif(sys.platform != "linux", reason="stops processes by /proc")
class TestDuplicatesAfterARebalance:
    def test_a_process_that_joins_and_one_that_stood_still_through_it_repeat_nothing(self, flow: Flow) -> None:
        flow.send(*range(200))
        first = flow.processes.start("land", "--follow", "--share")
        second = None
        try:
            wait_for(lambda: len(flow.ids()) >= 100, "rows of the first process")
            flow.send(*range(200, 400))
            stop(first, flow.folder / ".lakeflow" / "catalog.db")
            second = flow.processes.start("land", "--follow", "--share")
            flow.send(*range(400, 500))
            wait_for(lambda: set(range(500)) <= set(flow.ids()), "the second process to land the partitions of the first")
            first.send_signal(signal.SIGCONT)
            flow.send(*range(500, 700))
            wait_for(lambda: set(range(700)) <= set(flow.ids()), "both to land the rest")
        finally:
            for process in (first, second):
                if process is not None:
                    process.send_signal(signal.SIGCONT)
                    process.terminate()
                    _, said = process.communicate(timeout=SECONDS)
                    assert process.returncode == 143, said
        assert flow.land()["read"] == 0
        assert flow.ids() == list(range(700))
        assert flow.rows("SELECT count(DISTINCT (kafka_partition, kafka_offset)) FROM rows") == [(700,)]


class TestANewProcessWithoutGroupOffsets:
    def test_it_starts_where_the_table_is_and_not_at_the_end_of_the_topic(self, flow: Flow) -> None:
        flow.send(*range(50))
        flow.land()
        flow.send(*range(50, 80))
        flow.configure(name="another")  # its group has no offsets
        assert flow.land("--share")["read"] == 30
        assert flow.ids() == list(range(80))

    def test_group_offsets_that_somebody_moved_are_not_believed(self, flow: Flow) -> None:
        flow.send(*range(50))
        flow.land()
        flow.send(*range(50, 80))
        group = f"lakeflow.holes.{TABLE}"
        mover = Consumer({"bootstrap.servers": flow.broker.bootstrap, "group.id": group})
        mover.commit(offsets=[TopicPartition(TOPIC, number, 20) for number in range(PARTITIONS)], asynchronous=False)
        mover.close()
        assert flow.land()["read"] == 30
        assert flow.ids() == list(range(80))


class TestTheLedgerOutlivesItsSnapshots:
    def test_progress_is_there_when_every_snapshot_that_told_of_it_has_expired(self, flow: Flow) -> None:
        flow.configure(more="max_snapshots = 2")
        flow.send(*range(40))
        flow.land()
        lake = flow.lake
        for number in (1001, 1002, 1003):  # commits of others, which tell nothing of the landing
            append(lake, _like(number), keep=2, name=TABLE)
        assert not [told for told in map(_facts, lake.table(TABLE).snapshots()) if "lakeflow.progress.landing" in told]
        flow.send(*range(40, 50))
        assert flow.land()["read"] == 10
        assert flow.ids() == [*range(50), 1001, 1002, 1003]

    def test_expiry_by_another_engine_takes_no_progress_away(self, flow: Flow) -> None:
        for begin in (0, 10, 20):
            flow.send(*range(begin, begin + 10))
            flow.land()
        table = flow.lake.table(TABLE)
        head = table.metadata.current_snapshot_id
        older = [snapshot.snapshot_id for snapshot in table.snapshots() if snapshot.snapshot_id != head]
        table.maintenance.expire_snapshots().by_ids(older).commit()
        flow.send(*range(30, 35))
        assert flow.land()["read"] == 5
        assert flow.ids() == list(range(35))


class TestACommitWhoseOutcomeIsNotKnown:
    @pytest.mark.parametrize("fault", [lost_answer, state_unknown_landed, state_unknown_not_landed, sent_twice])
    def test_its_rows_are_there_once(self, tmp_path: Path, fault: Any) -> None:
        catalog = FaultyCatalog(open_lake(tmp_path).catalog)
        site = Site(Lake(cast(Catalog, catalog)))
        site.add(*goods(1, 2, 3))
        site.land()
        site.add(*goods(4, 5))
        catalog.faults.append(fault)
        assert site.land().counts.written == 2
        assert not catalog.faults, "the commit met no fault"
        assert site.ids() == [1, 2, 3, 4, 5]
        assert site.land().counts.read == 0


class TestSilentStop:
    def test_a_landing_that_cannot_go_on_ends_its_process_and_status_says_why(self, flow: Flow) -> None:
        flow.send(1, 2)
        flow.broker.produce(TOPIC, [(b"k", b"{broken", 0)])
        ended = flow.fail("--follow")
        assert "error: " in ended.err
        assert "landing of bronze.events is suspended at topic 'events', partition 0" in ended.err
        (shown,) = [row for row in flow.done("status") if row["name"] == TABLE]
        assert (shown["last_run"], shown["behind"] >= 1) == ("suspended", True)
        assert "is suspended at topic 'events', partition 0" in shown["reason"]

    def test_a_catalog_that_is_away_ends_it_and_nothing_is_lost(self, flow: Flow) -> None:
        flow.send(1, 2)
        flow.configure(more='[catalog]\ntype = "rest"\nuri = "http://127.0.0.1:1"')
        ended = flow.fail()
        assert "error: the catalog did not answer" in ended.err
        assert " failed " in ended.out
        flow.configure()
        assert flow.land()["read"] == 2

    def test_of_several_landings_one_that_fails_ends_the_process(self, flow: Flow) -> None:
        other = "CREATE TABLE bronze.others (id BIGINT) WITH ('connector' = 'kafka', 'topic' = 'others');"
        flow.declare(DECLARED.format(partitioning="", options=OPTIONS) + other)
        flow.send(1, 2, 3)
        flow.broker.produce("others", [(None, b"?", 0)])
        ended = flow.fail("--follow")
        assert "landing of bronze.others is suspended" in ended.err


class TestDeadLetters:
    def test_each_bad_record_is_kept_by_itself_with_its_bytes_and_coordinates(self, flow: Flow) -> None:
        flow.declare(DECLARED.format(partitioning="", options=f"{OPTIONS}, 'on_error' = 'dead_letter'"))
        bad = [(b"\x00\xff", b"{broken", 1, 1_700_000_000_000), (None, b"\xff\xfe", 2, 1_700_000_000_001)]
        flow.send(0, 1, 2)
        flow.broker.produce(TOPIC, bad)
        flow.send(4, 5, 6)
        landed = flow.land()
        assert (landed["read"], landed["written"], landed["dead_lettered"]) == (8, 6, 2)
        columns = '"table", topic, partition, "offset", epoch_ms(timestamp), key, value, error IS NOT NULL'
        assert flow.rows(f"SELECT {columns} FROM rows ORDER BY partition", "lakeflow.dead_letters") == [
            (TABLE, TOPIC, 1, 1, 1_700_000_000_000, b"\x00\xff", b"{broken", True),
            (TABLE, TOPIC, 2, 1, 1_700_000_000_001, None, b"\xff\xfe", True),
        ]
        assert flow.ids() == [0, 1, 2, 4, 5, 6]


def _record(*fields: Any, name: str = "Event") -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": [{"name": field, "type": kind} for field, kind in fields]}


class TestNestedFieldsOnEvolution:
    def test_a_field_that_comes_deep_inside_is_a_column_with_its_values(self, flow: Flow) -> None:
        flow.declare(
            "CREATE TABLE bronze.events WITH ('connector' = 'kafka', 'topic' = 'events', 'value.format' = 'avro-registry');"
        )
        before = _record(("id", "long"), ("place", _record(("city", "string"), name="Place")))
        street = ["null", _record(("name", "string"), ("number", "int"), name="Street")]
        tags = {"type": "array", "items": "string"}
        after = _record(
            ("id", "long"), ("place", _record(("city", "string"), ("street", street), ("tags", tags), name="Place"))
        )
        self._send(flow, before, {"id": 1, "place": {"city": "Ulm"}})
        flow.land()
        self._send(flow, after, {"id": 2, "place": {"city": "Bonn", "street": {"name": "A", "number": 7}, "tags": ["x"]}})
        flow.land()
        found = flow.done("query", f"SELECT id, place FROM {TABLE} ORDER BY id")
        assert found == [
            {"id": 1, "place": {"city": "Ulm", "street": None, "tags": None}},
            {"id": 2, "place": {"city": "Bonn", "street": {"name": "A", "number": 7}, "tags": ["x"]}},
        ]

    @staticmethod
    def _send(flow: Flow, schema: dict[str, Any], *rows: dict[str, Any]) -> None:
        number = flow.registry.store.register(f"{TOPIC}-value", SchemaKind.AVRO, json.dumps(schema))
        for row in rows:
            body = io.BytesIO()
            fastavro.schemaless_writer(body, fastavro.parse_schema(schema), row)
            flow.broker.produce(TOPIC, [(None, b"\0" + number.to_bytes(4, "big") + body.getvalue(), 0)])


class TestABadPartitionSpec:
    @pytest.mark.parametrize(
        ("partitioning", "said"),
        [
            ("PARTITIONED BY (nowhere)", "nowhere"),
            ("PARTITIONED BY (day(id))", "day"),
            ("PARTITIONED BY (fortnight(id))", "fortnight"),
            ("PARTITIONED BY (bucket(0, id))", "bucket"),
        ],
    )
    def test_it_is_refused_and_no_table_is_made(self, flow: Flow, partitioning: str, said: str) -> None:
        flow.declare(DECLARED.format(partitioning=partitioning, options=OPTIONS))
        flow.send(1)
        ended = flow.fail(code=2)
        assert "error: " in ended.err
        assert said in ended.err
        assert not flow.lake.exists(TABLE), "an unpartitioned table in place of the one that was asked for"


def _facts(snapshot: Snapshot) -> dict[str, str]:
    return {} if snapshot.summary is None else snapshot.summary.additional_properties


def _like(number: int) -> pa.Table:
    """A row of the table as another writer would add it."""
    columns: Sequence[tuple[str, Any, pa.DataType]] = (
        ("id", number, pa.int64()),
        ("kafka_partition", None, pa.int32()),
        ("kafka_offset", None, pa.int64()),
    )
    return pa.table({name: pa.array([value], kind) for name, value, kind in columns})
