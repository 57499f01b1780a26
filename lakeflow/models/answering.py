"""Rows to answers, by a model and by what stands in for it: who answered, and which rows nobody did.

A provider that can tell why a row has no answer is `Telling`. Of another one rows are asked again in halves, until those that
fail are found; the answers to a row do not depend on the rows beside it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa

from lakeflow.errors import ModelError, ProviderUnavailable
from lakeflow.models.failing import ANSWERED_BY, DEFAULT, Failed, Failing, OnError, error_of, read_failing
from lakeflow.models.remote.dialect import ErrorKind
from lakeflow.models.shapes import column_of
from lakeflow.models.vectors import unfit, without

if TYPE_CHECKING:
    from lakeflow.models.providers.base import Provider
    from lakeflow.models.registry import Model

NO_NAMES: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answers:
    """OUTPUT for each row, null where it has no answer; `failed` says why, by the row's place.

    `answered_by` names for each row who answered it; empty: the model itself, all of those that did not fail.
    """

    rows: pa.RecordBatch
    failed: Mapping[int, Failed] = field(default_factory=dict)
    answered_by: Sequence[str | None] = NO_NAMES


@dataclass(frozen=True, slots=True)
class Leniency:
    """What a failed row is to the caller. `strict`: the first one is raised as an error. `replaced`: something else answers,
    at once, even where the whole service is out or its quota is spent."""

    strict: bool = True
    replaced: bool = False


@runtime_checkable
class Telling(Protocol):
    """A provider that answers the rows that it can, and says of the others why not."""

    def tell(self, rows: pa.RecordBatch, leniency: Leniency) -> Answers:
        """As `Provider.predict`, for exactly the INPUT columns. Raises ModelError or ProviderUnavailable for a failed row where
        `leniency` is strict, and for what would be the same for every row."""
        ...


def answered(model: Model, rows: pa.RecordBatch) -> Answers:
    """The model's answers, or those of what stands in for it, with all OUTPUT columns.

    A row without any is among `failed` where 'on_error' is not 'fail'. Raises what the provider raises, ModelError and
    ProviderUnavailable for such a row else.
    """
    failing = read_failing(model.spec)
    told = _chain(model, rows, strict=failing.on_error is OnError.FAIL)
    if told.failed and failing.on_error is OnError.FAIL:
        raise error_of(model.spec.label, next(iter(told.failed.values())))
    if failing.on_error is OnError.IGNORE:
        _require_nullable(model, told)
    return replace(told, rows=with_told_columns(told, model.spec.output, failing))


def _chain(model: Model, rows: pa.RecordBatch, *, strict: bool) -> Answers:
    """The answers of a model, of its fallback for what it leaves open, and so on."""
    failing = read_failing(model.spec)
    told = _asked(model, rows, Leniency(strict and not failing.replaced, failing.replaced))
    if told.failed and model.fallback is not None:
        left = rows.take(pa.array(list(told.failed)))
        told = _merged(told, _chain(model.fallback(), left, strict=strict and failing.default is None))
    if told.failed and failing.default is not None:
        count = len(told.failed)
        columns = [column_of([one] * count, column) for one, column in zip(failing.default, told.rows.schema, strict=True)]
        standing_in = pa.RecordBatch.from_arrays(columns, schema=told.rows.schema)
        told = _merged(told, Answers(standing_in, answered_by=[DEFAULT] * count))
    return told


def _asked(model: Model, rows: pa.RecordBatch, leniency: Leniency) -> Answers:
    """One model alone, counted in its usage, held to its contract."""
    spec, provider = model.spec, model.provider
    started = time.perf_counter()
    if isinstance(provider, Telling):
        told = provider.tell(rows, leniency)
    elif leniency.strict:
        told = Answers(provider.predict(rows))
    else:
        told = _in_halves(provider, rows)
    model.usage.add(spec.name, rows.num_rows, time.perf_counter() - started)
    if told.rows.num_rows != rows.num_rows:
        raise ModelError(f"{spec.label} gave {told.rows.num_rows} answers to {rows.num_rows} rows")
    given = [(column.name, column.type) for column in told.rows.schema]
    aside = read_failing(spec).told
    declared = [(column.name, column.type) for column in spec.output if column.name not in aside]
    if given != declared:
        raise ModelError(f"{spec.label} gave the columns {_listed(given)}; OUTPUT declares {_listed(declared)}")
    if spec.task == "embedding" and (wrong := unfit(told.rows.column(0), model.widths)):
        told = replace(told, rows=without(told.rows, wrong), failed={**told.failed, **wrong})
    by: list[str | None] = [spec.name] * rows.num_rows  # at once: a look at each row costs as much as a small graph
    for place in told.failed:
        by[place] = None
    return replace(told, answered_by=by)


def _in_halves(provider: Provider, rows: pa.RecordBatch) -> Answers:
    """All rows at once; where that fails, each half by itself, down to the single rows that fail."""
    parts: list[pa.RecordBatch | Failed] = []
    waiting = [rows]
    while waiting:
        some = waiting.pop()
        try:
            parts.append(provider.predict(some))
        except (ModelError, ProviderUnavailable) as error:
            if some.num_rows <= 1:
                kind = ErrorKind.UNAVAILABLE if isinstance(error, ProviderUnavailable) else ErrorKind.MISFIT
                parts.append(Failed(kind, error.message))
                continue
            middle = some.num_rows // 2
            waiting += [some.slice(middle), some.slice(0, middle)]
    return _joined(provider, rows, parts)


def _joined(provider: Provider, rows: pa.RecordBatch, parts: Sequence[pa.RecordBatch | Failed]) -> Answers:
    failed: dict[int, Failed] = {}
    batches: list[pa.RecordBatch] = []
    schema = provider.predict(rows.slice(0, 0)).schema
    place = 0
    for part in parts:
        if isinstance(part, Failed):
            failed[place] = part
            part = pa.RecordBatch.from_arrays([pa.nulls(1, column.type) for column in schema], schema=schema)
        batches.append(part)
        place += part.num_rows
    return Answers(pa.concat_batches(batches) if batches else provider.predict(rows), failed)


def _merged(told: Answers, others: Answers) -> Answers:
    """`told`, with the answers of others to the rows that it left open, in their order."""
    open_rows = list(told.failed)
    places = np.arange(told.rows.num_rows)
    places[open_rows] = told.rows.num_rows + np.arange(len(open_rows))
    both = pa.concat_batches([told.rows, others.rows.cast(told.rows.schema)])
    by = list(told.answered_by)
    for place, name in zip(open_rows, others.answered_by, strict=True):
        by[place] = name
    failed = {
        open_rows[place]: replace(why, message=f"{told.failed[open_rows[place]].message}; in its place: {why.message}")
        for place, why in others.failed.items()
    }
    return Answers(both.take(pa.array(places)), failed, by)


def with_told_columns(told: Answers, output: pa.Schema, failing: Failing) -> pa.RecordBatch:
    """The answers with the columns that tell of errors and of who answered, each in its place in OUTPUT."""
    if not failing.told:
        return told.rows
    failed = [told.failed.get(place) for place in range(told.rows.num_rows)]
    arrays = []
    for column in output:
        if column.name in failing.told:
            arrays.append(pa.array(list(_telling(failing.told[column.name], failed, told.answered_by)), column.type))
        else:
            arrays.append(told.rows.column(column.name))
    return pa.RecordBatch.from_arrays(arrays, schema=output)


def _telling(what: str, failed: Sequence[Failed | None], answered_by: Sequence[str | None]) -> Iterator[object]:
    if what == ANSWERED_BY:
        yield from answered_by
        return
    for one in failed:
        if one is None:
            yield None
            continue
        match what:
            case "error_kind":
                yield str(one.kind)
            case "error_message" | "error_string":
                yield one.message
            case "http_status_code":
                yield one.status
            case _:
                yield [(name, [value]) for name, value in one.headers.items()] if one.status else None


def _require_nullable(model: Model, told: Answers) -> None:
    for column in model.spec.output:
        if told.failed and not column.nullable:
            raise ModelError(
                f"{model.spec.label}: OUTPUT {column.name!r} is NOT NULL, and {len(told.failed)} rows have no answer",
                next_step="take NOT NULL away, or say 'on_error' = 'skip', 'dead_letter' or 'fail', or give a 'default_value'",
            )


def _listed(columns: Sequence[tuple[str, pa.DataType]]) -> str:
    return ", ".join(f"{name} {kind}" for name, kind in columns)
