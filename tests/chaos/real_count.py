"""What must hold in the end, by the records that a plain consumer finds committed and by DuckDB's reading of the tables."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence

from lakeflow.lake.catalog import Lake, Table
from tests.chaos.real_producers import Held
from tests.chaos.real_project import ACCOUNTS, APPENDED, KEYED, LETTERS, TOPICS
from tests.independent_reader import multiset
from tests.rig.duck import DuckDB

SHOWN = 5
Ends = Mapping[tuple[str, int], int]


def verify(lake: Lake, duckdb: DuckDB, records: Sequence[Held], ends: Ends) -> dict[str, int]:
    """What was counted. Raises AssertionError, with some of the rows, where a row is missing, is there twice or is wrong."""
    appended, keyed, letters = lake.table(APPENDED), lake.table(KEYED), lake.table(LETTERS)
    wanted = expected_events(records)
    check(APPENDED, read(duckdb, appended, "kafka_topic, kafka_partition, kafka_offset, kafka_key, id, n, kind"), wanted)
    accounts = expected_accounts(records)
    check(KEYED, read(duckdb, keyed, "account, id, n, kafka_partition, kafka_offset"), accounts)
    dead = expected_letters(records)
    check(LETTERS, read(duckdb, letters, '"table", topic, "partition", "offset", key, value'), dead)
    check_progress(appended, ends, TOPICS)
    check_progress(keyed, ends, (ACCOUNTS,))
    return {
        "committed records": len(records),
        f"  rows in {APPENDED}, each once": wanted.total(),
        f"  rows in {KEYED}, the last of each key": accounts.total(),
        f"  letters in {LETTERS}, each once": dead.total(),
    }


def read(duckdb: DuckDB, table: Table, columns: str) -> Counter[Hashable]:
    return multiset(duckdb.rows(table, f"SELECT {columns} FROM rows"))


def expected_events(records: Iterable[Held]) -> Counter[Hashable]:
    """Every record of both topics that has a value which is a row."""
    found = ((record, record.row()) for record in records if record.value is not None and not record.is_poison)
    return Counter((*record.place, record.key, row["id"], row["n"], row.get("kind")) for record, row in found)


def expected_accounts(records: Iterable[Held]) -> Counter[Hashable]:
    """The fold of one topic by key, in the order of offsets: all records of a key are in one partition."""
    held: dict[str, tuple[Hashable, ...]] = {}
    for record in sorted(records, key=lambda record: record.place):
        if record.topic != ACCOUNTS or is_dead_account(record):
            continue
        if record.value is None:
            held.pop(json.loads(record.key or b"")["account"], None)
        else:
            row = record.row()
            held[row["account"]] = (row["account"], row["id"], row["n"], record.partition, record.offset)
    return Counter(held.values())


def expected_letters(records: Iterable[Held]) -> Counter[Hashable]:
    """Every poisoned record once a table that reads its topic."""
    letters: Counter[Hashable] = Counter()
    for record in records:
        content = (*record.place, record.key, record.value)
        if record.value is None or record.is_poison:
            letters[APPENDED, *content] += 1
        if record.topic == ACCOUNTS and is_dead_account(record):
            letters[KEYED, *content] += 1
    return letters


def is_dead_account(record: Held) -> bool:
    """A value that is no row; without a value, a key that is none."""
    return record.is_poison or (record.value is None and not (record.key or b"").startswith(b"{"))


def check(name: str, found: Counter[Hashable], wanted: Counter[Hashable]) -> None:
    if found == wanted:
        return
    missing, added = wanted - found, found - wanted
    raise AssertionError(
        f"{name} holds {found.total():,} rows, {wanted.total():,} were expected: {missing.total():,} are missing, "
        f"{added.total():,} too many\nmissing: {sorted(map(str, missing))[:SHOWN]}\ntoo many: {sorted(map(str, added))[:SHOWN]}"
    )


def check_progress(table: Table, ends: Ends, topics: Sequence[str]) -> None:
    """The table says of every partition that it was read to its end."""
    shown = json.loads(table.properties["lakeflow.progress.landing"])
    found = {(topic, int(partition)): offset for topic in topics for partition, offset in shown[topic].items()}
    assert found == {place: end for place, end in ends.items() if place[0] in topics}, f"{table.name()}: {found}, ends {ends}"
