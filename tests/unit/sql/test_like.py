"""CREATE TABLE .. LIKE: how it is read, and what is taken over."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from lakeflow.declare import PartitionField, TableSpec
from lakeflow.errors import UsageError
from lakeflow.sql.describe import describe
from lakeflow.sql.parse import parse_declarations
from lakeflow.sql.parse_like import likened
from lakeflow.sql.statements import CreateTable, Kept, Like

BASE = """
CREATE TABLE bronze.a (
  id BIGINT, at TIMESTAMP_LTZ(6), `offset` BIGINT METADATA,
  PRIMARY KEY (id) NOT ENFORCED,
  WATERMARK FOR at AS at - INTERVAL '5' MINUTE
) COMMENT 'a' PARTITIONED BY (day(at)) WITH ('connector' = 'kafka', 'topic' = 'a', 'value.format' = 'json');
"""


def statements(text: str) -> list[CreateTable]:
    return [one for one in parse_declarations(text, Path("tables/x.sql")) if isinstance(one, CreateTable)]


def made(text: str) -> TableSpec:
    return likened(statements(BASE + text))["bronze.b"]


def refusal(text: str) -> UsageError:
    with pytest.raises(UsageError) as raised:
        made(text)
    return raised.value


def test_all_is_taken_over_and_options_are_said_anew() -> None:
    table = made("CREATE TABLE bronze.b (extra STRING) COMMENT 'b' WITH ('topic' = 'b') LIKE bronze.a")
    base = statements(BASE)[0].table
    assert table.schema.names == ["id", "at", "extra"]
    assert [field.nullable for field in table.schema] == [False, True, True]
    assert (table.primary_key, table.partitioning, table.watermark) == (base.primary_key, base.partitioning, base.watermark)
    assert table.metadata == base.metadata
    assert table.options == {"connector": "kafka", "topic": "b", "value.format": "json"}
    assert table.comment == "b"


def test_nothing_but_columns_is_taken_over() -> None:
    table = made("CREATE TABLE bronze.b PARTITIONED BY (id) LIKE bronze.a (EXCLUDING ALL)")
    assert table.schema.names == ["id", "at"]
    assert (table.primary_key, table.watermark, table.metadata, table.options) == ((), None, (), {})
    assert table.partitioning == (PartitionField("id"),)
    assert table.schema.field("id") == pa.field("id", pa.int64(), nullable=False)


def test_a_part_that_is_named_goes_before_all() -> None:
    table = made("CREATE TABLE bronze.b LIKE bronze.a (EXCLUDING ALL INCLUDING WATERMARKS INCLUDING CONSTRAINTS)")
    assert table.watermark is not None
    assert table.primary_key == ("id",)
    assert table.options == {}


def test_tables_are_like_each_other_in_a_row_and_in_any_order() -> None:
    text = "CREATE TABLE x.c (c INT) LIKE bronze.b; CREATE TABLE bronze.b (b INT) LIKE bronze.a;"
    assert likened(statements(text + BASE))["x.c"].schema.names == ["id", "at", "b", "c"]


@pytest.mark.parametrize(
    ("text", "like"),
    [
        ("LIKE bronze.a", Like("bronze.a")),
        ("LIKE lakeflow.bronze.a ()", Like("bronze.a")),
        ("LIKE bronze.a (EXCLUDING OPTIONS)", Like("bronze.a", frozenset(Kept) - {Kept.OPTIONS}, frozenset())),
        ("LIKE bronze.a (INCLUDING OPTIONS)", Like("bronze.a", frozenset(Kept), frozenset())),
        (
            "LIKE bronze.a (OVERWRITING ALL)",
            Like("bronze.a", frozenset(Kept), frozenset({Kept.METADATA, Kept.OPTIONS, Kept.WATERMARKS})),
        ),
        ("LIKE bronze.a (EXCLUDING ALL)", Like("bronze.a", frozenset(), frozenset())),
    ],
)
def test_like_is_read_and_comes_back_out_of_its_text(text: str, like: Like) -> None:
    [statement] = statements(f"CREATE TABLE bronze.b (x INT) {text}")
    assert statement.like == like
    [again] = statements(describe(statement))
    assert again.like == like


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("CREATE TABLE bronze.b (ID INT) LIKE bronze.a", "declares column 'ID', which bronze.a has as 'id' already"),
        ("CREATE TABLE bronze.b PARTITIONED BY (id) LIKE bronze.a", "says anew what it takes over: PARTITIONS"),
        ("CREATE TABLE bronze.b WITH ('topic' = 'b') LIKE bronze.a (INCLUDING ALL INCLUDING OPTIONS)", "takes over: OPTIONS"),
        ("CREATE TABLE bronze.b (x INT, PRIMARY KEY (x) NOT ENFORCED) LIKE bronze.a", "takes over: CONSTRAINTS"),
        ("CREATE TABLE bronze.b (`offset` BIGINT METADATA) LIKE bronze.a", "declares 'offset' anew"),
        ("CREATE TABLE bronze.b LIKE bronze.a (EXCLUDING OPTIONS)", "takes over column 'offset', METADATA of a record"),
        (
            "CREATE TABLE bronze.b PARTITIONED BY (nowhere) LIKE bronze.a (EXCLUDING PARTITIONS)",
            "unknown column in PARTITIONED BY",
        ),
        (
            "CREATE TABLE bronze.b LIKE bronze.z",
            "unknown table, which bronze.b (tables/x.sql:7) is LIKE: 'bronze.z'; did you mean",
        ),
        ("CREATE TABLE bronze.b LIKE bronze.b", "tables are LIKE each other: bronze.b -> bronze.b"),
        ("CREATE TABLE bronze.b LIKE x.c; CREATE TABLE x.c LIKE bronze.b", "LIKE each other: bronze.b -> x.c -> bronze.b"),
        (
            "CREATE TABLE bronze.b LIKE bronze.a (EXCLUDE ALL)",
            "x.sql:7:38: expected how a part is taken over, or ')', found 'EXCLUDE'",
        ),
        ("CREATE TABLE bronze.b LIKE bronze.a (EXCLUDING OPTION)", "found 'OPTION'; did you mean 'OPTIONS'?"),
        ("CREATE TABLE bronze.b LIKE bronze.a (OVERWRITING PARTITIONS)", "expected what is taken over after OVERWRITING"),
        ("CREATE TABLE bronze.b LIKE bronze.a (EXCLUDING ALL INCLUDING ALL)", "'ALL' is there twice"),
        ("CREATE TABLE bronze.b LIKE bronze.a WITH ('a' = 'b') LIKE bronze.a", "LIKE is there twice"),
        ("CREATE TABLE bronze.b LIKE bronze.a AS SELECT 1", "is LIKE another and has a query; valid: one of them"),
    ],
)
def test_what_cannot_be_taken_over_is_refused(text: str, message: str) -> None:
    assert message in refusal(text).message


def test_options_of_another_connector_are_no_columns() -> None:
    [base] = statements("CREATE TABLE x.a WITH ('connector' = 'kafka')")
    [like] = statements("CREATE TABLE x.b LIKE x.a (EXCLUDING OPTIONS)")
    with pytest.raises(UsageError, match=r"x.b, which is LIKE x.a, has no column"):
        likened([base, like])
