"""Which names are taken for a slip of one of lakeflow's functions, and which are names of one's own."""

from __future__ import annotations

import pytest

from lakeflow.errors import UsageError
from lakeflow.sql.flink import read_query


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "SELECT * FROM ML_PREDCIT(TABLE t, MODEL m, DESCRIPTOR(x))",
            "line 1:15: there is no function ML_PREDCIT; did you mean ML_PREDICT?",
        ),
        ("SELECT ml_predic(MODEL m, x)", "line 1:8: there is no function ml_predic; did you mean ML_PREDICT?"),
        ("SELECT AI_COMPLET('m', x) FROM t.t", "did you mean AI_COMPLETE?"),
        ("SELECT ML_NGRAM(x)", "did you mean ML_NGRAMS?"),
        ("SELECT * FROM t.t, LATERAL TABLE(VECTOR_SERCH(TABLE d.d, DESCRIPTOR(v), x, 1))", "did you mean VECTOR_SEARCH?"),
        ("SELECT * FROM TUMBEL(TABLE t, DESCRIPTOR(ts), INTERVAL '1' HOUR)", "did you mean TUMBLE?"),
    ],
)
def test_a_slip_is_pointed_at(text: str, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        read_query(text)
    assert message in raised.value.message
    assert "^" in raised.value.message


@pytest.mark.parametrize(
    "text",
    [
        "WITH ml_predicts(a) AS (SELECT 1) SELECT * FROM ml_predicts",
        "WITH x AS (SELECT 1), tumbles(a) AS (SELECT 2) SELECT * FROM tumbles",
        "WITH RECURSIVE hops(a) AS (SELECT 1 UNION ALL SELECT a + 1 FROM hops WHERE a < 3) SELECT * FROM hops",
        "SELECT * FROM (SELECT 1) ml_predicts(a)",
        "SELECT * FROM t.t AS sessions(a)",
        "SELECT * FROM t.t sessions(a)",
        "SELECT ml_predicts, sessions FROM t.t WHERE x IN (1)",
        "SELECT 'ML_PREDCIT(' AS text",
        "SELECT /* ML_PREDCIT( */ 1",
        "SELECT top(x) FROM t.t",
    ],
)
def test_names_of_ones_own_are_no_slips(text: str) -> None:
    read_query(text)
