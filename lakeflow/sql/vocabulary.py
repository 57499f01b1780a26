"""The names of functions that a query may call, for completion and messages: DuckDB's, and lakeflow's own."""

from __future__ import annotations

import re
from functools import cache
from typing import Final

from lakeflow.sql.query import REFUSED_FUNCTIONS, TABLE_FUNCTIONS

OWN_FUNCTIONS: Final = (
    *("AI_COMPLETE", "AI_EMBEDDING", "ML_EMBED", "ML_PREDICT", "VECTOR_SEARCH"),
    *("TUMBLE", "HOP", "CUMULATE", "SESSION", "TEXT_SPLIT"),
)
"""Those that stand for models, searches, windows and chunks; docs/sql.md describes them."""


UNSAID: Final = ("icu_", "duckdb_", "pragma_", "json_serialize", "json_deserialize")
"""How names begin that nobody types."""


@cache
def function_names() -> tuple[str, ...]:
    """All of them, sorted: lakeflow's own in capitals. Takes a few hundredths of a second the first time."""
    import duckdb

    from lakeflow.sql.pure.registry import pure_functions

    with duckdb.connect(":memory:", config={"threads": 1}) as connection:
        found = connection.execute(
            "SELECT DISTINCT function_name, function_type FROM duckdb_functions() WHERE database_name = 'system'"
        ).fetchall()
    usable = {
        name
        for name, kind in found
        if re.fullmatch(r"[a-z][a-z0-9_]*", name)
        and name not in REFUSED_FUNCTIONS
        and not name.startswith(UNSAID)
        and (kind in ("scalar", "aggregate", "macro") or name in TABLE_FUNCTIONS)
    }
    return tuple(sorted(usable)) + tuple(sorted({*OWN_FUNCTIONS, *pure_functions()}))
