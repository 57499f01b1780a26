"""CONSTRAINT in a declaration: what it expects, how it reads, and where it is wrong."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from lakeflow.declare import TableSpec
from lakeflow.errors import DeclarationError
from lakeflow.expect import Expectation, Kind, OnViolation, References, Satisfies, Unique
from lakeflow.sql.describe import describe
from lakeflow.sql.parse import parse_declarations, parse_jobs
from lakeflow.sql.parse_like import likened
from lakeflow.sql.statements import CreateMaterializedTable, CreateTable

PATH = Path("tables/delays.sql")


def table(constraints: str, options: str = "") -> TableSpec:
    text = f"CREATE TABLE gold.delays (\n  id BIGINT, carrier STRING, delay DOUBLE,\n  {constraints}\n) {options};"
    [statement] = parse_declarations(text, PATH)
    assert isinstance(statement, CreateTable)
    [again] = parse_declarations(describe(statement), PATH)
    assert isinstance(again, CreateTable)
    assert again.table.expectations == statement.table.expectations
    return statement.table


@pytest.mark.parametrize(
    ("said", "kind", "outcome"),
    [
        ("CHECK (delay >= 0)", Satisfies("delay >= 0"), OnViolation.FAIL),
        ("CHECK (delay >= 0) ENFORCED", Satisfies("delay >= 0"), OnViolation.FAIL),
        ("CHECK (delay >= 0) NOT ENFORCED", Satisfies("delay >= 0"), OnViolation.WARN),
        ("EXPECT (delay >= 0)", Satisfies("delay >= 0"), OnViolation.WARN),
        ("EXPECT (abs(delay) < (1 + 2)) ON VIOLATION DROP ROW", Satisfies("abs(delay) < (1 + 2)"), OnViolation.DROP),
        ("expect (carrier <> ')') on violation dead letter", Satisfies("carrier <> ')'"), OnViolation.DEAD_LETTER),
        ("EXPECT (count(*) > 0) ON VIOLATION FAIL UPDATE", Satisfies("count(*) > 0"), OnViolation.FAIL),
        ("CHECK (id > 0) ON VIOLATION WARN", Satisfies("id > 0"), OnViolation.WARN),
        ("UNIQUE (id, carrier)", Unique(("id", "carrier")), OnViolation.FAIL),
        ("UNIQUE (id) NOT ENFORCED", Unique(("id",)), OnViolation.WARN),
        (
            "FOREIGN KEY (carrier) REFERENCES dim.carriers (code)",
            References("carrier", "dim.carriers", "code"),
            OnViolation.FAIL,
        ),
        (
            "FOREIGN KEY (carrier) REFERENCES dim.carriers (code) ON VIOLATION DROP ROW",
            References("carrier", "dim.carriers", "code"),
            OnViolation.DROP,
        ),
    ],
)
def test_what_a_constraint_expects(said: str, kind: Kind, outcome: OnViolation) -> None:
    assert table(f"CONSTRAINT sane {said}").expectations == (Expectation("sane", kind, outcome),)


def test_a_primary_key_may_still_be_named_as_a_constraint() -> None:
    found = table("CONSTRAINT pk PRIMARY KEY (id) NOT ENFORCED, CONSTRAINT known EXPECT (carrier IS NOT NULL)")
    assert found.primary_key == ("id",)
    assert [one.name for one in found.expectations] == ["known"]


def test_comments_stay_where_they_end() -> None:
    found = table("CONSTRAINT c EXPECT (delay > 0 -- late\n  AND id > 0)").expectations[0].kind
    assert found == Satisfies("delay > 0 -- late\n  AND id > 0")


@pytest.mark.parametrize(
    ("said", "place", "message"),
    [
        ("CONSTRAINT c CHECK (delay >)", "3:", "syntax error in a condition"),
        ("CONSTRAINT c CHECK (delai > 0)", "3:23", "unknown column 'delai' in CONSTRAINT; did you mean 'delay'"),
        ("CONSTRAINT c UNIQUE (ident)", "3:24", "unknown column 'ident'"),
        ("CONSTRAINT c CHECK (id > 0) ON VIOLATION IGNORE", "3:44", "valid: WARN, DROP ROW, DEAD LETTER, FAIL UPDATE"),
        ("CONSTRAINT c CHECK (id > 0) ON VIOLATION DROP", "4:1", "expected ROW after DROP"),
        ("CONSTRAINT c UNIQUE (id) ON VIOLATION DROP ROW", "3:14", "leaves no row out: drop"),
        ("CONSTRAINT c EXPECT (count(*) > 1) ON VIOLATION DROP ROW", "3:14", "leaves no row out: drop"),
        ("CONSTRAINT c EXPECT (id IN (SELECT 1))", "3:24", "holds no query"),
        ("CONSTRAINT c FOREIGN KEY (id, carrier) REFERENCES a.b (c)", "3:31", "expected ')' after the column"),
        ("CONSTRAINT c CHEK (id > 0)", "3:16", "PRIMARY KEY"),
    ],
)
def test_what_is_wrong_is_pointed_at(said: str, place: str, message: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        table(said)
    assert str(caught.value).startswith(f"tables/delays.sql:{place}")
    assert message in str(caught.value)


def test_names_are_told_apart() -> None:
    with pytest.raises(DeclarationError, match="CONSTRAINT 'c' is there twice"):
        table("CONSTRAINT c CHECK (id > 0), CONSTRAINT c CHECK (id > 1)")


def test_a_table_that_a_landing_writes_has_those_of_single_rows_with_what_judges_them() -> None:
    options = "WITH ('connector' = 'kafka', 'topic' = 't')"
    made = table("CONSTRAINT c CHECK (id > 0), CONSTRAINT d EXPECT (id < 9)", options)
    assert made.judge is not None
    rows, failures = made.judge.of(pa.RecordBatch.from_pylist([{"id": 0}, {"id": None}, {"id": 9}]))
    assert [column.to_pylist() for column in rows.columns[1:]] == [[True, False, False], [False, False, True]]
    assert failures == ()
    assert table("CONSTRAINT c CHECK (id > 0)").judge is None
    with pytest.raises(DeclarationError, match="'c' is of several rows, and a landing sees each by itself"):
        table("CONSTRAINT c UNIQUE (id)", options)


def made(*texts: str) -> dict[str, TableSpec]:
    statements = [one for text in texts for one in parse_declarations(text, PATH)]
    return likened(one for one in statements if isinstance(one, CreateTable))


FIRST = "CREATE TABLE a.a (id INT, CONSTRAINT c CHECK (id > 0));"


def test_a_table_that_is_like_another_takes_its_constraints_over() -> None:
    found = made(FIRST, "CREATE TABLE a.b (n INT, CONSTRAINT d CHECK (n > 0)) LIKE a.a;")["a.b"]
    assert [one.name for one in found.expectations] == ["d", "c"]
    assert made(FIRST, "CREATE TABLE a.b LIKE a.a (EXCLUDING CONSTRAINTS);")["a.b"].expectations == ()
    with pytest.raises(DeclarationError, match="two expectations are called 'c'"):
        made(FIRST, "CREATE TABLE a.b (CONSTRAINT c CHECK (id > 1)) LIKE a.a;")
    with pytest.raises(DeclarationError, match="a landing writes this table"):
        made(FIRST, "CREATE TABLE a.b WITH ('connector' = 'kafka', 'topic' = 't') LIKE a.a;")


def test_a_materialized_table_has_constraints_over_the_columns_of_its_query() -> None:
    text = "CREATE MATERIALIZED TABLE gold.m (CONSTRAINT few CHECK (count(*) < 9)) AS SELECT id FROM a.a;"
    [statement] = parse_jobs(text, Path("jobs/m.sql"))
    assert isinstance(statement, CreateMaterializedTable)
    assert statement.table.expectations == (Expectation("few", Satisfies("count(*) < 9"), OnViolation.FAIL),)


def test_the_declaration_in_the_page_is_valid() -> None:
    page = (Path(__file__).parents[3] / "docs" / "expectations.md").read_text(encoding="utf-8")
    [statement] = parse_declarations(page.partition("```sql\n")[2].partition("```")[0], PATH)
    assert isinstance(statement, CreateTable)
    found = {one.name: str(one.on_violation) for one in statement.table.expectations}
    assert found == {"known": "drop", "sane": "fail", "one_each": "warn", "carriers": "fail", "recent": "warn"}
