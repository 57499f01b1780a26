"""Whose vectors the columns of a table hold, as its properties say, and what an index of them must name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from lakeflow.declare import IndexSpec
from lakeflow.errors import IndexMismatch
from lakeflow.lake.catalog import Table, arrow_schema
from lakeflow.models.embeddings import PREFIX, Embedded
from lakeflow.models.registry import ModelSet


def embedded_in(table: Table) -> Mapping[str, Embedded]:
    """Whose vectors the columns of a table hold, as far as it says. Raises Terminal where that is not readable."""
    names = arrow_schema(table).names
    return {name: Embedded.loads(table.properties[PREFIX + name], name) for name in names if PREFIX + name in table.properties}


VECTORS_OF: Final = "vectors_of"
"""The option of an index that names the model of its vectors, where texts are searched by another."""


def require_index_model(spec: IndexSpec, table: Table, models: ModelSet) -> None:
    """Raises IndexMismatch where the vectors of an index's column are of another model than the index names."""
    held = embedded_in(table).get(spec.column)
    named = spec.options.get(VECTORS_OF, spec.model)
    if held is None or named is None:
        return
    model = models.get(named)
    if model.fingerprint() != held.fingerprint:
        raise IndexMismatch(
            f"index {spec.name!r} names the model {named!r} version {model.spec.version}, and column {spec.column!r} of "
            f"{spec.table} holds vectors of {held.model!r} version {held.version}, which cannot be compared",
            next_step=f"run the job that writes {spec.table} with --mode snapshot, then: lakeflow index build {spec.name}; or "
            f"name {held.model!r} in its declaration; where texts are searched by another model on purpose: '{VECTORS_OF}' = "
            f"'{held.model}'",
        )
