from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakeflow.errors import DeclarationError, SchemaMismatch, UnknownName
from lakeflow.index.rows import SEQUENCE, chunks, layout_of
from lakeflow.index.vectors import Identity

IDENTITY = Identity("gold.docs", "uuid-1", "v", "id", "cosine", 2)
SCHEMA = pa.schema([("v", pa.list_(pa.float64())), ("title", pa.large_string()), ("id", pa.int32()), ("n", pa.int64())])


def test_the_key_comes_first_the_vector_last_and_types_are_plain() -> None:
    layout = layout_of("docs", IDENTITY, SCHEMA)
    assert layout.schema == pa.schema(
        [
            pa.field("id", pa.int64(), nullable=False),
            ("title", pa.string()),
            ("n", pa.int64()),
            (SEQUENCE, pa.int64()),
            ("v", pa.list_(pa.float32(), 2)),
        ]
    )
    assert layout.columns == ("id", "title", "n")
    assert layout_of("docs", IDENTITY, SCHEMA, ["n"]).columns == ("id", "n")


@pytest.mark.parametrize("declared", [pa.dictionary(pa.int32(), pa.string()), pa.string_view(), pa.large_string()])
def test_text_is_kept_as_plain_text(declared: pa.DataType) -> None:
    rows = pa.RecordBatch.from_pydict({"id": [1], "title": pa.array(["x"]).cast(declared), "v": [[1.0, 0.0]]})
    prepared = layout_of("docs", IDENTITY, rows.schema).prepare(rows, 1)
    assert prepared.rows["title"].to_pylist() == ["x"]
    assert prepared.rows.schema.field("title").type == pa.string()


def test_an_extension_type_is_kept_as_what_it_is_stored_as() -> None:
    rows = pa.RecordBatch.from_pydict({"id": [1], "u": pa.array([b"0" * 16], pa.uuid()), "v": [[1.0, 0.0]]})
    assert layout_of("docs", IDENTITY, rows.schema).prepare(rows, 1).rows["u"].to_pylist() == [b"0" * 16]


@pytest.mark.parametrize(
    ("schema", "error", "message"),
    [
        (SCHEMA.set(2, pa.field("id", pa.float64())), SchemaMismatch, "key 'id' is double; valid: a string or an integer"),
        (SCHEMA.set(0, pa.field("v", pa.string())), SchemaMismatch, "column 'v' is string; valid: a list of FLOAT or DOUBLE"),
        (SCHEMA.set(0, pa.field("v", pa.list_(pa.float32(), 3))), SchemaMismatch, "have 3 elements; valid: 2"),
        (SCHEMA.append(pa.field("a.b", pa.int64())), DeclarationError, r"cannot keep the column 'a\.b'"),
        (SCHEMA.append(pa.field("a`b", pa.int64())), DeclarationError, "cannot keep the column"),
        (SCHEMA.append(pa.field(SEQUENCE, pa.int64())), DeclarationError, f"cannot keep the column '{SEQUENCE}'"),
        (SCHEMA.remove(0), UnknownName, "unknown column of gold.docs 'v'"),
    ],
)
def test_a_table_that_cannot_be_indexed_is_refused(schema: pa.Schema, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        layout_of("docs", IDENTITY, schema)


def test_a_column_that_comes_as_another_type_is_refused() -> None:
    rows = pa.RecordBatch.from_pydict({"id": [1], "n": ["many"], "v": [[1.0, 0.0]]})
    with pytest.raises(SchemaMismatch, match="column 'n' comes as string, the index keeps int64"):
        layout_of("docs", IDENTITY, SCHEMA).prepare(rows, 1)


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from([None, 0.0, 1.0, 2.0])), max_size=40))
def test_the_last_row_of_each_key_decides(rows: list[tuple[int, float | None]]) -> None:
    vectors = [None if first is None else [first, 0.0] for _, first in rows]
    chunk = pa.RecordBatch.from_pydict(
        {"id": pa.array([key for key, _ in rows], pa.int32()), "v": pa.array(vectors, SCHEMA.field("v").type)}
    )
    prepared = layout_of("docs", IDENTITY, chunk.schema).prepare(chunk, 9)
    last = dict(rows)
    assert dict(zip(prepared.rows["id"].to_pylist(), prepared.rows["v"].to_pylist(), strict=True)) == {
        key: [first, 0.0] for key, first in last.items() if first
    }
    assert sorted(prepared.without_vector.to_pylist()) == sorted(key for key, first in last.items() if not first)
    assert (prepared.read, prepared.repeated) == (len(rows), len(rows) - len(last))
    assert set(prepared.rows[SEQUENCE].to_pylist()) <= {9}


@given(st.lists(st.integers(0, 50), max_size=12), st.integers(1, 2000))
def test_chunks_keep_every_row_in_order_and_their_size(sizes: list[int], most: int) -> None:
    ends = np.cumsum([0, *sizes])
    batches = [pa.RecordBatch.from_pydict({"n": pa.array(range(a, b), pa.int64())}) for a, b in pairwise(ends)]
    made = list(chunks(batches, most))
    assert [value for chunk in made for value in chunk["n"].to_pylist()] == list(range(ends[-1]))
    assert all(0 < chunk.nbytes <= max(most, 8) for chunk in made)
