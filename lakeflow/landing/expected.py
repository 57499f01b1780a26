"""What a landing expects of its rows, by the CONSTRAINTs of its table: each row is held against them by itself. Pure.

What the declaration knows of SQL says which rows violate what (`TableSpec.judge`); here such records become rejects, which go
where the constraint says: it stops the landing before them (FAIL), drops them, or keeps them among the dead letters. With
WARN the row lands, and is counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import assert_never

import numpy as np
import pyarrow as pa

from lakeflow.declare import Computed, TableSpec
from lakeflow.expect import Expectation, Finding, OnViolation, Satisfies
from lakeflow.landing.fitting import places_of
from lakeflow.landing.spec import LandingSpec, OnError
from lakeflow.topics.formats.format import Decoded, Part, Reject, RejectKind


def held_against(decoded: Decoded, table: TableSpec) -> Decoded:
    """`decoded` without the rows that are not as `table` expects, as rejects; how often each expectation is violated."""
    if table.judge is None:
        return decoded
    parts, rejects, violations = [], list(decoded.rejects), Counter(decoded.violations)
    for part in decoded.parts:
        kept, out, found = _judged(part, table.judge, table)
        parts.append(kept)
        rejects += out
        violations += found
    rejects.sort(key=lambda reject: reject.index)
    return replace(decoded, parts=tuple(parts), rejects=tuple(rejects), violations=violations)


def fate(reject: Reject, spec: LandingSpec) -> OnError:
    """What becomes of a record that gives no row: as its expectation says, or else the table."""
    match reject.on_violation:
        case None:
            return spec.on_error
        case OnViolation.FAIL:
            return OnError.SUSPEND
        case OnViolation.DEAD_LETTER:
            return OnError.DEAD_LETTER
        case OnViolation.DROP | OnViolation.WARN:
            return OnError.SKIP
        case _:
            assert_never(reject.on_violation)


def keeps_letters(spec: LandingSpec) -> bool:
    """Whether the landing may leave dead letters."""
    expected = any(one.on_violation is OnViolation.DEAD_LETTER for one in spec.declared.expectations)
    return spec.on_error is OnError.DEAD_LETTER or expected


def findings(expectations: Sequence[Expectation], violations: Mapping[str, int]) -> tuple[Finding, ...]:
    """How each expectation has fared."""
    return tuple(Finding(one, violations.get(one.name, 0)) for one in expectations)


def _judged(part: Part, judge: Computed, table: TableSpec) -> tuple[Part, list[Reject], Counter[str]]:
    """The rows that stay; those that do not, each rejected once, by the gravest of what it violates; all violations."""
    width, expectations = part.rows.num_columns, table.expectations
    judged, failures = judge.of(_with_all_columns(part.rows, table))
    first = judged.num_columns - len(expectations)
    places = np.delete(places_of(part), [at for at, _ in failures])
    rejects = [Reject(int(places_of(part)[at]), RejectKind.MISFIT, f"it cannot be judged: {why}") for at, why in failures]
    masks = {one.name: judged.column(first + number) for number, one in enumerate(expectations)}
    leaves = np.zeros(judged.num_rows, np.bool_)
    for one in sorted(expectations, key=lambda one: _GRAVITY.index(one.on_violation)):
        out = masks[one.name].to_numpy(zero_copy_only=False) & ~leaves
        if one.on_violation is OnViolation.WARN:
            continue
        rejects += [_reject(int(place), one) for place in places[out]]
        leaves |= out
    rows = pa.RecordBatch.from_arrays(judged.columns[:width], schema=part.rows.schema).filter(pa.array(~leaves))
    violations = Counter({name: mask.true_count for name, mask in masks.items() if mask.true_count})
    return Part(rows, pa.array(places[~leaves], pa.int64())), rejects, violations


def _with_all_columns(rows: pa.RecordBatch, table: TableSpec) -> pa.RecordBatch:
    """With nulls for declared columns that the schema of these records lacks."""
    for column in table.schema:
        if column.name not in rows.schema.names:
            rows = rows.append_column(pa.field(column.name, column.type), pa.nulls(rows.num_rows, column.type))
    return rows


_GRAVITY = (OnViolation.FAIL, OnViolation.DEAD_LETTER, OnViolation.DROP, OnViolation.WARN)


def _reject(place: int, violated: Expectation) -> Reject:
    said = violated.kind.condition if isinstance(violated.kind, Satisfies) else violated.name
    reason = f"it violates CONSTRAINT {violated.name!r}: {said}"
    return Reject(place, RejectKind.EXPECTATION, reason, violated.on_violation)
