"""`lakeflow land` of Debezium's change logs: the table ends as the source's, however the topic is cut into commits."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests.integration.cli.change_logs import (
    LOGS,
    TABLE,
    TOPIC,
    Avro,
    Event,
    Log,
    PlainJson,
    created,
    deleted,
    moved,
    person,
    read,
    table_after,
    truncated,
    updated,
    written,
)
from tests.integration.cli.landings import Site

COLUMNS = "id INT NOT NULL, name STRING NOT NULL, email STRING"
ANN, BOB, CYN, DAN = person(1, "Ann", "a@x"), person(2, "Bob"), person(3, "Cyn", "c@x"), person(4, "Dan")
HISTORY = [
    *read(ANN), *read(BOB), *read(CYN),
    *created(DAN), *updated(person(2, "Bob", "b@x"), BOB),
    *deleted(CYN),
    *moved(DAN, person(5, "Dan", "d@x")),
    *updated(person(1, "Anne")), *updated(person(1, "Anna", "a@y")),
    *deleted(person(9, "nobody")),
    *created(CYN), *deleted(CYN, full=False),
]  # fmt: skip


def declared(log: Log, more: str = "", columns: str | None = None) -> str:
    """The table by key; with the columns of the log's schema where it has one and none are given."""
    columns = columns if columns is not None else COLUMNS if log.needs_columns else ""
    listed = f"{columns}, PRIMARY KEY (id) NOT ENFORCED" if columns else "PRIMARY KEY (id) NOT ENFORCED"
    return f"CREATE TABLE {TABLE} ({listed}) WITH ('connector' = 'kafka', 'topic' = '{TOPIC}', {log.options}{more});"


def people(site: Site) -> list[tuple[Any, ...]]:
    return site.rows(TABLE, "SELECT id, name, email FROM rows ORDER BY ALL")


@pytest.fixture(params=LOGS.values(), ids=list(LOGS))
def log(request: pytest.FixtureRequest) -> Log:
    found: Log = request.param
    return found


@pytest.mark.parametrize(("most", "commits"), [(1, len(HISTORY)), (2, (len(HISTORY) + 1) // 2), (1000, 1)])
def test_the_table_ends_as_the_sources_however_it_is_cut(site: Site, log: Log, most: int, commits: int) -> None:
    site.declare(declared(log, f", 'commit.max-rows' = '{most}'"))
    site.send(TOPIC, *written(log, site, HISTORY))
    result = site.landed()
    tombstones = sum(event.op is None for event in HISTORY)
    assert (result["read"], result["filtered"], result["commits"]) == (len(HISTORY), tombstones, commits)
    assert people(site) == table_after(HISTORY) == [(1, "Anna", "a@y"), (2, "Bob", "b@x"), (5, "Dan", "d@x")]


def test_with_declared_columns_it_is_the_same(site: Site, log: Log) -> None:
    site.declare(declared(log, ", 'key.format' = 'json', 'commit.max-rows' = '4'", COLUMNS))
    site.send(TOPIC, *written(log, site, HISTORY))
    site.landed()
    assert people(site) == table_after(HISTORY)


def test_a_truncate_empties_the_table_of_what_came_before_it(site: Site, log: Log) -> None:
    site.declare(declared(log))
    first = [*read(ANN), *created(BOB), *truncated(), *created(CYN)]
    site.send(TOPIC, *written(log, site, first))
    site.landed()
    assert people(site) == [(3, "Cyn", "c@x")]
    second = [*updated(person(3, "Cynthia")), *truncated(), *created(DAN), *truncated(), *created(BOB)]
    site.send(TOPIC, *written(log, site, second))
    site.landed()
    assert people(site) == [(2, "Bob", None)]
    site.send(TOPIC, *written(log, site, truncated()))
    site.landed()
    assert people(site) == []


def history(seed: int, count: int) -> list[Event]:
    """Changes of any kind of six people, as a database would log them."""
    chance = random.Random(seed)
    rows: dict[int, dict[str, Any]] = {}
    events: list[Event] = []
    for turn in range(count):
        number = chance.randrange(1, 7)
        new = person(number, f"n{turn}", chance.choice([None, f"{turn}@x"]))
        full = chance.random() < 0.5
        if chance.random() < 0.06:
            events += truncated()
            rows.clear()
        elif number not in rows:
            events += chance.choice([created, read])(new)
            rows[number] = new
        elif chance.random() < 0.35:
            events += deleted(rows.pop(number), full=full)
        elif chance.random() < 0.3 and (free := [other for other in range(1, 7) if other not in rows]):
            events += moved(rows.pop(number), new | {"id": free[0]}, full=full)
            rows[free[0]] = new | {"id": free[0]}
        else:
            events += updated(new, rows[number] if full else None)
            rows[number] = new
    return events


@pytest.mark.parametrize("seed", range(3))
def test_any_history_cut_anyhow_ends_in_the_same_table(site: Site, seed: int) -> None:
    log, events = PlainJson(), history(seed, 30)
    assert len({event.op for event in events}) >= 5
    tables = "".join(
        declared(log, f", 'commit.max-rows' = '{most}'").replace(TABLE, f"{TABLE}_by_{most}") for most in (1, 2, 7, 1000)
    )
    site.declare(tables)
    site.send(TOPIC, *written(log, site, events))
    assert len(site.land()) == 4
    for most in (1, 2, 7, 1000):
        found = site.rows(f"{TABLE}_by_{most}", "SELECT id, name, email FROM rows ORDER BY ALL")
        assert found == table_after(events), f"cut into commits of {most}"


def test_a_delete_that_knows_the_key_alone_needs_no_other_column(site: Site, log: Log) -> None:
    site.declare(declared(log, columns=COLUMNS))
    site.send(TOPIC, *written(log, site, [*read(ANN), *read(BOB), *deleted(ANN, full=False)]))
    site.landed()
    assert people(site) == [(2, "Bob", None)]


def test_a_delete_that_does_not_know_its_row_is_told_with_what_to_set(site: Site, log: Log) -> None:
    site.declare(declared(log))
    site.send(TOPIC, *written(log, site, [*read(ANN), Event("d"), *read(BOB)]))
    ran = site.refused()
    assert f"suspended at topic '{TOPIC}', partition 0, offset 1" in ran.err
    assert "REPLICA IDENTITY" in ran.err
    assert people(site) == [(1, "Ann", "a@x")]


def test_a_table_that_grows_keeps_every_change_with_what_the_envelope_says(site: Site, log: Log) -> None:
    columns = f"({COLUMNS}) " if log.needs_columns else ""
    site.declare(
        f"CREATE TABLE {TABLE} {columns}WITH ('connector' = 'kafka', 'topic' = '{TOPIC}', {log.options}, "
        "'debezium.columns' = 'op, ts, source.lsn, transaction.id', 'metadata.columns' = 'offset', "
        "'changelog.mode' = 'append');"
    )
    site.send(TOPIC, *written(log, site, [*read(ANN), *updated(person(1, "Anne"), ANN), *deleted(person(1, "Anne"))]))
    result = site.landed()
    assert (result["written"], result["filtered"]) == (3, 1)
    found = site.rows(
        TABLE,
        "SELECT id, name, debezium_op, epoch_ms(debezium_ts), debezium_source_lsn::INT, debezium_transaction_id, kafka_offset "
        "FROM rows ORDER BY kafka_offset",
    )
    assert found == [
        (1, "Ann", "r", 1000, 0, None, 0),
        (1, "Anne", "u", 1001, 1, None, 1),
        (1, "Anne", "d", 1002, 2, None, 2),
    ]


def test_a_truncate_has_no_place_in_a_table_that_grows(site: Site) -> None:
    log = PlainJson()
    site.declare(
        f"CREATE TABLE {TABLE} ({COLUMNS}) WITH ('connector' = 'kafka', 'topic' = '{TOPIC}', {log.options}, "
        "'on_error' = 'dead_letter', 'changelog.mode' = 'append');"
    )
    site.send(TOPIC, *written(log, site, [*read(ANN), *truncated(), *read(BOB)]))
    assert site.landed()["written"] == 2
    assert site.letters() == [(1, "misfit")]


def test_a_column_that_the_source_adds_or_widens_comes_while_rows_change(site: Site) -> None:
    site.declare(declared(Avro()))
    first, second = Avro(), Avro(("id", "long"), ("name", "string"), ("email", ["null", "string"]), ("age", ["null", "int"]))
    site.send(TOPIC, *written(first, site, [*read(ANN), *read(BOB), *read(CYN)]))
    site.landed()
    changed = [*updated(person(2, "Bob", "b@x") | {"age": 40}), *deleted(CYN), *created(person(1 << 40, "Eve") | {"age": None})]
    site.send(TOPIC, *written(first, site, updated(person(1, "Anne"))), *written(second, site, changed, 10))
    site.send(TOPIC, *written(first, site, updated(person(3, "Cyn again"))))
    site.landed()
    assert site.rows(TABLE, "SELECT id, name, email, age FROM rows ORDER BY ALL") == [
        (1, "Anne", None, None),
        (2, "Bob", "b@x", 40),
        (3, "Cyn again", None, None),
        (1 << 40, "Eve", None, None),
    ]


def test_a_change_log_says_by_what_it_is_kept(site: Site) -> None:
    log = PlainJson()
    site.declare(f"CREATE TABLE {TABLE} ({COLUMNS}) WITH ('connector' = 'kafka', 'topic' = '{TOPIC}', {log.options});")
    ran = site.shop("land", TABLE)
    assert ran.code == 2
    assert "is a change log, and the table has no PRIMARY KEY" in ran.err
