from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lakeflow.errors import CatalogUnavailable
from lakeflow.lake.catalog import Lake
from lakeflow.lake.commit import Change, Committed, Committer
from lakeflow.models.evaluation.choose import targets
from lakeflow.models.evaluation.evaluate import Evaluation
from lakeflow.models.evaluation.values import Answered, Bounds, Question
from lakeflow.models.spec import ModelSpec, Task
from lakeflow.observe.evaluations import EVALUATIONS, recent_evaluations, record, rows_of
from lakeflow.runner.evaluating import Evaluated, Rows
from tests.lakes import open_lake

AT = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
NONE = pa.RecordBatch.from_pydict({})


class Failing:
    """Commits that find no catalog."""

    def commit(self, change: Change) -> Committed:
        raise CatalogUnavailable("the catalog did not answer")

    def progress(self, table: str, writer: str) -> str | None:
        return None


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return open_lake(tmp_path)


def evaluated(model: str = "m", labels: tuple[bool, ...] = (True, True)) -> Evaluated:
    output = pa.schema([("p", pa.float64())])
    spec = ModelSpec(model, "echo", Task.CLASSIFICATION, pa.schema([("x", pa.float64())]), output, version=3)
    [target] = targets(spec, pa.schema([("y", pa.bool_())]), Question(("y",), ("x",)))
    measure = target.measure(Bounds())
    measure.add(Answered(pa.array(labels), None, pa.array([0.9] * len(labels)), NONE))
    one = Evaluation(spec, "f00", Task.CLASSIFICATION, ("x",), target, len(labels), 2, 0, 1, measure.result())
    return Evaluated(Rows("gold.t", "x > 1", 9), 1 << 62, (one,))


def test_an_evaluation_is_kept_as_it_was_found(lake: Lake) -> None:
    rows = rows_of(evaluated(), AT)
    record(rows, lake, Committer(lake))
    [row] = recent_evaluations(lake, last=5)
    assert row == rows[0]
    assert row["metrics"]["accuracy"] == 1.0
    assert row["metrics"]["roc_auc"] is None
    known: dict[str, Any] = {
        "model": "m",
        "version": 3,
        "fingerprint": "f00",
        "task": "classification",
        "table": "gold.t",
        "snapshot_id": 1 << 62,
        "where": "x > 1",
        "limit": 9,
        "rows": 2,
        "left_out": 3,
        "label": "y",
        "probability": "p",
    }
    assert {name: row[name] for name in known} == known
    assert row["confusion_matrix"] == '{"classes": ["true"], "counts": [[2]]}'


def test_the_newest_come_first_of_one_model_where_asked_for(lake: Lake) -> None:
    for hour, name in enumerate(("a", "b", "a", "b")):
        record(rows_of(evaluated(name), AT + timedelta(hours=hour)), lake, Committer(lake))
    assert [row["model"] for row in recent_evaluations(lake, last=3)] == ["b", "a", "b"]
    assert [row["evaluated_at"].hour for row in recent_evaluations(lake, last=5, model="a")] == [5, 3]
    assert recent_evaluations(lake, last=5, model="c") == []


def test_nothing_was_evaluated_yet(lake: Lake) -> None:
    assert recent_evaluations(lake, last=5) == []


def test_that_it_could_not_be_kept_is_an_error(lake: Lake) -> None:
    with pytest.raises(CatalogUnavailable):
        record(rows_of(evaluated()), lake, Failing())
    assert lake.exists(EVALUATIONS)
    assert recent_evaluations(lake, last=5) == []
