"""What stands behind the functions of a compiled query: models, searches, and lakeflow's own functions.

DuckDB calls a function with the arguments of some two thousand rows at a time, from several threads. A row that a model leaves
out ('on_error' = 'skip' or 'dead_letter') has NULL in place of the STRUCT of its answers; every other row has a STRUCT.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, assert_never

import numpy as np
import pyarrow as pa

from lakeflow.declare import IndexSpec
from lakeflow.errors import UsageError
from lakeflow.models.columns import input_rows
from lakeflow.models.failing import Failed, Failing, OnError, read_failing
from lakeflow.models.lost import Counted, Lost, LostRow, row_key, row_text
from lakeflow.models.registry import Model, ModelSet
from lakeflow.models.remote.provider import RemoteProvider
from lakeflow.runner.indexing import IndexRoom
from lakeflow.runner.sql_evaluate import Evaluating
from lakeflow.runner.sql_search import search_function
from lakeflow.sql.calls import SETTINGS
from lakeflow.sql.compiled import Call, Compiled, EvaluateCall, Function, PredictCall, PureCall, SearchCall
from lakeflow.sql.pure.registry import pure_function

WAITING_THREADS: Final = 8
"""Threads of a query that waits for services: each asks for the rows of a vector, of which a filter may leave few."""


def threads_for(compiled: Compiled, models: ModelSet, threads: int) -> int:
    """How many threads a query is given where it may use `threads` cores: more where it mostly waits for remote models."""
    asked = (call.model.name for call in compiled.calls if isinstance(call, PredictCall))
    waits = any(isinstance(models.get(name).provider, RemoteProvider) for name in asked)
    return max(threads, WAITING_THREADS) if waits else threads


def functions_for(
    compiled: Compiled,
    models: ModelSet,
    room: IndexRoom | None = None,
    indexes: Iterable[IndexSpec] = (),
    lost: Lost | None = None,
) -> list[Function]:
    """The functions of the query's calls, in their order. Models and indexes are opened now, so that what is wrong with them
    is known before a row is read.

    `room` and `indexes` are what VECTOR_SEARCH looks in; rows that a model leaves out go to `lost`. Raises what
    `ModelSet.get` and `search_function` raise, UnknownName and UsageError for a setting that CONFIG cannot have.
    """
    declared = tuple(indexes)
    evaluations: dict[str, Evaluating] = {}

    def behind(call: Call) -> Function:
        match call:
            case PredictCall():
                return _predicting(call, models, lost or Counted())
            case SearchCall():
                if room is None:
                    raise UsageError(f"VECTOR_SEARCH over {call.table} has no lake to search in here")
                return search_function(call, room, declared)
            case EvaluateCall():
                if not call.tells:
                    evaluations[call.evaluation] = Evaluating(call, models)
                return evaluations[call.evaluation].function(call)
            case PureCall():
                return pure_function(call)
            case _:
                assert_never(call)

    taking_first = sorted(compiled.calls, key=lambda call: isinstance(call, EvaluateCall) and call.tells)
    found = {call.function: behind(call) for call in taking_first}
    return [found[call.function] for call in compiled.calls]


def _predicting(call: PredictCall, models: ModelSet, lost: Lost) -> Function:
    model = _configured(call, models)
    parameters = tuple(column.type for column in model.spec.input)
    return Function(call.function, parameters, call.result, _Predicting(model, read_failing(model.spec), lost, call.result))


def _configured(call: PredictCall, models: ModelSet) -> Model:
    said = {name.lower().replace("-", "_"): value for name, value in call.config.items()}
    options = {SETTINGS[name]: f"{value}s" if name == "client_timeout" else value for name, value in said.items()}
    if not options:
        return models.get(call.model.name)
    models.get(call.model.name)
    try:
        return models.configured(call.model.name, options)
    except UsageError as error:
        raise UsageError(
            f"CONFIG for model {call.model.name!r} does not go with it: {error.message}",
            next_step="leave that setting out; models that answer in this process have none of them",
        ) from error


@dataclass(frozen=True, slots=True)
class _Predicting:
    """A model, asked about the arguments of some rows; `lost` is where rows are left, `result` the type of the answers."""

    model: Model
    failing: Failing
    lost: Lost
    result: pa.DataType

    def __call__(self, given: pa.RecordBatch) -> pa.Array:
        rows = input_rows(self.model.spec, given.columns)
        held = np.zeros(rows.num_rows, bool)
        if self.lost.holds and self.failing.on_error is OnError.DEAD_LETTER:
            held[:] = self.lost.held([row_key(self.model.spec.name, values) for values in rows.to_pylist()])
        asked = rows.filter(pa.array(~held)) if held.any() else rows
        answers = self.model.answer(asked)
        left_out = np.zeros(asked.num_rows, bool)
        if self.failing.loses_rows and answers.failed:
            left_out[list(answers.failed)] = True
            self._lose(self.failing.on_error, asked, answers.failed)
        fields = list(self.result)
        columns = [column.cast(field.type) for column, field in zip(answers.rows.columns, fields, strict=True)]
        told = pa.StructArray.from_arrays(columns, fields=fields, mask=pa.array(left_out))
        if not held.any():
            return told
        places = np.cumsum(~held) - 1
        return told.take(pa.array(places, mask=held))

    def _lose(self, on_error: OnError, asked: pa.RecordBatch, failed: Mapping[int, Failed]) -> None:
        if on_error is OnError.SKIP:
            self.lost.skip(len(failed))
            return
        name, values = self.model.spec.name, asked.take(pa.array(list(failed))).to_pylist()
        pairs = zip(values, failed.values(), strict=True)
        self.lost.keep([LostRow(name, row_key(name, one), row_text(one), why) for one, why in pairs])
