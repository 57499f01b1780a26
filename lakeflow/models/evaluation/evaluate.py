"""A model's answers to rows of a table, measured against labels in it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from lakeflow.errors import ModelError, UnknownName, UsageError
from lakeflow.models.evaluation.choose import Target, targets
from lakeflow.models.evaluation.numbers import defined
from lakeflow.models.evaluation.values import Answered, Bounds, Measure, Question, Result
from lakeflow.models.predict import ROWS_A_CALL, check_columns, opened_models, predict_batch
from lakeflow.models.registry import Model
from lakeflow.models.spec import ModelSpec, Task


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What came of one label. `rows` were measured; the others were left out, counted by what they lacked first.

    A label, an answer or, for a clustering, a feature lacks a value where it is null, NaN or infinite, or a list with such.
    """

    spec: ModelSpec
    fingerprint: str
    task: Task
    features: tuple[str, ...]
    target: Target
    rows: int
    without_label: int
    without_feature: int
    without_answer: int
    result: Result

    @property
    def left_out(self) -> int:
        return self.without_label + self.without_feature + self.without_answer

    def facts(self) -> Mapping[str, Any]:
        """What was evaluated and how many rows, as plain values by name."""
        return {
            "model": self.spec.name,
            "version": self.spec.version,
            "fingerprint": self.fingerprint,
            "task": str(self.task),
            "label": self.target.label,
            "prediction": self.target.prediction,
            "probability": self.target.probability,
            "features": list(self.features),
            "rows": self.rows,
            "left_out": self.left_out,
            "without_label": self.without_label,
            "without_feature": self.without_feature,
            "without_answer": self.without_answer,
        }

    @property
    def confusion_matrix(self) -> str | None:
        """`{"classes": [..], "counts": [[..]]}` as JSON, a list a label with a count a prediction; None where there is none."""
        return None if self.result.confusion is None else json.dumps(self.result.confusion.document(), ensure_ascii=False)

    @property
    def per_class(self) -> str | None:
        """`{"class": {"metric": value}}` as JSON; None where there is none."""
        return json.dumps(self.result.per_class, ensure_ascii=False) if self.result.per_class else None


def ml_evaluate(
    frame: pl.LazyFrame | pl.DataFrame,
    model: str,
    label: str | Sequence[str],
    features: Sequence[str],
    *,
    task: str | None = None,
    prediction: str | Sequence[str] = (),
    probability: str | Sequence[str] = (),
    positive: str | None = None,
    classes: Sequence[str] = (),
    threshold: float = 0.5,
) -> pl.DataFrame:
    """How good the model's answers to the frame's rows are: one row a model version and label, a column a metric.

    `features` fill INPUT by position, `label` names what should have come out; a clustering may have none (`""`). The
    options are those of `Question`. Rows stream through; this reads them when it is called, not when the frame is used.
    A frame without rows gives metrics that are null. `m$2` is that version of a model, `m$all` all of them, each asked for
    the same rows in one pass.

    Raises, before any row is read, what `ml_predict` raises and UsageError where label, task or an option does not fit.
    """
    opened = opened_models(model, "ml_evaluate")
    if task is not None and task not in list(Task):
        raise UnknownName("task", task, [str(known) for known in Task])
    question = Question(
        _names(label),
        tuple(features),
        Task(task) if task else None,
        _names(prediction),
        _names(probability),
        positive,
        tuple(classes),
        threshold,
    )
    lazy = frame.lazy()
    schema = pl.DataFrame(schema=lazy.collect_schema()).to_arrow().schema
    evaluators = [Evaluator(one, schema, question) for one in opened]
    for part in lazy.select(evaluators[0].columns).collect_batches(chunk_size=ROWS_A_CALL):
        for batch in part.to_arrow().to_batches(ROWS_A_CALL):
            for evaluator in evaluators:
                evaluator.add(batch)
    return frame_of([one for evaluator in evaluators for one in evaluator.evaluations()])


def evaluate(
    models: Sequence[Model],
    schema: pa.Schema,
    batches: Callable[[Sequence[str]], Iterable[pa.RecordBatch]],
    question: Question,
    *,
    bounds: Bounds = Bounds(),
    on_rows: Callable[[int], None] = lambda rows: None,
) -> tuple[Evaluation, ...]:
    """The same over the record batches of a table with `schema`; `batches` is asked for the columns that are needed.

    `models` are versions of one model.

    Raises what `ml_evaluate` raises, and UsageError or ModelError where no row at all could be measured.
    """
    evaluators = [Evaluator(one, schema, question, bounds) for one in models]
    for batch in batches(evaluators[0].columns):
        for start in range(0, batch.num_rows, ROWS_A_CALL):
            for evaluator in evaluators:
                evaluator.add(batch.slice(start, ROWS_A_CALL))
        on_rows(batch.num_rows)
    found = tuple(one for evaluator in evaluators for one in evaluator.evaluations())
    for one in found:
        _require_rows(one)
    return found


def frame_of(evaluations: Sequence[Evaluation]) -> pl.DataFrame:
    """A row an evaluation: its facts, its metrics, and the confusion matrix and the metrics of each class as JSON."""
    rows = [
        {**one.facts(), **one.result.metrics, "confusion_matrix": one.confusion_matrix, "per_class": one.per_class}
        for one in evaluations
    ]
    texts = dict.fromkeys(("label", "prediction", "probability", "confusion_matrix", "per_class"), pl.String)
    metrics = {name: pl.Float64 for one in evaluations for name in one.result.metrics}
    return pl.DataFrame(rows, schema_overrides={**texts, **metrics, "features": pl.List(pl.String)}, infer_schema_length=None)


class Evaluator:
    """One model and question, told rows as they come. Checks all that can be checked when it is made."""

    def __init__(self, model: Model, schema: pa.Schema, question: Question, bounds: Bounds = Bounds()) -> None:
        check_columns(model, schema, question.features)
        self._model = model
        self._question = question
        self._task = question.task or model.spec.task
        self._targets = [_Tally(one, one.measure(bounds)) for one in targets(model.spec, schema, question)]

    @property
    def columns(self) -> list[str]:
        """The columns that are needed, each once."""
        return list(dict.fromkeys([*self._question.features, *self._question.labels]))

    def add(self, rows: pa.RecordBatch) -> None:
        """More rows, with the columns that are needed. The model is asked for those alone that have a label."""
        labelled = [tally.with_label(rows) for tally in self._targets]
        wanted = labelled[0]
        for other in labelled[1:]:
            wanted = pc.or_(wanted, other)
        for tally, has in zip(self._targets, labelled, strict=True):
            tally.without_label += rows.num_rows - (has.true_count)
        rows = rows.filter(wanted)
        if not rows.num_rows:
            return
        answers = predict_batch(self._model, rows, self._question.features)
        for tally in self._targets:
            tally.add(rows, answers, self._features(rows))

    def _features(self, rows: pa.RecordBatch) -> pa.RecordBatch | None:
        """The features where the task is measured by them, under names of their places, since they may repeat."""
        if self._task is not Task.CLUSTERING:
            return None
        columns = [rows.column(name) for name in self._question.features]
        return pa.RecordBatch.from_arrays(columns, [str(place) for place in range(len(columns))])

    def evaluations(self) -> tuple[Evaluation, ...]:
        """What came of the rows so far, one a label."""
        fingerprint = self._model.fingerprint()
        return tuple(
            Evaluation(
                self._model.spec,
                fingerprint,
                self._task,
                self._question.features,
                tally.target,
                tally.rows,
                tally.without_label,
                tally.without_feature,
                tally.without_answer,
                tally.measure.result(),
            )
            for tally in self._targets
        )


@dataclass(slots=True)
class _Tally:
    """The rows of one target: those measured, and those left out."""

    target: Target
    measure: Measure
    rows: int = 0
    without_label: int = 0
    without_feature: int = 0
    without_answer: int = 0
    nothing: pa.RecordBatch = field(default_factory=lambda: pa.RecordBatch.from_pydict({}))

    def with_label(self, rows: pa.RecordBatch) -> pa.BooleanArray:
        """Whether each row has a value for the label."""
        if self.target.label is None:
            return pa.array([True] * rows.num_rows, pa.bool_())
        return defined(rows.column(self.target.label))

    def add(self, rows: pa.RecordBatch, answers: pa.RecordBatch, features: pa.RecordBatch | None) -> None:
        """Rows, their answers and, where the task needs them, their features, of one length."""
        columns = {
            "label": _column(rows, self.target.label),
            "prediction": _column(answers, self.target.prediction),
            "probability": _column(answers, self.target.probability),
        }
        kept = self.with_label(rows)
        featured = pc.and_(kept, _all_defined(features.columns, rows.num_rows)) if features is not None else kept
        given = [column for name, column in columns.items() if name != "label" and column is not None]
        answered = pc.and_(featured, _all_defined(given, rows.num_rows))
        self.without_feature += kept.true_count - featured.true_count
        self.without_answer += featured.true_count - answered.true_count
        self.rows += answered.true_count
        if not answered.true_count:
            return
        left = {name: None if column is None else column.filter(answered) for name, column in columns.items()}
        self.measure.add(Answered(**left, features=self.nothing if features is None else features.filter(answered)))


def _column(rows: pa.RecordBatch, name: str | None) -> pa.Array | None:
    return None if name is None else rows.column(name)


def _all_defined(columns: Iterable[pa.Array], rows: int) -> pa.BooleanArray:
    present = pa.array([True] * rows, pa.bool_())
    for column in columns:
        present = pc.and_(present, defined(column))
    return present


def _names(given: str | Sequence[str]) -> tuple[str, ...]:
    return tuple(filter(None, [given] if isinstance(given, str) else given))


def _require_rows(found: Evaluation) -> None:
    """Raises UsageError where there was no row with a label, ModelError where none of them has an answer."""
    if found.rows:
        return
    if not found.left_out:
        raise UsageError("there is no row to evaluate", next_step="look at the table, and at --where")
    if not found.without_answer and not found.without_feature:
        raise UsageError(
            f"none of {found.without_label:,} rows has a label: column {found.target.label!r} is null in each",
            next_step="name another column with --label",
        )
    raise ModelError(
        f"{found.spec.label}: none of {found.without_answer + found.without_feature:,} rows with a label has an answer and "
        "the features to measure it by; all are null or NaN",
        next_step="see which features are null; a provider's 'null_policy' says what becomes of such rows",
    )
