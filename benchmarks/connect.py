"""Landing JSON beside Kafka Connect with Iceberg's sink: one broker, one topic, one catalog, one commit interval.

Needs the real servers of tests/rig, and the jars of the sink: make rig ARGS=connect.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random

import psutil

from benchmarks import readings
from benchmarks.harness import Bar, Result, Settings, Spent, thousands
from lakeflow import Project
from lakeflow.lake.catalog import Lake, Table
from tests.rig.connect import CONTROL_TOPIC, Connect
from tests.rig.rig import Rig

COMMIT_SECONDS = 10.0
PARTITIONS = 4
AT_ONCE = 50_000
TIMES = 3.0
LOOK_SECONDS = 0.5
PATIENCE_SECONDS = 900.0
STAMP = 1_357_000_000_000
NOTE_BYTES = 800
TEXT_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Size:
    """Records of one size: how many, and the bytes of the note that each carries beside a reading."""

    name: str
    records: int
    note: int


SIZES = (Size("200 B", 1_200_000, 0), Size("1 KB", 500_000, NOTE_BYTES))


@dataclass(frozen=True, slots=True)
class Landed:
    """What it took for everything, and what for `warm_rows` of it without the start: of the sink from its first commit to its
    last, when its code was compiled; of lakeflow all rows, less the CPU time of the same command when nothing is new."""

    whole: Spent
    warm: Spent
    warm_rows: int

    @property
    def warm_rate(self) -> float:
        return self.warm.rate(self.warm_rows)


def run(settings: Settings) -> Result:
    """Both in turn, round by round, over topics of their own; the best counts for each figure."""
    rows: list[tuple[str, ...]] = []
    bars: list[Bar] = []
    unlike: list[str] = []
    with Rig() as rig:
        rig.kafka.create(CONTROL_TOPIC)
        for size in SIZES:
            count = settings.count(size.records)
            topic = f"readings{size.note}"
            rig.kafka.create(topic, PARTITIONS)
            fill(rig, topic, size, count)
            ours = [land(settings, rig, size, topic, count, round_) for round_ in range(settings.rounds)]
            theirs = [sink(settings, rig, size, topic, count, round_) for round_ in range(settings.rounds)]
            us, sinks = max(one.warm_rate for one in ours), max(one.warm_rate for one in theirs)
            our, their = (min((one.whole for one in some), key=lambda spent: spent.cpu) for some in (ours, theirs))
            rows += [
                _row(f"lakeflow land, {size.name}", our, count),
                (f"  without its start, {size.name}", thousands(us), "", ""),
                _row(f"Kafka Connect, {size.name}", their, count),
                (f"  after its first commit, {size.name}", thousands(sinks) if sinks else "in one", "", ""),
            ]
            bars.append(Bar(f"whole over whole, {size.name}, CPU", our.rate(count) / their.rate(count), TIMES, unit=" x"))
            if sinks:
                bars.append(Bar(f"without start over without, {size.name}, CPU", us / sinks, TIMES, unit=" x"))
                unlike.append(f"{our.rate(count) / sinks:.2f} x at {size.name}")
    return Result(
        title="Landing JSON: beside Kafka Connect",
        data=(
            f"Readings as JSON, alone (about 200 bytes) and with a text beside them (about 1 KB), in {PARTITIONS} partitions, "
            "uncompressed, on Apache Kafka 4.1.0, into tables of one definition in Iceberg's REST catalog on MinIO; a commit "
            f"every {COMMIT_SECONDS:g} s. CPU seconds are those of the one process, user and system. lakeflow: the command "
            "`lakeflow land`, with its start. The sink: Iceberg's 1.10.1 in a standalone worker of Kafka Connect 4.1.0 with "
            "the JVM options of Kafka's scripts and one task, from the creation of the connector, in a worker that is up, to "
            f"the commit that holds the last record. The best of {settings.rounds}."
        ),
        columns=("path", "rows / CPU-s", "CPU-s", "rows / s"),
        rows=tuple(rows),
        bars=tuple(bars),
        notes=(
            "Each table holds every record once, which is checked after each run.",
            "What a JVM compiles at first is in the sink's whole only; Python's imports are in lakeflow's whole only. "
            "lakeflow's start is the CPU time of the same command when there is nothing to land.",
            f"lakeflow with its start over the sink without its own: {', '.join(unlike) or 'the sink made one commit only'}.",
            "The sink waits for the interval before its last commit, so that its rows / s hold up to as much of waiting.",
            "offset.flush.interval.ms is 1 s: with the default, a sink that has caught up sleeps a minute and misses commits.",
        ),
    )


def _row(name: str, spent: Spent, count: int) -> tuple[str, ...]:
    return name, thousands(spent.rate(count)), f"{spent.cpu:.1f}", thousands(spent.wall_rate(count))


def fill(rig: Rig, topic: str, size: Size, count: int) -> None:
    """The same records for the same size."""
    made = values(size, count)
    for start in range(0, count, AT_ONCE):
        numbers = range(start, min(start + AT_ONCE, count))
        rig.kafka.produce(topic, [(b"%d" % (n % 10_000), next(made), n % PARTITIONS, STAMP + n) for n in numbers])


def values(size: Size, count: int) -> Iterator[bytes]:
    stations, random = readings.Stations(), Random(1)
    text = " ".join(f"{random.choice(readings.KINDS)} {random.randrange(10_000)}" for _ in range(TEXT_BYTES // 12)).encode()
    for number in range(count):
        value = stations.value(number)
        if size.note:
            start = random.randrange(len(text) - size.note)
            value = b'%s,"note":"%s"}' % (value[:-1], text[start : start + size.note])
        yield value


def declaration(size: Size, table: str, topic: str) -> str:
    """The readings' own, with the note where there is one."""
    text = readings.DECLARATION.format(table=table, topic=topic)
    if size.note:
        text = text.replace("reading_id BIGINT,", "reading_id BIGINT,\n  note STRING,")
    return text


def project(folder: Path, rig: Rig, text: str) -> Path:
    (folder / "tables").mkdir()
    (folder / "tables" / "readings.sql").write_text(text)
    catalog = "\n".join(f'"{name}" = "{value}"' for name, value in rig.catalog.options().items())
    kafka = f'"bootstrap.servers" = "{rig.kafka.bootstrap}"'
    (folder / "lakeflow.toml").write_text(f"[catalog]\n{catalog}\n[kafka]\n{kafka}\n[run]\ncommit_seconds = {COMMIT_SECONDS}\n")
    return folder


def land(settings: Settings, rig: Rig, size: Size, topic: str, count: int, round_: int) -> Landed:
    """The command, from its start to its end; and once more, when there is nothing to land."""
    table = f"bronze.landed{size.note}_{round_}"
    folder = project(settings.place(table), rig, declaration(size, table, topic))
    whole, idle = _command(folder), _command(folder)
    check(rig.catalog.options(), table, count)
    return Landed(whole, _between(idle, whole), count)


def _command(folder: Path) -> Spent:
    begin = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "lakeflow", "land", "--project", str(folder)], stdout=subprocess.DEVNULL)
    _, code, usage = os.wait4(process.pid, 0)
    assert code == 0, f"lakeflow land ended with {os.waitstatus_to_exitcode(code)}"
    return Spent(time.perf_counter() - begin, usage.ru_utime + usage.ru_stime)


def sink(settings: Settings, rig: Rig, size: Size, topic: str, count: int, round_: int) -> Landed:
    """The table is made as lakeflow makes it; then a worker of its own, and the connector."""
    table = f"bronze.sunk{size.note}_{round_}"
    catalog = rig.catalog.options()
    place = settings.place(table)
    spec = Project.open(project(place, rig, declaration(size, table, topic))).declared_tables.tables[table]
    lake = Lake.open(catalog)
    lake.ensure(spec)
    worker = Connect(place, rig.kafka.bootstrap)
    worker.start()
    try:
        sunk = _watched(worker, lambda: worker.sink(topic, table, catalog, COMMIT_SECONDS), lake, table, count)
    finally:
        worker.stop()
    check(catalog, table, count)
    return sunk


def _watched(worker: Connect, begin: Callable[[], None], lake: Lake, table: str, count: int) -> Landed:
    """From `begin` until the table holds `count` rows. Each change of the table is a commit."""
    assert worker.process is not None
    watched = psutil.Process(worker.process.pid)
    start, first = _now(watched), None
    begin()
    held = first_rows = 0
    while held < count:
        time.sleep(LOOK_SECONDS)
        assert (fault := worker.failure()) is None, fault
        assert time.perf_counter() - start.wall < PATIENCE_SECONDS, f"the sink has landed {held} of {count} records"
        held = rows_of(lake.table(table))
        if held and first is None:
            first, first_rows = _now(watched), held
    assert first is not None
    end = _now(watched)
    return Landed(_between(start, end), _between(first, end), held - first_rows)


def rows_of(table: Table) -> int:
    """By the summary of the current snapshot."""
    snapshot = table.current_snapshot()
    return 0 if snapshot is None or snapshot.summary is None else int(snapshot.summary["total-records"] or 0)


def _now(process: psutil.Process) -> Spent:
    times = process.cpu_times()
    return Spent(time.perf_counter(), times.user + times.system)


def _between(start: Spent, end: Spent) -> Spent:
    return Spent(end.wall - start.wall, end.cpu - start.cpu)


def check(catalog: Mapping[str, str], table: str, count: int) -> None:
    """Every record is there, once."""
    ids = Lake.open(catalog).table(table).scan(selected_fields=("reading_id",)).to_arrow()["reading_id"]
    assert (len(ids), len(ids.unique())) == (count, count), (
        f"{table}: {len(ids)} rows, {len(ids.unique())} readings, of {count}"
    )
