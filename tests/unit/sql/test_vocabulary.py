"""The names of functions that are proposed."""

from __future__ import annotations

from lakeflow.sql.pure.registry import pure_functions
from lakeflow.sql.query import REFUSED_FUNCTIONS
from lakeflow.sql.vocabulary import OWN_FUNCTIONS, function_names


def test_what_a_query_may_call_is_named_once_and_what_is_refused_is_not() -> None:
    names = function_names()
    assert len(names) == len(set(names))
    assert {"count", "regexp_extract", "unnest", "range", "json_extract", *OWN_FUNCTIONS, *pure_functions()} <= set(names)
    assert REFUSED_FUNCTIONS.isdisjoint(names)
    assert {"read_csv", "read_parquet", "glob", "read_text", "duckdb_settings"}.isdisjoint(names)
