from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from lakeflow.errors import LakeflowError, UnknownName, UsageError
from lakeflow.models.evaluation.evaluate import ml_evaluate
from lakeflow.models.predict import bound
from lakeflow.models.registry import ModelSet
from lakeflow.models.spec import ModelSpec, Task
from lakeflow.runner.sql_functions import functions_for
from lakeflow.runner.sql_names import ProjectNames
from lakeflow.sql.calls_evaluate import METRICS
from lakeflow.sql.compile import compile_query
from lakeflow.sql.execute import Limits, run_compiled
from lakeflow.testing.provider import EchoProvider
from tests.jobs import World

TABLE = "gold.houses"
ROWS = pa.table(
    {
        "size": pa.array([10, 20, 30, 40, None], pa.int64()),
        "kind": ["a", "b", "a", None, "b"],
        "price": pa.array([1.0, 2.5, 3.0, 4.0, 5.5]),
    }
)


class Pricing(EchoProvider):
    """A tenth of the size, and the kind a below 25."""

    def predict(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        self.calls.append(rows.num_rows)
        sizes = rows.column(0).to_pylist()
        answers = {
            "price": [None if one is None else one / 10 for one in sizes],
            "kind": ["b" if one == 20 else "a" for one in sizes],
        }
        return pa.RecordBatch.from_pydict({name: answers[name] for name in self._spec.output.names}, schema=self._spec.output)


def spec(name: str, task: Task, *output: tuple[str, pa.DataType]) -> ModelSpec:
    return ModelSpec(name, "fake", task, pa.schema([("size", pa.int64())]), pa.schema(list(output)))


SPECS = [
    spec("pricing", Task.REGRESSION, ("price", pa.float64())),
    spec("kinds", Task.CLASSIFICATION, ("kind", pa.string())),
]


@pytest.fixture
def project(world: World) -> Any:
    world.append(ROWS, TABLE)
    return SimpleNamespace(
        lake=world.lake, models=ModelSet(SPECS, Pricing), declared_tables=SimpleNamespace(tables={}, indexes={})
    )


def rows(project: Any, text: str) -> list[dict[str, Any]]:
    names = ProjectNames(project)
    compiled = compile_query(text, names)
    behind = functions_for(compiled, project.models)
    found = run_compiled(compiled, names.relations(compiled), behind, Limits(threads=2)).read_all()
    assert found.schema.names == compiled.columns.names
    listed: list[dict[str, Any]] = found.to_pylist()
    return listed


def reference(project: Any, model: str, label: str) -> dict[str, Any]:
    with bound(project.models):
        [found] = ml_evaluate(pl.from_arrow(ROWS), model, label, ["size"]).to_dicts()  # type: ignore[arg-type]
    return found


def test_a_regression_as_ml_evaluate_measures_it(project: Any) -> None:
    [found] = rows(project, f"SELECT * FROM ML_EVALUATE(TABLE {TABLE}, MODEL pricing, DESCRIPTOR(price), DESCRIPTOR(size))")
    expected = reference(project, "pricing", "price")
    assert found == {name: expected[name] for name in found}
    assert (found["model"], found["version"], found["rows"], found["left_out"]) == ("pricing", 1, 4, 1)
    assert found["mae"] == pytest.approx(0.125)


def test_a_classification_with_named_arguments_and_what_is_done_with_its_row(project: Any) -> None:
    text = f"""
    SELECT e.accuracy, e.f1_macro, e.confusion_matrix FROM ML_EVALUATE(
        INPUT => TABLE (SELECT size + 0 AS size, kind FROM {TABLE} WHERE size < 100), MODEL => MODEL kinds,
        LABEL => DESCRIPTOR(kind), ARGS => DESCRIPTOR(size), TASK => 'Classification') AS e
    WHERE e.rows > 1
    """
    assert rows(project, text) == [
        {"accuracy": 1.0, "f1_macro": 1.0, "confusion_matrix": '{"classes": ["a", "b"], "counts": [[2, 0], [0, 1]]}'}
    ]


def test_no_rows_give_metrics_that_are_null(project: Any) -> None:
    text = f"""SELECT rows, mae FROM ML_EVALUATE(
        TABLE (SELECT * FROM {TABLE} WHERE size > 1000), MODEL pricing, DESCRIPTOR(price), DESCRIPTOR(size))"""
    assert rows(project, text) == [{"rows": 0, "mae": None}]


def test_two_evaluations_in_one_query_stay_apart(project: Any) -> None:
    each = f"""(SELECT rows FROM ML_EVALUATE(
        TABLE (SELECT * FROM {TABLE} WHERE size > {{}}), MODEL pricing, DESCRIPTOR(price), DESCRIPTOR(size)))"""
    text = f"SELECT {each.format(5)} AS a, {each.format(25)} AS b"
    assert rows(project, text) == [{"a": 4, "b": 2}]


def test_an_evaluation_that_is_named_once_may_be_read_twice(project: Any) -> None:
    text = f"""WITH e AS (SELECT rows FROM ML_EVALUATE(TABLE {TABLE}, MODEL pricing, DESCRIPTOR(price), DESCRIPTOR(size)))
    SELECT a.rows + b.rows AS n FROM e AS a, e AS b"""
    assert rows(project, text) == [{"n": 8}]


def test_all_versions_are_a_row_each(project: Any) -> None:
    text = f"SELECT version FROM ML_EVALUATE(TABLE {TABLE}, MODEL pricing$all, DESCRIPTOR(price), DESCRIPTOR(size))"
    assert rows(project, text) == [{"version": 1}]


def test_rows_of_another_models_answers_may_be_evaluated(project: Any) -> None:
    text = f"""SELECT rows FROM ML_EVALUATE(
        TABLE (SELECT size, kind0 AS kind FROM ML_PREDICT(TABLE {TABLE}, MODEL kinds, DESCRIPTOR(size))),
        MODEL kinds, DESCRIPTOR(kind), DESCRIPTOR(size))"""
    assert rows(project, text) == [{"rows": 5}]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("MODEL pricing, DESCRIPTOR(price)", "ML_EVALUATE needs ARGS"),
        (
            "MODEL pricing, DESCRIPTOR(prize), DESCRIPTOR(size)",
            r"unknown column in DESCRIPTOR, for the label: 'prize'.*did you mean 'price'",
        ),
        (
            "MODEL pricing, DESCRIPTOR(price), DESCRIPTOR(sise)",
            r"unknown column in DESCRIPTOR, for INPUT of model 'pricing': 'sise'",
        ),
        ("MODEL pricing, DESCRIPTOR(price), DESCRIPTOR(size, kind)", "model 'pricing' takes 1 values, given: 2"),
        ("MODEL prices, DESCRIPTOR(price), DESCRIPTOR(size)", r"unknown model 'prices'.*did you mean 'pricing'"),
        (
            "MODEL pricing, DESCRIPTOR(price), DESCRIPTOR(size), 'regresion'",
            r"unknown task 'regresion'.*did you mean 'regression'",
        ),
        ("MODEL pricing, DESCRIPTOR(price), DESCRIPTOR(kind)", "size"),
        ("MODEL pricing, DESCRIPTOR(kind), DESCRIPTOR(size)", "label 'kind' is string; the task 'regression' needs numbers"),
    ],
)
def test_what_is_wrong_is_said_before_a_row_is_read(project: Any, call: str, message: str) -> None:
    with pytest.raises((UsageError, UnknownName, LakeflowError), match=message):
        rows(project, f"SELECT * FROM ML_EVALUATE(TABLE {TABLE}, {call})")
    assert project.models.usage.by_model() == {}


def test_it_stands_in_from_alone(project: Any) -> None:
    with pytest.raises(UsageError, match="ML_EVALUATE gives rows and stands in FROM"):
        rows(project, f"SELECT ML_EVALUATE(TABLE {TABLE}, MODEL pricing, DESCRIPTOR(price), DESCRIPTOR(size))")


def test_rows_that_depend_on_outer_rows_are_refused_and_not_mixed(project: Any) -> None:
    text = f"""SELECT o.kind, e.rows FROM (SELECT DISTINCT kind FROM {TABLE} WHERE kind IS NOT NULL) AS o,
    LATERAL ML_EVALUATE(
        TABLE (SELECT * FROM {TABLE} AS i WHERE i.kind = o.kind), MODEL pricing, DESCRIPTOR(price), DESCRIPTOR(size)) AS e"""
    with pytest.raises(UsageError, match=r"was told 4 rows, and \[2, 2\] were counted"):
        rows(project, text)


def test_every_metric_that_is_shown_is_one_that_is_measured(project: Any) -> None:
    for model, label in (("pricing", "price"), ("kinds", "kind")):
        found = reference(project, model, label)
        missing = {name for name in METRICS[found["task"]] if name not in found}
        assert missing <= {"log_loss", "roc_auc", "pr_auc"}, "those of probabilities, which the model does not give"
