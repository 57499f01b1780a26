"""What `lakeflow sql` reads out of a text, and what it says of a wrong one."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from lakeflow.declare import ModelDeclaration
from lakeflow.errors import DeclarationError
from lakeflow.sql.clauses import parse_columns
from lakeflow.sql.describe import columns_text, describe
from lakeflow.sql.parse import parse_declarations
from lakeflow.sql.script import parse_script
from lakeflow.sql.statements import (
    CreateModel,
    DescribeModel,
    DropModel,
    ReadRows,
    RenameModel,
    ResetModelOptions,
    SetModelOptions,
    ShowCreateModel,
    ShowModels,
)

CREATE = "CREATE MODEL IF NOT EXISTS m INPUT (a INT) OUTPUT (b STRING) WITH ('provider' = 'onnx')"


def refusal(text: str) -> DeclarationError:
    with pytest.raises(DeclarationError) as raised:
        parse_script(text, Path("m.sql"))
    return raised.value


@pytest.mark.parametrize(
    ("text", "statement"),
    [
        ("ALTER MODEL m SET ('a' = '1', 'b-c' = 'x')", SetModelOptions("m", {"a": "1", "b-c": "x"})),
        ("alter model if exists m set ('a' = '')", SetModelOptions("m", {"a": ""}, if_exists=True)),
        ("ALTER MODEL m RESET ('a', 'b')", ResetModelOptions("m", ("a", "b"))),
        ("ALTER MODEL IF EXISTS m RENAME TO n", RenameModel("m", "n", if_exists=True)),
        ('ALTER MODEL `a b` RENAME TO "set"', RenameModel("a b", "set")),
        ("DROP MODEL m", DropModel("m")),
        ("DROP /* all */ MODEL IF EXISTS m", DropModel("m", if_exists=True)),
        ("DESCRIBE MODEL m", DescribeModel("m")),
        ("DESC MODEL EXTENDED m$2", DescribeModel("m", 2, extended=True)),
        ('DESC MODEL "a b$12"', DescribeModel("a b", 12)),
        ("SHOW MODELS", ShowModels()),
        ("SHOW MODELS LIKE 'a%'", ShowModels("a%")),
        ("SHOW MODELS NOT LIKE 'it''s'", ShowModels("it's", negated=True)),
        ("SHOW CREATE MODEL m", ShowCreateModel("m")),
        ("SHOW CREATE MODEL m$3", ShowCreateModel("m", 3)),
    ],
)
def test_a_statement_about_models_is_read_whole(text: str, statement: object) -> None:
    assert parse_script(text) == [statement]
    assert parse_script(f"-- before\n;{text} ;; -- after") == [statement]


def test_a_model_is_created_as_it_is_declared_in_a_file() -> None:
    [created] = parse_script(CREATE)
    assert [created] == parse_declarations(CREATE)
    assert isinstance(created, CreateModel)
    assert created.if_not_exists


def test_a_statement_that_reads_keeps_its_text_and_its_place() -> None:
    text = "SHOW MODELS;\n  SELECT 'a;b' -- ;\n FROM x.y; (SELECT 1)"
    shown, first, second = parse_script(text)
    assert shown == ShowModels()
    assert isinstance(first, ReadRows)
    assert first.text == "\n  SELECT 'a;b' -- ;\n FROM x.y"
    assert isinstance(second, ReadRows)
    assert second.text == "\n\n" + " " * 11 + "(SELECT 1)"


@pytest.mark.parametrize("text", ["", " ;; ", "-- nothing"])
def test_a_text_may_hold_no_statement(text: str) -> None:
    assert parse_script(text) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ALTER MODLE m", "m.sql:1:1: ALTER MODLE is no statement that lakeflow sql runs; did you mean 'ALTER MODEL'?"),
        ("SHOW MODELS;\n  SELEC 1", "m.sql:2:3: SELEC is no statement that lakeflow sql runs; did you mean 'SELECT'?"),
        ("SHOW MODLES", "m.sql:1:6: SHOW MODLES is not understood; did you mean 'MODELS'?"),
        ("SHOW", "m.sql:1:5: SHOW is not understood; valid: CREATE MATERIALIZED TABLE, CREATE MODEL, CREATE TABLE"),
        ("ALTER MODEL m RENAM TO n", "1:15: expected what ALTER MODEL changes, found 'RENAM'; did you mean 'RENAME TO'?"),
        ("ALTER MODEL m", "expected what ALTER MODEL changes, found the end of the text; valid: RENAME TO, RESET, SET"),
        ("ALTER MODEL m RENAME n", "expected TO after RENAME, found 'n'"),
        ("ALTER MODEL m RENAME TO n$2", "1:25: the model's new name has no '$', which parts a name from a version, as in n$2"),
        ("ALTER MODEL m SET ('a')", "expected '=' after the option 'a', found ')'"),
        ("ALTER MODEL m SET ('a' = '1', 'a' = '2')", "1:31: option 'a' is set twice"),
        ("ALTER MODEL m SET ()", "expected an option's key in single quotes, found ')'"),
        ("ALTER MODEL m RESET ('a', 'a')", "1:27: option 'a' is named twice"),
        ("ALTER MODEL m RESET 'a'", "expected '(' after RESET, found 'a'"),
        ("ALTER MODEL IF NOT EXISTS m SET ('a' = '1')", "expected IF EXISTS before the name, found 'IF'"),
        ("DROP MODEL m$2", "1:12: the model's name has no '$', which parts a name from a version, as in m$2"),
        ("DROP MODEL a.m", "the model's name has one part, without a dot"),
        ("DROP MODEL", "expected the model's name, found the end of the text"),
        ("DROP MODEL m n", "expected ';' after a statement, found 'n'"),
        ("DESC MODEL m$all", "1:12: 'm$all' names no version of a model; valid: m, m$2"),
        ("DESC MODEL m$0", "'m$0' names no version of a model"),
        ("SHOW MODELS LIKE x", "expected the pattern in single quotes, found 'x'"),
        ("SHOW MODELS NOT 'x'", "expected LIKE after NOT, found 'x'"),
        ("CREATE MODEL m$2 INPUT (a INT) OUTPUT (b INT) WITH ('k' = 'v')", "the model's name has no '$'"),
        ("CREATE TEMPORARY MODEL m", "1:1: CREATE TEMPORARY is no statement that lakeflow sql runs; valid: SELECT"),
        ("5", "m.sql:1:1: expected a statement, found '5'; valid: SELECT, WITH, FROM"),
        ("SHOW MODELS LIKE 'a\udcff'", "m.sql:1:20: this is no UTF-8 text"),
        ("SHOW MODELS LIKE 'x", "' is opened and not closed"),
    ],
)
def test_a_wrong_statement_says_what_is_wrong_and_where(text: str, message: str) -> None:
    assert message in refusal(text).message


@pytest.mark.parametrize(
    ("text", "next_step"),
    [
        ("CREATE TEMPORARY TABLE a.b (c INT)", "leave TEMPORARY out"),
        ("CREATE VIEW v AS SELECT 1", "WITH name AS"),
        ("USE a", "write names whole: namespace.table"),
        ("DELETE a.b", "DELETE FROM table WHERE condition"),
        ("MERGE INTO a.b", "a job with output update merges by key"),
        ("COPY a.b TO 'x'", "lakeflow query writes rows"),
    ],
)
def test_what_is_said_elsewhere_is_sent_there(text: str, next_step: str) -> None:
    error = refusal(text)
    assert error.next_step is not None
    assert error.next_step.startswith(next_step)
    assert "did you mean 'CREATE" not in error.message


def test_a_file_of_declarations_sends_statements_to_lakeflow_sql() -> None:
    for text in ("SHOW MODELS", "DROP MODEL m", "ALTER MODEL m RESET ('a')", "DESC MODEL m"):
        with pytest.raises(DeclarationError) as raised:
            parse_declarations(text)
        assert "lakeflow sql" in (raised.value.next_step or "")


def test_columns_go_to_text_and_back() -> None:
    schema = pa.schema(
        [
            pa.field("a b", pa.list_(pa.field("element", pa.struct([("x", pa.decimal128(9, 2))]))), nullable=False),
            pa.field("c", pa.string(), metadata={"doc": "it's, (one)"}),
        ]
    )
    assert parse_columns(columns_text(schema)).equals(schema, check_metadata=True)


def test_a_model_shown_as_text_is_the_same_model() -> None:
    model = ModelDeclaration(
        "a b", pa.schema([("x", pa.string())]), pa.schema([("y", pa.list_(pa.float32()))]), {"k": "it's"}, "so"
    )
    [again] = parse_script(describe(CreateModel(model)))
    assert isinstance(again, CreateModel)
    assert describe(again) == describe(CreateModel(model))
