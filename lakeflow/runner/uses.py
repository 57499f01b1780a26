"""Which models a job's code or query names. Pure; the job is not called."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from types import CodeType

from lakeflow.job import Job, SqlQuery

_VERSIONED = re.compile(r"\$([1-9][0-9]{0,8}|all)\Z")
CALLS = frozenset({"ml_predict", "ml_embed", "ml_evaluate"})


def models_named(job: Job, models: Iterable[str]) -> tuple[str, ...]:
    """Those of `models`, with a version where one is named (`m$2`), that stand as texts in the job's function, or in a
    function of its file that it calls by name, beside a call of ml_predict, ml_embed or ml_evaluate. A name that is put
    together as the job runs is not seen. `models` is looked at only where there is such a call.
    """
    if isinstance(job.body, SqlQuery):
        return _among(job.body.texts, models)
    codes = list(_codes_of(job))
    if CALLS.isdisjoint(name for code in codes for name in code.co_names):
        return ()
    return _among({constant for code in codes for constant in _constants(code)}, models)


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
