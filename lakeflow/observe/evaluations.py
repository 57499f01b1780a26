"""The system table lakeflow.evaluations: one row an evaluation of a model by one label."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from lakeflow.declare import TableSpec
from lakeflow.lake.catalog import SYSTEM_NAMESPACE, Lake
from lakeflow.lake.commit import Change, CommitProtocol
from lakeflow.lake.read import read, snapshot_at, splits_at
from lakeflow.lake.write import DataWriter
from lakeflow.models.evaluation.evaluate import Evaluation
from lakeflow.runner.evaluating import Evaluated

EVALUATIONS = f"{SYSTEM_NAMESPACE}.evaluations"
SCHEMA = pa.schema(
    [
        pa.field("evaluation_id", pa.string(), nullable=False),
        pa.field("evaluated_at", pa.timestamp("us", "UTC"), nullable=False),
        pa.field("model", pa.string(), nullable=False),
        pa.field("version", pa.int32()),
        pa.field("fingerprint", pa.string()),
        pa.field("task", pa.string()),
        pa.field("label", pa.string()),
        pa.field("prediction", pa.string()),
        pa.field("probability", pa.string()),
        pa.field("features", pa.list_(pa.string())),
        pa.field("table", pa.string()),
        pa.field("snapshot_id", pa.int64()),
        pa.field("where", pa.string()),
        pa.field("limit", pa.int64()),
        pa.field("rows", pa.int64()),
        pa.field("left_out", pa.int64()),
        pa.field("without_label", pa.int64()),
        pa.field("without_feature", pa.int64()),
        pa.field("without_answer", pa.int64()),
        pa.field("metrics", pa.map_(pa.string(), pa.float64())),
        pa.field("confusion_matrix", pa.string()),
        pa.field("per_class", pa.string()),
    ]
)

Row = dict[str, Any]


def rows_of(evaluated: Evaluated, at: datetime | None = None) -> list[Row]:
    """The rows of lakeflow.evaluations, metrics as a dict. `at` of None: now."""
    moment = at or datetime.now(UTC)
    return [_row(evaluated, one, moment) for one in evaluated.evaluations]


def _row(evaluated: Evaluated, one: Evaluation, at: datetime) -> Row:
    return {
        "evaluation_id": uuid.uuid4().hex,
        "evaluated_at": at,
        **one.facts(),
        "table": evaluated.rows.table,
        "snapshot_id": evaluated.snapshot_id,
        "where": evaluated.rows.where,
        "limit": evaluated.rows.limit,
        "metrics": dict(one.result.metrics),
        "confusion_matrix": one.confusion_matrix,
        "per_class": one.per_class,
    }


def record(rows: list[Row], lake: Lake, commits: CommitProtocol) -> None:
    """Append them in one commit; the table is made where it is missing. Raises what a commit raises."""
    table = lake.ensure(TableSpec(EVALUATIONS, SCHEMA, comment="one row an evaluation of a model by one label"))
    writer = DataWriter(table)
    writer.write(pa.Table.from_pylist([{**row, "metrics": list(row["metrics"].items())} for row in rows], schema=SCHEMA))
    commits.commit(Change(EVALUATIONS, writer.finish()))


def recent_evaluations(lake: Lake, *, last: int, model: str | None = None) -> list[Row]:
    """The `last` newest ones, of one model where asked for, the newest first; metrics as a dict.

    Files are read newest first, and no more of them than needed.
    """
    found: list[Row] = []
    for rows in _files(lake):
        found += [row for row in rows if model is None or row["model"] == model]
        if len(found) >= last:
            break
    return sorted(found, key=lambda row: row["evaluated_at"], reverse=True)[:last]


def _files(lake: Lake) -> Iterator[list[Row]]:
    if not lake.exists(EVALUATIONS):
        return
    table = lake.table(EVALUATIONS)
    for split in reversed(splits_at(table, snapshot_at(table))):
        yield [{**row, "metrics": dict(row["metrics"])} for batch in read(table, [split]) for row in batch.to_pylist()]
