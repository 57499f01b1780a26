"""Statements that change, drop and show tables and indexes: how they are read."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from lakeflow.errors import DeclarationError
from lakeflow.sql.alterations import (
    AddColumns,
    AlterVectorIndex,
    DescribeTable,
    DescribeVectorIndex,
    DropColumns,
    DropTable,
    DropVectorIndex,
    ModifyColumns,
    Place,
    PlacedColumn,
    RenameColumn,
    RenameTable,
    ResetTableOptions,
    SetTableOptions,
    Show,
    ShowCreateTable,
    ShowCreateVectorIndex,
    Shown,
)
from lakeflow.sql.clauses import COMMENT_KEY
from lakeflow.sql.script import parse_script
from lakeflow.sql.statements import DescribeModel, ReadRows

X = PlacedColumn(pa.field("x", pa.int32()))


def refusal(text: str) -> DeclarationError:
    with pytest.raises(DeclarationError) as raised:
        parse_script(text, Path("x.sql"))
    return raised.value


@pytest.mark.parametrize(
    ("text", "statement"),
    [
        ("ALTER TABLE a.b ADD x INT", AddColumns("a.b", (X,))),
        ("ALTER TABLE a.b ADD COLUMN x INT", AddColumns("a.b", (X,))),
        ("ALTER TABLE IF EXISTS a.b ADD (x INT)", AddColumns("a.b", (X,), if_exists=True)),
        (
            'ALTER TABLE a.b ADD (x INT FIRST, "y z" STRING AFTER x)',
            AddColumns(
                "a.b",
                (PlacedColumn(X.column, Place()), PlacedColumn(pa.field("y z", pa.string()), Place("x"))),
            ),
        ),
        (
            "ALTER TABLE a.b MODIFY x INT NOT NULL",
            ModifyColumns("a.b", (PlacedColumn(pa.field("x", pa.int32(), nullable=False)),)),
        ),
        ("ALTER TABLE a.b MODIFY (x INT, x2 INT)", ModifyColumns("a.b", (X, PlacedColumn(pa.field("x2", pa.int32()))))),
        ("ALTER TABLE a.b DROP x", DropColumns("a.b", ("x",))),
        ('ALTER TABLE a.b DROP COLUMN (x, "y")', DropColumns("a.b", ("x", "y"))),
        ("ALTER TABLE a.b RENAME x TO y", RenameColumn("a.b", "x", "y")),
        ("ALTER TABLE a.b RENAME TO c.d", RenameTable("a.b", "c.d")),
        ("ALTER TABLE a.b SET ('k' = 'v')", SetTableOptions("a.b", {"k": "v"})),
        ("ALTER TABLE a.b RESET ('k', 'l')", ResetTableOptions("a.b", ("k", "l"))),
        ("DROP TABLE a.b", DropTable("a.b")),
        ("DROP TABLE IF EXISTS lakeflow.a.b", DropTable("a.b", if_exists=True)),
        ("ALTER VECTOR INDEX i SET ('k' = 'v')", AlterVectorIndex("i", {"k": "v"})),
        ("ALTER VECTOR INDEX IF EXISTS i RESET ('k')", AlterVectorIndex("i", reset=("k",), if_exists=True)),
        ("DROP VECTOR INDEX i", DropVectorIndex("i")),
        ("DESCRIBE a.b", DescribeTable("a.b")),
        ("DESC TABLE a.b", DescribeTable("a.b")),
        ("DESCRIBE EXTENDED a.b", DescribeTable("a.b", extended=True)),
        ("DESCRIBE TABLE EXTENDED a.b", DescribeTable("a.b", extended=True)),
        ("DESCRIBE EXTENDED TABLE a.b", DescribeTable("a.b", extended=True)),
        ("desc extended.m", DescribeTable("extended.m")),
        ("DESCRIBE TABLE table.m", DescribeTable("table.m")),
        ("describe table extended extended.m", DescribeTable("extended.m", extended=True)),
        ("DESCRIBE model.m", DescribeTable("model.m")),
        ("DESCRIBE select.m", DescribeTable("select.m")),
        ("DESCRIBE model m", DescribeModel("m")),
        ("DESCRIBE VECTOR INDEX i", DescribeVectorIndex("i")),
        ("SHOW CREATE TABLE a.b", ShowCreateTable("a.b")),
        ("SHOW CREATE MATERIALIZED TABLE a.b", ShowCreateTable("a.b")),
        ("SHOW CREATE VECTOR INDEX i", ShowCreateVectorIndex("i")),
        ("SHOW TABLES", Show(Shown.TABLES)),
        ("SHOW TABLES FROM a NOT LIKE 'x%'", Show(Shown.TABLES, "a", "x%", negated=True)),
        ("SHOW TABLES IN a", Show(Shown.TABLES, "a")),
        ("SHOW MATERIALIZED TABLES", Show(Shown.MATERIALIZED_TABLES)),
        ("SHOW JOBS LIKE 'x'", Show(Shown.JOBS, like="x")),
        ("SHOW VECTOR INDEXES", Show(Shown.VECTOR_INDEXES)),
        ("SHOW INDEXES", Show(Shown.VECTOR_INDEXES)),
        ("SHOW DATABASES", Show(Shown.NAMESPACES)),
        ("SHOW NAMESPACES LIKE 'a_'", Show(Shown.NAMESPACES, like="a_")),
    ],
)
def test_a_statement_is_read_whole(text: str, statement: object) -> None:
    assert parse_script(text) == [statement]
    assert parse_script(f"-- before\n;{text} ;; -- after") == [statement]


def test_a_comment_of_a_column_is_kept() -> None:
    [statement] = parse_script("ALTER TABLE a.b ADD x INT COMMENT 'it''s' AFTER y")
    assert isinstance(statement, AddColumns)
    assert statement.columns[0].place == Place("y")
    assert statement.columns[0].column.metadata == {COMMENT_KEY: b"it's"}


@pytest.mark.parametrize(
    "text", ["DESCRIBE SELECT 1", "DESC (SELECT 1)", "SUMMARIZE a.b", "TABLE a.b", "FROM a.b", "((SELECT 1))"]
)
def test_what_duckdb_describes_is_left_to_it(text: str) -> None:
    [statement] = parse_script(f"SET 'a' = 'b'; {text}; SET")[1:-1]
    assert isinstance(statement, ReadRows)
    assert statement.query.text == text
    assert statement.text.index(text) == 15


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ALTER TABLE a.b AD x INT", "x.sql:1:17: expected what ALTER TABLE changes, found 'AD'; did you mean 'ADD'?"),
        ("ALTER TABLE a.b", "expected what ALTER TABLE changes, found the end of the text"),
        ("ALTER TABLE b ADD x INT", "table 'b': a table is named namespace.table"),
        ("ALTER TABLE a.b ADD", "expected a column's name, found the end of the text"),
        ("ALTER TABLE a.b ADD x", "expected a type, found the end of the text"),
        ("ALTER TABLE a.b ADD (x INT, X INT)", "1:29: column 'X' is declared twice"),
        ("ALTER TABLE a.b ADD (x INT", "expected ')' or ',' after a column"),
        ("ALTER TABLE a.b ADD x AS y + 1", "column 'x' is computed, which a landing does as it writes"),
        ("ALTER TABLE a.b ADD x BIGINT METADATA FROM 'offset'", "METADATA columns of a table are those of its declaration"),
        ("ALTER TABLE a.b ADD PRIMARY KEY (x) NOT ENFORCED", "1:21: the primary key of a table is that of its declaration"),
        ("ALTER TABLE a.b DROP WATERMARK", "the watermark of a table is that of its declaration"),
        ("ALTER TABLE a.b DROP PARTITION (x = 1)", "which partitions there are follows from the rows"),
        ("ALTER TABLE a.b DROP (x, x)", "1:26: column 'x' is there twice"),
        ("ALTER TABLE a.b RENAME x y", "expected TO after the column's name, found 'y'"),
        ("ALTER TABLE a.b RENAME TO c", "table 'c': a table is named namespace.table"),
        ("ALTER TABLE a.b SET (k = 'v')", "expected an option's key in single quotes, found 'k'"),
        ("ALTER TABLE IF NOT EXISTS a.b DROP x", "expected IF EXISTS before the name"),
        ("ALTER VECTOR INDEX i REBUILD", "expected what ALTER VECTOR INDEX changes, found 'REBUILD'"),
        ("DROP VECTOR INDEX a.i", "the index's name has one part, without a dot"),
        ("DROP TABLE a.b CASCADE", "expected ';' after a statement, found 'CASCADE'"),
        ("DESCRIBE t", "table 't': a table is named namespace.table"),
        ("DESCRIBE VECTOR i", "expected INDEX after VECTOR, found 'i'"),
        ("DESCRIBE", "expected a table's name, found the end of the text"),
        ("SHOW TABELS", "1:6: SHOW TABELS is not understood; did you mean 'TABLES'?"),
        ("SHOW TABLES FROM a.b", "the namespace's name has one part"),
        ("SHOW NAMESPACES FROM a", "expected ';' after a statement, found 'FROM'"),
        ("SHOW CREATE a.b", "SHOW CREATE a is not understood; valid: MATERIALIZED TABLE, MODEL, TABLE, VECTOR INDEX"),
        ("CREATE TABLE a.b (x INT, y AS x + f(1, 2))", "1:26: column 'y' is computed, which a landing does as it writes"),
        ("CREATE TABLE a.b (x INT, o BIGINT METADATA FROM 'offset')", "1:26: column 'o' is METADATA of a record"),
        ("CREATE TABLE a.b (x INT, o BIGINT METADATA FROM offset)", "expected the key of the metadata in single quotes"),
        ("CREATE TABLE a.b (o BIGINT NOT NULL METADATA)", "column 'o' is METADATA NOT NULL, and a record may come without it"),
    ],
)
def test_a_wrong_statement_says_what_is_wrong_and_where(text: str, message: str) -> None:
    assert message in refusal(text).message


def test_a_computed_column_is_shown_where_it_can_be_computed() -> None:
    error = refusal("CREATE TABLE a.b (x INT, y AS x +\n f(1, (2)), z INT)")
    assert error.next_step == "compute it in the job that writes the table: SELECT *, x + f(1, (2)) AS y FROM .."


def test_what_is_declared_elsewhere_says_where() -> None:
    assert refusal("ALTER TABLE a.b DROP PRIMARY KEY").next_step == "change the declaration, then: lakeflow plan"
