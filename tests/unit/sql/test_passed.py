"""Which columns of a query are the read table's own: by name, through aliases, subqueries, WITH and AI calls."""

from __future__ import annotations

import pytest

from lakeflow.sql.passed import passed_columns


@pytest.mark.parametrize(
    ("text", "passed"),
    [
        ("SELECT id, upper(name) AS name FROM a.t", (("id", "id"), ("name", None))),
        ("SELECT f.id AS flight, 1 AS one FROM a.t AS f", (("flight", "id"), ("one", None))),
        ("SELECT id + 1 AS id FROM a.t", (("id", None),)),
        ("SELECT s.k FROM (SELECT id AS k, name FROM a.t) AS s", (("k", "id"),)),
        ("SELECT k FROM (SELECT id + 1 AS k FROM a.t) AS s", (("k", None),)),
        ("SELECT id FROM (SELECT * FROM a.t) AS s", (("id", "id"),)),
        ("WITH s AS (SELECT id AS k FROM a.t) SELECT k AS j FROM s", (("j", "id"),)),
        (
            "SELECT t.id, c.name FROM a.t AS t JOIN d.c FOR SYSTEM_TIME AS OF PROCTIME() AS c ON t.id = c.id",
            (("id", "id"), ("name", None)),
        ),
        ("SELECT id, score FROM ML_PREDICT(TABLE a.t, MODEL m, DESCRIPTOR(x))", (("id", "id"), ("score", "score"))),
        ("SELECT * FROM a.t", None),
        ("SELECT id FROM a.t UNION ALL SELECT id FROM a.u", None),
    ],
)
def test_columns_that_pass_unchanged(text: str, passed: tuple[tuple[str, str | None], ...] | None) -> None:
    assert passed_columns(text) == passed
