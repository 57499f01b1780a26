"""The memory of a landing does not depend on how much the topic holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.check import stored_rows
from benchmarks.harness import GIB, Bar, Result, Settings, Spent, in_child, mib, spending, thousands
from benchmarks.projects import WAREHOUSE, landing_of, project_in
from benchmarks.readings import DECLARATION, TABLE, Stations
from lakeflow.testing.source import Generated, ListSource, Row
from lakeflow.topics.prefetch import Prefetching

RECORDS = 10_000_000
PARTITIONS = 4
TOPIC = "readings"
LIMIT_GIB = 1.5
GROWTH = 1.1
"""How much more than a tenth of the records all of them may hold, so that the memory counts as flat."""


@dataclass(frozen=True, slots=True)
class Landed:
    """What a landing took, and how many rows and commits it made."""

    spent: Spent
    rows: int
    commits: int


def run(settings: Settings) -> Result:
    """A tenth of the records and all of them, each in a process of its own."""
    rows = []
    peaks = []
    for count in (settings.count(RECORDS // 10), settings.count(RECORDS)):
        folder = settings.place(str(count))
        done = in_child(land, folder, count)
        stored, landed = stored_rows(folder / WAREHOUSE, TABLE), done.value
        assert landed.rows == stored == count, f"{stored} of {count} rows are stored, {landed.rows} were told of"
        peaks.append(done.peak_bytes)
        rate = thousands(landed.spent.wall_rate(count))
        rows.append((f"{count:,} records", f"{stored:,}", f"{landed.commits}", rate, mib(done.peak_bytes)))
    return Result(
        title="Landing JSON: memory",
        data=(
            f"Records of about 210 bytes from a source that makes them as they are read, in {PARTITIONS} partitions, polled "
            "ahead and landed with the settings that a project has by default. Rows are counted by DuckDB. The time that the "
            "source takes to make the records is in the rate."
        ),
        columns=("landing", "rows stored", "commits", "rows / s", "peak memory"),
        rows=tuple(rows),
        bars=(
            Bar("peak memory", max(peaks) / GIB, LIMIT_GIB, at_least=False, unit=" GiB"),
            Bar("peak memory of all over that of a tenth", peaks[1] / peaks[0], GROWTH, at_least=False, unit=" x"),
        ),
    )


def land(folder: Path, count: int) -> Landed:
    """Land `count` generated records."""
    project = project_in(folder, {"tables/readings.sql": DECLARATION.format(table=TABLE, topic=TOPIC)})
    stations = Stations()

    def make(offset: int) -> Row:
        return b"%d" % (offset % 10_000), stations.value(offset), 1_356_998_400_000 + offset

    sizes = [count // PARTITIONS + (number < count % PARTITIONS) for number in range(PARTITIONS)]
    source = ListSource({(TOPIC, number): Generated(size, make) for number, size in enumerate(sizes)})
    with spending() as spent:
        ahead = Prefetching(source)
        landed = landing_of(project, TABLE, ahead).run()
        ahead.close()
    return Landed(spent, landed.counts.written, len(landed.snapshots))
