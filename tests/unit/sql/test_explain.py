"""The steps of a query as a tree: which table is read, where models are asked, and for how many rows."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakeflow.errors import UnknownName
from lakeflow.sql.compile import compile_query
from lakeflow.sql.compiled import Compiled
from lakeflow.sql.explain import Step, estimated_calls, explain, explain_lines
from lakeflow.sql.relations import ParquetRelation, Relation, parquet_columns
from tests.unit.sql.asked import ROWS, TABLES, FakeNames, stream

NAMES = ("bronze.flights", "dim.carriers")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Relation]:
    folder = tmp_path_factory.mktemp("tables")
    return {name: written(folder, name) for name in NAMES}


def written(folder: Path, name: str) -> ParquetRelation:
    table = TABLES[name]
    fields = [field.with_metadata({"PARQUET:field_id": str(place)}) for place, field in enumerate(table.schema, 1)]
    schema = pa.schema(fields)
    pq.write_table(table.cast(schema), folder / f"{name}.parquet")
    return ParquetRelation((str(folder / f"{name}.parquet"),), parquet_columns(schema))


def steps(text: str, files: dict[str, Relation]) -> tuple[Compiled, Step]:
    compiled = compile_query(text, FakeNames())
    return compiled, explain(compiled, files)


def test_a_model_stands_above_the_filter_on_what_it_is_given(files: dict[str, Relation]) -> None:
    text = (
        "SELECT id FROM ML_PREDICT(TABLE bronze.flights, MODEL delay, DESCRIPTOR(hour, distance)) WHERE late > 9 AND id < 100"
    )
    compiled, step = steps(text, files)
    shown = [(one.name, one.asks) for one in step.walk()]
    assert shown == [("filter", ()), ("columns", ("ai_0",)), ("scan", ())]
    scanned = list(step.walk())[2]
    assert scanned.details == ("bronze.flights, 1 file", "id < 100")
    assert estimated_calls(step) == {"ai_0": scanned.rows}
    assert scanned.rows is not None
    assert 0 < scanned.rows < ROWS
    lines = explain_lines(step, compiled)
    assert lines[1] == f"└─ columns, asks model delay (~{scanned.rows:,} times) (~{scanned.rows:,} rows)"
    assert lines[2] == f"   └─ scan [bronze.flights, 1 file] [id < 100] (~{scanned.rows:,} rows)"


def test_every_call_of_a_chain_is_shown(files: dict[str, Relation]) -> None:
    text = """
    SELECT f.id, v.doc, CASE WHEN f.hour > 3 THEN AI_COMPLETE('llm', v.title) END AS a FROM bronze.flights AS f
    , LATERAL TABLE(VECTOR_SEARCH(TABLE gold.docs, DESCRIPTOR(vec), ML_EMBED(MODEL embed, f.carrier), 3)) AS v
    """
    compiled, step = steps(text, files)
    asked = {function for one in step.walk() for function in one.asks}
    assert [one.name for one in step.walk()] == ["columns", "columns", "scan"]
    assert asked == {call.function for call in compiled.calls} == {"ai_0", "ai_1", "ai_2"}
    text = "\n".join(explain_lines(step, compiled))
    for said in ("asks model llm", "asks model embed", "asks search gold.docs (vec), 3 nearest"):
        assert text.count(said) == 1
    assert "ai_" not in text


def test_equal_calls_are_one_step_and_others_are_several(files: dict[str, Relation]) -> None:
    twice = "SELECT AI_COMPLETE('llm', carrier) AS a, AI_COMPLETE('llm', carrier) || '!' AS b FROM bronze.flights"
    assert estimated_calls(steps(twice, files)[1]) == {"ai_0": ROWS}
    united = (
        "SELECT AI_COMPLETE('llm', carrier) AS a FROM bronze.flights "
        "UNION ALL SELECT AI_COMPLETE('llm', name) FROM dim.carriers"
    )
    assert estimated_calls(steps(united, files)[1]) == {"ai_0": ROWS + 10}


def test_where_rows_are_not_known_calls_are_not(files: dict[str, Relation]) -> None:
    compiled = compile_query("SELECT AI_COMPLETE('llm', carrier) AS a FROM bronze.flights", FakeNames())
    step = explain(compiled, {"bronze.flights": stream(TABLES["bronze.flights"])})
    assert estimated_calls(step) == {"ai_0": None}
    assert explain_lines(step, compiled) == ["columns, asks model llm", "└─ scan [bronze.flights]"]


def test_joins_and_groups_are_told_in_words(files: dict[str, Relation]) -> None:
    text = "SELECT name, count(*) AS n FROM bronze.flights JOIN dim.carriers USING (carrier) GROUP BY name ORDER BY n LIMIT 2"
    compiled, step = steps(text, files)
    lines = explain_lines(step, compiled)
    words = [line.strip(" │├└─").split(" [")[0] for line in lines]
    assert words[0] == "first rows in order"
    assert "group" in words
    assert "join" in words
    assert words.count("scan") == 2


def test_a_table_that_is_not_given_is_unknown() -> None:
    compiled = compile_query("FROM bronze.flights", FakeNames())
    with pytest.raises(UnknownName, match=r"bronze\.flights"):
        explain(compiled, {})


def test_tables_of_the_same_columns_are_told_apart(tmp_path: Path, files: dict[str, Relation]) -> None:
    """By their rows, by what the other scans read, and by their kind."""
    text = "SELECT f.id FROM bronze.flights AS f WHERE f.carrier IN (SELECT carrier FROM dim.carriers)"
    compiled, step = steps(text, files)
    assert explain_lines(step, compiled)[1:] == [
        f"├─ scan [bronze.flights, 1 file] (~{ROWS:,} rows)",
        "└─ scan [dim.carriers, 1 file] (~10 rows)",
    ]
    text = "SELECT f.id FROM bronze.flights AS f JOIN dim.carriers AS c ON c.carrier = f.carrier WHERE c.carrier > 'b'"
    compiled, step = steps(text, files)
    scanned = sorted(one.details[0] for one in step.walk() if one.name == "scan")
    assert scanned == ["bronze.flights, 1 file", "dim.carriers, 1 file"]


def test_what_is_joined_grouped_and_shown_by_number_is_named(files: dict[str, Relation]) -> None:
    text = "SELECT f.id FROM bronze.flights AS f WHERE f.carrier IN (SELECT carrier FROM dim.carriers)"
    assert steps(text, files)[1].details == ("bronze.flights.carrier = dim.carriers.carrier",)
    text = "SELECT carrier, avg(distance) AS far FROM bronze.flights GROUP BY carrier"
    [group] = [one for one in steps(text, files)[1].walk() if one.name == "group"]
    assert group.details == ("carrier", "avg(CAST(distance AS DOUBLE))")


def test_what_models_are_expected_to_take_stands_where_they_are_asked(files: dict[str, Relation]) -> None:
    compiled, step = steps("SELECT AI_COMPLETE('llm', carrier) AS a FROM bronze.flights", files)
    [line, _] = explain_lines(step, compiled, {"llm": "40 calls and cost 0.5"})
    assert line == f"columns, asks model llm (~{ROWS:,} times), 40 calls and cost 0.5 (~{ROWS:,} rows)"
