"""Provider python: a class of the project, or of a package, answers; for PyTorch, XGBoost or anything else in Python.

    class Risk:
        thread_safe = False                                    # optional; True: predict may be called from several threads

        def __init__(self, weights: Path, threshold: float = 0.5) -> None: ...     # options of WITH, by name
        def load(self) -> None: ...                            # optional; opens what is heavy, once
        def predict(self, rows: pa.RecordBatch) -> ...: ...    # INPUT columns -> OUTPUT columns, see python_answers.py
        def identity(self) -> Mapping[str, str]: ...           # optional; what else decides the answers
        def close(self) -> None: ...                           # optional

`predict` gets 1 to 'batch_size' rows and is called from one thread at a time unless the class says that it is thread-safe.
The class is imported by `identity` and `check`, not to list models.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pyarrow as pa

from lakeflow.errors import ModelError
from lakeflow.models.providers.python_answers import asked_rows, output_columns, spread
from lakeflow.models.providers.python_class import FoundClass, arguments, find_class, own_code
from lakeflow.models.providers.python_settings import read_settings
from lakeflow.models.providers.task_outputs import check_task, require_answers
from lakeflow.models.spec import ModelSpec


class PythonProvider:
    """See `Provider`."""

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec
        self._settings = read_settings(spec)
        self._found: FoundClass | None = None
        self._instance: Any = None
        self._turn: AbstractContextManager[Any] = threading.Lock()

    def identity(self) -> Mapping[str, str | Path]:
        """The code by the bytes that were imported, options by their values, files among them by their bytes."""
        found = self._class()
        named = dict(found.code) | dict(arguments(self._spec, found.kind).known_by)
        if hasattr(found.kind, "identity"):
            instance = self._instance if self._instance is not None else self._constructed(found)
            with own_code(self._spec, "failed in identity", found.is_own):
                named |= {f"identity {name}": str(value) for name, value in dict(instance.identity()).items()}
        return {**named, "null_policy": str(self._settings.null_policy)}

    def check(self) -> None:
        if self._instance is not None:
            return
        check_task(self._spec)
        found = self._class()
        instance = self._constructed(found)
        if hasattr(instance, "load"):
            with own_code(self._spec, "failed in load", found.is_own):
                instance.load()
        self._turn = nullcontext() if getattr(instance, "thread_safe", False) else threading.Lock()
        self._instance = instance

    def predict(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        if self._instance is None:
            raise ModelError(f"{self._spec.label} is asked before it was checked, or after it was closed")
        instance, size = self._instance, self._settings.batch_size
        pieces = [self._piece(instance, rows.slice(start, size), start) for start in range(0, rows.num_rows, size)]
        return pa.concat_batches(pieces) if pieces else pa.RecordBatch.from_pylist([], schema=self._spec.output)

    def close(self) -> None:
        instance, self._instance = self._instance, None
        if instance is not None and hasattr(instance, "close"):
            with own_code(self._spec, "failed in close", self._class().is_own):
                instance.close()

    def _class(self) -> FoundClass:
        if self._found is None:
            self._found = find_class(self._spec, self._settings)
        return self._found

    def _constructed(self, found: FoundClass) -> Any:
        values = arguments(self._spec, found.kind).values
        with own_code(self._spec, "failed in its constructor", found.is_own):
            return found.kind(**values)

    def _piece(self, instance: Any, rows: pa.RecordBatch, first_row: int) -> pa.RecordBatch:
        asked = asked_rows(self._spec, rows, self._settings.null_policy, first_row)
        chosen = rows if asked is None else rows.filter(asked)
        if chosen.num_rows:
            columns = output_columns(self._spec, self._asked(instance, chosen), chosen.num_rows)
            if asked is not None:
                columns = [spread(column, asked) for column in columns]
        else:
            columns = [pa.nulls(rows.num_rows, column.type) for column in self._spec.output]
        return require_answers(self._spec, pa.RecordBatch.from_arrays(columns, schema=self._spec.output))

    def _asked(self, instance: Any, rows: pa.RecordBatch) -> object:
        with self._turn, own_code(self._spec, "failed in predict", self._class().is_own):
            return instance.predict(rows)
