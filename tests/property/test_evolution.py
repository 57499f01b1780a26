"""Schemas that evolve at random: what holds of any two, and rows written before and after, read back."""

from __future__ import annotations

import tempfile
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lakeflow.errors import SchemaMismatch
from lakeflow.lake.catalog import arrow_schema
from lakeflow.lake.commit import Change, Committer
from lakeflow.lake.evolution import evolve, left_over
from lakeflow.lake.read import appended, read
from lakeflow.lake.schema import fit, storable
from lakeflow.lake.schema_change import plan_schema
from lakeflow.lake.write import DataWriter
from tests.lakes import NAME, made, open_lake

WIDE = (pa.int64(), pa.float64(), pa.decimal128(12, 2), pa.string(), pa.bool_())
NARROW = {pa.int64(): pa.int32(), pa.float64(): pa.float32(), pa.decimal128(12, 2): pa.decimal128(5, 2)}


def widest_type(random: Random, depth: int) -> pa.DataType:
    shape = "scalar" if depth == 0 else random.choice(("scalar", "struct", "list", "map"))
    if shape == "struct":
        names = random.sample("abcdef", random.randrange(1, 5))
        return pa.struct([pa.field(name, widest_type(random, depth - 1)) for name in names])
    if shape == "list":
        return pa.list_(pa.field("element", widest_type(random, depth - 1)))
    if shape == "map":
        return pa.map_(random.choice((pa.string(), pa.int64())), widest_type(random, depth - 1))
    return random.choice(WIDE)


SEEDS = st.integers(0, 2**32).map(Random)
"""Schemas and rows are drawn from a seed: Hypothesis is slow to draw so many small values, and to shrink them."""


def widest_schema(random: Random) -> pa.Schema:
    return pa.schema([pa.field("c", widest_type(random, 2)), pa.field("d", pa.int64())])


def narrowed(schema: pa.Schema, random: Random) -> pa.Schema:
    """A schema that a writer of `schema` may have had before: fields missing, types narrower, required ones, any order."""
    return pa.schema(_some([schema.field(name) for name in schema.names], random))


def _some(fields: list[pa.Field], random: Random) -> list[pa.Field]:
    kept = [field for field in fields if random.random() < 0.7] or [random.choice(fields)]
    random.shuffle(kept)
    return [_narrow_field(field, random) for field in kept]


def _narrow_field(field: pa.Field, random: Random) -> pa.Field:
    return pa.field(field.name, _narrow(field.type, random), nullable=random.random() < 0.7)


def _narrow(kind: pa.DataType, random: Random) -> pa.DataType:
    if pa.types.is_struct(kind):
        return pa.struct(_some([kind.field(place) for place in range(kind.num_fields)], random))
    if pa.types.is_list(kind):
        return pa.list_(_narrow_field(kind.value_field, random))
    if pa.types.is_map(kind):
        return pa.map_(kind.key_type, _narrow_field(kind.item_field, random))
    return NARROW.get(kind, kind) if random.random() < 0.5 else kind


def values(field: pa.Field, random: Random) -> Any:
    kind = field.type
    if field.nullable and random.random() < 0.3:
        return None
    if pa.types.is_struct(kind):
        return {kind.field(place).name: values(kind.field(place), random) for place in range(kind.num_fields)}
    if pa.types.is_list(kind):
        return [values(kind.value_field, random) for _ in range(random.randrange(3))]
    if pa.types.is_map(kind):
        keys = random.sample(range(5), random.randrange(3))
        return [(str(key) if pa.types.is_string(kind.key_type) else key, values(kind.item_field, random)) for key in keys]
    number = random.randrange(-900, 900)
    return pa.scalar(
        f"ü{number}" if pa.types.is_string(kind) else number > 0 if pa.types.is_boolean(kind) else number, kind
    ).as_py()


def rows_of(schema: pa.Schema, random: Random) -> pa.Table:
    count = random.randrange(1, 6)
    columns = [pa.array([values(field, random) for _ in range(count)], field.type) for field in schema]
    return pa.table(columns, schema=schema)


def seen_as(value: Any, kind: pa.DataType) -> Any:
    """A value, as Python has it, as a column of the wider `kind` shows it."""
    if value is None:
        return None
    if pa.types.is_struct(kind):
        fields = [kind.field(place) for place in range(kind.num_fields)]
        return {field.name: seen_as(value.get(field.name), field.type) for field in fields}
    if pa.types.is_list(kind):
        return [seen_as(each, kind.value_type) for each in value]
    if pa.types.is_map(kind):
        return [(key, seen_as(each, kind.item_type)) for key, each in value]
    return value


def paths(schema: pa.Schema) -> dict[str, tuple[str, bool]]:
    found: dict[str, tuple[str, bool]] = {}

    def walk(field: pa.Field, path: str) -> None:
        kind = field.type
        found[path] = (str(kind) if not pa.types.is_nested(kind) else kind.id, field.nullable)
        if pa.types.is_map(kind):
            walk(kind.key_field, f"{path}.key")
            walk(kind.item_field, f"{path}.value")
        elif pa.types.is_nested(kind):
            for place in range(kind.num_fields):
                walk(kind.field(place), f"{path}.{kind.field(place).name}")

    for field in schema:
        walk(field, field.name)
    return found


def evolved(current: pa.Schema, incoming: pa.Schema) -> pa.Schema:
    found = evolve(current, incoming, NAME)
    return storable(current, NAME) if found is None else found.schema


@given(SEEDS)
@settings(deadline=None)
def test_nothing_is_lost_and_what_evolved_holds_the_rows(random: Random) -> None:
    widest = widest_schema(random)
    current, incoming = narrowed(widest, random), narrowed(widest, random)
    after = evolved(current, incoming)
    assert paths(storable(current, NAME)).keys() <= paths(after).keys()
    assert paths(storable(incoming, NAME)).keys() <= paths(after).keys()
    assert after.names[: len(current.names)] == current.names
    assert evolve(after, incoming, NAME) is None
    assert evolve(after, current, NAME) is None
    for rows in (rows_of(incoming, random), rows_of(current, random)):
        fitted = fit(rows, after, NAME)
        fitted.validate(full=True)
        assert fitted.to_pylist() == [{f.name: seen_as(row.get(f.name), f.type) for f in after} for row in rows.to_pylist()]


@given(SEEDS)
@settings(deadline=None)
def test_the_order_in_which_schemas_come_tells_nothing(random: Random) -> None:
    widest = widest_schema(random)
    current, one, other = (narrowed(widest, random) for _ in range(3))
    first, second = evolved(evolved(current, one), other), evolved(evolved(current, other), one)
    assert left_over(first, second) is None
    assert paths(first) == paths(second)


@given(SEEDS)
@settings(deadline=None)
def test_two_schemas_either_meet_both_ways_or_are_refused(random: Random) -> None:
    one, other = widest_schema(random), widest_schema(random)
    try:
        after = evolved(one, other)
    except SchemaMismatch:
        after = None
    try:
        back = evolved(other, one)
    except SchemaMismatch:
        back = None
    assert (after is None) == (back is None)
    if after is not None and back is not None:
        assert paths(after) == paths(back)


@given(SEEDS)
@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
def test_rows_written_before_and_after_read_back_as_they_were(random: Random) -> None:
    widest = widest_schema(random)
    with tempfile.TemporaryDirectory() as folder:
        lake = open_lake(Path(folder))
        made(lake, narrowed(widest, random))
        expected: list[dict[str, Any]] = []
        for turn in range(3):
            table = lake.table(NAME)
            rows = rows_of(narrowed(widest, random) if turn else storable(arrow_schema(table), NAME), random)
            found = evolve(arrow_schema(table), rows.schema, NAME)
            plan = None if found is None else plan_schema(table, found.schema)
            writer = DataWriter(table if plan is None else plan.table)
            writer.write(rows)
            Committer(lake).commit(Change(NAME, writer.finish(), schema=None if plan is None else plan.change))
            expected += rows.to_pylist()
        table = lake.table(NAME)
        final = storable(arrow_schema(table), NAME)
        shown = [row for batch in read(table, appended(table, None)) for row in batch.to_pylist()]
        assert shown == [{field.name: seen_as(row.get(field.name), field.type) for field in final} for row in expected]
        name = final.names[-1]
        alone = [row for batch in read(table, appended(table, None), [name]) for row in batch.to_pylist()]
        assert alone == [{name: row[name]} for row in shown]
