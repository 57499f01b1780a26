"""Which models and indexes a job's code or query names. Pure; the job is not called."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from types import CodeType

from lakeflow.declare import IndexSpec
from lakeflow.job import Job, SqlQuery

_VERSIONED = re.compile(r"\$([1-9][0-9]{0,8}|all)\Z")
SEARCH = "vector_search"
CALLS = frozenset({"ml_predict", "ml_embed", "ml_evaluate", SEARCH})


def models_named(job: Job, models: Iterable[str]) -> tuple[str, ...]:
    """Those of `models`, with a version where one is named (`m$2`), that stand as texts in the job's function, or in a
    function of its file that it calls by name, beside a call of ml_predict, ml_embed, ml_evaluate or vector_search. A name
    that is put together as the job runs is not seen. `models` is looked at only where there is such a call.
    """
    return _among(_texts_of(job), models)


def indexes_named(job: Job, indexes: Mapping[str, IndexSpec]) -> tuple[IndexSpec, ...]:
    """The indexes that a job searches, by name: those over the columns that its query searches, or that stand as texts in
    its function, as `models_named` has it, beside a call of vector_search."""
    if isinstance(job.body, SqlQuery):
        found = (index_over(table, column, indexes.values()) for table, column in job.body.searched)
        named = {spec.name: spec for spec in found if spec is not None}
    else:
        named = {text: indexes[text] for text in _texts_beside(job, {SEARCH}) if text in indexes} if indexes else {}
    return tuple(named[name] for name in sorted(named))


def models_used(job: Job, models: Iterable[str], indexes: Mapping[str, IndexSpec]) -> tuple[str, ...]:
    """The models that a job names, and those that make vectors of texts for the indexes that it searches."""
    through = {spec.model for spec in indexes_named(job, indexes) if spec.model is not None}
    return _among(_texts_of(job) | through, models)


def index_over(table: str, column: str, indexes: Iterable[IndexSpec]) -> IndexSpec | None:
    """The index over a column, whose name may be written large or small; of several the first by name."""
    found = (one for one in indexes if one.table == table and one.column.lower() == column.lower())
    return min(found, key=lambda one: one.name, default=None)


def _texts_of(job: Job) -> frozenset[str]:
    """The texts that may be names of models."""
    return job.body.texts if isinstance(job.body, SqlQuery) else frozenset(_texts_beside(job, CALLS))


def _texts_beside(job: Job, calls: Collection[str]) -> set[str]:
    """The texts in the job's function and those that it calls, where one of `calls` is among these; else none."""
    codes = list(_codes_of(job))
    if not any(name in calls for code in codes for name in code.co_names):
        return set()
    return {constant for code in codes for constant in _constants(code)}


def _among(texts: Collection[str], models: Iterable[str]) -> tuple[str, ...]:
    known = set(models) if texts else set()
    return tuple(sorted(text for text in texts if text in known or _VERSIONED.sub("", text) in known))


def _codes_of(job: Job) -> Iterator[CodeType]:
    """The function's code and, at any depth, that of the functions of the same module that it names."""
    around = job.function.__globals__
    pending, seen = [job.function.__code__], set[CodeType]()
    while pending:
        code = pending.pop()
        if code in seen:
            continue
        seen.add(code)
        yield code
        pending.extend(constant for constant in code.co_consts if isinstance(constant, CodeType))
        for name in code.co_names:
            called = getattr(around.get(name), "__code__", None)
            if isinstance(called, CodeType) and called.co_filename == code.co_filename:
                pending.append(called)


def _constants(code: CodeType) -> Iterator[str]:
    for constant in code.co_consts:
        if isinstance(constant, str):
            yield constant
        elif isinstance(constant, tuple):
            yield from (one for one in constant if isinstance(one, str))
