"""Files of declarations: what is read out of good ones, and what is said of bad ones."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from lakeflow.declare import IndexSpec, ModelDeclaration, PartitionField, TableSpec, Watermark
from lakeflow.errors import DeclarationError
from lakeflow.sql.describe import describe
from lakeflow.sql.parse import parse_declarations
from lakeflow.sql.statements import CreateModel, CreateTable, CreateVectorIndex

FLIGHTS = """\
-- what the airport says
CREATE TABLE bronze.flights (
  carrier STRING COMMENT 'it''s two letters',
  flight INT, /* a number */ dep_delay DOUBLE,
  time_hour TIMESTAMP_LTZ(6) NOT NULL,
  PRIMARY /* split */ KEY (carrier, flight) NOT ENFORCED,
  WATERMARK FOR time_hour AS time_hour - INTERVAL '5' MINUTE
)
COMMENT 'departures'
PARTITIONED BY (day(time_hour), bucket(16, carrier), truncate(4, flight), carrier)
WITH ('connector' = 'kafka', 'topic' = '${TOPIC:-flights}', 'password' = '{{ secret.KAFKA }}');
"""


def table_of(text: str) -> TableSpec:
    (statement,) = parse_declarations(text)
    assert isinstance(statement, CreateTable)
    return statement.table


def model_of(text: str) -> ModelDeclaration:
    (statement,) = parse_declarations(text)
    assert isinstance(statement, CreateModel)
    return statement.model


def index_of(text: str) -> IndexSpec:
    (statement,) = parse_declarations(text)
    assert isinstance(statement, CreateVectorIndex)
    return statement.index


def refusal(text: str) -> DeclarationError:
    with pytest.raises(DeclarationError) as raised:
        parse_declarations(text, Path("tables/x.sql"))
    return raised.value


def test_a_table_is_read_whole() -> None:
    table = table_of(FLIGHTS)
    assert table.name == "bronze.flights"
    assert table.schema.equals(
        pa.schema(
            [
                pa.field("carrier", pa.string(), nullable=False, metadata={"doc": "it's two letters"}),
                pa.field("flight", pa.int32(), nullable=False),
                pa.field("dep_delay", pa.float64()),
                pa.field("time_hour", pa.timestamp("us", tz="UTC"), nullable=False),
            ]
        ),
        check_metadata=True,
    )
    assert table.primary_key == ("carrier", "flight")
    assert table.watermark == Watermark("time_hour", timedelta(minutes=5))
    assert table.comment == "departures"
    assert table.partitioning == (
        PartitionField("time_hour", "day"),
        PartitionField("carrier", "bucket", 16),
        PartitionField("flight", "truncate", 4),
        PartitionField("carrier", "identity"),
    )


def test_options_stay_as_written() -> None:
    assert dict(table_of(FLIGHTS).options) == {
        "connector": "kafka",
        "topic": "${TOPIC:-flights}",
        "password": "{{ secret.KAFKA }}",
    }


def test_a_declaration_knows_its_line() -> None:
    (statement,) = parse_declarations("\n\n" + FLIGHTS, Path("tables/flights.sql"))
    assert isinstance(statement, CreateTable)
    assert str(statement.table.origin) == "tables/flights.sql:4"


def test_names_may_be_quoted_and_keywords() -> None:
    table = table_of('create table "my ns".`my t` ("primary" INT, `a`` b` INT, comment STRING, "with" INT)')
    assert table.name == "my ns.my t"
    assert table.schema.names == ["primary", "a` b", "comment", "with"]


def test_a_byte_order_mark_is_passed_over() -> None:
    assert table_of("\ufeffCREATE TABLE a.b (c INT)").name == "a.b"


@pytest.mark.parametrize("text", ["", "  \n", ";;", "-- nothing", "/* nothing\n */ ;"])
def test_an_empty_file_declares_nothing(text: str) -> None:
    assert parse_declarations(text) == []


def test_several_statements_stand_in_one_file() -> None:
    statements = parse_declarations("CREATE TABLE a.b (c INT); CREATE TABLE IF NOT EXISTS a.d (c INT);")
    assert [statement.if_not_exists for statement in statements] == [False, True]


@pytest.mark.parametrize(
    ("expression", "delay"),
    [
        ("c", timedelta(0)),
        ("c - INTERVAL '0.001' SECOND", timedelta(milliseconds=1)),
        ("c - INTERVAL '90' SECONDS", timedelta(seconds=90)),
        ("c - INTERVAL '2' hours", timedelta(hours=2)),
        ("c - INTERVAL '3' DAY", timedelta(days=3)),
    ],
)
def test_a_watermark_has_a_delay(expression: str, delay: timedelta) -> None:
    table = table_of(f"CREATE TABLE a.b (WATERMARK FOR c AS {expression}, c TIMESTAMP)")
    assert table.watermark == Watermark("c", delay)


@pytest.mark.parametrize(
    ("text", "transform"), [("years(c)", "year"), ("month(c)", "month"), ("hours(c)", "hour"), ("identity(c)", "identity")]
)
def test_a_transform_has_two_spellings(text: str, transform: str) -> None:
    assert table_of(f"CREATE TABLE a.b (c TIMESTAMP) PARTITIONED BY ({text})").partitioning == (PartitionField("c", transform),)


def test_a_model_is_read_whole() -> None:
    model = model_of(
        "CREATE MODEL m INPUT (a INT, b STRING NOT NULL) OUTPUT (p DOUBLE) COMMENT 'late?' WITH ('provider' = 'onnx')"
    )
    assert model.name == "m"
    assert model.input == pa.schema([("a", pa.int32()), pa.field("b", pa.string(), nullable=False)])
    assert model.output == pa.schema([("p", pa.float64())])
    assert model.comment == "late?"
    assert dict(model.options) == {"provider": "onnx"}


def test_an_index_is_read_whole() -> None:
    index = index_of(
        "CREATE VECTOR INDEX i ON gold.docs (embedding) "
        "WITH ('key' = 'doc_id', 'metric' = 'L2', 'model' = 'm', 'columns' = 'a, b', 'nprobes' = '4')"
    )
    assert index == IndexSpec(
        "i", "gold.docs", "embedding", "doc_id", "l2", "m", ("a", "b"), {"nprobes": "4"}, origin=index.origin
    )


def test_an_index_is_of_cosine_without_a_metric() -> None:
    assert index_of("CREATE VECTOR INDEX i ON a.b (c) WITH ('key' = 'k')").metric == "cosine"


def test_an_error_points_at_its_place() -> None:
    error = refusal("CREATE TABLE a.b (\n\tc INT,\n  d STRNG NOT NULL\n)")
    first, *shown = error.message.splitlines()
    assert first.startswith("tables/x.sql:3:5: unknown type 'STRNG'; did you mean 'STRING'?")
    assert shown == ["  3 |   d STRNG NOT NULL", "    |     ^^^^^"]


def test_an_error_in_a_long_line_shows_its_part() -> None:
    error = refusal("CREATE TABLE a.b (" + "c INT COMMENT 'x', ".replace("c", "cc") + " " * 500 + "d STRNG)")
    _, line, carets = error.message.splitlines()
    assert line[carets.index("^") :].startswith("STRNG")
    assert len(line) < 140


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "CREATE TABLE a.b (c INT, C INT)",
            "1:26: column 'C' is declared twice (names that differ by case alone count as one)",
        ),
        ("CREATE TABLE b (c INT)", "1:14: table 'b': a table is named namespace.table, for instance 'bronze.flights'"),
        ("CREATE TABLE x.a.b (c INT)", "1:14: unknown catalog 'x'; valid: lakeflow.a.b"),
        ('CREATE TABLE a."b.c" (c INT)', "1:16: name 'b.c' holds a dot, which parts names from namespaces"),
        ("CREATE TABLE a.b ()", "expected a column's name, found ')'"),
        ("CREATE TABLE a.b (WATERMARK FOR c AS c)", "the table has no column"),
        ("CREATE TABLE a.b (c INT", "expected ')' or ',' after a column, found the end of the text"),
        ("CREATE TABLE a.b (c)", "expected a type, found ')'"),
        ("CREATE TABLE a.b (c INT) PARTITIONED BY (d)", "unknown column 'd' in PARTITIONED BY; valid: c"),
        ("CREATE TABLE a.b (c INT) PARTITIONED BY (week(c))", "unknown partition transform 'week'; valid: bucket, day, days"),
        (
            "CREATE TABLE a.b (c INT) PARTITIONED BY (day(c))",
            "column 'c' of type int32 cannot be partitioned by day; valid types: DATE",
        ),
        (
            "CREATE TABLE a.b (c DATE) PARTITIONED BY (hour(c))",
            "cannot be partitioned by hour; valid types: TIMESTAMP, TIMESTAMP_LTZ",
        ),
        ("CREATE TABLE a.b (c DOUBLE) PARTITIONED BY (bucket(4, c))", "cannot be partitioned by bucket"),
        (
            "CREATE TABLE a.b (c INT) PARTITIONED BY (bucket(c))",
            "the width of bucket, as in bucket(16, column), a whole number, found 'c'",
        ),
        ("CREATE TABLE a.b (c INT) PARTITIONED BY (bucket(0, c))", "the width of bucket is 0; valid: 1 and more"),
        ("CREATE TABLE a.b (c INT) PARTITIONED BY (c, c)", "partition field identity of 'c' is there twice"),
        ("CREATE TABLE a.b (c INT) WITH ('k' = 'v', 'k' = 'w')", "1:43: option 'k' is set twice"),
        ("CREATE TABLE a.b (c INT) WITH (k = 'v')", "expected an option's key in single quotes, found 'k'"),
        ("CREATE TABLE a.b (c INT) WITH ()", "expected an option's key in single quotes, found ')'"),
        ("CREATE TABLE a.b (c INT) COMMENT 'x' COMMENT 'y'", "COMMENT is there twice"),
        ("CREATE TABLE a.b (c INT) STORED AS x", "expected COMMENT, PARTITIONED BY, WITH, LIKE, AS, or ;, found 'STORED'"),
        ("CREATE TABLE a.b (c INT, WATERMARK FOR d AS d)", "unknown column 'd' in WATERMARK; valid: c"),
        (
            "CREATE TABLE a.b (c INT, WATERMARK FOR c AS c)",
            "the watermark's column 'c' is of type int32; valid: TIMESTAMP, TIMESTAMP_LTZ",
        ),
        ("CREATE TABLE a.b (c TIMESTAMP, WATERMARK FOR c AS d)", "the watermark for 'c' is made of another column, 'd'"),
        (
            "CREATE TABLE a.b (c TIMESTAMP, WATERMARK FOR c AS c - INTERVAL 'x' MINUTE)",
            "the interval 'x' MINUTE is malformed; valid:",
        ),
        ("CREATE TABLE a.b (c TIMESTAMP, WATERMARK FOR c AS c - INTERVAL '1.5' DAY)", "the interval '1.5' DAY is malformed"),
        (
            "CREATE TABLE a.b (c TIMESTAMP, WATERMARK FOR c AS c - INTERVAL '1' MINUET)",
            "unknown unit 'MINUET' of an interval; did you mean 'MINUTE'?",
        ),
        ("CREATE TABLE a.b (c TIMESTAMP, WATERMARK FOR c AS c - 5)", "expected INTERVAL after '-', found '5'"),
        ("CREATE TABLE a.b (c TIMESTAMP, WATERMARK FOR c AS c, WATERMARK FOR c AS c)", "WATERMARK is there twice"),
        (
            "CREATE TABLE a.b (carrier INT, PRIMARY KEY (carier) NOT ENFORCED)",
            "unknown column 'carier' in PRIMARY KEY; did you mean 'carrier'?",
        ),
        ("CREATE TABLE a.b (c INT, PRIMARY KEY (c, c) NOT ENFORCED)", "column 'c' is twice in PRIMARY KEY"),
        (
            "CREATE TABLE a.b (c INT, PRIMARY KEY (c))",
            "expected NOT ENFORCED after the primary key: nothing checks that its values are unique",
        ),
        ("CREATE TABLE a.b (c DOUBLE, PRIMARY KEY (c) NOT ENFORCED)", "column 'c' of type double in PRIMARY KEY"),
        (
            "CREATE MODEL m INPUT (a INT) WITH ('provider' = 'onnx')",
            "model 'm' has no OUTPUT; valid: CREATE MODEL m INPUT (..) OUTPUT (..) WITH (..)",
        ),
        ("CREATE MODEL m", "model 'm' has no INPUT and no OUTPUT and no WITH"),
        ("CREATE MODEL a.m INPUT (a INT) OUTPUT (b INT) WITH ('k' = 'v')", "the model's name has one part, without a dot"),
        (
            "CREATE VECTOR INDEX i ON a.b (c) WITH ('metric' = 'l2')",
            "index 'i' has no option 'key', the column that identifies a row",
        ),
        ("CREATE VECTOR INDEX i ON a.b (c) WITH ('key' = ' ')", "option 'key' is empty"),
        (
            "CREATE VECTOR INDEX i ON a.b (c) WITH ('key' = 'k', 'metric' = 'cosin')",
            "unknown metric 'cosin'; did you mean 'cosine'? valid: cosine, dot, l2",
        ),
        (
            "CREATE VECTOR INDEX i ON a.b (c) WITH ('key' = 'k', 'columns' = 'a,,b')",
            "option 'columns' is 'a,,b'; valid: each column once",
        ),
        (
            "CREATE VECTOR INDEX i ON a.b (c, d) WITH ('key' = 'k')",
            "expected ')' after the one column that holds the vectors, found ','",
        ),
        ("CREATE VECTOR INDEX i ON a.b (c)", "index 'i' has no WITH"),
        (
            "CREATE INDEX i ON a.b (c)",
            "CREATE INDEX is no declaration; did you mean 'CREATE VECTOR INDEX'? valid in tables/: CREATE MODEL, CREATE TABLE",
        ),
        ("DROP TABLE a.b", "1:1: DROP is no declaration; valid in tables/: CREATE TABLE, CREATE MODEL, CREATE VECTOR INDEX"),
        ("(SELECT 1)", "expected a statement, found '('; valid in tables/:"),
        (
            "CREATE TABLE a.b (c INT) CREATE TABLE a.d (c INT)",
            "expected COMMENT, PARTITIONED BY, WITH, LIKE, AS, or ;, found 'CREATE'",
        ),
        ("CREATE TABLE a.b (c INT COMMENT 'x)", "1:33: ' is opened and not closed"),
        ('CREATE TABLE a."b (c INT)', '1:16: " is opened and not closed'),
        ("CREATE TABLE a.b (c INT) /* hidden", "1:26: a comment is opened and not closed"),
        ("CREATE TABLE IF EXISTS a.b (c INT)", "expected IF NOT EXISTS before the name, found 'IF'"),
        ('CREATE TABLE a."" (c INT)', "expected a name after the dot, found ''"),
    ],
)
def test_a_wrong_declaration_says_what_is_wrong(text: str, message: str) -> None:
    assert message in refusal(text).message


@pytest.mark.parametrize(
    ("text", "next_step"),
    [("SELECT 1", 'lakeflow query "SELECT .."'), ("INSERT INTO a.b SELECT 1", "move the statement to a file in jobs/")],
)
def test_what_belongs_elsewhere_is_sent_there(text: str, next_step: str) -> None:
    assert refusal(text).next_step == next_step


def test_importing_the_parser_imports_neither_sqlglot_nor_duckdb() -> None:
    code = "import sys, lakeflow.sql.parse, lakeflow.sql.query; print({'sqlglot', 'duckdb'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("body", "key"), [("", ()), (" (PRIMARY KEY (id) NOT ENFORCED)", ("id",)), (" (WATERMARK FOR at AS at)", ())]
)
def test_the_columns_of_a_topic_may_be_left_to_its_schema(body: str, key: tuple[str, ...]) -> None:
    partitioned = "PARTITIONED BY (day(at), bucket(4, id))"
    text = f"CREATE TABLE bronze.orders{body} {partitioned} WITH ('connector' = 'kafka', 'topic' = 'orders')"
    (statement,) = parse_declarations(text)
    assert isinstance(statement, CreateTable)
    table = statement.table
    assert (table.schema.names, table.primary_key) == ([], key)
    assert table.partitioning == (PartitionField("at", "day"), PartitionField("id", "bucket", 4))
    (again,) = parse_declarations(describe(statement))
    assert isinstance(again, CreateTable)
    assert replace(again.table, origin=table.origin) == table


def test_a_table_of_another_connector_declares_its_columns() -> None:
    with pytest.raises(DeclarationError, match="the table has no column; only with 'connector' = 'kafka'"):
        parse_declarations("CREATE TABLE gold.t WITH ('connector' = 'iceberg')")
