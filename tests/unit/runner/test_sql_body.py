"""Where the columns of a query go, and as what."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest

from lakeflow.declare import TableSpec
from lakeflow.errors import SchemaMismatch
from lakeflow.job import Job, Read, SqlQuery
from lakeflow.models.lost import Counted
from lakeflow.models.registry import ModelSet
from lakeflow.runner.execute import body_of, run_job
from lakeflow.runner.sql_body import assigned, placed
from lakeflow.sql.compiled import Compiled
from tests.failing import Failing, spec_of
from tests.jobs import FLIGHTS, SOURCE, TARGET, flights, open_world

MANY = "dim.many FOR SYSTEM_TIME AS OF PROCTIME() AS m"
JOB = Job("sums", "gold.t", {"s.t": Read("s.t")}, SqlQuery("FROM s.t"))


def test_columns_go_by_place() -> None:
    assert placed(["x", "y"], (), ["a", "b"], JOB) == ["a", "b"]
    assert placed(["x", "y"], (), None, JOB) == ["x", "y"]
    assert placed(["x"], ("b",), ["a", "b"], JOB) == ["b"]
    assert placed(["a", "b"], ("b", "a"), ["a", "b"], JOB) == ["b", "a"]


def test_other_numbers_of_columns_are_refused() -> None:
    with pytest.raises(SchemaMismatch, match=r"gives 1 columns \(x\); gold.t takes 2 \(a, b\)") as caught:
        placed(["x"], (), ["a", "b"], JOB)
    assert "INSERT INTO gold.t (" in str(caught.value)


def test_the_same_names_in_another_order_are_refused() -> None:
    with pytest.raises(SchemaMismatch, match="another order") as caught:
        placed(["b", "a"], (), ["a", "b"], JOB)
    assert caught.value.next_step == "INSERT INTO gold.t (b, a) SELECT .."


def test_sums_fit_whole_numbers() -> None:
    rows = pa.table({"n": pa.array([Decimal(3), None], pa.decimal128(38, 0)), "t": ["x", "y"]})
    into = pa.schema([("n", pa.int64()), ("t", pa.string())])
    assert assigned(rows, into).column("n") == pa.chunked_array([[3, None]], pa.int64())
    assert assigned(rows, None) == rows
    assert assigned(rows, pa.schema([("n", pa.decimal128(38, 0))])) == rows


def test_integers_become_the_decimals_of_the_target_where_they_fit() -> None:
    into = pa.schema([("n", pa.decimal128(10, 2))])
    rows = pa.table({"n": pa.array([5, None], pa.int32())})
    assert assigned(rows, into).column("n").to_pylist() == [Decimal("5.00"), None]
    with pytest.raises(SchemaMismatch, match="column 'n' is decimal128"):
        assigned(pa.table({"n": pa.array([10**9], pa.int64())}), into)


def test_a_vector_that_is_written_out_becomes_the_reals_of_the_target() -> None:
    rows = pa.table({"v": pa.array([[Decimal("1.0"), Decimal("0.5"), None], None, []], pa.list_(pa.decimal128(11, 1)))})
    vectors = assigned(rows, pa.schema([("v", pa.large_list(pa.field("element", pa.float32(), nullable=False)))])).column("v")
    assert vectors.type == pa.large_list(pa.float32())
    assert vectors.to_pylist() == [[1.0, 0.5, None], None, []]


def test_a_sum_that_does_not_fit_is_refused() -> None:
    rows = pa.table({"n": pa.array([Decimal(2) ** 70], pa.decimal128(38, 0))})
    with pytest.raises(SchemaMismatch, match="'n' is int64"):
        assigned(rows, pa.schema([("n", pa.int64())]))


def test_rows_stream_through_a_query_and_its_models(tmp_path: Path) -> None:
    """The first rows are there long before the model has been asked about the last."""
    world = open_world(tmp_path)
    for number in range(8):
        world.append(pa.table({"x": pa.array(range(number * 100_000, (number + 1) * 100_000), pa.float64())}), "bronze.rows")
    spec = spec_of()
    model = Failing(spec, lambda x: False)
    world.models = ModelSet([spec], lambda spec: model)
    plan = world.plan(
        world.sql_job("INSERT INTO gold.t SELECT * FROM ML_PREDICT(TABLE bronze.rows, MODEL m, DESCRIPTOR(x));"), "snapshot"
    )
    chunks = body_of(plan, world.runtime()).chunks(plan.steps[0].reads, lambda rows: None, Counted())
    assert next(chunks).num_rows
    assert model.asked.total() < 400_000
    assert sum(chunk.num_rows for chunk in chunks) > 600_000
    assert model.asked.total() == 800_000


@pytest.mark.parametrize(
    "query",
    [
        f"SELECT f.id, m.n FROM bronze.few AS f JOIN {MANY} ON m.k = f.k",
        f"SELECT f.id, m.n FROM bronze.few AS f LEFT JOIN {MANY} ON m.k = f.k AND m.n >= 0",
        f"SELECT f.id, (SELECT max(n) FROM {MANY} WHERE m.k = f.k) FROM bronze.few AS f",
        f"SELECT f.id, x.n FROM bronze.few AS f, LATERAL (SELECT max(n) AS n FROM {MANY} WHERE m.k = f.k) AS x",
        f"SELECT f.id, f.k FROM bronze.few AS f WHERE f.k IN (SELECT k FROM {MANY})",
        f"SELECT f.id, f.k FROM bronze.few AS f WHERE EXISTS (SELECT 1 FROM {MANY} WHERE m.k >= f.k)",
        f"SELECT f.id, x.n FROM bronze.few AS f JOIN (SELECT k, max(n) AS n FROM {MANY} GROUP BY k) AS x ON x.k = f.k",
    ],
)
def test_rows_of_a_table_with_a_key_keep_their_order_beside_a_large_lookup(tmp_path: Path, query: str) -> None:
    """DuckDB alone would build its join over the few rows, and give them in the order of the many."""
    world = open_world(tmp_path)
    world.declared = {"gold.t": TableSpec("gold.t", pa.schema([("id", pa.int64()), ("n", pa.int64())]), primary_key=("id",))}
    count = 20_000
    world.append(pa.table({"k": list(range(count)), "n": list(range(count))}), "dim.many")
    keys = [number * 7919 % count for number in range(50)]
    world.append(pa.table({"id": [1] * len(keys), "k": keys}), "bronze.few")
    world.run(world.sql_job(f"INSERT INTO gold.t {query};"))
    assert world.rows("gold.t") == [(1, keys[-1])]


def test_a_query_is_given_as_many_threads_as_it_is_told_that_pay(tmp_path: Path) -> None:
    """A part of a row-wise job is one of several; the order of rows by key bears no second thread."""
    world = open_world(tmp_path)
    world.append(flights((1, "UA", 2.0)))
    asked: list[int] = []

    def threads(compiled: Compiled, cores: int) -> int:
        asked.append(cores)
        return 3

    runtime = world.runtime()
    runtime = replace(runtime, queries=replace(runtime.queries, threads=threads))
    list(run_job(world.plan(world.sql_job(f"INSERT INTO {TARGET} SELECT id FROM {SOURCE};")), runtime))
    assert asked == [1]
    world.declared = {"gold.keyed": TableSpec("gold.keyed", FLIGHTS, primary_key=("id",))}
    list(run_job(world.plan(world.sql_job(f"INSERT INTO gold.keyed SELECT * FROM {SOURCE};")), runtime))
    assert asked == [1]
