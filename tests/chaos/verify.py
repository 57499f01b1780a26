"""What must hold in the end, read by the reader that shares no code with what wrote it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from tests.chaos import records as expected
from tests.chaos.project import JOB_TABLES, RUNS, Project
from tests.chaos.records import Records, Topic
from tests.independent_reader import StoredTable, multiset, read_table

SHOWN = 5
DEAD_LETTER_COLUMNS = ("table", "topic", "partition", "offset", "timestamp", "key", "value")


def verify(project: Project, records: Records, *, whole_history: bool) -> None:
    """Raises AssertionError, naming the table and some of the rows, where a row is missing, is there twice or is wrong.

    `whole_history`: no snapshot has expired, so what the commits say is added up too.
    """
    tables = {name: read_table(project.catalog, name) for name in ("bronze.orders", "bronze.pings", RUNS, *JOB_TABLES)}
    tables["lakeflow.dead_letters"] = read_table(project.catalog, "lakeflow.dead_letters")
    check_rows(tables["bronze.orders"], expected.landed_orders(records.orders))
    check_rows(tables["lakeflow.dead_letters"], expected.dead_orders(records.orders), DEAD_LETTER_COLUMNS)
    check_rows(tables["bronze.pings"], expected.landed_pings(records.pings))
    check_rows(tables["gold.enriched"], expected.enriched_orders(records.orders))
    check_rows(tables["gold.large"], expected.large_orders(records.orders))
    check_rows(tables["gold.latest"], expected.latest_orders(records.orders))
    check_rows(tables["gold.pings"], expected.landed_pings(records.pings))
    check_progress(tables["bronze.orders"], "orders", records.orders)
    check_progress(tables["bronze.pings"], "pings", records.pings)
    check_runs(tables[RUNS].rows().to_pylist(), records)
    if whole_history:
        check_history(tables["bronze.orders"], records.orders, "dead-lettered")
        check_history(tables["bronze.pings"], records.pings, "skipped")


def check_rows(table: StoredTable, wanted: Counter[Hashable], columns: Sequence[str] | None = None) -> None:
    """The rows of the table as a multiset are exactly those wanted."""
    rows = table.rows()
    found = multiset(rows if columns is None else rows.select(columns))
    if found == wanted:
        return
    missing, added = wanted - found, found - wanted
    raise AssertionError(
        f"{table.name} holds {found.total():,} rows, {wanted.total():,} were expected: {missing.total():,} are missing, "
        f"{added.total():,} too many\nmissing: {list(missing.items())[:SHOWN]}\ntoo many: {list(added.items())[:SHOWN]}"
    )


def check_progress(table: StoredTable, topic_name: str, topic: Topic) -> None:
    """The head's summary and the property both show the end of every partition."""
    assert table.head is not None
    ends = {topic_name: {str(partition): end for partition, end in sorted(topic.ends.items())}}
    key = "lakeflow.progress.landing"
    assert json.loads(table.head.summary[key]) == ends, f"{table.name}: summary {table.head.summary[key]}, ends {ends}"
    assert json.loads(table.properties[key]) == ends, f"{table.name}: property {table.properties[key]}, ends {ends}"


def check_history(table: StoredTable, topic: Topic, rejects: str) -> None:
    """The commits together have read each record once, and progress never went back."""
    landed = [snapshot.summary for snapshot in table.snapshots if "lakeflow.records-read" in snapshot.summary]

    def total(fact: str) -> int:
        return sum(int(summary[f"lakeflow.{fact}"]) for summary in landed)

    sums = (total("records-read"), total("rows-written"), total(f"rows-{rejects}"))
    assert sums == (len(topic.records), len(topic.good), len(topic.bad)), f"{table.name}: read, written, {rejects}: {sums}"
    seen: Counter[str] = Counter()
    for summary in landed:
        [offsets] = json.loads(summary["lakeflow.progress.landing"]).values()
        assert all(offsets[part] >= offset for part, offset in seen.items()), f"{table.name} went back: {seen} -> {offsets}"
        seen = Counter(offsets)


def check_runs(runs: Sequence[Mapping[str, Any]], records: Records) -> None:
    """What runs say of themselves adds up, and no commit is claimed by two. (A killed run says nothing.)"""
    claimed: Counter[int] = Counter()
    for run in runs:
        known = run["written"] + run["dead_lettered"] + run["skipped"] + run["filtered"]
        assert run["kind"] not in ("land", "job") or run["read"] == known, f"a run does not add up: {run}"
        assert run["status"] in ("done", "empty", "stopped") or "another process" in run["error"], f"a run failed: {run}"
        claimed.update(run["snapshot_ids"] or ())
    assert not [snapshot for snapshot, times in claimed.items() if times > 1], "two runs claim the same commit"
    for table, topic in (("bronze.orders", records.orders), ("bronze.pings", records.pings)):
        read = sum(run["read"] for run in runs if run["kind"] == "land" and run["table"] == table)
        assert read <= len(topic.records), f"runs of {table} claim {read} records, the topic holds {len(topic.records)}"
