"""Rows asked of a model and measured: what is left out, what is asked, what comes back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from sklearn import metrics as reference

import lakeflow as lf
from lakeflow.errors import ModelError, UnknownName, UsageError
from lakeflow.models.evaluation.evaluate import evaluate, frame_of
from lakeflow.models.evaluation.values import Question
from lakeflow.models.predict import bound
from lakeflow.models.registry import Model, ModelSet
from lakeflow.models.spec import ModelSpec, Task
from lakeflow.testing.provider import EchoProvider

X = pa.schema([("x", pa.float64())])
WITH_NULL = 5.0


class Known(EchoProvider):
    """Answers by a rule: `p` is x / 10, `guess` late or early, `y` 2 x, `c` x's half; null for x = 5."""

    def predict(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        super().predict(rows)
        columns = [[self._answer(name, x) for x in rows.column(0).to_pylist()] for name in self._spec.output.names]
        return pa.RecordBatch.from_arrays(
            [pa.array(column, field.type) for column, field in zip(columns, self._spec.output, strict=True)],
            schema=self._spec.output,
        )

    def _answer(self, name: str, x: float | None) -> Any:
        if x is None or x == WITH_NULL:
            return None
        return {"p": x / 10, "guess": "late" if x > 3 else "early", "y": 2 * x, "z": -x, "c": int(x > 4), "v": [x, 1.0]}[name]


def spec(name: str, task: Task, **output: pa.DataType) -> ModelSpec:
    return ModelSpec(name, "echo", task, X, pa.schema(output))


SPECS = [
    spec("late", Task.CLASSIFICATION, p=pa.float64()),
    spec("named", Task.CLASSIFICATION, guess=pa.string()),
    spec("two", Task.REGRESSION, y=pa.float64(), z=pa.float64()),
    spec("group", Task.CLUSTERING, c=pa.int64()),
    spec("vector", Task.EMBEDDING, v=pa.list_(pa.float32())),
    spec("text", Task.TEXT_GENERATION, guess=pa.string()),
]
FRAME = pl.DataFrame(
    {
        "x": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, None],
        "is_late": [False, False, True, None, True, True, True, False],
        "name": ["early", "early", "late", "late", "late", None, "late", "late"],
        "y": [2.0, 4.5, 6.0, float("nan"), 10.0, 12.0, 15.0, 1.0],
        "z": [-1.0, None, -3.0, None, None, None, -8.0, None],
        "v": [[1.0, 1.0]] * 8,
    }
)


@pytest.fixture
def models() -> Iterator[ModelSet]:
    with ModelSet(SPECS, Known) as models, bound(models):
        yield models


def test_a_classification_as_a_frame(models: ModelSet) -> None:
    found = lf.ml_evaluate(FRAME.lazy(), "late", "is_late", ["x"])
    [row] = found.to_dicts()
    truths, scores = [False, False, True, True, True], [0.1, 0.2, 0.3, 0.6, 0.7]
    assert (row["rows"], row["left_out"]) == (5, 3)
    assert (row["without_label"], row["without_feature"], row["without_answer"]) == (1, 0, 2)
    assert row["roc_auc"] == reference.roc_auc_score(truths, scores)
    assert row["accuracy"] == 0.8
    assert row["recall"] == pytest.approx(2 / 3)
    assert json.loads(row["confusion_matrix"]) == {"classes": ["false", "true"], "counts": [[2, 0], [1, 2]]}
    assert json.loads(row["per_class"])["true"]["recall"] == pytest.approx(2 / 3)
    assert row["model"] == "late"
    assert row["version"] == 1
    assert row["fingerprint"] == models.get("late").fingerprint()
    assert (row["task"], row["label"], row["prediction"], row["probability"]) == ("classification", "is_late", None, "p")
    assert row["features"] == ["x"]


def test_rows_without_a_label_are_not_asked(models: ModelSet) -> None:
    lf.ml_evaluate(FRAME.lazy(), "late", "is_late", ["x"])
    assert models.usage.by_model()["late"].rows == 7
    lf.ml_evaluate(FRAME.with_columns(is_late=pl.lit(None, pl.Boolean)), "late", "is_late", ["x"])
    assert models.usage.by_model()["late"].rows == 7


def test_predicted_texts_and_categories(models: ModelSet) -> None:
    frame = FRAME.with_columns(pl.col("name").cast(pl.Categorical))
    for rows in (FRAME, frame):
        [row] = lf.ml_evaluate(rows, "named", "name", ["x"], positive="late").to_dicts()
        assert (row["rows"], row["accuracy"]) == (5, 0.8)
        assert row["precision"] == 1.0


def test_several_labels_are_asked_once_and_counted_each(models: ModelSet) -> None:
    found = lf.ml_evaluate(FRAME, "two", ["y", "z"], ["x"])
    assert found["label"].to_list() == ["y", "z"]
    assert found["prediction"].to_list() == ["y", "z"]
    assert found["rows"].to_list() == [5, 3]
    assert found["without_label"].to_list() == [1, 5]
    assert found["without_answer"].to_list() == [2, 0]
    assert found["mae"].to_list() == pytest.approx([1.5 / 5, 1 / 3])
    assert models.usage.by_model()["two"].rows == 7


def test_a_clustering_with_and_without_a_label(models: ModelSet) -> None:
    [row] = lf.ml_evaluate(FRAME, "group", "", ["x"]).to_dicts()
    points, clusters = np.array([[1.0], [2], [3], [4], [6], [7]]), [0, 0, 0, 0, 1, 1]
    assert (row["rows"], row["without_feature"], row["without_answer"]) == (6, 1, 1)
    assert row["silhouette"] == pytest.approx(reference.silhouette_score(points, clusters))
    assert row["label"] is None
    [row] = lf.ml_evaluate(FRAME, "group", "name", ["x"]).to_dicts()
    assert row["adjusted_rand"] == pytest.approx(reference.adjusted_rand_score([0, 0, 1, 1, 1], [0, 0, 0, 0, 1]))


def test_vectors_and_texts(models: ModelSet) -> None:
    [row] = lf.ml_evaluate(FRAME, "vector", "v", ["x"]).to_dicts()
    assert row["mean_euclidean"] == pytest.approx(np.mean([0, 1, 2, 3, 5, 6]))
    [row] = lf.ml_evaluate(FRAME, "text", "name", ["x"]).to_dicts()
    assert row["exact_match"] == 0.8
    [row] = lf.ml_evaluate(FRAME, "text", "name", ["x"], task="classification").to_dicts()
    assert row["accuracy"] == 0.8


@pytest.mark.parametrize("model", [one.name for one in SPECS])
def test_a_frame_without_rows_has_the_same_columns(models: ModelSet, model: str) -> None:
    label = {"late": "is_late", "named": "name", "two": ["y", "z"], "group": "", "vector": "v", "text": "name"}[model]
    empty, full = (lf.ml_evaluate(rows, model, label, ["x"]) for rows in (FRAME.clear(), FRAME))
    assert empty.schema == full.schema
    assert empty["rows"].to_list() == [0] * len(empty)


def test_a_label_may_be_a_feature_too_and_features_may_repeat(models: ModelSet) -> None:
    [row] = lf.ml_evaluate(FRAME, "two", "x", ["x"], prediction="y").to_dicts()
    assert row["mean_error"] == pytest.approx(np.mean([1, 2, 3, 4, 6, 7]))


def test_what_is_wrong_is_said_before_a_row_is_read(models: ModelSet) -> None:
    def untouched(_: pl.DataFrame) -> pl.DataFrame:
        pytest.fail("a row was read")

    frame = FRAME.lazy().map_batches(untouched, schema=FRAME.schema)
    with pytest.raises(UnknownName, match="unknown task 'regresion'; did you mean 'regression'"):
        lf.ml_evaluate(frame, "late", "is_late", ["x"], task="regresion")
    with pytest.raises(UnknownName, match="unknown model 'lat'; did you mean 'late'"):
        lf.ml_evaluate(frame, "lat", "is_late", ["x"])
    with pytest.raises(UnknownName, match="column for the label 'late'"):
        lf.ml_evaluate(frame, "late", "late", ["x"])
    with pytest.raises(UnknownName, match="INPUT 'x' of model 'late' 'xx'"):
        lf.ml_evaluate(frame, "late", "is_late", ["xx"])
    with pytest.raises(UsageError, match="label 'y' is double"):
        lf.ml_evaluate(frame, "late", "y", ["x"])
    with pytest.raises(ModelError, match="such a cast is not made"):
        lf.ml_evaluate(frame, "late", "is_late", ["name"])


def test_outside_of_a_run_it_says_so() -> None:
    with pytest.raises(UsageError, match="ml_evaluate needs the project's models"):
        lf.ml_evaluate(FRAME, "late", "is_late", ["x"])


def reading(rows: pl.DataFrame, size: int = 3) -> Callable[[Sequence[str]], Iterator[pa.RecordBatch]]:
    return lambda columns: iter(rows.select(columns).to_arrow().to_batches(size))


def run(model: Model, rows: pl.DataFrame, label: str = "is_late") -> dict[str, Any]:
    found = evaluate([model], rows.to_arrow().schema, reading(rows), Question((label,), ("x",)))
    return dict(frame_of(found).to_dicts()[0])


def test_batches_are_evaluated_as_frames_are(models: ModelSet) -> None:
    counted: list[int] = []
    question = Question(("is_late",), ("x",))
    found = evaluate([models.get("late")], FRAME.to_arrow().schema, reading(FRAME), question, on_rows=counted.append)
    assert frame_of(found).equals(lf.ml_evaluate(FRAME, "late", "is_late", ["x"]))
    assert counted == [3, 3, 2]


def test_rows_that_tell_nothing_are_refused(models: ModelSet) -> None:
    late = models.get("late")
    with pytest.raises(UsageError, match="no row to evaluate"):
        run(late, FRAME.clear())
    with pytest.raises(UsageError, match="none of 8 rows has a label"):
        run(late, FRAME.with_columns(is_late=pl.lit(None, pl.Boolean)))
    with pytest.raises(ModelError, match="none of 7 rows with a label has an answer"):
        run(late, FRAME.with_columns(x=pl.lit(WITH_NULL)))


def test_an_error_of_the_provider_comes_out(models: ModelSet) -> None:
    failing = ModelSet(SPECS, lambda one: EchoProvider(one, fail_at=4, error=ModelError("it broke")))
    with pytest.raises(ModelError, match="it broke"):
        run(failing.get("late"), FRAME)


def test_a_job_that_evaluates_names_its_model() -> None:
    from lakeflow.job import Job
    from lakeflow.runner.uses import models_named

    @lf.job(target="gold.quality", mode="snapshot")
    def quality(rows: Any = lf.Read("gold.rows")) -> pl.LazyFrame:
        return lf.ml_evaluate(rows, "late", "is_late", ["x"]).lazy()

    assert isinstance(quality, Job)
    assert models_named(quality, ["late", "named"]) == ("late",)
