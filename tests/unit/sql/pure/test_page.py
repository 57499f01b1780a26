"""The examples of docs/sql/functions.md give what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pytest

from lakeflow.declare import IndexSpec
from lakeflow.errors import UnknownName
from lakeflow.sql.compile import compile_query
from lakeflow.sql.compiled import Moment, Signature
from lakeflow.sql.execute import run_compiled
from lakeflow.sql.pure.registry import pure_functions

PAGE = (Path(__file__).parents[4] / "docs" / "sql" / "functions.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^    (SELECT .*) -- (.*)$", PAGE, re.MULTILINE)


class Nothing:
    """A project in which nothing has a name."""

    def table(self, name: str, at: Moment | None) -> pa.Schema:
        raise UnknownName("table", name, ())

    def model(self, name: str) -> Signature:
        raise UnknownName("model", name, ())

    def index(self, table: str, column: str) -> IndexSpec | None:
        return None


@pytest.mark.parametrize(("text", "expected"), EXAMPLES, ids=[text for text, _ in EXAMPLES])
def test_an_example_gives_what_stands_behind_it(text: str, expected: str) -> None:
    [row] = run_compiled(compile_query(text, Nothing()), {}, ()).read_all().to_pylist()
    [value] = row.values()
    assert str(value) == expected


def test_every_function_is_on_the_page_with_its_arguments_and_an_example() -> None:
    assert {function.name for function in pure_functions().values() if f"`{function.usage}`" not in PAGE} == set()
    assert {name for name in pure_functions() if not any(name in text for text, _ in EXAMPLES)} == set()
