"""Queries with ML_PREDICT, ML_EMBED and AI_COMPLETE: right rows, no more calls than rows that need them, errors that point."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pytest

from lakeflow.errors import LakeflowError, UnknownName, UsageError
from lakeflow.sql.compile import compile_query
from tests.unit.sql.asked import ROWS, Asked, FakeNames


@pytest.fixture
def asked() -> Asked:
    return Asked()


FORMS = [
    "ML_PREDICT(TABLE bronze.flights, MODEL delay, DESCRIPTOR(hour, distance))",
    "TABLE(ML_PREDICT(TABLE bronze.flights, MODEL delay, DESCRIPTOR(hour, distance)))",
    "ml_predict(table bronze.flights, model delay, descriptor(HOUR, Distance))",
    "ML_PREDICT(TABLE lakeflow.bronze.flights, MODEL delay$2, DESCRIPTOR(hour, distance), MAP['async', 'true'])",
    "ML_PREDICT(INPUT => TABLE bronze.flights, MODEL => MODEL delay, ARGS => DESCRIPTOR(hour, distance))",
    (
        "ML_PREDICT(ARGS => DESCRIPTOR(hour, distance), CONFIG => MAP {'timeout': '9s'}, INPUT => TABLE "
        "bronze.flights, MODEL => 'delay')"
    ),
    'ML_PREDICT(TABLE (SELECT * FROM bronze.flights), MODEL `delay`, DESCRIPTOR(`hour`, "distance"))',
    "ML_PREDICT((SELECT * FROM bronze.flights), 'delay', DESCRIPTOR(hour, distance))",
]


@pytest.mark.parametrize("form", FORMS)
def test_the_rows_of_a_table_and_what_the_model_says(asked: Asked, form: str) -> None:
    assert asked(f"SELECT * EXCLUDE (time) FROM {form} WHERE id = 3") == [
        {"id": 3, "hour": 3, "distance": 1.0, "carrier": "c3", "late": 31.0}
    ]
    assert sum(asked.calls.values()) == 1


def test_settings_of_the_call_are_kept(asked: Asked) -> None:
    asked(
        "SELECT id FROM ML_PREDICT(TABLE bronze.flights, MODEL delay$2, DESCRIPTOR(hour, distance), "
        "MAP['Max-Parallelism', '5', 'async', true])"
    )
    assert asked.compiled is not None
    (call,) = compile_query(asked.compiled.written, FakeNames()).calls
    assert (call.model.name, dict(call.config)) == ("delay$2", {"max_parallelism": "5", "async": "true"})  # type: ignore[union-attr]


def test_a_filter_on_the_table_goes_below_the_model_and_one_on_its_answer_does_not(asked: Asked) -> None:
    found = asked(f"SELECT id, late FROM {FORMS[0]} WHERE late > 230 AND id < 100 AND carrier <> 'c3'")
    assert found == [{"id": row, "late": 231.0} for row in (47, 71, 95)]
    assert asked.calls["delay"] == 90


def test_a_model_of_whose_answers_nothing_is_used_is_not_asked(asked: Asked) -> None:
    assert asked(f"SELECT count(*) AS n FROM {FORMS[0]}") == [{"n": ROWS}]
    assert not asked.calls


def test_a_limit_stops_the_calls(asked: Asked) -> None:
    assert len(asked(f"SELECT id, late FROM {FORMS[0]} LIMIT 3")) == 3
    assert asked.calls["delay"] <= 2048


def test_output_columns_whose_names_are_taken_get_a_number(asked: Asked) -> None:
    inner = "TABLE (SELECT id, hour, distance, 0 AS LATE FROM bronze.flights WHERE id = 1)"
    assert asked(f"SELECT * FROM ML_PREDICT({inner}, MODEL delay, DESCRIPTOR(hour, distance))") == [
        {"id": 1, "hour": 1, "distance": 1.0, "LATE": 0, "late0": 11.0}
    ]


def test_the_answers_of_one_model_are_the_input_of_the_next(asked: Asked) -> None:
    first = "ML_PREDICT(TABLE bronze.flights, MODEL delay, DESCRIPTOR(hour, distance))"
    text = (
        f"SELECT id, late, late0 FROM ML_PREDICT(TABLE (SELECT * FROM {first}), MODEL delay, "
        f"DESCRIPTOR(hour, late)) WHERE id = 2"
    )
    assert asked(text) == [{"id": 2, "late": 21.0, "late0": 41.0}]
    assert asked.calls["delay"] == 2


def test_a_common_table_expression_is_a_table(asked: Asked) -> None:
    text = """
    WITH few AS (SELECT *, ML_PREDICT(MODEL delay, hour, distance) AS score FROM bronze.flights WHERE id < 3),
         scored AS (SELECT * FROM ML_PREDICT(TABLE few, MODEL delay, DESCRIPTOR(id, score)))
    SELECT p.id, p.late FROM scored AS p ORDER BY p.id
    """
    assert asked(text) == [{"id": 0, "late": 1.0}, {"id": 1, "late": 21.0}, {"id": 2, "late": 41.0}]
    assert asked.calls["delay"] == 6


def test_an_alias_names_the_rows_and_their_columns(asked: Asked) -> None:
    text = "SELECT p.b FROM ML_PREDICT(TABLE dim.carriers, MODEL llm, DESCRIPTOR(name)) AS p(a, b, c) WHERE p.c = 'CARRIER 7'"
    assert asked(text) == [{"b": "Carrier 7"}]


def test_names_that_need_quotes(asked: Asked) -> None:
    text = 'SELECT "a b", answer FROM ML_PREDICT(TABLE bronze."odd names", MODEL llm, DESCRIPTOR("sel\'ect")) ORDER BY 1'
    assert asked(text) == [{"a b": 1, "answer": "X"}, {"a b": 2, "answer": "Y"}]
    assert asked(text.replace('"', "`")) == [{"a b": 1, "answer": "X"}, {"a b": 2, "answer": "Y"}]


LATERALS = [
    "bronze.flights AS f, LATERAL TABLE(ML_PREDICT('delay', f.hour, f.distance)) AS p",
    "bronze.flights AS f, LATERAL ML_PREDICT(MODEL delay, f.hour, f.distance) AS p",
    "bronze.flights AS f CROSS JOIN LATERAL TABLE(ML_PREDICT('delay', hour, distance, MAP['async', 'false'])) AS p",
    "bronze.flights AS f LEFT JOIN LATERAL TABLE(ML_PREDICT('delay', f.hour, f.distance)) AS p ON TRUE",
    "bronze.flights AS f CROSS APPLY ML_PREDICT('delay', f.hour, f.distance) AS p",
    "bronze.flights AS f OUTER APPLY TABLE(ML_PREDICT('delay', f.hour, f.distance)) AS p",
    "bronze.flights AS f CROSS APPLY ML_PREDICT(VALUES (f.hour, f.distance), MODEL delay, DESCRIPTOR(col0, col1)) AS p",
    "bronze.flights AS f CROSS APPLY ML_PREDICT(TABLE (VALUES (f.hour, f.distance)), MODEL delay, DESCRIPTOR(col0, col1)) AS p",
    "bronze.flights AS f CROSS APPLY ML_PREDICT(TABLE (SELECT f.hour AS h, 1.0 AS d), MODEL delay, DESCRIPTOR(h, d)) AS p",
    (
        "bronze.flights AS f CROSS APPLY ML_PREDICT(INPUT => (SELECT f.hour AS h, 1.0 AS d), MODEL => "
        "MODEL delay, ARGS => DESCRIPTOR(h, d)) AS p"
    ),
]


@pytest.mark.parametrize("source", LATERALS)
def test_a_model_for_each_row_of_another_table(asked: Asked, source: str) -> None:
    assert asked(f"SELECT f.id, p.late FROM {source} WHERE f.id BETWEEN 7 AND 8 ORDER BY 1") == [
        {"id": 7, "late": 71.0},
        {"id": 8, "late": 81.0},
    ]
    assert asked.calls["delay"] == 2
    assert len(asked(f"SELECT f.id, p.late FROM {source} LIMIT 2")) == 2
    assert asked.calls["delay"] <= 2048


def test_several_rows_for_each_row_of_another_table(asked: Asked) -> None:
    text = """
    SELECT f.id, p.col1, p.answer FROM bronze.flights AS f
    CROSS APPLY ML_PREDICT(VALUES (f.id, f.carrier), (f.id, 'b'), MODEL llm, DESCRIPTOR(col1)) AS p
    WHERE f.id = 4 ORDER BY 2
    """
    assert asked(text) == [{"id": 4, "col1": "b", "answer": "B"}, {"id": 4, "col1": "c4", "answer": "C4"}]


def test_stages_follow_each_other(asked: Asked) -> None:
    text = """
    SELECT f.id, l.label, a.answer FROM bronze.flights AS f
    CROSS APPLY ML_PREDICT(VALUES (f.hour), MODEL label, DESCRIPTOR(col0)) AS l
    CROSS APPLY ML_PREDICT(TABLE (SELECT l.label || f.carrier AS q), MODEL llm, DESCRIPTOR(q)) AS a
    WHERE f.id < 3 AND l.label = 'even' ORDER BY 1
    """
    assert asked(text) == [{"id": 0, "label": "even", "answer": "EVENC0"}, {"id": 2, "label": "even", "answer": "EVENC2"}]
    assert asked.calls == {"label": 3, "llm": 2}


def test_rows_that_a_model_loses_are_left_out_and_values_are_null(asked: Asked) -> None:
    table = "SELECT carrier, answer FROM ML_PREDICT(TABLE dim.carriers, MODEL lossy, DESCRIPTOR(carrier)) ORDER BY 1 LIMIT 2"
    assert asked(table) == [{"carrier": "c0", "answer": "C0"}, {"carrier": "c2", "answer": "C2"}]
    lateral = (
        "SELECT c.carrier, a.answer FROM dim.carriers c {} JOIN LATERAL TABLE(ML_PREDICT('lossy', carrier)) AS a {} ORDER BY 1"
    )
    assert asked(lateral.format("CROSS", ""))[1] == {"carrier": "c2", "answer": "C2"}
    assert asked(lateral.format("LEFT", "ON TRUE"))[1] == {"carrier": "c1", "answer": None}
    assert asked("SELECT AI_COMPLETE('lossy', carrier) AS a FROM dim.carriers WHERE carrier = 'c1'") == [{"a": None}]


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("ML_PREDICT(MODEL delay, 2, 0.5)", 20.5),
        ("ML_PREDICT('delay', id, distance) / 2", 15.5),
        ("ML_PREDICT(MODEL => MODEL delay, id, distance)", 31.0),
        ("ML_PREDICT(MODEL delay, id, NULL)", 30.0),
        ("ML_PREDICT(MODEL delay, id, distance).late", 31.0),
        ("ML_PREDICT(MODEL label, id)", {"label": "odd", "sure": 0.5}),
        ("ML_PREDICT(MODEL label, id).label", "odd"),
        ("ML_EMBED(MODEL embed, carrier)", [2.0, 1.0]),
        ("AI_EMBEDDING('embed', carrier)[1]", 2.0),
        ("AI_COMPLETE('llm', concat('is ', carrier, '?'))", "IS C3?"),
        ("json_extract_string(AI_COMPLETE('llm', '{\"a\": \"x\"}'), '$.A')", "X"),
        ("AI_COMPLETE('llm', ML_PREDICT(MODEL label, id).label)", "ODD"),
        ("(SELECT AI_COMPLETE('llm', f.carrier))", "C3"),
        ("list_sum(ML_EMBED(MODEL embed, carrier))", 3.0),
        ("7 / 2 + ML_PREDICT(MODEL delay, 0, 0)", 3.0),
    ],
)
def test_a_value_wherever_an_expression_stands(asked: Asked, expression: str, value: object) -> None:
    assert asked(f"SELECT {expression} AS value FROM bronze.flights AS f WHERE id = 3") == [{"value": value}]


def test_a_value_of_no_table(asked: Asked) -> None:
    assert asked("SELECT AI_COMPLETE('llm', 'hi')") == [{"answer": "HI"}]


def test_columns_without_a_name_are_called_as_in_flink(asked: Asked) -> None:
    text = (
        "SELECT id, ML_PREDICT(MODEL delay, hour, distance), 1 + ML_PREDICT(MODEL delay, hour, 2) FROM bronze.flights LIMIT 1"
    )
    assert list(asked(text)[0]) == ["id", "late", "EXPR$2"]


def test_a_branch_that_is_not_taken_costs_no_call(asked: Asked) -> None:
    text = """
    SELECT id, CASE WHEN late > 200 THEN AI_COMPLETE('llm', carrier) WHEN late < 20 THEN AI_COMPLETE('llm',
    carrier) || '!' END AS said
    FROM ML_PREDICT(TABLE bronze.flights, MODEL delay, DESCRIPTOR(hour, distance)) WHERE id < 24 ORDER BY id
    """
    found = asked(text)
    assert found[0] == {"id": 0, "said": "C0!"}
    assert found[5] == {"id": 5, "said": None}
    assert found[23] == {"id": 23, "said": "C3"}
    assert asked.calls == {"delay": 24, "llm": 6}
    asked("SELECT coalesce(carrier, AI_COMPLETE('llm', 'x')) AS c FROM bronze.flights")
    assert not asked.calls


def test_models_in_every_clause(asked: Asked) -> None:
    text = """
    SELECT carrier, max(ML_PREDICT(MODEL delay, hour, distance)) AS most FROM bronze.flights
    WHERE ML_PREDICT(MODEL label, hour).label = 'even' AND id < 48
    GROUP BY carrier HAVING max(ML_PREDICT(MODEL delay, hour, distance)) > 200
    ORDER BY AI_COMPLETE('llm', carrier) DESC LIMIT 2
    """
    assert asked(text) == [{"carrier": "c6", "most": 221.0}, {"carrier": "c4", "most": 201.0}]
    ranked = (
        "SELECT id FROM bronze.flights WHERE id < 9 QUALIFY row_number() OVER (ORDER BY AI_COMPLETE('llm', carrier) DESC) = 1"
    )
    assert asked(ranked) == [{"id": 8}]
    joined = (
        "SELECT c.name FROM bronze.flights f JOIN dim.carriers c ON AI_COMPLETE('llm', f.carrier) = "
        "upper(c.carrier) WHERE f.id = 6"
    )
    assert asked(joined) == [{"name": "Carrier 6"}]
    united = "SELECT AI_COMPLETE('llm', 'a') AS x UNION ALL SELECT AI_COMPLETE('llm', 'b') ORDER BY x"
    assert asked(united) == [{"x": "A"}, {"x": "B"}]
    exists = (
        "SELECT name FROM dim.carriers c WHERE EXISTS (SELECT 1 FROM bronze.flights f WHERE "
        "AI_COMPLETE('llm', f.carrier) = upper(c.carrier) AND f.id = 9)"
    )
    assert asked(exists) == [{"name": "Carrier 9"}]


def test_the_columns_of_a_query_are_described(asked: Asked) -> None:
    described = asked("DESCRIBE SELECT id, AI_COMPLETE('llm', carrier) AS a FROM bronze.flights")
    assert [(row["column_name"], row["column_type"]) for row in described] == [("id", "BIGINT"), ("a", "VARCHAR")]
    (summed,) = asked("SUMMARIZE SELECT AI_COMPLETE('llm', name) AS a FROM dim.carriers")
    assert (summed["min"], summed["max"], summed["count"]) == ("CARRIER 0", "CARRIER 9", 10)
    with pytest.raises(UnknownName, match="carrierr"):
        asked("DESCRIBE SELECT AI_COMPLETE('llm', carrierr) AS a FROM dim.carriers")


def test_a_recursion_asks_for_values(asked: Asked) -> None:
    text = "WITH RECURSIVE r AS (SELECT 'a' AS x UNION ALL SELECT {} || 'b' FROM {} WHERE length(x) < 3) FROM r ORDER BY x"
    values = text.format("AI_COMPLETE('llm', x)", "r")
    assert [row["x"] for row in asked(values)] == ["ABb", "Ab", "a"]
    with pytest.raises(UsageError, match="over the rows of WITH RECURSIVE itself is not possible"):
        asked(text.format("answer", "ML_PREDICT(TABLE r, MODEL llm, DESCRIPTOR(x))"))


def test_names_of_three_and_four_parts(asked: Asked) -> None:
    shown = "AI_COMPLETE('llm', lakeflow.dim.carriers.name) AS a"
    text = f"SELECT {shown} FROM lakeflow.dim.carriers WHERE dim.carriers.carrier = 'c1'"
    assert asked(text) == [{"a": "CARRIER 1"}]


def test_what_nothing_reads_is_not_bound_and_not_asked(asked: Asked) -> None:
    assert asked("WITH unread AS (SELECT AI_COMPLETE('llm', carrier) AS a FROM dim.carriers) SELECT 1 AS one") == [{"one": 1}]


def test_a_query_without_such_functions_stays_as_it_was_written() -> None:
    text = "SELECT f.carrier,/* so */ 7 // 2, x -> x\nFROM lakeflow.bronze.flights f  WHERE f.id=1"
    text = text.replace(", x -> x", "")
    compiled = compile_query(text, FakeNames())
    assert compiled.text == text.replace("lakeflow.", "         ")
    assert compiled.calls == ()
    assert compiled.columns.names == ["carrier", "(7 // 2)"]


ERRORS = [
    (
        "SELECT id FROM ML_PREDICT(TABLE bronze.flight, MODEL delay, DESCRIPTOR(hour, distance))",
        "bronze.flight",
        "unknown table",
        "'bronze.flights'",
    ),
    (
        "SELECT id FROM ML_PREDICT(TABLE bronze.flights, MODEL dalay, DESCRIPTOR(hour, distance))",
        "MODEL dalay",
        "unknown model",
        "'delay'",
    ),
    ("SELECT ML_PREDICT('dalay', 1, 2)", "'dalay'", "unknown model", "'delay'"),
    (
        "SELECT id FROM ML_PREDICT(TABLE bronze.flights, MODEL delay, DESCRIPTOR(hour, distanc))",
        "distanc",
        "INPUT of model 'delay'",
        "'distance'",
    ),
    (
        "SELECT idd FROM ML_PREDICT(TABLE bronze.flights, MODEL delay, DESCRIPTOR(hour, distance))",
        "idd",
        "unknown column",
        "'id'",
    ),
    ("SELECT AI_COMPLETE('llm', carier) FROM bronze.flights", "carier", "unknown column", "'carrier'"),
    (
        "SELECT ML_PREDICT(MODEL delay, carrier, 1.0) FROM bronze.flights",
        "ML_PREDICT(MODEL delay, carrier, 1.0)",
        "value 1 is string, INPUT 'hour'",
        "such a cast",
    ),
    (
        "SELECT 1 FROM ML_PREDICT(TABLE bronze.flights, MODEL llm, DESCRIPTOR(hour))",
        "ML_PREDICT(TABLE bronze.flights, MODEL llm, DESCRIPTOR(hour))",
        "column 'hour' is int64",
        "CAST(.. AS ..)",
    ),
    (
        "SELECT ML_PREDICT(MODEL delay, 1.5, 1.0)",
        "ML_PREDICT(MODEL delay, 1.5, 1.0)",
        "INPUT 'hour' of model 'delay' is int32",
        "such a cast",
    ),
    (
        "SELECT ML_PREDICT(MODEL delay, 1)",
        "ML_PREDICT(MODEL delay, 1)",
        "takes 2 values, given: 1",
        "hour int32, distance double",
    ),
    (
        "SELECT 1 FROM ML_PREDICT(TABLE bronze.flights, MODEL delay, DESCRIPTOR(hour))",
        "DESCRIPTOR(hour)",
        "takes 2 values, given: 1",
        "",
    ),
    ("SELECT ML_EMBED(MODEL llm, 'x')", "MODEL llm", "task 'embedding'", "lakeflow models list"),
    ("SELECT AI_COMPLETE('embed', 'x')", "'embed'", "task 'text_generation'", ""),
    (
        "SELECT ML_PREDICT(TABLE bronze.flights, MODEL delay, DESCRIPTOR(hour, distance))",
        "ML_PREDICT(TABLE bronze.flights, MODEL delay, DESCRIPTOR(hour, distance))",
        "stands in FROM",
        "",
    ),
    (
        "FROM ML_EMBED(TABLE bronze.flights, MODEL embed, DESCRIPTOR(carrier))",
        "TABLE bronze.flights",
        "takes values, not a table",
        "",
    ),
    ("FROM ML_PREDICT(TABLE bronze.flights, MODEL delay)", "ML_PREDICT(TABLE bronze.flights, MODEL delay)", "needs ARGS", ""),
    (
        "FROM ML_PREDICT(INPUT => TABLE bronze.flights, MODELL => MODEL delay, ARGS => DESCRIPTOR(hour))",
        "MODELL => MODEL delay",
        "has no argument MODELL",
        "'MODEL'",
    ),
    (
        "FROM ML_PREDICT(INPUT => TABLE bronze.flights, MODEL delay, DESCRIPTOR(hour))",
        "MODEL delay",
        "without a name follows",
        "",
    ),
    (
        "FROM ML_PREDICT(TABLE bronze.flights, MODEL delay, DESCRIPTOR(hour, distance), MAP['a', 'b'], 1)",
        "1)",
        "takes 4 arguments at the most",
        "",
    ),
    ("FROM ML_PREDICT(TABLE bronze.flights, MODEL delay, hour)", "hour", "expected DESCRIPTOR(column, ..)", ""),
    ("FROM ML_PREDICT(TABLE bronze.flights, 3, DESCRIPTOR(hour))", "3", "expected MODEL name or 'name'", ""),
    (
        "FROM ML_PREDICT(TABLE bronze.flights, MODEL delay, DESCRIPTOR(hour, distance), MAP['a', id])",
        "MAP['a', id]",
        "written out, as texts",
        "",
    ),
    (
        "FROM ML_PREDICT(TABLE bronze.flights, MODEL delay, DESCRIPTOR(hour, distance), MAP['a', 'x', 'A', 'y'])",
        "MAP['a', 'x', 'A', 'y']",
        "there twice",
        "",
    ),
    ("SELECT ML_PREDICT()", "ML_PREDICT()", "needs a model", ""),
    ("SELECT ML_PREDICT(MODEL delay, 1, 2", "2", "syntax error", ""),
    ("SELECT ai_0(1)", "ai_0", "not allowed in a query", ""),
    ("SELECT MAP['a'] FROM bronze.flights", "FROM", "a value for each key", ""),
]


@pytest.mark.parametrize(("text", "underlined", "message", "also"), ERRORS)
def test_errors_point_at_what_is_wrong(text: str, underlined: str, message: str, also: str) -> None:
    with pytest.raises(UsageError) as raised:
        compile_query(text, FakeNames())
    said = str(raised.value)
    assert message in said
    assert also in said
    lines = said.splitlines()
    carets = next(place for place, line in enumerate(lines) if set(line.strip()) == {"|", " ", "^"} or "^" in line)
    start = lines[carets].index("^")
    marked = lines[carets - 1][start : start + lines[carets].count("^")]
    assert underlined.startswith(marked)
    assert said.startswith(f"line 1:{text.index(marked, start - 6) + 1}: ") or marked in text


def test_what_is_unknown_is_an_unknown_name() -> None:
    with pytest.raises(UnknownName) as raised:
        compile_query("SELECT ML_PREDICT('dalay', 1, 2)", FakeNames())
    assert (raised.value.kind, raised.value.name) == ("model", "dalay")


@pytest.mark.parametrize(
    "text",
    [
        "SELECT * FROM ML_PREDICT(TABLE (COPY bronze.flights TO 'x'), MODEL delay, DESCRIPTOR(hour, distance))",
        "SELECT * FROM ML_PREDICT(TABLE (SELECT * FROM read_csv('/etc/passwd')), MODEL llm, DESCRIPTOR(column0))",
        "SELECT AI_COMPLETE('llm', getenv('HOME'))",
        "SELECT * FROM bronze.flights f, LATERAL TABLE(read_text('/etc/passwd'))",
        "SELECT * FROM TABLE(glob('*'))",
        "SELECT AI_COMPLETE('llm', content) FROM read_text('/etc/passwd')",
        "SELECT AI_COMPLETE('llm', 'a'); DROP TABLE bronze.flights",
        "WITH x AS (INSERT INTO bronze.flights VALUES (1)) SELECT AI_COMPLETE('llm', 'a')",
        "SELECT AI_COMPLETE('llm', 'a') INTO bronze.x",
        "SELECT AI_COMPLETE('llm', value) FROM duckdb_settings()",
        "ATTACH 'x.db'",
    ],
)
def test_nothing_but_reading_is_let_through(text: str) -> None:
    asked = Asked()
    with pytest.raises(LakeflowError) as raised:
        asked(text)
    assert isinstance(raised.value, UsageError)
    assert not asked.calls


@pytest.mark.parametrize(
    ("query", "is_bound"),
    [
        ("SELECT id FROM lakeflow.bronze.flights WHERE hour > 3", False),
        (f"SELECT id FROM {FORMS[0]}", True),
        ("SELECT id FROM `bronze`.`flights`", True),
    ],
)
def test_a_query_that_duckdb_reads_as_it_stands_may_be_bound_as_it_runs(query: str, is_bound: bool) -> None:
    bound, unbound = compile_query(query, FakeNames()), compile_query(query, FakeNames(), binds=False)
    assert bound.columns.names == ["id"]
    assert unbound == (bound if is_bound else replace(bound, columns=pa.schema([]), types=()))


def test_a_query_that_is_bound_as_it_runs_is_still_held_to_reading() -> None:
    with pytest.raises(UsageError, match="table function 'read_csv' is not allowed"):
        compile_query("SELECT * FROM read_csv('/etc/passwd')", FakeNames(), binds=False)
    with pytest.raises(UnknownName, match=r"line 1:16: unknown table 'bronze\.flight'"):
        compile_query("SELECT id FROM bronze.flight", FakeNames(), binds=False)
