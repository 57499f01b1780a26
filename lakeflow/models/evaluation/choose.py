"""Which OUTPUT column is held against which label, and by which measure. Pure; nothing is read or opened.

An OUTPUT column is the prediction of a label where an option says so; else where it bears the label's name; else where the
columns of a fitting type are as many as the labels, by position. Probabilities are found alike among lists of floats;
a single FLOAT or DOUBLE is taken for one only where no column holds predicted labels, since it may be a confidence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import assert_never

import pyarrow as pa

from lakeflow.errors import UnknownName, UsageError
from lakeflow.models.evaluation.classification import FALSE, TRUE, Classes, Classification, ManyProbabilities, OneProbability
from lakeflow.models.evaluation.clustering import Clustering
from lakeflow.models.evaluation.numbers import is_list, is_number
from lakeflow.models.evaluation.regression import Regression
from lakeflow.models.evaluation.text import Texts
from lakeflow.models.evaluation.values import Bounds, Measure, Question
from lakeflow.models.evaluation.vectors import Vectors
from lakeflow.models.spec import ModelSpec, Task

Fits = Callable[[pa.DataType], bool]


@dataclass(frozen=True, slots=True)
class Target:
    """One label and the OUTPUT columns that are held against it. `measure` makes the measure, for the bounds given."""

    label: str | None
    prediction: str | None
    probability: str | None
    measure: Callable[[Bounds], Measure]


def targets(spec: ModelSpec, table: pa.Schema, question: Question) -> tuple[Target, ...]:
    """A target for each label; one without where a clustering has none. `table` has the labels and the features.

    Raises UnknownName for a label or an OUTPUT column that is not there, UsageError where the task, a type or an option
    does not fit, or where more than one OUTPUT column would.
    """
    task = question.task or spec.task
    _check_options(question, task)
    labels = [_label(table, name, task) for name in question.labels]
    count = max(1, len(labels))
    predictions = _predictions(spec, task, question, count)
    if task is Task.CLASSIFICATION:
        probabilities = _probabilities(spec, question, count, predictions[0] is None)
        together = zip(labels, predictions, probabilities, strict=True)
        return tuple(_classification(spec, question, *one) for one in together)
    measures: dict[Task, Callable[[Bounds], Measure]] = {
        Task.REGRESSION: Regression,
        Task.CLUSTERING: partial(Clustering, labelled=bool(labels)),
        Task.EMBEDDING: _unbounded(Vectors),
        Task.TEXT_GENERATION: _unbounded(Texts),
    }
    if task is Task.CLUSTERING:
        _check_features(table, question.features)
    named = [column.name for column in labels] or [None]
    return tuple(
        Target(label, predicted.name if predicted else None, None, measures[task])
        for label, predicted in zip(named, predictions, strict=True)
    )


def _unbounded(measure: Callable[[], Measure]) -> Callable[[Bounds], Measure]:
    """A measure that keeps sums alone."""
    return lambda bounds: measure()


def _check_options(question: Question, task: Task) -> None:
    if not question.labels and task is not Task.CLUSTERING:
        raise UsageError(f"an evaluation of the task '{task}' needs a label", next_step="name its column with --label")
    if task is not Task.CLASSIFICATION:
        for given, name in (
            (question.probabilities, "--probability"),
            (question.positive, "--positive"),
            (question.classes, "--classes"),
        ):
            if given:
                raise UsageError(f"{name} is of a classification; the task is '{task}'")
    if not 0 <= question.threshold <= 1:
        raise UsageError(f"the threshold is {question.threshold:g}; valid: a number from 0 to 1")
    if len(set(question.classes)) != len(question.classes) or len(question.classes) == 1:
        raise UsageError(f"--classes names each class once, two at the least; given: {', '.join(question.classes)}")


def _label(table: pa.Schema, name: str, task: Task) -> pa.Field:
    if name not in table.names:
        raise UnknownName("column for the label", name, table.names)
    column = table.field(name)
    fits, needed = _fitting_label(task)
    if not fits(column.type):
        raise UsageError(
            f"label {name!r} is {column.type}; the task '{task}' needs {needed}",
            next_step="name another column with --label, or another task with --task; a job can cast or compute a label",
        )
    return column


def _fitting_label(task: Task) -> tuple[Fits, str]:
    match task:
        case Task.CLASSIFICATION | Task.CLUSTERING:
            return is_class, "labels: text, whole numbers or truths"
        case Task.REGRESSION:
            return is_number, "numbers"
        case Task.EMBEDDING:
            return is_vector, "vectors: ARRAY<FLOAT> or ARRAY<DOUBLE>"
        case Task.TEXT_GENERATION:
            return is_text, "text"
        case _:
            assert_never(task)


def _predictions(spec: ModelSpec, task: Task, question: Question, count: int) -> list[pa.Field | None]:
    """The column of predictions for each label; None for all where a classification has probabilities alone."""
    fits, needed = _fitting_label(task)
    if question.predictions:
        return list(_given(spec, question.predictions, count, "--prediction", fits, needed))
    fitting = [column for column in spec.output if fits(column.type) and column.name not in question.probabilities]
    by_name = {column.name: column for column in fitting}
    if question.labels and all(name in by_name for name in question.labels):
        return [by_name[name] for name in question.labels]
    if len(fitting) == count:
        return list(fitting)
    if not fitting and task is Task.CLASSIFICATION:
        return [None] * count
    raise _unclear(spec, fitting, count, f"the task '{task}' needs {needed} as OUTPUT", "--prediction")


def _probabilities(spec: ModelSpec, question: Question, count: int, needed: bool) -> list[pa.Field | None]:
    """The column of probabilities for each label; None where there is none and predicted labels do."""
    if question.probabilities:
        what = "a probability, or a list of them"
        return list(_given(spec, question.probabilities, count, "--probability", _is_probability, what))
    lists = [column for column in spec.output if is_vector(column.type)]
    singles = [column for column in spec.output if pa.types.is_floating(column.type) or pa.types.is_decimal(column.type)]
    fitting = lists or (singles if needed else [])
    if len(fitting) == count:
        return list(fitting)
    if not needed:
        return [None] * count
    what = "the task 'classification' needs predicted labels or probabilities as OUTPUT"
    raise _unclear(spec, fitting, count, what, "--probability")


def _given(spec: ModelSpec, names: Sequence[str], count: int, option: str, fits: Fits, needed: str) -> tuple[pa.Field, ...]:
    if len(names) != count:
        raise UsageError(f"{option} names {len(names)} columns ({', '.join(names)}) for {count} labels; it needs one a label")
    for name in names:
        if name not in spec.output.names:
            raise UnknownName(f"OUTPUT column of {spec.label} in {option}", name, spec.output.names)
        kind = spec.output.field(name).type
        if not fits(kind):
            raise UsageError(f"{option}: OUTPUT column {name!r} of {spec.label} is {kind}; it needs {needed}")
    return tuple(spec.output.field(name) for name in names)


def _unclear(spec: ModelSpec, fitting: Sequence[pa.Field], count: int, needed: str, option: str) -> UsageError:
    declared = ", ".join(f"{column.name} {column.type}" for column in spec.output)
    if not fitting:
        return UsageError(f"{spec.label}: {needed}; declared: {declared}", next_step="name a task that fits with --task")
    found = ", ".join(column.name for column in fitting)
    return UsageError(
        f"{spec.label}: which OUTPUT column goes with which of {count} labels is not clear; {needed}, and {found} would do",
        next_step=f"name one a label: {option} {fitting[0].name}",
    )


def _classification(
    spec: ModelSpec, question: Question, label: pa.Field, prediction: pa.Field | None, probability: pa.Field | None
) -> Target:
    kind = classes_of(label.type)
    predicted = kind if prediction is None else classes_of(prediction.type)
    if (kind is Classes.TEXT) != (predicted is Classes.TEXT):
        assert prediction is not None, "a label is of its own kind"
        raise UsageError(
            f"label {label.name!r} is {label.type} and OUTPUT {prediction.name!r} of {spec.label} is {prediction.type}; "
            "they are never equal",
            next_step="cast the label in a job or a query, or name another OUTPUT column with --prediction",
        )
    numbers = Classes.WHOLE in (kind, predicted)
    positive, negative = _sides(question, Classes.WHOLE if numbers else kind)
    asked = _asked(label, probability, positive, negative, question)
    if isinstance(asked, ManyProbabilities) and asked.classes is not None and len(asked.classes) == 2:
        negative, positive = asked.classes
    measure = partial(_measure, asked, numbers, positive, negative)
    return Target(label.name, prediction.name if prediction else None, probability.name if probability else None, measure)


def _measure(
    asked: OneProbability | ManyProbabilities | None, numbers: bool, positive: str | None, negative: str | None, bounds: Bounds
) -> Measure:
    return Classification(asked, bounds, numbers=numbers, positive=positive, negative=negative)


def _sides(question: Question, kind: Classes) -> tuple[str | None, str | None]:
    """The positive label, and the negative one where no other is allowed; None where nothing says which."""
    given = question.positive
    match kind:
        case Classes.TRUTH:
            positive = (given or TRUE).lower()
            if positive not in (TRUE, FALSE):
                raise UsageError(f"--positive is {given!r}, and the label holds truths; valid: true, false")
            return positive, FALSE if positive == TRUE else TRUE
        case Classes.WHOLE:
            if given is not None and not given.removeprefix("-").isdecimal():
                raise UsageError(f"--positive is {given!r}, and the label holds whole numbers")
            return ("1", "0") if given is None else (str(int(given)), None)
        case Classes.TEXT:
            return given, None
        case _:
            assert_never(kind)


def _asked(
    label: pa.Field, probability: pa.Field | None, positive: str | None, negative: str | None, question: Question
) -> OneProbability | ManyProbabilities | None:
    if probability is None:
        return None
    if is_vector(probability.type):
        kind = classes_of(label.type)
        if kind is Classes.TEXT and not question.classes:
            raise UsageError(
                f"OUTPUT {probability.name!r} is a list of probabilities, and nothing says which of them is of which label",
                next_step="name the labels in the order of the list: --classes A,B,C",
            )
        return ManyProbabilities(question.classes or ((FALSE, TRUE) if kind is Classes.TRUTH else None))
    if positive is None:
        raise UsageError(
            f"OUTPUT {probability.name!r} is one probability, and nothing says which value of label {label.name!r} it is of",
            next_step="name it: --positive LABEL",
        )
    return OneProbability(positive, negative or f"not {positive}", negative is None, question.threshold)


def _check_features(table: pa.Schema, features: Sequence[str]) -> None:
    for name in features:
        kind = table.field(name).type
        if not (is_number(kind) or is_vector(kind) or pa.types.is_boolean(kind)):
            raise UsageError(f"feature {name!r} is {kind}; distances between clusters need numbers or lists of floats")


def classes_of(kind: pa.DataType) -> Classes:
    """What a column's values are as classes."""
    if pa.types.is_boolean(kind):
        return Classes.TRUTH
    return Classes.WHOLE if pa.types.is_integer(kind) else Classes.TEXT


def is_text(kind: pa.DataType) -> bool:
    """Whether values are strings."""
    if pa.types.is_dictionary(kind):
        return is_text(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def is_class(kind: pa.DataType) -> bool:
    """Whether values can be labels."""
    return is_text(kind) or bool(pa.types.is_integer(kind) or pa.types.is_boolean(kind))


def is_vector(kind: pa.DataType) -> bool:
    """Whether values are lists of floats."""
    return is_list(kind) and bool(pa.types.is_floating(kind.value_type))


def _is_probability(kind: pa.DataType) -> bool:
    return is_vector(kind) or bool(pa.types.is_floating(kind) or pa.types.is_decimal(kind))
