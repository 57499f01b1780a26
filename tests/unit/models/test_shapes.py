from __future__ import annotations

from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lakeflow.errors import ModelError
from lakeflow.models.prompt import read_prompt
from lakeflow.models.shapes import answer_of, check_answer, column_of, parsed
from lakeflow.models.spec import ModelSpec, Task
from lakeflow.sql.parse import parse_declarations
from lakeflow.sql.statements import CreateModel

REPOSITORY = Path(__file__).parents[3]
INNER = pa.struct([pa.field("sku", pa.string(), nullable=False), ("n", pa.int16())])


@pytest.mark.parametrize(
    ("kind", "given", "kept"),
    [
        (pa.string(), "x", "x"),
        (pa.bool_(), True, True),
        (pa.int8(), 127, 127),
        (pa.float32(), 1, 1.0),
        (pa.float64(), 0.1, 0.1),
        (pa.decimal128(5, 2), "123.45", Decimal("123.45")),
        (pa.decimal128(5, 2), 123.45, Decimal("123.45")),
        (pa.date32(), "2013-01-31", date(2013, 1, 31)),
        (pa.time64("us"), "23:59:59", time(23, 59, 59)),
        (pa.timestamp("us"), "2013-01-31T01:02:03", datetime(2013, 1, 31, 1, 2, 3)),
        (pa.timestamp("us", "UTC"), "2013-01-31T01:02:03+01:00", datetime(2013, 1, 31, 0, 2, 3, tzinfo=UTC)),
        (pa.list_(pa.int32()), [1, None, 3], [1, None, 3]),
        (pa.list_(pa.float32(), 2), [1.0, 0.5], [1.0, 0.5]),
        (pa.list_(INNER), [{"sku": "a", "n": None}], [{"sku": "a", "n": None}]),
        (pa.string(), None, None),
    ],
)
def test_a_value_of_json_becomes_its_column(kind: pa.DataType, given: Any, kept: Any) -> None:
    column = pa.field("c", kind)
    check_answer((given,), [column])
    assert column_of([given, None], column).to_pylist() == [kept, None]


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        (pa.string(), 1),
        (pa.bool_(), "true"),
        (pa.bool_(), 1),
        (pa.int8(), 128),
        (pa.int32(), 1.0),
        (pa.int32(), "1"),
        (pa.int32(), True),
        (pa.int64(), 2**63),
        (pa.float64(), "0.5"),
        (pa.float64(), float("inf")),
        (pa.float64(), True),
        (pa.decimal128(5, 2), "1.234"),
        (pa.decimal128(5, 2), "NaN"),
        (pa.decimal128(5, 2), "1234.5"),
        (pa.date32(), "31.01.2013"),
        (pa.timestamp("us"), "2013-01-31T01:02:03Z"),
        (pa.timestamp("us", "UTC"), "2013-01-31T01:02:03"),
        (pa.float64(), 10**400),
        (pa.list_(pa.float32()), [10**400]),
        (pa.timestamp("us", "UTC"), "0001-01-01T00:00:00+23:59"),
        (pa.time64("us"), "10:00:00+02:00"),
        (pa.list_(pa.int32()), {"0": 1}),
        (pa.list_(pa.float32()), [0.5, "x"]),
        (pa.list_(pa.float32()), [0.5, float("inf")]),
        (pa.list_(pa.float32(), 2), [1.0]),
        (INNER, {"sku": "a"}),
        (INNER, {"sku": "a", "n": 1, "more": 2}),
        (INNER, {"sku": None, "n": 1}),
        (INNER, ["a", 1]),
    ],
)
def test_no_kind_becomes_another(kind: pa.DataType, given: Any) -> None:
    with pytest.raises(ModelError, match="'c"):
        check_answer((given,), [pa.field("c", kind)])


def test_an_answer_has_every_column_and_no_other() -> None:
    columns = [pa.field("a", pa.string(), nullable=False), pa.field("b", pa.int64())]
    assert answer_of({"b": None, "a": "x"}, columns) == ("x", None)
    for given, said in (
        ({"a": "x"}, "no 'b'"),
        ({"a": "x", "b": 1, "c": 2}, "'c', which OUTPUT does not declare"),
        ({"a": None, "b": 1}, "NOT NULL"),
        (["x", 1], "not an object of a, b"),
    ):
        with pytest.raises(ModelError, match=said):
            answer_of(given, columns)
    with pytest.raises(ModelError, match="valid: x, y"):
        answer_of({"a": "z", "b": 1}, columns, ["x", "y"])


@pytest.mark.parametrize("text", ["", "{", '{"a": NaN}', "[" * 100_000, b"\xff"])
def test_what_is_no_json_is_said_so(text: str | bytes) -> None:
    with pytest.raises(ModelError, match="the answer is no JSON"):
        parsed(text)


@pytest.mark.parametrize(
    ("template", "row", "text"),
    [
        (None, {"a": "x", "b": None}, '{"a": "x", "b": null}'),
        ("{a}", {"a": "{b}", "b": 1}, "{b}"),
        ("{{{ a }}} {b}", {"a": "x", "b": 1}, "{x} 1"),
        ("{a}{b}", {"a": None, "b": True}, "true"),
        ("{a} on {b}", {"a": [1, {"k": date(2013, 1, 1)}], "b": date(2013, 1, 2)}, '[1, {"k": "2013-01-01"}] on 2013-01-02'),
    ],
)
def test_a_row_as_a_prompt(template: str | None, row: dict[str, Any], text: str) -> None:
    columns = pa.schema([("a", pa.string()), ("b", pa.string())])
    options = {} if template is None else {"prompt": template}
    assert read_prompt(ModelSpec("m", "openai", Task.TEXT_GENERATION, columns, columns, options)).of(row) == text


def test_the_models_of_the_documentation_are_declared_as_it_says() -> None:
    page = (REPOSITORY / "docs" / "declarations.md").read_text(encoding="utf-8")
    example = page[page.index("    CREATE MODEL triage") :].partition("\n\n")[0]
    [statement] = parse_declarations(example, Path("docs/declarations.md"))
    assert isinstance(statement, CreateModel)
    spec = ModelSpec.from_declaration(statement.model, REPOSITORY)
    assert read_prompt(spec).of({"subject": "Hello", "body": "It is down"}) == "Subject: Hello. It is down"


def test_half_of_a_pair_of_surrogates_is_no_text() -> None:
    column = pa.field("a", pa.string())
    with pytest.raises(ModelError, match="which is no string"):
        answer_of(parsed('{"a": "half \\ud83d"}'), [column])
    assert answer_of(parsed('{"a": "\\ud83d\\ude00"}'), [column]) == ("😀",)
