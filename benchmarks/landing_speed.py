"""Landing JSON against the two ends of the scale: the client alone, and the loop that anybody would write first."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
from confluent_kafka import Consumer, TopicPartition
from pyiceberg.catalog import load_catalog

from benchmarks.broker import filled_broker
from benchmarks.check import stored_rows
from benchmarks.client import Read, client_settings, consume, is_end
from benchmarks.harness import Bar, Best, Result, Settings, in_child, mib, spending, thousands
from benchmarks.readings import DECLARATION, TABLE, naive_row
from lakeflow import Project
from lakeflow.landing.open import open_landing

RECORDS = 2_400_000
PARTITIONS = 20
POISON = 0.01
CLEAN, POISONED = "readings", "poisoned"
NAIVE_ROWS = 100_000

SHARE_OF_CLIENT = 0.30
TIMES_NAIVE = 4.0
SHARE_UNDER_POISON = 0.5

CLIENT = "confluent-kafka alone, all columns as lists"
UNCOLLECTED = "the same without garbage collection"
LAKEFLOW = "lakeflow, to the commit"
UNDER_POISON = f"lakeflow, {POISON:.0%} of the records broken"
NAIVE = "poll, json.loads, table.append"
FOLDERS = {LAKEFLOW: "clean", UNDER_POISON: "poisoned"}


def run(settings: Settings) -> Result:
    """All paths in turn, round by round, each in a process of its own."""
    count = settings.count(RECORDS)
    best = {name: Best() for name in (CLIENT, UNCOLLECTED, LAKEFLOW, UNDER_POISON, NAIVE)}
    with filled_broker({CLEAN: 0.0, POISONED: POISON}, count, PARTITIONS) as bootstrap:
        for round_ in range(settings.rounds):
            paths = {
                CLIENT: partial(consume, bootstrap, CLEAN, PARTITIONS, collect=True),
                UNCOLLECTED: partial(consume, bootstrap, CLEAN, PARTITIONS, collect=False),
                LAKEFLOW: partial(land, bootstrap, settings.place(f"clean-{round_}"), CLEAN, 0.0),
                UNDER_POISON: partial(land, bootstrap, settings.place(f"poisoned-{round_}"), POISONED, POISON),
                NAIVE: partial(naive, bootstrap, settings.place(f"naive-{round_}")),
            }
            for name, path in paths.items():
                done = in_child(path)
                assert done.value.records == count, f"{name}: {done.value.records} of {count} records"
                if done.value.written:
                    kept = stored_rows(settings.folder / f"{FOLDERS[name]}-{round_}" / ".lakeflow" / "warehouse", TABLE)
                    assert kept == done.value.written, f"{name}: {kept} of {done.value.written} rows"
                best[name].take(done.value.spent, done.peak_bytes)
    return _result(best, count, settings.rounds)


def _result(best: dict[str, Best], count: int, rounds: int) -> Result:
    cpu = {name: one.spent.rate(count) for name, one in best.items()}
    wall = {name: one.spent.wall_rate(count) for name, one in best.items()}
    return Result(
        title="Landing JSON: speed",
        data=(
            f"{count:,} records of about 210 bytes of JSON (8 fields, one a struct; 10 leaves, one a time) in {PARTITIONS} "
            f"partitions, zstd, from librdkafka's embedded broker in another process. A second topic holds the same with "
            f"{POISON:.0%} broken records of four kinds. Rates are rows a second of CPU of the whole process, librdkafka's "
            f"threads with it, from the opened client to the last commit; the best of {rounds} rounds."
        ),
        columns=("path", "rows / CPU-s", "CPU-s", "rows / s", "peak memory"),
        rows=tuple(
            (name, thousands(cpu[name]), f"{one.spent.cpu:.2f}", thousands(wall[name]), mib(one.peak_bytes))
            for name, one in best.items()
        ),
        bars=(
            Bar("lakeflow of the client alone, CPU", cpu[LAKEFLOW] / cpu[CLIENT], SHARE_OF_CLIENT),
            Bar("lakeflow over the naive loop, CPU", cpu[LAKEFLOW] / cpu[NAIVE], TIMES_NAIVE, unit=" x"),
            Bar(f"lakeflow with {POISON:.0%} poison of without, CPU", cpu[UNDER_POISON] / cpu[LAKEFLOW], SHARE_UNDER_POISON),
        ),
        notes=(
            f"Of the client without garbage collection, lakeflow reaches {cpu[LAKEFLOW] / cpu[UNCOLLECTED]:.2f}.",
            f"By the clock: {wall[LAKEFLOW] / wall[CLIENT]:.2f} of the client, {wall[LAKEFLOW] / wall[NAIVE]:.1f} x the loop.",
        ),
    )


def land(bootstrap: str, folder: Path, topic: str, poison: float) -> Read:
    """A landing as `lakeflow land` opens it, to the last commit; broken records go to lakeflow.dead_letters."""
    (folder / "tables").mkdir()
    (folder / "tables" / "readings.sql").write_text(DECLARATION.format(table=TABLE, topic=topic))
    (folder / "lakeflow.toml").write_text(f'[kafka]\n"bootstrap.servers" = "{bootstrap}"\n')
    project = Project.open(folder)
    spec = project.declared_tables.tables[TABLE]
    with spending() as spent:
        landing, close = open_landing(spec, project.settings, project.lake, project.commits)
        counts = landing.run().counts
        close()
    letters = round(counts.read * poison)
    assert (counts.written, counts.dead_lettered) == (counts.read - letters, letters), counts
    return Read(spent, counts.read, counts.written)


def naive(bootstrap: str, folder: Path) -> Read:
    """A record a poll, json.loads, and an append now and then."""
    catalog = load_catalog("naive", type="sql", uri=f"sqlite:///{folder}/catalog.db", warehouse=f"file://{folder}/warehouse")
    catalog.create_namespace("bronze")
    table = catalog.create_table(TABLE, NAIVE_SCHEMA)
    records, ended = 0, 0
    waiting: list[dict[str, Any]] = []
    with spending() as spent:
        consumer = Consumer(client_settings(bootstrap, "naive"))
        consumer.assign([TopicPartition(CLEAN, partition, 0) for partition in range(PARTITIONS)])
        while ended < PARTITIONS:
            message = consumer.poll(1.0)
            if message is None:
                continue
            if message.error() is not None:
                ended += is_end(message)
                continue
            waiting.append(naive_row(json.loads(message.value())))  # type: ignore[arg-type]
            records += 1
            if len(waiting) == NAIVE_ROWS:
                table.append(pa.Table.from_pylist(waiting, schema=NAIVE_SCHEMA))
                waiting = []
        if waiting:
            table.append(pa.Table.from_pylist(waiting, schema=NAIVE_SCHEMA))
        consumer.close()
    return Read(spent, records)


NAIVE_SCHEMA = pa.schema(
    {
        "reading_id": pa.int64(),
        "station": pa.string(),
        "kind": pa.string(),
        "value": pa.float64(),
        "quality": pa.int32(),
        "valid": pa.bool_(),
        "measured_at": pa.timestamp("us", "UTC"),
        "place": pa.struct({"latitude": pa.float64(), "longitude": pa.float64(), "airport": pa.string()}),
    }
)
