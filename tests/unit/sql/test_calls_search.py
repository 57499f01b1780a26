"""VECTOR_SEARCH in queries: its forms, what comes out of it, and what it refuses."""

from __future__ import annotations

import pyarrow as pa
import pytest

from lakeflow.declare import IndexSpec
from lakeflow.errors import UnknownName, UsageError
from lakeflow.sql.compile import compile_query
from lakeflow.sql.compiled import SearchCall
from tests.unit.sql.asked import VECTOR, Asked, FakeNames

INDEX = IndexSpec("docs", "gold.docs", "vec", key="doc", model="embed")


@pytest.fixture
def asked() -> Asked:
    return Asked()


def search_of(text: str, names: FakeNames | None = None) -> SearchCall:
    (call,) = (one for one in compile_query(text, names or FakeNames()).calls if isinstance(one, SearchCall))
    return call


@pytest.mark.parametrize(
    "form",
    [
        "VECTOR_SEARCH(TABLE gold.docs, DESCRIPTOR(vec), [1.0, 1], 2)",
        "TABLE(VECTOR_SEARCH(TABLE gold.docs, DESCRIPTOR(VEC), ARRAY[1, 1], 2))",
        "VECTOR_SEARCH(TABLE lakeflow.gold.docs, 'vec', [1.0, 1]::DOUBLE[], 2, MAP['exact', 'true'])",
        (
            "VECTOR_SEARCH(SEARCH_TABLE => TABLE gold.docs, COLUMN_TO_SEARCH => DESCRIPTOR(vec), "
            "COLUMN_TO_QUERY => [1, 1], TOP_K => 2)"
        ),
        "VECTOR_SEARCH(TABLE gold.docs, DESCRIPTOR(vec), [1, 1], TOP_K => 2, DISTANCE => 'l2')",
        "VECTOR_SEARCH(TABLE => TABLE gold.docs, COLUMN => 'vec', QUERY => [1, 1]::FLOAT[2], K => 2)",
    ],
)
def test_the_nearest_rows_of_a_table_for_one_query(asked: Asked, form: str) -> None:
    assert asked(f"SELECT doc, title, score FROM {form} ORDER BY score DESC") == [
        {"doc": "b", "title": "B", "score": 0.0},
        {"doc": "a", "title": "A", "score": -1.0},
    ]
    assert asked.calls["search"] == 1


@pytest.mark.parametrize(
    "join",
    [
        ", LATERAL TABLE(VECTOR_SEARCH(TABLE gold.docs, DESCRIPTOR(vec), ML_EMBED(MODEL embed, c.name), 1)) AS v",
        "CROSS APPLY VECTOR_SEARCH(TABLE gold.docs, DESCRIPTOR(vec), ML_EMBED(MODEL embed, c.name), 1) AS v",
        "CROSS JOIN LATERAL (SELECT * FROM VECTOR_SEARCH(TABLE gold.docs, 'vec', ML_EMBED(MODEL embed, c.name), 1)) AS v",
        (
            ", LATERAL TABLE(AI_EMBEDDING('embed', c.name)) AS e, LATERAL TABLE(VECTOR_SEARCH(TABLE "
            "gold.docs, DESCRIPTOR(vec), e.vector, 1)) AS v"
        ),
    ],
)
def test_the_nearest_rows_for_each_row(asked: Asked, join: str) -> None:
    text = f"SELECT c.carrier, v.doc, v.vec FROM dim.carriers AS c {join} WHERE c.carrier IN ('c1', 'c2') ORDER BY 1"
    assert asked(text) == [{"carrier": f"c{row}", "doc": "c", "vec": [5.0, 1.0]} for row in (1, 2)]
    assert asked.calls == {"embed": 2, "search": 2}


def test_rows_without_hits_stay_where_the_join_keeps_them(asked: Asked) -> None:
    text = """
    SELECT c.carrier, v.doc FROM dim.carriers AS c
    {} LATERAL TABLE(VECTOR_SEARCH(TABLE gold.docs, DESCRIPTOR(vec), CASE WHEN c.carrier = 'c1' THEN [1.0, 1] END, 1)) AS v {}
    WHERE c.carrier < 'c2' ORDER BY 1
    """
    assert asked(text.format("LEFT JOIN", "ON TRUE")) == [{"carrier": "c0", "doc": None}, {"carrier": "c1", "doc": "b"}]
    assert asked(text.format("CROSS JOIN", "")) == [{"carrier": "c1", "doc": "b"}]


def test_the_context_of_a_question(asked: Asked) -> None:
    text = """
    SELECT c.carrier, AI_COMPLETE('llm', string_agg(v.title, ',' ORDER BY v.score DESC)) AS answer
    FROM dim.carriers AS c, LATERAL TABLE(VECTOR_SEARCH(TABLE gold.docs, DESCRIPTOR(vec), ML_EMBED(MODEL
    embed, c.carrier), 2)) AS v
    WHERE c.carrier < 'c2' GROUP BY c.carrier ORDER BY 1
    """
    assert asked(text) == [{"carrier": "c0", "answer": "B,A"}, {"carrier": "c1", "answer": "B,A"}]
    assert asked.calls == {"embed": 2, "search": 2, "llm": 2}


def test_a_text_is_a_query_where_the_index_has_a_model() -> None:
    asked = Asked(FakeNames((INDEX,)))
    assert asked("SELECT doc FROM VECTOR_SEARCH(TABLE gold.docs, DESCRIPTOR(vec), 'B', 2)") == [{"doc": "b"}]
    assert search_of("FROM VECTOR_SEARCH(TABLE gold.docs, DESCRIPTOR(vec), 'B', 2)", FakeNames((INDEX,))).query == pa.string()
    by_words = "FROM VECTOR_SEARCH(TABLE gold.docs, DESCRIPTOR(vec), 'B', 2, MAP['mode', 'fts'])"
    assert search_of(by_words).query == pa.string()


def test_what_is_asked_of_the_search() -> None:
    call = search_of(
        "FROM VECTOR_SEARCH(TABLE gold.docs, DESCRIPTOR(vec), [1], CONFIG => MAP['filter', 'doc <> "
        "''a''', 'output_columns', 'title, DOC'])"
    )
    assert (call.table, call.column, call.k, call.query) == ("gold.docs", "vec", 10, VECTOR)
    assert call.columns == pa.schema([("doc", pa.string()), ("title", pa.string())])
    assert call.config == {"filter": "doc <> 'a'", "output_columns": "title, DOC"}
    assert [field.name for field in call.result.value_type] == ["doc", "title", "score"]


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ("VECTOR_SEARCH(TABLE gold.dogs, DESCRIPTOR(vec), [1], 2)", "unknown table 'gold.dogs'; did you mean 'gold.docs'?"),
        (
            "VECTOR_SEARCH(TABLE gold.docs, DESCRIPTOR(vac), [1], 2)",
            "unknown column of gold.docs in DESCRIPTOR: 'vac'; did you mean 'vec'?",
        ),
        (
            "VECTOR_SEARCH(TABLE gold.docs, DESCRIPTOR(doc), [1], 2)",
            "column 'doc' of gold.docs is string; VECTOR_SEARCH needs vectors",
        ),
        ("VECTOR_SEARCH(TABLE gold.docs, DESCRIPTOR(vec, doc), [1], 2)", "DESCRIPTOR names 2 columns; valid: 1"),
        ("VECTOR_SEARCH(TABLE gold.docs, DESCRIPTOR(vec), 'text', 2)", "no index over gold.docs (vec) has a model for it"),
        ("VECTOR_SEARCH(TABLE gold.docs, DESCRIPTOR(vec), 7, 2)", "valid: a vector"),
        ("VECTOR_SEARCH(TABLE gold.docs, DESCRIPTOR(vec), [1], 0)", "a whole number from 1 on"),
        ("VECTOR_SEARCH(TABLE gold.docs, DESCRIPTOR(vec), [1], 1 + 1)", "a whole number from 1 on"),
        (
            "VECTOR_SEARCH(TABLE gold.docs, DESCRIPTOR(vec), [1], 2, MAP['output_columns', 'x'])",
            "unknown column of gold.docs in output_columns: 'x'",
        ),
        ("VECTOR_SEARCH(TABLE (SELECT * FROM gold.docs), DESCRIPTOR(vec), [1], 2)", "looks in a table, not in a query"),
        ("VECTOR_SEARCH(TABLE gold.docs FOR VERSION AS OF 3, DESCRIPTOR(vec), [1], 2)", "looks in a table, not in a query"),
        ("VECTOR_SEARCH(TABLE gold.docs, DESCRIPTOR(vec))", "needs COLUMN_TO_QUERY"),
        ("VECTOR_SEARCH(TABLE gold.docs, DESCRIPTOR(vec), [1], TOPK => 2)", "no argument TOPK; did you mean 'TOP_K'?"),
        ("VECTOR_SEARCH(TABLE gold.docs, DESCRIPTOR(vec), [1], 2, DISTANCE => l2)", "DISTANCE is written out"),
    ],
)
def test_errors_point_at_the_argument(form: str, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        compile_query(f"SELECT 1 FROM {form}", FakeNames())
    assert message in str(raised.value)
    assert str(raised.value).startswith("line 1:")
    assert "^" in str(raised.value)


def test_a_search_gives_rows() -> None:
    with pytest.raises(UsageError, match="VECTOR_SEARCH gives rows and stands in FROM"):
        compile_query("SELECT VECTOR_SEARCH(TABLE gold.docs, DESCRIPTOR(vec), [1], 2)", FakeNames())


def test_the_table_that_is_searched_is_not_read() -> None:
    with pytest.raises(UnknownName, match="vec2"):
        compile_query("SELECT vec2 FROM VECTOR_SEARCH(TABLE gold.docs, DESCRIPTOR(vec), [1], 2)", FakeNames())
    assert compile_query("FROM VECTOR_SEARCH(TABLE gold.docs, DESCRIPTOR(vec), [1], 2)", FakeNames()).reads == ()
