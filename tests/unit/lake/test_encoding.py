"""A dictionary is for columns whose values repeat."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from lakeflow.lake.encoding import FEW_ROWS, worth_a_dictionary
from lakeflow.lake.write import DataWriter
from tests.lakes import NAME, made, open_lake, path_of


def table(rows: int) -> pa.Table:
    return pa.table(
        {
            "id": pa.array(range(rows), pa.int64()),
            "carrier": ["AA" if number % 3 else "UA" for number in range(rows)],
            "mostly.null": [str(number) if number % 100 == 0 else None for number in range(rows)],
            "at": pa.array([{"x": number} for number in range(rows)], pa.struct([("x", pa.int64())])),
            "tags": pa.array([[str(number)] for number in range(rows)], pa.list_(pa.string())),
        }
    )


def test_a_column_whose_values_hardly_repeat_has_none() -> None:
    paths = worth_a_dictionary(table(1000))
    assert isinstance(paths, list)
    assert "id" not in paths
    assert {"carrier", "mostly.null", "at.x"} <= set(paths)
    assert any(path.startswith("tags.") for path in paths)


def test_few_rows_tell_nothing() -> None:
    assert worth_a_dictionary(table(FEW_ROWS - 1)) is True
    assert worth_a_dictionary(table(0)) is True


def test_where_all_repeat_all_have_one_and_where_none_does_none() -> None:
    assert worth_a_dictionary(table(1000).select(["carrier"])) is True
    assert worth_a_dictionary(table(1000).select(["id"])) is False


def test_data_files_are_written_so(tmp_path: Path) -> None:
    lake = open_lake(tmp_path)
    rows = pa.table({"id": pa.array(range(5000), pa.int64()), "carrier": ["AA", "UA"] * 2500})
    made(lake, rows.schema)
    writer = DataWriter(lake.table(NAME))
    writer.write(rows)
    (data_file,) = writer.finish()
    path: Path = path_of(data_file.file_path)
    group = pq.ParquetFile(path).metadata.row_group(0)
    encodings = {group.column(place).path_in_schema: set(group.column(place).encodings) for place in range(2)}
    assert "RLE_DICTIONARY" not in encodings["id"]
    assert "RLE_DICTIONARY" in encodings["carrier"]
    assert pq.read_table(path).column("id").to_pylist() == list(range(5000))
