"""The system table lakeflow.expectations: one row a run and expectation, the ones that nothing violated among them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pyarrow as pa

from lakeflow.config import Settings, redact
from lakeflow.declare import TableSpec
from lakeflow.expect import Finding
from lakeflow.lake.catalog import SYSTEM_NAMESPACE

EXPECTATIONS = f"{SYSTEM_NAMESPACE}.expectations"
SCHEMA = pa.schema(
    [
        pa.field("run_id", pa.string(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("table", pa.string(), nullable=False),
        pa.field("started_at", pa.timestamp("us", "UTC"), nullable=False),
        pa.field("expectation", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("on_violation", pa.string(), nullable=False),
        pa.field("violations", pa.int64(), nullable=False),
        pa.field("sample", pa.list_(pa.string())),
    ]
)
SPEC = TableSpec(EXPECTATIONS, SCHEMA, comment="one row a run and expectation")
"""`name` is the job's, `sample` has a few violations as objects of JSON."""

KINDS = {"NotNull": "not_null", "InRange": "in_range", "OneOf": "one_of", "RowCount": "row_count", "NoRows": "no_rows"}


def kind_of(finding: Finding) -> str:
    """The kind of an expectation as its function is called: `not_null`."""
    name = type(finding.expectation.kind).__name__
    return KINDS.get(name, name.lower())


def summary_of(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """As `lakeflow run --output json` shows them."""
    return [
        {
            "expectation": finding.expectation.name,
            "kind": kind_of(finding),
            "on_violation": str(finding.expectation.on_violation),
            "violations": finding.violations,
        }
        for finding in findings
    ]


def expectation_rows(
    run_id: str, name: str, table: str, started_at: datetime, findings: Sequence[Finding], settings: Settings
) -> list[dict[str, Any]]:
    """Rows of the table, of one run. No secret that `settings` knows is in a sample."""
    shared = {"run_id": run_id, "name": name, "table": table, "started_at": started_at}
    return [
        {**shared, **said, "sample": [redact(text, settings) for text in finding.sample]}
        for finding, said in zip(findings, summary_of(findings), strict=True)
    ]
