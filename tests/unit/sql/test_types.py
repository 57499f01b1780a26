"""SQL type text <-> Arrow types."""

from __future__ import annotations

import pyarrow as pa
import pytest

from lakeflow.errors import DeclarationError
from lakeflow.sql.types import parse_type, quoted, sql_type


@pytest.mark.parametrize(
    ("text", "arrow"),
    [
        ("BOOLEAN", pa.bool_()),
        ("tinyint", pa.int8()),
        ("SMALLINT", pa.int16()),
        ("INT", pa.int32()),
        ("INTEGER", pa.int32()),
        ("BIGINT", pa.int64()),
        ("FLOAT", pa.float32()),
        ("REAL", pa.float32()),
        ("DOUBLE", pa.float64()),
        ("DOUBLE PRECISION", pa.float64()),
        ("DECIMAL", pa.decimal128(10, 0)),
        ("DECIMAL(5)", pa.decimal128(5, 0)),
        ("NUMERIC(38, 38)", pa.decimal128(38, 38)),
        ("STRING", pa.string()),
        ("VARCHAR", pa.string()),
        ("VARCHAR(3)", pa.string()),
        ("CHAR(3)", pa.string()),
        ("BYTES", pa.binary()),
        ("BINARY(16)", pa.binary(16)),
        ("BINARY", pa.binary()),
        ("VARBINARY(16)", pa.binary()),
        ("VARBINARY", pa.binary()),
        ("DATE", pa.date32()),
        ("TIME", pa.time64("us")),
        ("TIME(6)", pa.time64("us")),
        ("TIMESTAMP", pa.timestamp("us")),
        ("TIMESTAMP(0)", pa.timestamp("us")),
        ("TIMESTAMP(3) WITHOUT TIME ZONE", pa.timestamp("us")),
        ("TIMESTAMP_LTZ", pa.timestamp("us", tz="UTC")),
        ("TIMESTAMP_LTZ(6)", pa.timestamp("us", tz="UTC")),
        ("TIMESTAMP(3) WITH LOCAL TIME ZONE", pa.timestamp("us", tz="UTC")),
        ("ARRAY<INT>", pa.list_(pa.field("element", pa.int32()))),
        ("ARRAY<ARRAY<INT NOT NULL>>", pa.list_(pa.list_(pa.field("element", pa.int32(), nullable=False)))),
        ("MAP<STRING, BIGINT NOT NULL>", pa.map_(pa.string(), pa.field("value", pa.int64(), nullable=False))),
        ("ROW<a INT, b STRING NOT NULL>", pa.struct([("a", pa.int32()), pa.field("b", pa.string(), nullable=False)])),
        ("STRUCT<a INT NULL>", pa.struct([("a", pa.int32())])),
        ("ROW(`the a` INT)", pa.struct([("the a", pa.int32())])),
    ],
)
def test_each_type_is_read(text: str, arrow: pa.DataType) -> None:
    assert parse_type(text) == arrow


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("STRNG", "unknown type 'STRNG'; did you mean 'STRING'? valid: ARRAY, BIGINT"),
        ("TIMESTAMP(9)", "TIMESTAMP(9) is finer than microseconds; valid: TIMESTAMP(0) to TIMESTAMP(6)"),
        ("TIME(7)", "TIME(7) is finer than microseconds"),
        ("TIMESTAMP_LTZ(7)", "TIMESTAMP_LTZ(7) is finer than microseconds"),
        ("TIMESTAMP WITH TIME ZONE", "valid: TIMESTAMP_LTZ (an instant), TIMESTAMP (no zone)"),
        ("DECIMAL(39, 2)", "a decimal of 39 digits; valid: 1 to 38"),
        ("DECIMAL(0)", "a decimal of 0 digits; valid: 1 to 38"),
        ("DECIMAL(4, 5)", "a decimal of 4 digits with 5 after the point; valid: 0 to 4"),
        ("VARCHAR(0)", "the length of VARCHAR is 0; valid: 1 to 2147483647"),
        ("ARRAY INT", "expected '<' after ARRAY, found 'INT'"),
        ("ARRAY<INT", "expected '>' at the end of ARRAY<.., found the end of the text"),
        ("MAP<STRING>", "expected ',' between the key and the value of MAP<, found '>'"),
        ("ROW<>", "expected a field's name, found '>'"),
        ("ROW<a INT, A INT>", "field 'A' is declared twice in the row"),
        ("ROW<a INT 'text'>", "put it on the column: COMMENT"),
        ("INT INT", "expected nothing after the type, found 'INT'"),
        ("'INT'", "expected a type, found 'INT'"),
        ("", "expected a type, found the end of the text"),
        ("ARRAY<" * 40 + "INT" + ">" * 40, "types are nested deeper than 32"),
    ],
)
def test_a_wrong_type_says_what_is_valid(text: str, message: str) -> None:
    with pytest.raises(DeclarationError) as raised:
        parse_type(text)
    assert message in raised.value.message


def test_the_error_underlines_the_type() -> None:
    with pytest.raises(DeclarationError) as raised:
        parse_type("ARRAY<STRNG>")
    assert raised.value.message.splitlines()[1:] == ["  1 | ARRAY<STRNG>", "    |       ^^^^^"]


@pytest.mark.parametrize(
    "arrow",
    [pa.uint32(), pa.timestamp("ns"), pa.timestamp("us", tz="Europe/Paris"), pa.decimal256(40, 2), pa.struct([]), pa.null()],
)
def test_an_arrow_type_without_sql_is_refused(arrow: pa.DataType) -> None:
    with pytest.raises(DeclarationError, match="has no SQL type"):
        sql_type(arrow)


def test_large_arrow_types_are_the_same_sql() -> None:
    assert sql_type(pa.large_list(pa.large_string())) == "ARRAY<STRING>"
    assert sql_type(pa.large_binary()) == "BYTES"


@pytest.mark.parametrize(
    ("name", "text"), [("a_1", "a_1"), ("a b", '"a b"'), ('a"b', '"a""b"'), ("primary", '"primary"'), ("1a", '"1a"')]
)
def test_names_are_quoted_where_they_must_be(name: str, text: str) -> None:
    assert quoted(name) == text
