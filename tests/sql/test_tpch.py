"""The queries of TPC-H over Iceberg tables give what DuckDB gives over the same files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from benchmarks.tpch import same
from benchmarks.tpch_data import NUMBERS, files_in, generated, load, plain, query_text
from lakeflow.lake.catalog import Lake
from lakeflow.runner.querying import query
from lakeflow.sql.execute import Limits
from tests.lakes import open_lake

SCALE = 0.01


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    folder: Path = tmp_path_factory.mktemp("tpch")
    opened = open_lake(folder)
    load(opened, generated(folder, SCALE))
    return opened


@pytest.fixture(scope="module")
def beside(lake: Lake) -> Iterator[duckdb.DuckDBPyConnection]:
    with plain(files_in(lake), threads=2) as connection:
        yield connection


@pytest.mark.parametrize("number", NUMBERS)
def test_a_query_of_tpch_is_answered_as_duckdb_does(number: int, lake: Lake, beside: duckdb.DuckDBPyConnection) -> None:
    text = query_text(number, SCALE)
    found = query(text, lake, Limits(threads=2)).read_all()
    expected = beside.sql(text).to_arrow_table()
    assert same(found, expected), f"{found.to_pylist()[:3]} and not {expected.to_pylist()[:3]}"
    assert found.num_rows > 0
