"""Models over LazyFrames and record batches.

`ml_predict` becomes an elementwise expression, not an opaque step: a filter, a limit or a choice of columns above it
reaches the scan below wherever it does not need the answers, rows stream through in their order, and only as many as
the engine's own batches are held. Models see what is left.

Where a model's 'on_error' leaves rows out, a filter on its answers stands behind it; other filters still reach the scan.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from lakeflow.errors import LakeflowError, ModelError, UnknownName, UsageError
from lakeflow.models.answering import Answers
from lakeflow.models.columns import input_rows, output_names, require_castable
from lakeflow.models.embedding import Embedding
from lakeflow.models.embeddings import Embedded, Embeddings
from lakeflow.models.failing import OnError, read_failing
from lakeflow.models.lost import Counted, Lost, LostRow, row_key, row_text
from lakeflow.models.registry import Model, ModelSet
from lakeflow.models.spec import ModelSpec, Task

ROWS_A_CALL = 131_072
"""Rows handed to a model at once, where the engine hands over whole columns."""

Array = NDArray[np.bool_]

ASKED = "asked"
LEFT_OUT = "left out"
HASH = "hash"
"""Fields beside the answers, which bear their places as names: whether a row was asked, whether it is left out, and the hash
that its vector is known by."""

_models: ContextVar[ModelSet | None] = ContextVar("lakeflow_models", default=None)
_lost: ContextVar[Lost | None] = ContextVar("lakeflow_lost", default=None)
_embeddings: ContextVar[Embeddings | None] = ContextVar("lakeflow_embeddings", default=None)


@contextmanager
def bound(models: ModelSet, lost: Lost | None = None, embeddings: Embeddings | None = None) -> Iterator[ModelSet]:
    """Within it, `ml_predict` and `ml_embed` find their models in `models`; frames made there may be collected later.

    Rows that a model leaves out go to `lost`; columns of vectors are noted in `embeddings`.
    """
    token, lost_token, embeddings_token = _models.set(models), _lost.set(lost), _embeddings.set(embeddings)
    try:
        yield models
    finally:
        _models.reset(token)
        _lost.reset(lost_token)
        _embeddings.reset(embeddings_token)


def embeddings_of_run() -> Embeddings:
    """Where the run that is under way notes its columns of vectors; of none, one that nobody reads."""
    return _embeddings.get() or Embeddings()


def ml_predict(
    frame: pl.LazyFrame,
    model: str,
    columns: Sequence[str],
    *,
    output: Mapping[str, str] | None = None,
    where: pl.Expr | None = None,
    otherwise: Mapping[str, str | pl.Expr] | None = None,
    version_into: str | None = None,
) -> pl.LazyFrame:
    """The frame's columns and, after them, the model's OUTPUT columns, in the frame's order of rows.

    `columns` fill INPUT by position, as Flink's DESCRIPTOR does, and are cast to its types. `output` gives OUTPUT columns
    other names. A name that the frame has already gets a number: `late` becomes `late0`. `version_into` adds a column, INT,
    with the number of the model's version.

    Rows of which `where` is not true are not asked and cost nothing: their answers are null, or by OUTPUT column what
    `otherwise` says, a column of the frame or an expression over it. So a second model may look at the few rows of which a
    first one is not sure.

    Raises, before any row is read: UsageError outside of a run or where the number of columns differs from INPUT's,
    UnknownName for a model or a column that is not there, ModelError where the model or a column's type does not fit.
    """
    opened = opened_model(model, "ml_predict")
    if otherwise and where is None:
        raise UsageError("ml_predict: otherwise= stands in for rows that where= does not ask; give both, or neither")
    return _with_answers(frame, opened, columns, dict(output or {}), _Asked(where, dict(otherwise or {}), version_into))


def ml_embed(
    frame: pl.LazyFrame,
    model: str,
    column: str,
    *,
    into: str = "embedding",
    where: pl.Expr | None = None,
    version_into: str | None = None,
    hash_into: str | None = None,
) -> pl.LazyFrame:
    """The frame with the vectors of `column` by an embedding model, as the column `into`. Raises as `ml_predict` does.

    A null text gives a null vector, and so does a row of which `where` is not true. `hash_into` adds a column, STRING, with the
    hash of text and model that each vector is known by (embeddings.py); a job whose target has both columns, under these names,
    takes the vectors of texts that it holds already from there and does not ask the model again (docs/embedding.md).
    """
    opened = opened_model(model, "ml_embed")
    if opened.spec.task is not Task.EMBEDDING:
        raise ModelError(
            f"{opened.spec.label} has the task '{opened.spec.task}'; ml_embed needs one with the task '{Task.EMBEDDING}'",
            next_step="use ml_predict for this model, or name an embedding model; `lakeflow models list` shows them",
        )
    embeddings, fingerprint = embeddings_of_run(), opened.fingerprint()
    shown, *hashed = output_names(frame.collect_schema().names(), [into, *filter(None, [hash_into])])
    embeddings.declare(shown, Embedded(opened.spec.name, opened.spec.version, fingerprint))
    embedding = Embedding(opened, fingerprint, embeddings, shown, hashed[0] if hashed else None)
    renamed = {opened.spec.output.names[0]: into}
    return _with_answers(frame, opened, [column], renamed, _Asked(where, {}, version_into, embedding))


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


def _models_of_run(model: str, function: str) -> ModelSet:
    models = _models.get()
    if models is None:
        raise UsageError(
            f"{function} needs the project's models, which are there only while a job runs; asked for: {model!r}",
            next_step="call it in a function under @lakeflow.job and start that with `lakeflow run JOB`",
        )
    return models


def opened_model(model: str, function: str) -> Model:
    """The model of the run that is under way. Raises UsageError outside of one, naming the `function` that asks."""
    return _models_of_run(model, function).get(model)


def opened_models(model: str, function: str) -> tuple[Model, ...]:
    """The same for a name that may stand for all versions: `m$all`."""
    return _models_of_run(model, function).every(model)


@dataclass(frozen=True, slots=True)
class _Asked:
    """Which rows are asked (None: all), what stands in for the answers of the others, and which column tells the version.

    `embedding` is set where the answers are vectors of ml_embed.
    """

    where: pl.Expr | None
    otherwise: Mapping[str, str | pl.Expr]
    version_into: str | None = None
    embedding: Embedding | None = None

    @property
    def hash_into(self) -> str | None:
        return None if self.embedding is None else self.embedding.hash_into

    def field(self, answers: str, place: int, column: str) -> pl.Expr:
        """An OUTPUT column, out of the struct `answers`."""
        value = pl.col(answers).struct.field(str(place))
        if column not in self.otherwise:
            return value
        other = self.otherwise[column]
        other = pl.col(other) if isinstance(other, str) else other
        return pl.when(pl.col(answers).struct.field(ASKED)).then(value).otherwise(other)

    def version(self, answers: str, number: int, taken: Sequence[str]) -> list[pl.Expr]:
        """The column of the version where it is asked for; null in rows that were not asked."""
        if self.version_into is None:
            return []
        value: pl.Expr = pl.lit(number, pl.Int32)
        if self.where is not None:
            value = pl.when(pl.col(answers).struct.field(ASKED)).then(value)
        return [value.alias(output_names(taken, [self.version_into])[0])]


def _with_answers(
    frame: pl.LazyFrame, model: Model, columns: Sequence[str], renamed: Mapping[str, str], asked: _Asked
) -> pl.LazyFrame:
    spec = model.spec
    schema = frame.collect_schema()
    for name in (*renamed, *asked.otherwise):
        if name not in spec.output.names:
            raise UnknownName(f"OUTPUT column of {spec.label}", name, spec.output.names)
    check_columns(model, pl.DataFrame(schema=schema).to_arrow().schema, columns)
    names = output_names(schema.names(), [renamed.get(name, name) for name in spec.output.names])
    answers = output_names([*schema.names(), *names], ["__answers"])[0]
    features = [pl.col(name).alias(str(place)) for place, name in enumerate(columns)]
    features += [] if asked.where is None else [asked.where.alias(ASKED)]
    loses_rows = read_failing(spec).loses_rows
    made = _struct_of(spec.output, [ASKED] * (asked.where is not None) + [LEFT_OUT] * loses_rows)
    if asked.hash_into is not None:
        made = pl.Struct([*made.fields, pl.Field(HASH, pl.String())])
    asking = _asking(_Asking(model, made, _lost.get() or Counted(), asked.embedding))
    answered = frame.with_columns(
        pl.struct(features).map_batches(asking, return_dtype=made, is_elementwise=True).alias(answers)
    )
    if loses_rows:
        answered = answered.filter(~pl.col(answers).struct.field(LEFT_OUT))
    fields = [asked.field(answers, place, column).alias(name) for place, (column, name) in enumerate(_pairs(spec, names))]
    fields += asked.version(answers, spec.version, [*schema.names(), *names])
    if asked.hash_into is not None:
        name = output_names([*schema.names(), *names, *filter(None, [asked.version_into])], [asked.hash_into])[0]
        fields.append(pl.col(answers).struct.field(HASH).alias(name))
    return answered.with_columns(fields).drop(answers)


def _pairs(spec: ModelSpec, names: Sequence[str]) -> list[tuple[str, str]]:
    return list(zip(spec.output.names, names, strict=True))


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


def _struct_of(output: pa.Schema, flags: Sequence[str]) -> pl.Struct:
    """The answers' type; fields bear their places as names, since Polars takes some names for patterns."""
    empty = pl.from_arrow(output.empty_table())
    assert isinstance(empty, pl.DataFrame), "a table becomes a frame"
    fields = {str(place): dtype for place, dtype in enumerate(empty.dtypes)}
    return pl.Struct({**fields, **dict.fromkeys(flags, pl.Boolean())})


def _asking(asking: _Asking) -> Callable[[pl.Series], pl.Series]:
    """The function that Polars calls, from several threads, with a struct of features for some rows."""

    def ask(features: pl.Series) -> pl.Series:
        try:
            pieces = [asking.ask(features.slice(start, ROWS_A_CALL)) for start in _starts(len(features))]
        except LakeflowError as error:
            raise carried(error) from error
        return pl.concat(pieces) if len(pieces) > 1 else pieces[0]

    return ask


def _starts(rows: int) -> range:
    return range(0, max(rows, 1), ROWS_A_CALL)


@dataclass(frozen=True, slots=True)
class _Asking:
    """A model asked about some rows of a frame; `made` is the struct that comes of it, `lost` where rows are left."""

    model: Model
    made: pl.Struct
    lost: Lost
    embedding: Embedding | None = None

    def ask(self, features: pl.Series) -> pl.Series:
        """The struct of answers, with its flags."""
        spec = self.model.spec
        columns = [features.struct.field(str(place)).to_arrow() for place in range(len(spec.input))]
        rows = input_rows(spec, columns)
        wanted = np.ones(len(features), bool)
        if any(one.name == ASKED for one in self.made.fields):
            wanted = features.struct.field(ASKED).fill_null(False).to_numpy().astype(bool)
        left_out = np.zeros(len(features), bool)
        if self.lost.holds and read_failing(spec).on_error is OnError.DEAD_LETTER:
            left_out[wanted] = self._held(rows.filter(pa.array(wanted)))
        hashes: Sequence[str | None] = ()
        if self.embedding is None:
            answers = self._answered(rows, wanted & ~left_out, left_out).rows
        else:
            answers, hashes = self.embedding.answered(
                rows, wanted & ~left_out, lambda asked: self._answered(rows, asked, left_out)
            )
        frame = pl.from_arrow(answers.rename_columns([str(place) for place in range(answers.num_columns)]))
        assert isinstance(frame, pl.DataFrame), "a batch becomes a frame"
        flags = {ASKED: wanted, LEFT_OUT: left_out}
        given = [pl.Series(one.name, flags[one.name], pl.Boolean()) for one in self.made.fields if one.name in flags]
        given += [pl.Series(HASH, hashes, pl.String())] if self.embedding is not None and self.embedding.hash_into else []
        return frame.with_columns(given).to_struct()

    def _held(self, rows: pa.RecordBatch) -> Sequence[bool]:
        return self.lost.held([row_key(self.model.spec.name, values) for values in rows.to_pylist()])

    def _answered(self, rows: pa.RecordBatch, wanted: Array, left_out: Array) -> Answers:
        """The answers of the rows that are wanted, the others null. Those that fail are marked in `left_out`, and told."""
        if wanted.all():
            answers = self.model.answer(rows)
            self._lose(rows, answers)
            left_out[list(answers.failed)] = read_failing(self.model.spec).loses_rows
            return answers
        places = np.flatnonzero(wanted)
        some = rows.take(pa.array(places))
        answers = self.model.answer(some)
        self._lose(some, answers)
        left_out[places[list(answers.failed)]] = read_failing(self.model.spec).loses_rows
        back = np.full(len(wanted), -1)
        back[places] = np.arange(len(places))
        by: list[str | None] = [None] * len(wanted)
        for place, name in zip(places, answers.answered_by, strict=True):
            by[place] = name
        return Answers(answers.rows.take(pa.array(back, mask=~wanted)), answered_by=by)

    def _lose(self, rows: pa.RecordBatch, answers: Answers) -> None:
        """Tell of the rows that failed, where they are left out."""
        on_error, name = read_failing(self.model.spec).on_error, self.model.spec.name
        if not answers.failed:
            return
        if on_error is OnError.SKIP:
            self.lost.skip(len(answers.failed))
        if on_error is OnError.DEAD_LETTER:
            values = rows.take(pa.array(list(answers.failed))).to_pylist()
            failed = zip(values, answers.failed.values(), strict=True)
            self.lost.keep([LostRow(name, row_key(name, one), row_text(one), why) for one, why in failed])


def carried(error: LakeflowError) -> LakeflowError:
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
