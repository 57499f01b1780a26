"""Vectors that a target holds, found by their hashes."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from lakeflow.models.embeddings import content_hashes
from lakeflow.runner.recalled import BYTES_A_ROW, Recalled
from tests.jobs import TARGET, World, open_world

TEXTS = [f"text {number}" for number in range(40)]
HASHES = content_hashes(pa.array(TEXTS), "model")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return open_world(tmp_path)


def held(world: World, vectors: list[list[float] | None], hashes: list[str | None], element: pa.DataType) -> None:
    rows = {"doc": pa.array([place % 4 for place in range(len(vectors))], pa.int64()), "hashed": pa.array(hashes, pa.string())}
    world.append(pa.table({**rows, "v": pa.array(vectors, pa.list_(element))}), TARGET)


def recalled(world: World, groups: list[int] | None = None, most_bytes: int = 1 << 20) -> Recalled:
    frame = None if groups is None else pl.DataFrame({"doc": groups})
    return Recalled(world.table(), None if frame is None else lambda: frame, None, most_bytes)


@pytest.mark.parametrize("element", [pa.float32(), pa.float64()])
def test_a_vector_is_found_by_its_hash_whatever_is_asked_beside_it(world: World, element: pa.DataType) -> None:
    held(world, [[float(place), -1.5] for place in range(20)], HASHES[:20], element)
    held(world, [[float(place), -1.5] for place in range(20, 40)], HASHES[20:], element)
    with recalled(world) as known:
        mask, vectors = known.vectors("hashed", "v", [None, HASHES[33], "0" * 32, HASHES[2], "no hash", HASHES[33]])
        assert mask.tolist() == [False, True, False, True, False, True]
        assert vectors.to_pylist() == [[33.0, -1.5], [2.0, -1.5], [33.0, -1.5]]
        assert vectors.type.value_type == element
        assert known.vectors("hashed", "v", [])[1].to_pylist() == []


def test_of_groups_theirs_alone_are_known(world: World) -> None:
    held(world, [[float(place)] for place in range(40)], HASHES, pa.float32())
    with recalled(world, [1, 3]) as known:
        mask, vectors = known.vectors("hashed", "v", HASHES[:4])
    assert mask.tolist() == [False, True, False, True]
    assert vectors.to_pylist() == [[1.0], [3.0]]


def test_what_is_no_vector_of_the_width_and_what_has_no_hash_is_not_known(world: World) -> None:
    hashes: list[str | None] = [HASHES[0], HASHES[1], None, HASHES[3], "z" * 32]
    held(world, [[1.0, 2.0], [1.0], [3.0, 4.0], None, [5.0, 6.0]], hashes, pa.float32())
    with recalled(world) as known:
        assert known.vectors("hashed", "v", [*HASHES[:4], "z" * 32])[0].tolist() == [True, False, False, False, False]


def test_no_more_hashes_are_held_than_the_bound_allows(world: World) -> None:
    held(world, [[float(place)] for place in range(40)], HASHES, pa.float32())
    with recalled(world, most_bytes=7 * BYTES_A_ROW) as known:
        assert known.vectors("hashed", "v", HASHES)[0].sum() == 7


@pytest.mark.parametrize(("hashed", "column"), [("hashes", "v"), ("hashed", "vectors"), ("doc", "v"), ("hashed", "doc")])
def test_without_such_columns_nothing_is_known(world: World, hashed: str, column: str) -> None:
    held(world, [[1.0]], [HASHES[0]], pa.float32())
    with recalled(world) as known:
        assert known.vectors(hashed, column, HASHES[:2])[0].tolist() == [False, False]
