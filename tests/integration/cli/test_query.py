"""Read-only SQL from the command line, and how tables become what DuckDB reads."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.table.snapshots import Operation

from lakeflow.cli.query import TEXT_ROWS
from lakeflow.declare import TableSpec
from lakeflow.runner.querying import relation
from lakeflow.sql.relations import ArrowRelation, ParquetRelation
from tests import lakes
from tests.contract.test_lake_iceberg import _RowDelta, deletes_of
from tests.integration.cli.conftest import Shop

TOTAL = "SELECT customer, sum(amount) AS total FROM bronze.orders GROUP BY 1 ORDER BY 1"


def test_text_is_for_people(stocked: Shop) -> None:
    assert stocked("query", TOTAL).out.splitlines() == ["customer  total", "ann         550", "bob         400"]


def test_json_is_one_object_a_line(stocked: Shop) -> None:
    lines = stocked("query", TOTAL, "--output", "json").out.splitlines()
    assert [json.loads(line) for line in lines] == [{"customer": "ann", "total": 550.0}, {"customer": "bob", "total": 400.0}]


def test_numbers_are_numbers_in_json(stocked: Shop) -> None:
    line = stocked(
        "query", "SELECT count(*) AS n, sum(amount::BIGINT) AS s, 0.5 AS half FROM bronze.orders", "--output", "json"
    )
    assert line.json == {"n": 4, "s": 950, "half": 0.5}


def test_csv(stocked: Shop) -> None:
    ran = stocked("query", TOTAL, "--output", "csv")
    assert list(csv.reader(io.StringIO(ran.out))) == [["customer", "total"], ["ann", "550.0"], ["bob", "400.0"]]


def test_a_query_comes_from_a_file_or_standard_input(stocked: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "total.sql").write_text(TOTAL, encoding="utf-8")
    monkeypatch.setattr("sys.stdin", io.StringIO(TOTAL))
    said = stocked("query", TOTAL).out
    assert stocked("query", "-").out == said
    assert stocked("query", "-f", str(tmp_path / "total.sql")).out == said


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "give the query"),
        (("SELECT 1", "-f", "x.sql"), "only one of them"),
        (("-f", "gone.sql"), "gone.sql"),
        (("DROP TABLE bronze.orders",), "DROP is no read-only query"),
        (("SELECT * FROM bronze.order",), "did you mean 'bronze.orders'"),
        (("SELECT * FROM orders",), "bronze.orders"),
        (("SELECT custmer FROM bronze.orders",), "customer"),
        (("SELECT 1; SELECT 2",), "one statement"),
    ],
)
def test_slips(words: tuple[str, ...], told: str, stocked: Shop) -> None:
    ran = stocked("query", *words)
    assert ran.code == 2
    assert told in ran.err
    assert ran.out == ""
    assert stocked.project.lake.names() == ("bronze.orders",)


def test_text_shows_the_first_rows_and_says_so(stocked: Shop) -> None:
    ran = stocked("query", f"SELECT range FROM range({TEXT_ROWS + 1})")
    assert len(ran.out.splitlines()) == TEXT_ROWS + 1
    assert "--limit" in ran.err
    whole = stocked("query", f"SELECT range FROM range({TEXT_ROWS})")
    assert (len(whole.out.splitlines()), whole.err) == (TEXT_ROWS + 1, "")
    asked = stocked("query", "SELECT range FROM range(100)", "--limit", "3")
    assert (len(asked.out.splitlines()), asked.err) == (4, "")
    lines = stocked("query", f"SELECT range FROM range({TEXT_ROWS * 5})", "--output", "json").out.splitlines()
    assert len(lines) == TEXT_ROWS * 5


def test_a_declared_table_that_holds_nothing_yet_says_what_to_run(shop: Shop) -> None:
    ran = shop("query", "FROM bronze.orders")
    assert ran.code == 2
    assert "lakeflow land bronze.orders" in ran.err


def test_nothing_is_left_behind(stocked: Shop) -> None:
    stocked("query", TOTAL)
    assert list((stocked.folder / ".lakeflow" / "tmp").iterdir()) == []


def test_rows_are_printed_as_they_are_even_where_they_hold_a_secret(stocked: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEFLOW_SECRET_WORD", "boblike")
    stocked.configure('[kafka]\n"bootstrap.servers" = "localhost:1"\n"sasl.password" = "{{ secret.WORD }}"\n')
    assert stocked("query", "SELECT 'boblike' AS said", "--output", "json").json == {"said": "boblike"}


class TestRelations:
    def test_a_table_of_plain_files_is_read_by_duckdb_itself(self, stocked: Shop) -> None:
        found = relation(stocked.project.lake.table("bronze.orders"))
        assert isinstance(found, ParquetRelation)
        assert len(found.files) == 2

    def test_an_empty_table(self, shop: Shop) -> None:
        shop.project.lake.ensure(TableSpec("a.b", pa.schema([("x", pa.int64())])))
        assert shop("query", "SELECT count(*) AS n FROM a.b", "--output", "json").json == {"n": 0}

    def test_a_table_whose_files_carry_no_ids_is_streamed(self, shop: Shop, tmp_path: Path) -> None:
        import pyarrow.parquet as pq

        lake = shop.project.lake
        table = lake.ensure(TableSpec("a.b", pa.schema([("x", pa.int64())])))
        pq.write_table(pa.table({"x": [1, 2, 3]}), tmp_path / "foreign.parquet")
        table.add_files([str(tmp_path / "foreign.parquet")])
        found = relation(lake.table("a.b"))
        assert isinstance(found, ArrowRelation)
        assert shop("query", "SELECT sum(x) AS s FROM a.b AS one JOIN a.b AS two USING (x)", "--output", "json").json == {
            "s": 6
        }

    def test_a_table_with_deletes_is_streamed(self, shop: Shop) -> None:
        lake = shop.project.lake
        lakes.made(lake, name="a.b")
        lakes.append(lake, lakes.ids(1, 2, 3), name="a.b")
        table = lake.table("a.b")
        [path] = lakes.live_paths(table)
        with table.transaction() as transaction:
            delta = _RowDelta(Operation.OVERWRITE, transaction, table.io, "main")
            delta.deletes = (deletes_of(table, path, [1]),)
            delta.commit()
        assert isinstance(relation(lake.table("a.b")), ArrowRelation)
        assert shop("query", "SELECT sum(id) AS s FROM a.b", "--output", "json").json == {"s": 4}

    def test_renamed_and_widened_columns(self, shop: Shop) -> None:
        from pyiceberg.types import LongType

        lake = shop.project.lake
        table = lake.ensure(TableSpec("a.b", pa.schema([("x", pa.int32())])))
        lakes.append(lake, pa.table({"x": pa.array([1, 2], pa.int32())}), name="a.b")
        with table.update_schema() as update:
            update.update_column("x", LongType())
            update.rename_column("x", "wide")
        lakes.append(lake, pa.table({"wide": pa.array([1 << 40])}), name="a.b")
        assert shop("query", "SELECT sum(wide) AS s FROM a.b", "--output", "json").json == {"s": (1 << 40) + 3}
