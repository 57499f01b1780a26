"""Every case of the corpus comes out as it says."""

from __future__ import annotations

import pyarrow as pa
import pytest

from lakeflow.errors import LakeflowError
from lakeflow.sql.compile import compile_query
from lakeflow.sql.execute import Limits, run_compiled
from lakeflow.sql.relations import ArrowRelation
from lakeflow.sql.script import parse_script
from lakeflow.sql.types import sql_type
from tests.sql.corpus import Case, cases, expected_rows, read_cases, shown
from tests.sql.meaning import meaning
from tests.sql.models import Asked

ALL = list(cases())


@pytest.mark.parametrize("case", ALL, ids=[case.name for case in ALL])
def test_a_case_comes_out_as_it_says(case: Case) -> None:
    run = _check_query if "sql" in case.sections else _check_statement
    if "error" not in case.sections:
        run(case)
        return
    with pytest.raises(LakeflowError) as raised:
        run(case)
    said = f"{raised.value.message}\nnext: {raised.value.next_step}"
    for part in case.sections["error"].lines:
        assert part in said


def _check_query(case: Case) -> None:
    asked = Asked(case.tables)
    compiled = compile_query(case.sections["sql"].text, asked)
    relations = {
        read.view: ArrowRelation(case.tables[read.name].schema, case.tables[read.name].to_reader) for read in compiled.reads
    }
    with run_compiled(compiled, relations, asked.functions(compiled), Limits(threads=1)) as reader:
        found = reader.read_all()
    rows = [[shown(row[name]) for name in found.column_names] for row in _rows(found)]
    section = case.sections.get("rows")
    if section is not None:
        expected = expected_rows(section)
        if section.rest == "in any order":
            rows, expected = sorted(rows, key=repr), sorted(expected, key=repr)
        assert rows == expected
    if "columns" in case.sections:
        assert ", ".join(f"{one.name} {sql_type(one.type)}" for one in found.schema) == case.sections["columns"].rest
    if "rows" in case.sections:
        assert dict(asked.rows) == case.calls


def _rows(found: pa.Table) -> list[dict[str, object]]:
    if len(set(found.column_names)) != len(found.column_names):
        pytest.fail(f"columns are called alike: {found.column_names}")
    rows: list[dict[str, object]] = found.to_pylist()
    return rows


def _check_statement(case: Case) -> None:
    [statement] = parse_script(case.sections["statement"].text)
    if "means" in case.sections:
        assert meaning(statement) == case.sections["means"].text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("== x\nsqll\n  SELECT 1", "f:2: 'sqll' is no section"),
        ("== x\nsql\n  SELECT 1", "f:1 x: a case has one of sql and statement, and one of rows, error and means"),
    ],
)
def test_a_file_that_is_none_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_cases("f", text)


def test_names_of_cases_differ_within_a_file() -> None:
    names = [(case.name.split(":")[0], case.name.partition(" ")[2]) for case in ALL]
    assert len(names) == len(set(names))
