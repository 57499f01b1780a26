"""Equal calls within one SELECT are asked once, where that costs no row more; filters reach below chains of models."""

from __future__ import annotations

import pytest

from tests.unit.sql.asked import Asked

P = "ML_PREDICT(MODEL delay, hour, distance)"
Q = 'ml_predict(model delay, "HOUR", Distance)'


@pytest.fixture
def asked() -> Asked:
    return Asked()


def test_equal_calls_of_a_select_are_one(asked: Asked) -> None:
    text = f"SELECT *, {P} AS p, {Q} + 1 AS q, -{P} AS r FROM bronze.flights AS f WHERE {Q} > 20 AND id < 3 ORDER BY {P} DESC"
    assert [(row["p"], row["q"], row["r"]) for row in asked(text)] == [(21.0, 22.0, -21.0)]
    assert list(asked(text)[0]) == ["id", "hour", "distance", "carrier", "time", "p", "q", "r"]
    assert asked.calls["delay"] == 3


def test_they_are_one_over_a_join(asked: Asked) -> None:
    text = (
        f"SELECT f.*, c.name, {P} AS p, {P} + 1 AS q FROM bronze.flights f JOIN dim.carriers c USING (carrier) WHERE f.id < 4"
    )
    assert [row["q"] for row in asked(text + " ORDER BY id")] == [2.0, 12.0, 22.0, 32.0]
    assert asked.calls["delay"] == 4


def test_equal_calls_within_equal_calls_are_one(asked: Asked) -> None:
    inner = "AI_COMPLETE('llm', carrier)"
    outer = f"AI_COMPLETE('llm', {inner} || '!')"
    assert asked(f"SELECT {inner} AS a, {outer} AS b, {outer} || '?' AS c FROM bronze.flights WHERE id = 1") == [
        {"a": "C1", "b": "C1!", "c": "C1!?"}
    ]
    assert asked.calls["llm"] == 2


def test_other_arguments_settings_and_models_are_other_calls(asked: Asked) -> None:
    text = """
    SELECT AI_COMPLETE('llm', 'a') AS a, AI_COMPLETE('llm', 'A') AS b, AI_COMPLETE('llm', 'a', MAP['timeout', '1s']) AS c,
           AI_COMPLETE('llm$2', 'a') AS d FROM dim.carriers LIMIT 1
    """
    assert asked(text) == [dict.fromkeys("abcd", "A")]
    assert asked.compiled is not None
    assert len(asked.compiled.calls) == 3
    assert "LATERAL" not in asked.compiled.text


@pytest.mark.parametrize(
    ("select", "calls"),
    [
        (f"CASE WHEN id < 2 THEN {P} WHEN id < 4 THEN {P} + 1 END", 4),
        (f"CASE id WHEN 1 THEN {P} ELSE 0 END", 1),
        (f"coalesce(CASE WHEN id > 4 THEN 1 END, {P}, {P})", 5),
        (f"CASE WHEN {P} > 20 THEN {P} END", 10),
        (f"IF(id = 1, {P}, 0) + IF(id = 2, {P}, 0)", 2),
    ],
)
def test_nothing_is_taken_out_of_a_branch(asked: Asked, select: str, calls: int) -> None:
    asked(f"SELECT {select} AS x FROM bronze.flights WHERE id < 10")
    assert asked.calls["delay"] == calls


def test_a_subquery_in_where_keeps_calls_for_the_rows_that_pass_it(asked: Asked) -> None:
    text = (
        f"SELECT {P} AS p, {P} + 1 AS q FROM bronze.flights WHERE carrier IN (SELECT carrier FROM "
        f"dim.carriers WHERE name = 'Carrier 1') AND id < 20"
    )
    assert asked(text) == [{"p": 11.0, "q": 12.0}, {"p": 111.0, "q": 112.0}]
    assert asked.calls["delay"] == 4


def test_aggregates_of_equal_calls_ask_once(asked: Asked) -> None:
    text = (
        f"SELECT carrier, min({P}) AS low, max({P}) AS high FROM bronze.flights WHERE id < 20 GROUP BY "
        f"carrier HAVING max({P}) > 180 ORDER BY 1"
    )
    assert asked(text) == [{"carrier": "c8", "low": 81.0, "high": 181.0}, {"carrier": "c9", "low": 91.0, "high": 191.0}]
    assert asked.calls["delay"] == 20


def test_calls_over_what_is_grouped_stay_where_they_are(asked: Asked) -> None:
    text = (
        "SELECT AI_COMPLETE('llm', carrier) AS a, AI_COMPLETE('llm', carrier) || '!' AS b FROM "
        "bronze.flights WHERE id < 20 GROUP BY carrier ORDER BY 1 LIMIT 1"
    )
    assert asked(text) == [{"a": "C0", "b": "C0!"}]
    text = "SELECT AI_COMPLETE('llm', max(carrier)) AS a, AI_COMPLETE('llm', max(carrier)) AS b FROM dim.carriers"
    assert asked(text) == [{"a": "C9", "b": "C9"}]


def test_a_name_given_in_the_same_select_is_no_column_of_from(asked: Asked) -> None:
    text = "SELECT carrier || 'x' AS y, AI_COMPLETE('llm', y) AS a, AI_COMPLETE('llm', y) || '!' AS b FROM dim.carriers LIMIT 1"
    assert asked(text) == [{"y": "c0x", "a": "C0X", "b": "C0X!"}]


def test_distinct_and_windows(asked: Asked) -> None:
    assert asked(f"SELECT DISTINCT {P} AS p, {P} / 2 AS h FROM bronze.flights WHERE id IN (3, 27)") == [{"p": 31.0, "h": 15.5}]
    ranked = f"SELECT id, rank() OVER (ORDER BY {P} DESC) AS r FROM bronze.flights WHERE id < 3 ORDER BY r"
    assert [row["id"] for row in asked(ranked)] == [2, 1, 0]
    assert asked.calls["delay"] == 3


CHAIN = """
SELECT f.id, l.label, a.answer, b.answer AS last FROM {source}
, LATERAL TABLE(ML_PREDICT('label', f.hour)) AS l
, LATERAL TABLE(ML_PREDICT('llm', l.label)) AS a
, LATERAL TABLE(ML_PREDICT('llm', a.answer || '!')) AS b
WHERE f.id BETWEEN 2 AND 4 AND l.label = 'even' AND {more} ORDER BY 1
"""


@pytest.mark.parametrize(
    ("source", "more"),
    [
        ("bronze.flights AS f", "f.carrier <> 'c4'"),
        ("bronze.flights AS f", "(hour <> 4 AND carrier <> 'c4')"),
        ("(SELECT * FROM bronze.flights) AS f", "f.carrier <> 'c4'"),
        ("bronze.flights AS f JOIN dim.carriers AS c ON f.carrier = c.carrier", "c.name <> 'Carrier 4'"),
        ("bronze.flights AS f LEFT JOIN dim.carriers AS c ON f.carrier = c.carrier", "f.carrier <> 'c4'"),
    ],
)
def test_a_filter_on_a_table_reaches_below_a_chain_of_models(asked: Asked, source: str, more: str) -> None:
    assert asked(CHAIN.format(source=source, more=more)) == [{"id": 2, "label": "even", "answer": "EVEN", "last": "EVEN!"}]
    assert asked.calls["label"] == 2


@pytest.mark.parametrize(
    "source",
    [
        "dim.carriers AS c LEFT JOIN bronze.flights AS f ON f.carrier = c.carrier AND f.id < 2",
        "bronze.flights AS f RIGHT JOIN dim.carriers AS c ON f.carrier = c.carrier AND f.id < 2",
    ],
)
def test_a_filter_on_rows_without_a_partner_stays_behind_the_join(asked: Asked, source: str) -> None:
    text = f"""
    SELECT c.carrier, a.answer FROM {source}
    , LATERAL TABLE(ML_PREDICT('llm', c.name)) AS a, LATERAL TABLE(ML_PREDICT('llm', a.answer)) AS b
    WHERE f.id IS NULL AND c.carrier < 'c3'
    """
    assert asked(text) == [{"carrier": "c2", "answer": "CARRIER 2"}]


@pytest.mark.parametrize("changing", ["f.id + random() > -1", "f.carrier <> uuidv7()::VARCHAR", "f.carrier <> uuid()::VARCHAR"])
def test_what_may_change_is_not_said_twice(asked: Asked, changing: str) -> None:
    text = CHAIN.format(source="bronze.flights AS f", more=f"{changing} AND f.carrier <> 'c4'")
    assert len(asked(text)) == 1
    assert asked.compiled is not None
    shown = asked.compiled.text.lower()
    assert shown.count("random()") + shown.count("uuidv7()") + shown.count("uuid()") == 1
