"""Compiled queries as they run: functions get what they are declared with, errors come back, and nothing else is let in."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pyarrow as pa
import pytest

from lakeflow.errors import BudgetSpent, LakeflowError, ProviderUnavailable, Terminal, UnknownName, UsageError
from lakeflow.sql.compile import compile_query
from lakeflow.sql.compiled import Compiled, Function, Moment, TableRead
from lakeflow.sql.execute import run_compiled
from tests.unit.sql.asked import LLM, TABLES, FakeNames, parameters, predicted, stream

TEXT = "SELECT id, AI_COMPLETE('llm', carrier) AS a FROM bronze.flights"
RELATIONS = {name: stream(table) for name, table in TABLES.items()}


def run(call: Callable[[pa.RecordBatch], pa.Array], text: str = TEXT) -> pa.RecordBatchReader:
    compiled = compile_query(text, FakeNames())
    behind = [Function(one.function, parameters(one), one.result, call) for one in compiled.calls]
    return run_compiled(compiled, RELATIONS, behind)


def answers(rows: pa.RecordBatch) -> pa.Array:
    return pa.array([{"answer": "x"}] * rows.num_rows, pa.struct(list(LLM.output)))


@pytest.mark.parametrize("error", [ProviderUnavailable("slow down"), BudgetSpent("no more"), UsageError("so not")])
def test_an_error_of_a_function_comes_back_as_it_was_raised(error: LakeflowError) -> None:
    def fail(_rows: pa.RecordBatch) -> pa.Array:
        raise error

    with pytest.raises(type(error)) as raised:
        run(fail).read_all()
    assert raised.value is error


def test_another_error_of_a_function_is_told() -> None:
    def fail(_rows: pa.RecordBatch) -> pa.Array:
        raise KeyError("gone")

    with pytest.raises(Terminal, match=r"what stands behind 'ai_0' failed: KeyError\('gone'\)"):
        run(fail).read_all()


def test_a_function_that_gives_too_few_values_is_found_out() -> None:
    with pytest.raises(Terminal, match=r"'ai_0' gave 0 values for \d+ rows"):
        run(lambda rows: answers(rows)[:0]).read_all()


def test_an_answer_of_a_nearby_type_becomes_the_declared_one() -> None:
    large = pa.struct([("answer", pa.large_string())])
    found = run(lambda rows: answers(rows).cast(large)).read_all()
    assert found.schema.field("a").type == pa.string()


def test_a_reader_that_is_let_go_of_stops_the_calls() -> None:
    calls: list[int] = []

    def count(rows: pa.RecordBatch) -> pa.Array:
        calls.append(rows.num_rows)
        return answers(rows)

    reader = run(count)
    reader.read_next_batch()
    reader.close()
    del reader
    assert sum(calls) <= TABLES["bronze.flights"].num_rows


def test_every_view_and_every_function_must_be_there() -> None:
    compiled = compile_query(TEXT, FakeNames())
    with pytest.raises(UnknownName, match=r"bronze\.flights"):
        run_compiled(compiled, {}, ())
    with pytest.raises(UsageError, match="nothing stands behind 'ai_0'"):
        run_compiled(compiled, RELATIONS, ())


@pytest.mark.parametrize(
    "text",
    [
        "WITH x AS (COPY bronze.flights TO 'out.csv') SELECT 1",
        "SELECT * FROM read_text('/etc/hostname')",
        "SELECT getenv('HOME')",
        "SELECT * FROM dim.carriers",
        "SELECT 1; SELECT 2",
        "SET threads = 1",
    ],
)
def test_text_that_no_compiler_of_ours_wrote_is_held_against_the_allow_list(text: str) -> None:
    compiled = Compiled(text, text, (TableRead("bronze.flights", "bronze.flights"),))
    with pytest.raises(LakeflowError) as raised:
        run_compiled(compiled, RELATIONS, ()).read_all()
    assert isinstance(raised.value, UsageError)


def test_values_of_rows_never_become_sql() -> None:
    asked: list[str] = []
    evil = "'); COPY (SELECT 1) TO 'x.csv'; --"
    table = pa.table({"a": [evil, 'x" OR 1=1 --']})

    def ask(rows: pa.RecordBatch) -> pa.Array:
        asked.extend(rows.column(0).to_pylist())
        return predicted(compiled.calls[0], rows)  # type: ignore[arg-type]

    class OneTable(FakeNames):
        def table(self, name: str, at: Moment | None) -> pa.Schema:
            return table.schema

    compiled = compile_query("SELECT answer FROM ML_PREDICT(TABLE b.t, MODEL llm, DESCRIPTOR(a))", OneTable())
    behind = [Function(one.function, parameters(one), one.result, ask) for one in compiled.calls]
    found = run_compiled(compiled, {"b.t": stream(table)}, behind).read_all().column("answer").to_pylist()
    assert found == [evil.upper(), 'X" OR 1=1 --']
    assert sorted(asked) == sorted(table.column("a").to_pylist())


LEFT_OPEN = """
import pyarrow as pa
from tests.unit.sql.test_run_compiled import answers, run
reader = run(answers)
print(reader.read_next_batch().num_rows > 0)
"""


def test_a_reader_that_is_still_open_at_the_end_of_the_process_says_nothing() -> None:
    ended = subprocess.run([sys.executable, "-c", LEFT_OPEN], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.stdout.strip(), ended.stderr, ended.returncode) == ("True", "", 0)
