"""Which OUTPUT column is held against which label, and what is refused before a row is read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from lakeflow.errors import UnknownName, UsageError
from lakeflow.models.evaluation.choose import targets
from lakeflow.models.evaluation.values import Question
from lakeflow.models.spec import ModelSpec, Task

Columns = tuple[str | None, str | None, str | None]
DOUBLES = pa.list_(pa.float64())
TABLE = pa.schema(
    {
        "truth": pa.bool_(),
        "whole": pa.int64(),
        "name": pa.string(),
        "number": pa.float64(),
        "vector": pa.list_(pa.float32()),
        "day": pa.date32(),
        "other": pa.string(),
    }
)


def spec(task: Task, **output: pa.DataType) -> ModelSpec:
    return ModelSpec("m", "echo", task, pa.schema([("x", pa.float64())]), pa.schema(output))


def ask(label: str, **more: Any) -> Question:
    return Question(tuple(label.split(",")) if label else (), ("number",), **more)


def chosen(one: ModelSpec, question: Question) -> list[Columns]:
    return [(target.label, target.prediction, target.probability) for target in targets(one, TABLE, question)]


CLASSIFY = Task.CLASSIFICATION


@pytest.mark.parametrize(
    ("one", "question", "columns"),
    [
        (spec(CLASSIFY, p=pa.float64()), ask("truth"), [("truth", None, "p")]),
        (spec(CLASSIFY, p=pa.float64()), ask("name", positive="late"), [("name", None, "p")]),
        (spec(CLASSIFY, guess=pa.string()), ask("name"), [("name", "guess", None)]),
        (spec(CLASSIFY, guess=pa.string(), confidence=pa.float64()), ask("name"), [("name", "guess", None)]),
        (
            spec(CLASSIFY, guess=pa.string(), p=pa.float64()),
            ask("name", positive="a", probabilities=("p",)),
            [("name", "guess", "p")],
        ),
        (spec(CLASSIFY, guess=pa.int32(), ps=DOUBLES), ask("whole"), [("whole", "guess", "ps")]),
        (spec(CLASSIFY, guess=pa.int32()), ask("truth"), [("truth", "guess", None)]),
        (spec(CLASSIFY, name=pa.string(), why=pa.string()), ask("name"), [("name", "name", None)]),
        (spec(CLASSIFY, a=pa.string(), b=pa.string()), ask("name", predictions=("b",)), [("name", "b", None)]),
        (
            spec(CLASSIFY, a=pa.string(), b=pa.string()),
            ask("name,other"),
            [("name", "a", None), ("other", "b", None)],
        ),
        (
            spec(CLASSIFY, other=pa.string(), name=pa.string()),
            ask("name,other"),
            [("name", "name", None), ("other", "other", None)],
        ),
        (spec(Task.REGRESSION, y=pa.float32(), why=pa.string()), ask("number"), [("number", "y", None)]),
        (spec(Task.REGRESSION, y=pa.float32()), ask("whole"), [("whole", "y", None)]),
        (spec(Task.CLUSTERING, c=pa.int64(), far=pa.float64()), ask(""), [(None, "c", None)]),
        (spec(Task.CLUSTERING, c=pa.int64()), ask("name"), [("name", "c", None)]),
        (spec(Task.EMBEDDING, e=pa.list_(pa.float32())), ask("vector"), [("vector", "e", None)]),
        (spec(Task.TEXT_GENERATION, answer=pa.string()), ask("name"), [("name", "answer", None)]),
        (spec(Task.TEXT_GENERATION, answer=pa.string()), ask("name", task=CLASSIFY), [("name", "answer", None)]),
    ],
)
def test_columns_are_found(one: ModelSpec, question: Question, columns: list[Columns]) -> None:
    assert chosen(one, question) == columns


@pytest.mark.parametrize(
    ("one", "question", "words"),
    [
        (spec(CLASSIFY, p=pa.float64()), ask("number"), "label 'number' is double; the task 'classification' needs labels"),
        (spec(CLASSIFY, p=pa.float64()), ask("day"), "label 'day' is date32"),
        (spec(Task.REGRESSION, y=pa.float64()), ask("name"), "label 'name' is string; the task 'regression' needs numbers"),
        (spec(Task.EMBEDDING, e=DOUBLES), ask("number"), "needs vectors"),
        (spec(Task.TEXT_GENERATION, t=pa.string()), ask("whole"), "needs text"),
        (spec(CLASSIFY, p=pa.float64()), ask("truth", task=Task.EMBEDDING), "needs vectors"),
        (spec(CLASSIFY, p=pa.float64()), ask("vector", task=Task.EMBEDDING), "needs vectors.* as OUTPUT; declared: p double"),
        (spec(CLASSIFY, guess=pa.string()), ask("number", task=Task.REGRESSION), "needs numbers as OUTPUT"),
        (spec(CLASSIFY, day=pa.date32()), ask("name"), "needs predicted labels or probabilities as OUTPUT"),
        (spec(CLASSIFY, p=pa.float64()), ask(""), "needs a label"),
        (spec(CLASSIFY, p=pa.float64()), ask("name"), "nothing says which value of label 'name' it is of"),
        (spec(CLASSIFY, ps=DOUBLES), ask("name"), "nothing says which of them is of which label"),
        (spec(CLASSIFY, guess=pa.int64()), ask("name"), "label 'name' is string and OUTPUT 'guess' .* never equal"),
        (spec(CLASSIFY, a=pa.string(), b=pa.string()), ask("name"), "not clear; .* a, b would do"),
        (spec(CLASSIFY, a=pa.float64(), b=pa.float64()), ask("truth"), "not clear; .* a, b would do"),
        (spec(CLASSIFY, a=pa.string(), b=pa.string()), ask("name", predictions=("a", "b")), "names 2 columns .* for 1 labels"),
        (spec(CLASSIFY, a=pa.string(), n=pa.date32()), ask("name", predictions=("n",)), "'n' .* is date32.*; it needs labels"),
        (spec(CLASSIFY, a=pa.string(), n=pa.string()), ask("name", probabilities=("n",)), "it needs a probability"),
        (spec(Task.REGRESSION, y=pa.float64()), ask("number", positive="1"), "--positive is of a classification"),
        (spec(Task.REGRESSION, y=pa.float64()), ask("number", probabilities=("y",)), "--probability is of a classification"),
        (spec(CLASSIFY, p=pa.float64()), ask("truth", positive="late"), "--positive is 'late', and the label holds truths"),
        (spec(CLASSIFY, p=pa.float64()), ask("whole", positive="late"), "the label holds whole numbers"),
        (spec(CLASSIFY, p=pa.float64()), ask("truth", threshold=1.5), "threshold is 1.5"),
        (spec(CLASSIFY, ps=DOUBLES), ask("name", classes=("a", "a")), "names each class once"),
        (spec(CLASSIFY, ps=DOUBLES), ask("name", classes=("a",)), "two at the least"),
        (spec(Task.CLUSTERING, c=pa.int64()), replace(ask(""), features=("name",)), "feature 'name' is string"),
    ],
)
def test_what_does_not_fit_is_refused(one: ModelSpec, question: Question, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        targets(one, TABLE, question)


@pytest.mark.parametrize(
    ("question", "words"),
    [
        (ask("nam"), "column for the label 'nam'; did you mean 'name'"),
        (ask("name", predictions=("guss",)), "OUTPUT column of model 'm' in --prediction 'guss'; did you mean 'guess'"),
        (ask("name", probabilities=("p",)), "in --probability 'p'"),
    ],
)
def test_names_that_are_not_there(question: Question, words: str) -> None:
    with pytest.raises(UnknownName, match=words):
        targets(spec(CLASSIFY, guess=pa.string()), TABLE, question)
