"""What the demo sends: sound records all land, broken ones all are rejected, and none gets lost in the cutting."""

from __future__ import annotations

import json
from collections import Counter

import polars as pl
import pytest
from waves import (
    DATA,
    DIMENSIONS,
    Record,
    as_json,
    broken_records,
    dimension_records,
    doc_records,
    flight_records,
    halves,
    strewn,
)

from lakeflow.declare import TableSpec
from lakeflow.sql.parse import parse_declarations
from lakeflow.sql.statements import CreateTable
from lakeflow.topics.formats import Opening, open_format
from tests.unit.examples.conftest import REPOSITORY


@pytest.fixture(scope="module")
def flights() -> pl.DataFrame:
    return pl.read_parquet(DATA / "flights.parquet")


@pytest.fixture(scope="module")
def tables() -> dict[str, TableSpec]:
    """The declared tables by topic."""
    found = [one for path in (REPOSITORY / "tables").glob("*.sql") for one in parse_declarations(path.read_text(), path)]
    return {
        one.table.options["topic"]: one.table for one in found if isinstance(one, CreateTable) and "topic" in one.table.options
    }


def test_every_flight_fits_the_declared_table_and_comes_back_as_it_was(
    flights: pl.DataFrame, tables: dict[str, TableSpec]
) -> None:
    decoded = open_format("json", Opening(tables["flights"].schema, {})).decode([value for _, value in flight_records(flights)])
    assert decoded.rejects == ()
    assert pl.DataFrame(decoded.rows).equals(flights)


@pytest.mark.parametrize("topic", DIMENSIONS)
def test_every_dimension_fits_its_declared_table(topic: str, tables: dict[str, TableSpec]) -> None:
    decoded = open_format("json", Opening(tables[topic].schema, {})).decode([value for _, value in dimension_records(topic)])
    assert decoded.rejects == ()
    assert pl.DataFrame(decoded.rows).equals(pl.read_parquet(DATA / f"{topic}.parquet"))


def test_each_broken_record_is_rejected_and_only_those(flights: pl.DataFrame, tables: dict[str, TableSpec]) -> None:
    sound = flight_records(flights.head(100))
    broken = list(broken_records(sound[0][1] or b"").values())
    sent = strewn(sound, broken)
    decoded = open_format("json", Opening(tables["flights"].schema, {})).decode([value for _, value in sent])
    assert [sent[reject.index] for reject in decoded.rejects] == broken
    assert decoded.rows.num_rows == 100


def test_the_kinds_of_broken_records_differ(flights: pl.DataFrame) -> None:
    sound = as_json(flights.head(1))[0]
    values = [value for _, value in broken_records(sound).values()]
    assert len({*values, sound}) == len(values) + 1 == 6


def test_halves_hold_each_flight_once(flights: pl.DataFrame) -> None:
    first, second = halves(flights)
    assert pl.concat([first, second]).equals(flights)
    assert first["day"].max() == 15
    assert second["day"].min() == 16


@pytest.mark.parametrize(("records", "broken"), [(0, 0), (0, 3), (1, 3), (10, 3), (11, 1), (7, 0)])
def test_strewing_keeps_every_record_in_order(records: int, broken: int) -> None:
    sound: list[Record] = [(b"s", str(i).encode()) for i in range(records)]
    wrong: list[Record] = [(b"w", str(i).encode()) for i in range(broken)]
    mixed = strewn(sound, wrong)
    assert [one for one in mixed if one[0] == b"s"] == sound
    assert [one for one in mixed if one[0] == b"w"] == wrong


def test_strewing_spreads() -> None:
    mixed = strewn([(b"s", b"")] * 99, [(b"w", b"")] * 9)
    assert Counter(mixed[: len(mixed) // 2])[(b"w", b"")] in (4, 5)


def test_nulls_and_times_are_typed_json() -> None:
    frame = pl.DataFrame({"n": [None, 3], "t": ["2013-01-01T10:00:00", None]}, schema={"n": pl.Int32, "t": pl.String})
    written = as_json(frame.with_columns(pl.col("t").str.to_datetime(time_zone="UTC")))
    assert list(map(json.loads, written)) == [{"n": None, "t": "2013-01-01T10:00:00Z"}, {"n": 3, "t": None}]


def test_doc_records_are_keyed_by_their_id() -> None:
    line = b'{"doc_id":"json.dumps","text":"x"}'
    assert doc_records([line, b"", b"\n"]) == [(b"json.dumps", line)]
