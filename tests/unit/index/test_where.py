from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakeflow.errors import UnknownName, UsageError
from lakeflow.index.condition import sql
from lakeflow.index.where import parse

SCHEMA = pa.schema(
    [
        ("n", pa.int32()),
        ("s", pa.string()),
        ("b", pa.bool_()),
        ("at", pa.timestamp("us", "UTC")),
        ("exact", pa.decimal128(10, 2)),
        ("f", pa.float64()),
        ("tags", pa.list_(pa.string())),
        ("date", pa.date32()),
    ]
)


def written(text: str) -> str:
    return sql(parse(text, SCHEMA, SCHEMA.names, "docs"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("n < 3", "(`n` < 3)"),
        ("N<-3", "(`n` < -3)"),
        ("3 <= n", "(`n` >= 3)"),
        ("n <> 3", "(NOT (`n` = 3))"),
        ("n > 1.5", "(CAST(`n` AS DOUBLE) > CAST('1.5' AS DOUBLE))"),
        ("n = 3000000000", "(CAST(`n` AS DOUBLE) = CAST('3000000000' AS DOUBLE))"),
        ("f = .5", "(`f` = 0.5)"),
        ("exact = 1.50", "(`exact` = CAST('1.50' AS DECIMAL(38, 2)))"),
        ("s = 'it''s'", "(`s` = 'it''s')"),
        ("n = 1 or n = 2 and not b", "((`n` = 1) OR ((`n` = 2) AND (NOT `b`)))"),
        ("(n = 1 or n = 2) and b", "(((`n` = 1) OR (`n` = 2)) AND `b`)"),
        ("at > '2013-01-01T02:00:00+02:00'", "(`at` > TIMESTAMP '2013-01-01 00:00:00')"),
        ("date = date '2013-01-31'", "(`date` = DATE '2013-01-31')"),
        ("array_has(tags, 'x''y')", "array_has(`tags`, 'x''y')"),
        ("s not like 'a%'", "(NOT (`s` LIKE 'a%'))"),
        ("length(s) between 1 and 2", "((length(`s`) >= 1) AND (length(`s`) <= 2))"),
        ("\"s\" in ('a', 'b')", "(`s` IN ('a', 'b'))"),
    ],
)
def test_a_condition_is_written_anew(text: str, expected: str) -> None:
    assert written(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("n <", "at its end: expected a value"),
        ("n < 3 b", "at character 7, before 'b': expected AND, OR or the end"),
        ("n = NULL", "nothing compares with NULL, so ask IS NULL"),
        ("s = 5", "compares s, which is string, with 5; valid: a quoted 'text'"),
        ("n = 'x'", "compares n, which is int32, with 'x'; valid: a number"),
        ("at = 'soon'", "has the timestamp 'soon'; valid: ISO 8601"),
        ("lowr(s) = 'x'", "calls 'lowr'; did you mean 'lower'"),
        ("lower(n) = 'x'", r"expected a column of text in lower\(\)"),
        ("n = 1; n = 2", "before '; n = 2'"),
        ("tags = 'x'", "valid: IS NULL only"),
    ],
)
def test_what_is_not_understood_says_where_and_what_is(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        written(text)


def test_an_unknown_column_names_the_nearest() -> None:
    with pytest.raises(UnknownName, match="unknown column of index docs 'tag'; did you mean 'tags'"):
        written("tag IS NULL")


@given(st.text(alphabet="ns b'\"`()<>=;-*/,.%_1$?\\\n\0é" + "ANDORTIL", max_size=40))
def test_any_text_is_a_condition_or_refused(text: str) -> None:
    try:
        rewritten = written(text)
    except UsageError:
        return
    assert written(rewritten.replace("`", '"')) == rewritten


@given(st.text(min_size=0, max_size=30))
def test_a_text_stays_one_literal(value: str) -> None:
    quoted = "'" + value.replace("'", "''") + "'"
    assert written(f"s = {quoted}") == f"(`s` = {quoted})"
