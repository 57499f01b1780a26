"""A model that fails rows on purpose, for tests of what becomes of them."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from lakeflow.errors import ModelError
from lakeflow.models.answering import Answers, Leniency
from lakeflow.models.failing import Failed, error_of
from lakeflow.models.remote.dialect import ErrorKind
from lakeflow.models.spec import ModelSpec, Task

Row = Mapping[str, Any]


def spec_of(name: str = "m", **options: str) -> ModelSpec:
    """A model of one column `x` that answers with `y`, twice as much, and options as given."""
    given, output = pa.schema([("x", pa.float64())]), pa.schema([("y", pa.float64())])
    return ModelSpec(name, "fake", Task.REGRESSION, given, output, options)


class Failing:
    """See `Provider` and `Telling`: y = factor * x, but for the rows that `fails` is true of. `asked` counts each x."""

    def __init__(self, spec: ModelSpec, fails: Callable[[float], bool], *, factor: float = 2.0) -> None:
        self._spec = spec
        self._fails = fails
        self._factor = factor
        self._lock = threading.Lock()
        self.asked: Counter[float] = Counter()

    def identity(self) -> Mapping[str, str | Path]:
        return {"factor": str(self._factor)}

    def check(self) -> None:
        """Nothing is opened."""

    def predict(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        return self.tell(rows, Leniency()).rows

    def tell(self, rows: pa.RecordBatch, leniency: Leniency) -> Answers:
        values = rows.column("x").to_pylist()
        with self._lock:
            self.asked.update(values)
            failed = {place: Failed(ErrorKind.REFUSED, f"no {x}") for place, x in enumerate(values) if self._fails(x)}
        if failed and leniency.strict:
            raise error_of(self._spec.label, next(iter(failed.values())))
        answers = [None if place in failed else x * self._factor for place, x in enumerate(values)]
        return Answers(pa.RecordBatch.from_pydict({"y": answers}, schema=self._spec.output), failed)

    def close(self) -> None:
        """Nothing is open."""


class Strict:
    """A provider that tells nothing: a row that `fails` is true of fails its whole call, as ONNX Runtime does."""

    def __init__(self, spec: ModelSpec, fails: Callable[[float], bool]) -> None:
        self._told = Failing(spec, fails)
        self.calls = 0

    def identity(self) -> Mapping[str, str | Path]:
        return {}

    def check(self) -> None:
        """Nothing is opened."""

    def predict(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        self.calls += 1
        answers = self._told.tell(rows, Leniency(strict=False))
        if answers.failed:
            raise ModelError(f"row {min(answers.failed)} does not fit the graph")
        return answers.rows

    def close(self) -> None:
        """Nothing is open."""
