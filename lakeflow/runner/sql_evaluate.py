"""What stands behind ML_EVALUATE in a query: models that are told rows as they come, and what came of them in the end."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from lakeflow.errors import UsageError
from lakeflow.models.evaluation.evaluate import Evaluation, Evaluator
from lakeflow.models.evaluation.values import Question
from lakeflow.models.predict import ROWS_A_CALL
from lakeflow.models.registry import Model, ModelSet
from lakeflow.models.spec import Task
from lakeflow.sql.compiled import EvaluateCall, Function


class Evaluating:
    """One ML_EVALUATE: the function that takes rows in, and the one that tells of them. Thread-safe.

    Raises what `ModelSet.every` and `Evaluator` raise.
    """

    def __init__(self, call: EvaluateCall, models: ModelSet) -> None:
        self._models: Sequence[Model] = models.every(call.model.name)
        self._question = Question((call.label,), call.features, Task(call.task))
        given = dict(zip((*call.features, call.label), call.parameters, strict=True))
        self._schema = pa.schema(list(given.items()))
        self._lock = threading.Lock()
        self._evaluators, self._taken = self._begun(), 0

    def function(self, call: EvaluateCall) -> Function:
        """What stands behind one of the two calls."""
        return Function(call.function, call.parameters, call.result, lambda rows: self._answer(call, rows))

    def _begun(self) -> Sequence[Evaluator]:
        return [Evaluator(model, self._schema, self._question) for model in self._models]

    def _answer(self, call: EvaluateCall, rows: pa.RecordBatch) -> pa.Array:
        with self._lock:
            return self._told(call, rows) if call.tells else self._take(call, rows)

    def _take(self, call: EvaluateCall, rows: pa.RecordBatch) -> pa.Array:
        columns = dict(zip((*call.features, call.label), rows.columns, strict=True))
        batch = pa.RecordBatch.from_arrays(list(columns.values()), schema=self._schema)
        for start in range(0, batch.num_rows, ROWS_A_CALL):
            for evaluator in self._evaluators:
                evaluator.add(batch.slice(start, ROWS_A_CALL))
        self._taken += batch.num_rows
        return pa.array([1] * batch.num_rows, pa.int64())

    def _told(self, call: EvaluateCall, rows: pa.RecordBatch) -> pa.Array:
        counts = rows.column(0).to_pylist()
        if counts != [self._taken]:
            raise UsageError(
                f"ML_EVALUATE of model {call.model.name!r} was told {self._taken:,} rows, and {counts} were counted: it stands "
                "where its rows depend on other rows, or are read twice",
                next_step="evaluate one table or one subquery, not one for each row of another; name its result in WITH once",
            )
        found = [one for evaluator in self._evaluators for one in evaluator.evaluations()]
        self._evaluators, self._taken = self._begun(), 0
        return pa.array([[_row(one, call.result.value_type) for one in found]], call.result)


def _row(found: Evaluation, kind: pa.DataType) -> Mapping[str, Any]:
    """An evaluation as the fields of a STRUCT."""
    details = {"confusion_matrix": found.confusion_matrix, "per_class": found.per_class}
    told = {**found.facts(), **found.result.metrics, **details}
    return {field.name: told.get(field.name) for field in kind}
