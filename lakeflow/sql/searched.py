"""Which columns of vectors a query searches, and which names of models its settings of searches may hold. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from sqlglot import exp

from lakeflow.sql.flink import SEARCH, AiCall, Argument, Descriptor, TableArgument, read_query
from lakeflow.sql.query import table_name


@dataclass(frozen=True, slots=True)
class Searched:
    """`columns` are the tables and columns that are searched, each once; `texts` what is written out in those calls, among
    which the name of a model that ranks stands."""

    columns: tuple[tuple[str, str], ...] = ()
    texts: frozenset[str] = frozenset()


def searched_in(text: str) -> Searched:
    """What a query's calls of VECTOR_SEARCH say. Raises UsageError where the text is no query."""
    if not re.search("|".join(SEARCH), text, re.IGNORECASE):
        return Searched()
    calls = [call for call in read_query(text).find_all(AiCall) if call.this in SEARCH]
    columns = dict.fromkeys(pair for call in calls for pair in _columns(text, call))
    texts = (str(one.this) for call in calls for one in call.find_all(exp.Literal) if one.is_string)
    return Searched(tuple(columns), frozenset(texts))


def _columns(text: str, call: AiCall) -> Iterator[tuple[str, str]]:
    """The table of a call and each column that it may mean: DESCRIPTOR(c), or 'c' in its place."""
    given = [argument.this for argument in call.expressions if isinstance(argument, Argument)]
    tables = [one.this for one in given if isinstance(one, TableArgument) and isinstance(one.this, exp.Table)]
    named = [str(column.name) for one in given if isinstance(one, Descriptor) for column in one.expressions]
    said = [str(one.this) for one in given if isinstance(one, exp.Literal) and one.is_string]
    for table in tables:
        for column in named or said[:1]:
            yield table_name(text, table), column
