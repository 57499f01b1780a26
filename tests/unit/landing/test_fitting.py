"""Rows of any writer's schema fit the table, ask for its evolution, or are refused with both sides."""

from __future__ import annotations

import pyarrow as pa
import pytest

from lakeflow.declare import TableSpec
from lakeflow.errors import SchemaMismatch
from lakeflow.lake.catalog import Lake, arrow_schema
from lakeflow.lake.evolution import Evolved
from lakeflow.landing.fitting import Fitting, Unfit
from lakeflow.topics.formats import Decoded, Part, Reject, RejectKind

COLUMNS = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        pa.field("at", pa.struct([pa.field("city", pa.string()), pa.field("zip", pa.int32())])),
    ]
)


def fitting(*, evolves: bool, required: tuple[str, ...] = ("id",)) -> Fitting:
    return Fitting("b.t", COLUMNS, evolves=evolves, required=required)


def part(rows: list[dict[str, object]], schema: pa.Schema, kept: list[int] | None = None) -> Part:
    return Part(pa.RecordBatch.from_pylist(rows, schema=schema), None if kept is None else pa.array(kept, pa.int64()))


NARROW = part([{"id": 1}], pa.schema([pa.field("id", pa.int32(), nullable=False)]))
WIDE = part(
    [{"id": 2, "at": {"zip": 7, "street": "x"}, "note": "n"}],
    pa.schema([("id", pa.int64()), ("at", pa.struct([("zip", pa.int32()), ("street", pa.string())])), ("note", pa.string())]),
)


def test_rows_of_a_narrower_writer_fit_as_they_are() -> None:
    for evolves in (True, False):
        fits = fitting(evolves=evolves)
        assert fits.evolution([NARROW]) is None
        assert fits.rows(NARROW).to_pylist() == [{"id": 1, "at": None}]


def test_what_is_not_declared_is_left_out_at_every_depth() -> None:
    fits = fitting(evolves=False)
    assert fits.evolution([WIDE]) is None
    assert fits.rows(WIDE).to_pylist() == [{"id": 2, "at": {"city": None, "zip": 7}}]


def test_a_table_that_follows_its_topic_evolves() -> None:
    evolved = fitting(evolves=True).evolution([NARROW, WIDE])
    assert isinstance(evolved, Evolved)
    assert evolved.schema.names == ["id", "at", "note"]
    assert [evolved.schema.field("at").type.field(place).name for place in range(3)] == ["city", "zip", "street"]
    assert not evolved.schema.field("id").nullable, "what is required stays so, whatever a writer's schema says"


def test_several_schemas_of_one_poll_are_taken_together() -> None:
    other = part([{"id": 3, "extra": 1.5}], pa.schema([("id", pa.int64()), ("extra", pa.float64())]))
    evolved = fitting(evolves=True).evolution([WIDE, other])
    assert isinstance(evolved, Evolved)
    assert evolved.schema.names == ["id", "at", "note", "extra"]


TEXT = part([{"id": "x"}, {"id": "y"}], pa.schema([("id", pa.string())]), [4, 9])


@pytest.mark.parametrize("evolves", [True, False])
def test_what_can_never_fit_is_told_with_its_records_and_both_sides(evolves: bool) -> None:
    refused = fitting(evolves=evolves).evolution([NARROW, TEXT])
    assert isinstance(refused, Unfit)
    assert refused.places == (4, 9)
    assert "int64" in refused.message
    assert "string" in refused.message


def test_declared_columns_do_not_widen() -> None:
    narrow = Fitting("b.t", pa.schema([("n", pa.int32())]), evolves=False, required=())
    refused = narrow.evolution([part([{"n": 1}], pa.schema([("n", pa.int64())]))])
    assert isinstance(refused, Unfit)
    assert "column n: int32 -> int64" in refused.message


def test_a_record_without_a_required_value_is_rejected_alone() -> None:
    rows = part([{"id": 1}, {"id": None}, {"id": 3}], pa.schema([("id", pa.int64())]), [5, 6, 8])
    checked = fitting(evolves=True).checked(Decoded((rows,), (Reject(7, RejectKind.MALFORMED, "broken"),)))
    assert checked.rows.to_pylist() == [{"id": 1}, {"id": 3}]
    assert checked.kept is not None
    assert checked.kept.to_pylist() == [5, 8]
    assert [(reject.index, reject.kind) for reject in checked.rejects] == [(6, RejectKind.MISFIT), (7, RejectKind.MALFORMED)]


def test_deletes_give_the_columns_of_the_key() -> None:
    keys = fitting(evolves=True).keys(
        part([{"id": 7, "x": "gone"}], pa.schema([("id", pa.int32()), ("x", pa.string())])), ["id"]
    )
    assert keys.to_pylist() == [{"id": 7}]
    assert keys.schema.field("id").type == pa.int64()
    with pytest.raises(SchemaMismatch, match="no column 'id' of the primary key"):
        fitting(evolves=True).keys(part([{"x": "gone"}], pa.schema([("x", pa.string())])), ["id"])


def test_a_schema_that_no_row_is_left_of_asks_nothing_of_the_table() -> None:
    nulls = part([{"id": None}], pa.schema([("id", pa.string()), ("extra", pa.string())]), [3])
    fits = fitting(evolves=True)
    checked = fits.checked(Decoded((nulls,)))
    assert (checked.parts, [reject.index for reject in checked.rejects]) == ((), [3])
    assert fits.evolution(checked.parts) is None


def test_rows_of_a_writer_that_knows_nothing_of_the_key_are_rejected() -> None:
    strangers = part([{"v": "a"}, {"v": "b"}], pa.schema([("v", pa.string())]), [4, 7])
    checked = fitting(evolves=True).checked(Decoded((strangers, NARROW)))
    assert [part.rows.to_pylist() for part in checked.parts] == [[{"id": 1}]]
    assert [(reject.index, reject.kind) for reject in checked.rejects] == [(4, RejectKind.MISFIT), (7, RejectKind.MISFIT)]


def test_undeclared_fields_are_left_out_within_lists_and_maps_of_a_table(lake: Lake) -> None:
    inner, more = pa.struct([("a", pa.int64())]), pa.struct([("a", pa.int64()), ("b", pa.string())])
    made = lake.ensure(TableSpec("b.t", pa.schema([("l", pa.list_(inner)), ("m", pa.map_(pa.string(), inner))])))
    fits = Fitting("b.t", arrow_schema(made), evolves=False, required=())
    for name, kind, value in (
        ("l", pa.list_(more), [{"a": 1, "b": "x"}]),
        ("m", pa.map_(pa.string(), more), [("k", {"a": 1})]),
    ):
        brought = part([{name: value}], pa.schema([(name, kind)]))
        assert fits.evolution([brought]) is None
        assert fits.rows(brought).num_rows == 1
