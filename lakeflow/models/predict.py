"""Models over LazyFrames and record batches.

`ml_predict` becomes an elementwise expression, not an opaque step: a filter, a limit or a choice of columns above it
reaches the scan below wherever it does not need the answers, rows stream through in their order, and only as many as
the engine's own batches are held. Models see what is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import polars as pl
import pyarrow as pa

from lakeflow.errors import LakeflowError, ModelError, UnknownName, UsageError
from lakeflow.models.columns import input_rows, output_names, require_castable
from lakeflow.models.registry import Model, ModelSet
from lakeflow.models.spec import Task

ROWS_A_CALL = 131_072
"""Rows handed to a model at once, where the engine hands over whole columns."""

_models: ContextVar[ModelSet | None] = ContextVar("lakeflow_models", default=None)


@contextmanager
def bound(models: ModelSet) -> Iterator[ModelSet]:
    """Within it, `ml_predict` and `ml_embed` find their models in `models`; frames made there may be collected later."""
    token = _models.set(models)
    try:
        yield models
    finally:
        _models.reset(token)


def ml_predict(
    frame: pl.LazyFrame, model: str, columns: Sequence[str], *, output: Mapping[str, str] | None = None
) -> pl.LazyFrame:
    """The frame's columns and, after them, the model's OUTPUT columns, in the frame's order of rows.

    `columns` fill INPUT by position, as Flink's DESCRIPTOR does, and are cast to its types. `output` gives OUTPUT columns
    other names. A name that the frame has already gets a number: `late` becomes `late0`.

    Raises, before any row is read: UsageError outside of a run or where the number of columns differs from INPUT's,
    UnknownName for a model or a column that is not there, ModelError where the model or a column's type does not fit.
    """
    opened = opened_model(model, "ml_predict")
    return _with_answers(frame, opened, columns, dict(output or {}))


def ml_embed(frame: pl.LazyFrame, model: str, column: str, *, into: str = "embedding") -> pl.LazyFrame:
    """The frame with the vectors of `column` by an embedding model, as the column `into`. Raises as `ml_predict` does.

    A null text gives a null vector.
    """
    opened = opened_model(model, "ml_embed")
    if opened.spec.task is not Task.EMBEDDING:
        raise ModelError(
            f"{opened.spec.label} has the task '{opened.spec.task}'; ml_embed needs one with the task '{Task.EMBEDDING}'",
            next_step="use ml_predict for this model, or name an embedding model; `lakeflow models list` shows them",
        )
    return _with_answers(frame, opened, [column], {opened.spec.output.names[0]: into})


def predict_batch(model: Model, rows: pa.RecordBatch, columns: Sequence[str]) -> pa.RecordBatch:
    """The OUTPUT columns alone for rows at hand, under the names that OUTPUT declares. Raises as `ml_predict` does."""
    check_columns(model, rows.schema, columns)
    return model.predict(input_rows(model.spec, [rows.column(name) for name in columns]))


def unwrap(error: BaseException) -> LakeflowError | None:
    """The error of the tree behind what Polars raised, as it was raised first; None where there is none."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        if isinstance(current, LakeflowError):
            original = getattr(type(current), "original", current)
            return original if isinstance(original, LakeflowError) else current
        current = current.__cause__ or current.__context__
    return None


def opened_model(model: str, function: str) -> Model:
    """The model of the run that is under way. Raises UsageError outside of one, naming the `function` that asks."""
    models = _models.get()
    if models is None:
        raise UsageError(
            f"{function} needs the project's models, which are there only while a job runs; asked for: {model!r}",
            next_step="call it in a function under @lakeflow.job and start that with `lakeflow run JOB`",
        )
    return models.get(model)


def _with_answers(frame: pl.LazyFrame, model: Model, columns: Sequence[str], renamed: Mapping[str, str]) -> pl.LazyFrame:
    spec = model.spec
    schema = frame.collect_schema()
    for name in renamed:
        if name not in spec.output.names:
            raise UnknownName(f"OUTPUT column of {spec.label}", name, spec.output.names)
    check_columns(model, pl.DataFrame(schema=schema).to_arrow().schema, columns)
    names = output_names(schema.names(), [renamed.get(name, name) for name in spec.output.names])
    answers = output_names([*schema.names(), *names], ["__answers"])[0]
    features = pl.struct(pl.col(name).alias(str(place)) for place, name in enumerate(columns))
    asked = features.map_batches(_asking(model), return_dtype=_struct_of(spec.output), is_elementwise=True)
    fields = [pl.col(answers).struct.field(str(place)).alias(name) for place, name in enumerate(names)]
    return frame.with_columns(asked.alias(answers)).with_columns(fields).drop(answers)


def check_columns(model: Model, given: pa.Schema, columns: Sequence[str]) -> None:
    """Raises what `ml_predict` raises where columns of the schema `given` cannot fill INPUT."""
    spec = model.spec
    if len(columns) != len(spec.input):
        raise UsageError(
            f"{spec.label} takes {len(spec.input)} columns, given: {len(columns)} ({', '.join(columns)}); "
            f"INPUT: {', '.join(f'{column.name} {column.type}' for column in spec.input)}"
        )
    for name, column in zip(columns, spec.input, strict=True):
        if name not in given.names:
            raise UnknownName(f"column for INPUT {column.name!r} of {spec.label}", name, given.names)
        require_castable(spec, name, given.field(name).type, column)


def _struct_of(output: pa.Schema) -> pl.Struct:
    """The answers' type; fields bear their places as names, since Polars takes some names for patterns."""
    empty = pl.from_arrow(output.empty_table())
    assert isinstance(empty, pl.DataFrame), "a table becomes a frame"
    return pl.Struct({str(place): dtype for place, dtype in enumerate(empty.dtypes)})


def _asking(model: Model) -> Callable[[pl.Series], pl.Series]:
    """The function that Polars calls, from several threads, with a struct of features for some rows."""

    def ask(features: pl.Series) -> pl.Series:
        try:
            pieces = [_ask(model, features.slice(start, ROWS_A_CALL)) for start in _starts(len(features))]
        except LakeflowError as error:
            raise _carried(error) from error
        return pl.concat(pieces) if len(pieces) > 1 else pieces[0]

    return ask


def _starts(rows: int) -> range:
    return range(0, max(rows, 1), ROWS_A_CALL)


def _ask(model: Model, features: pl.Series) -> pl.Series:
    columns = [features.struct.field(name).to_arrow() for name in features.struct.fields]
    answers = model.predict(input_rows(model.spec, columns))
    frame = pl.from_arrow(answers.rename_columns([str(place) for place in range(answers.num_columns)]))
    assert isinstance(frame, pl.DataFrame), "a batch becomes a frame"
    return frame.to_struct()


def _carried(error: LakeflowError) -> LakeflowError:
    """An error equal to this one that survives Polars, which makes a new one of the same type from the text alone.

    So the type itself holds the error: whatever text it is made from, it says what was said, and `unwrap` finds it.
    """

    def same(self: LakeflowError, _text: str = "") -> None:
        LakeflowError.__init__(self, error.message, left_behind=error.left_behind, next_step=error.next_step)

    kind = type(
        type(error).__name__, (type(error),), {"original": error, "__init__": same, "__module__": type(error).__module__}
    )
    carried: LakeflowError = kind("")
    return carried
