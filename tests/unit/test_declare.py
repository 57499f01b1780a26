"""Declarations are frozen plain values that say where they stand."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from lakeflow import declare
from lakeflow.declare import IndexSpec, MetadataColumn, ModelDeclaration, Origin, PartitionField, TableSpec, Watermark


def test_an_origin_is_shown_as_editors_open_it() -> None:
    assert str(Origin(Path("tables/flights.sql"), 3)) == "tables/flights.sql:3"
    assert str(Origin(line=3)) == "line 3"


def test_equal_declarations_are_equal_values() -> None:
    def spec() -> TableSpec:
        schema = pa.schema([pa.field("carrier", pa.string()), pa.field("day", pa.date32(), nullable=False)])
        return TableSpec(
            "a.b", schema, {"connector": "kafka"}, (PartitionField("day"),), Watermark("day", timedelta(minutes=5))
        )

    assert spec() == spec()
    assert spec() != dataclasses.replace(spec(), name="a.c")


def test_what_is_not_written_has_the_documented_default() -> None:
    table = TableSpec("a.b", pa.schema([]))
    assert (table.partitioning, table.watermark, table.primary_key, dict(table.options)) == ((), None, (), {})
    index = IndexSpec("i", "a.b", "vector", "id")
    assert (index.metric, index.model, index.columns) == ("cosine", None, ())
    assert PartitionField("day").transform == "identity"


@pytest.mark.parametrize("kind", [Origin, PartitionField, Watermark, MetadataColumn, TableSpec, ModelDeclaration, IndexSpec])
def test_declarations_cannot_be_changed(kind: type) -> None:
    parameters = kind.__dataclass_params__  # type: ignore[attr-defined]
    assert parameters.frozen
    assert hasattr(kind, "__slots__")


def test_every_value_of_the_module_is_covered_here() -> None:
    values = {name for name, kind in vars(declare).items() if dataclasses.is_dataclass(kind) and isinstance(kind, type)}
    columns = {"PartitionField", "Watermark", "MetadataColumn"}
    assert values == {"Origin", *columns, "TableSpec", "ModelDeclaration", "IndexSpec"}
