"""CONSTRAINTs of a table that a topic lands in: each record is held against them by itself, and goes where they say."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.integration.cli.landings import TABLE, TOPIC, Site

COLUMNS = "id INT, price DOUBLE, name STRING"


def declare(site: Site, constraints: str, options: str = "", columns: str = COLUMNS) -> None:
    site.declare(f"CREATE TABLE {TABLE} ({columns}, {constraints}) WITH ('connector' = 'kafka', 'topic' = '{TOPIC}'{options});")


def send(site: Site, *rows: dict[str, Any]) -> None:
    site.send(TOPIC, *((str(row["id"]).encode(), json.dumps(row).encode()) for row in rows))


def ids(site: Site) -> list[int]:
    return sorted(site.shop.project.table(TABLE).collect()["id"].to_list())


def asked(site: Site, query: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in site.shop("query", query, "--output", "json").out.splitlines()]


def test_each_record_goes_where_what_it_violates_says(site: Site) -> None:
    declare(
        site,
        "CONSTRAINT told EXPECT (name <> 'odd'), CONSTRAINT cheap CHECK (price < 100) ON VIOLATION DROP ROW, "
        "CONSTRAINT sold CHECK (price >= 0) ON VIOLATION DEAD LETTER",
        ", 'on_error' = 'skip'",
    )
    send(
        site,
        {"id": 1, "price": 5.0, "name": "sound"},
        {"id": 2, "price": 500.0, "name": "dropped"},
        {"id": 3, "price": -1.0, "name": "odd"},
        {"id": 4, "price": None, "name": None},
        {"id": 5, "price": 7.0, "name": "odd"},
        {"id": 6, "price": "text"},
    )
    landed = site.landed()
    assert (landed["read"], landed["written"], landed["dead_lettered"], landed["skipped"]) == (6, 3, 1, 2)
    assert ids(site) == [1, 4, 5]
    [letter] = asked(site, "SELECT kind, error FROM lakeflow.dead_letters")
    assert letter["kind"] == "expectation"
    assert letter["error"] == "it violates CONSTRAINT 'sold': price >= 0"
    found = asked(site, "SELECT expectation, violations FROM lakeflow.expectations ORDER BY expectation")
    assert [(row["expectation"], row["violations"]) for row in found] == [("cheap", 1), ("sold", 1), ("told", 2)]


def test_a_record_that_fails_stops_the_landing_with_all_before_it_landed(site: Site) -> None:
    declare(site, "CONSTRAINT sold CHECK (price >= 0)", ", 'on_error' = 'dead_letter'")
    send(site, *({"id": number, "price": 1.0} for number in range(5)), {"id": 5, "price": -1.0}, {"id": 6, "price": 1.0})
    refused = site.refused()
    assert "it violates CONSTRAINT 'sold': price >= 0" in refused.err
    assert "every record before it is in the table" in refused.err
    assert "or say ON VIOLATION DEAD LETTER or DROP ROW there" in refused.err
    assert ids(site) == [0, 1, 2, 3, 4]
    declare(site, "CONSTRAINT sold CHECK (price >= 0) ON VIOLATION DEAD LETTER", ", 'on_error' = 'dead_letter'")
    landed = site.landed()
    assert (landed["written"], landed["dead_lettered"]) == (1, 1)
    assert ids(site) == [0, 1, 2, 3, 4, 6]


def test_a_letter_is_replayed_once_the_constraint_is_mended(site: Site) -> None:
    declare(site, "CONSTRAINT sold CHECK (price > 0) ON VIOLATION DEAD LETTER")
    send(site, {"id": 1, "price": 0.0}, {"id": 2, "price": -1.0})
    assert site.landed()["dead_lettered"] == 2
    declare(site, "CONSTRAINT sold CHECK (price >= 0) ON VIOLATION DEAD LETTER")
    ran = site.shop("deadletters", "replay", TABLE)
    assert ran.code == 0, ran.err
    assert ids(site) == [1]


def test_conditions_are_of_computed_columns_and_of_what_kafka_knows_too(site: Site) -> None:
    declare(
        site,
        "CONSTRAINT whole CHECK (cents % 100 = 0) ON VIOLATION DROP ROW, "
        "CONSTRAINT placed CHECK (at_offset < 2) ON VIOLATION DROP ROW",
        columns=f"{COLUMNS}, cents AS CAST(price * 100 AS INT), at_offset BIGINT METADATA FROM 'offset' VIRTUAL",
    )
    send(site, {"id": 1, "price": 1.0}, {"id": 2, "price": 1.5}, {"id": 3, "price": 2.0})
    landed = site.landed()
    assert (landed["written"], landed["skipped"]) == (1, 2)
    assert ids(site) == [1]


def test_a_change_that_is_not_as_expected_leaves_the_row_of_its_key(site: Site) -> None:
    declare(
        site,
        "PRIMARY KEY (id) NOT ENFORCED, CONSTRAINT sold CHECK (price >= 0) ON VIOLATION DROP ROW",
        ", 'changelog.mode' = 'upsert'",
    )
    send(site, {"id": 1, "price": 3.0}, {"id": 1, "price": -3.0})
    landed = site.landed()
    assert (landed["read"], landed["written"], landed["skipped"]) == (2, 1, 1)
    assert site.shop.project.table(TABLE).collect()["price"].to_list() == [3.0]


@pytest.mark.parametrize(
    ("constraint", "message"),
    [
        ("CONSTRAINT one UNIQUE (id)", "CONSTRAINT 'one' is of several rows, and a landing sees each by itself"),
        ("CONSTRAINT known FOREIGN KEY (id) REFERENCES dim.ids (id)", "CONSTRAINT 'known' is of several rows"),
        ("CONSTRAINT many CHECK (count(*) > 3)", "CONSTRAINT 'many' is of several rows"),
        ("CONSTRAINT c CHECK (nope > 3)", "unknown column 'nope' in CONSTRAINT; valid: id, name, price"),
        ("CONSTRAINT c CHECK (name > DATE '2026-01-01' + id)", "CONSTRAINT 'c': "),
    ],
)
def test_what_a_landing_cannot_hold_is_refused(site: Site, constraint: str, message: str) -> None:
    declare(site, constraint)
    assert message in site.refused(code=2).err


def test_columns_of_the_topic_cannot_be_named(site: Site) -> None:
    site.declare(
        f"CREATE TABLE {TABLE} (CONSTRAINT c CHECK (id > 3)) WITH ('connector' = 'kafka', 'topic' = '{TOPIC}', "
        "'value.format' = 'avro-registry');"
    )
    assert "this table has those of its topic's schema; declare them" in site.refused(code=2).err
