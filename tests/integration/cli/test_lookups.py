"""Dimensions of jobs in Python: pinned or fresh tables, files, and rows of PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import polars as pl
import psycopg2
import pytest

from lakeflow.declare import TableSpec
from lakeflow.lookup import LookupPostgres
from lakeflow.postgres import read_place
from lakeflow.runner.lookup_postgres import KeyedLookup, PostgresRows
from tests import lakes
from tests.integration.cli.conftest import Shop
from tests.rig.postgres import Postgres

BY_FILE = """
import lakeflow as lf


@lf.job(target="gold.placed")
def placed(orders=lf.Read("bronze.orders"), cities=lf.LookupFile("data/cities{ending}"{more})):
    return orders.join(cities, on="customer", how="left", maintain_order="left").select("order_id", "city")
"""
CITIES = pl.DataFrame({"customer": ["ann", "bob"], "city": ["Oslo", "Bonn"]})
WRITES = {
    ".csv": CITIES.write_csv,
    ".tsv": lambda path: CITIES.write_csv(path, separator="\t"),
    ".parquet": CITIES.write_parquet,
    ".jsonl": CITIES.write_ndjson,
    ".arrow": CITIES.write_ipc,
}


def told(shop: Shop, table: str) -> list[tuple[Any, ...]]:
    done = shop("query", f"SELECT * FROM {table} ORDER BY 1", "--output", "json")
    assert done.code == 0, done.err
    return [tuple(json.loads(line).values()) for line in done.out.splitlines()]


def summary(shop: Shop, table: str) -> dict[str, str]:
    head = shop.project.lake.table(table).current_snapshot()
    assert head is not None
    assert head.summary is not None
    return dict(head.summary.additional_properties)


@pytest.mark.parametrize("ending", sorted(WRITES))
def test_a_file_is_looked_up_and_told_in_the_commit(stocked: Shop, ending: str) -> None:
    (stocked.folder / "data").mkdir()
    WRITES[ending](stocked.folder / "data" / f"cities{ending}")  # type: ignore[operator]
    stocked.declare("jobs/placed.py", BY_FILE.replace("{ending}", ending).replace("{more}", ""))
    assert stocked.json("run", "placed")[0]["written"] == 4
    assert {city for _, city in told(stocked, "gold.placed")} == {"Oslo", "Bonn"}
    assert summary(stocked, "gold.placed")[f"lakeflow.lookup.data/cities{ending}"].endswith(" bytes")


@pytest.mark.parametrize(
    ("ending", "text", "message"),
    [
        (".csv", None, "unknown file, looked up by the job: 'data/cities.csv'"),
        (".parquet", "no parquet", "cannot be read"),
        (".xml", "<a/>", "the ending '.xml' says no format"),
    ],
)
def test_a_file_that_cannot_be_looked_up(stocked: Shop, ending: str, text: str | None, message: str) -> None:
    (stocked.folder / "data").mkdir()
    (stocked.folder / "data" / "cities.cvs").write_text("")
    if text is not None:
        (stocked.folder / "data" / f"cities{ending}").write_text(text)
    stocked.declare("jobs/placed.py", BY_FILE.replace("{ending}", ending).replace("{more}", ""))
    done = stocked("run", "placed")
    assert done.code in (1, 2)
    assert message in done.err
    assert "Traceback" not in done.err
    assert text is not None or "did you mean 'cities.cvs'" in done.err


def test_a_commit_tells_of_the_file_that_was_read_and_not_of_a_later_one(stocked: Shop) -> None:
    """The job itself writes the file anew, once it has been read."""
    path = stocked.folder / "data" / "cities.parquet"
    path.parent.mkdir()
    CITIES.write_parquet(path)
    size = path.stat().st_size
    text = BY_FILE.replace("{ending}", ".parquet").replace("{more}", "")
    later = f"    __import__('pathlib').Path({str(path)!r}).write_bytes(b'no parquet')\n    return orders"
    stocked.declare("jobs/placed.py", text.replace("    return orders", later))
    assert stocked.json("run", "placed")[0]["written"] == 4
    assert summary(stocked, "gold.placed")["lakeflow.lookup.data/cities.parquet"].endswith(f" {size} bytes")


def test_an_empty_file_gives_nulls_and_loses_no_row(stocked: Shop) -> None:
    (stocked.folder / "data").mkdir()
    CITIES.clear().write_parquet(stocked.folder / "data" / "cities.parquet")
    stocked.declare("jobs/placed.py", BY_FILE.replace("{ending}", ".parquet").replace("{more}", ""))
    assert stocked.json("run", "placed")[0]["written"] == 4
    assert {city for _, city in told(stocked, "gold.placed")} == {None}


@pytest.mark.parametrize("fresh", [False, True])
def test_a_table_is_pinned_at_the_start_of_a_run_or_fresh_in_each_batch(stocked: Shop, fresh: bool) -> None:
    """The dimension gets a row as the first batch is computed: the second sees it if it is to be fresh."""
    lake = stocked.project.lake
    cities = CITIES.head(1).to_arrow()
    lake.ensure(TableSpec("dim.cities", cities.schema))
    lakes.append(lake, cities, name="dim.cities")
    stocked.declare(
        "jobs/placed.py",
        f"""
import lakeflow as lf
import pyarrow as pa
from tests import lakes
seen = []


@lf.job(target="gold.placed", max_files=1)
def placed(orders=lf.Read("bronze.orders"), cities=lf.Lookup("dim.cities", fresh={fresh})):
    def arrives(frame):
        if frame.height and not seen:
            seen.append(1)
            lake = lakes.open_lake(lakes.Path({str(stocked.folder / ".lakeflow")!r}))
            lakes.append(lake, pa.table({{"customer": ["zoe"], "city": ["Rome"]}}), name="dim.cities")
        return frame
    passed = orders.map_batches(arrives, schema=orders.collect_schema())
    return passed.join(cities, on="customer", how="left", maintain_order="left").select("order_id", "city")
""",
    )
    stocked.orders(("x1", "zoe", 1.0))
    before = lake.table("dim.cities").current_snapshot()
    done = stocked("run", "placed")
    assert done.code == 0, done.err
    assert dict(told(stocked, "gold.placed"))["x1"] == ("Rome" if fresh else None)
    pinned = summary(stocked, "gold.placed")["lakeflow.lookup.dim.cities"]
    assert before is not None
    assert (pinned == str(before.snapshot_id)) is not fresh


@pytest.fixture
def customers(postgres: Postgres) -> Iterator[Postgres]:
    connection = psycopg2.connect(**read_place(postgres.uri).parameters())
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute('DROP TABLE IF EXISTS "odd ""name"; DROP TABLE IF EXISTS customers')
        cursor.execute(
            "CREATE TABLE customers "
            "(customer text, day date, credit numeric(10, 2), since timestamptz, note varchar(9), n smallint)"
        )
        cursor.execute(
            "INSERT INTO customers SELECT 'c' || n, DATE '2026-01-01' + n, n / 4.0, TIMESTAMPTZ '2026-01-01 00:00+02', NULL, n "
            "FROM generate_series(1, 50) AS n"
        )
        cursor.execute('CREATE TABLE "odd ""name" ("a%b" int, v json); INSERT INTO "odd ""name" VALUES (1, NULL)')
        yield postgres
        cursor.execute('DROP TABLE "odd ""name"; DROP TABLE customers')
    connection.close()


def frame_of(count: int) -> pl.LazyFrame:
    return pl.LazyFrame({"id": range(count), "who": [f"c{number}" if number % 3 else None for number in range(count)]})


class Asking(PostgresRows):
    """Counts the keys that it is asked for."""

    asked = 0

    def of_keys(self, keys: Any) -> Any:
        self.asked += len(keys)
        return super().of_keys(keys)


def test_rows_of_postgresql_are_asked_for_by_key_and_kept(customers: Postgres) -> None:
    now = [0.0]
    rows = Asking(LookupPostgres(customers.uri, "public.customers", key="customer", max_rows=20, ttl="1m"), customers.uri)
    keyed = KeyedLookup(rows, clock=lambda: now[0])
    joined = keyed.join(frame_of(10), on="who").collect()
    assert joined.height == 10
    assert rows.asked == 6
    assert joined.filter(id=4).select("credit", "n").row(0) == (pl.Series([1]).cast(pl.Decimal(10, 2))[0], 4)
    assert joined.filter(id=3)["credit"].to_list() == [None]
    keyed.join(frame_of(10), on="who").collect()
    assert rows.asked == 6, "kept"
    keyed.join(frame_of(60), on="who").collect()
    assert rows.asked == 40, "what is not there is asked for as well, and what is there is not asked again"
    keyed.join(frame_of(10), on="who").collect()
    assert rows.asked == 46, "of 40 keys the 20 used last are kept"
    now[0] = 61.0
    keyed.join(frame_of(10), on="who").collect()
    assert rows.asked == 52, "older than its time to live"


def test_rows_by_two_keys_and_the_whole_table(customers: Postgres) -> None:
    two = KeyedLookup(PostgresRows(LookupPostgres(customers.uri, "customers", key=("customer", "day")), customers.uri))
    asked = pl.LazyFrame({"customer": ["c1", "c2"], "day": ["2026-01-02", "2026-01-02"]}).with_columns(
        pl.col("day").str.to_date()
    )
    assert two.join(asked).collect()["n"].to_list() == [1, None]
    whole = PostgresRows(LookupPostgres(customers.uri, "customers", columns=("customer", "since")), customers.uri).whole()
    assert whole.height == 50
    assert str(whole["since"][0]) == "2025-12-31 22:00:00+00:00"
    odd = PostgresRows(LookupPostgres(customers.uri, 'odd "name', columns=("a%b",)), customers.uri)
    assert odd.whole().rows() == [(1,)]


@pytest.mark.parametrize(
    ("table", "more", "message"),
    [
        ("customer", {}, "unknown table of PostgreSQL"),
        ("customers", {"key": "costumer"}, "did you mean 'customer'"),
        ('odd "name', {}, "column 'v'"),
        ("customers", {"max_rows": 49}, "more than max_rows = 49 rows"),
    ],
)
def test_what_cannot_be_looked_up_in_postgresql(customers: Postgres, table: str, more: dict[str, Any], message: str) -> None:
    from lakeflow.errors import LakeflowError

    rows = PostgresRows(LookupPostgres(customers.uri, table, **more), customers.uri)
    with pytest.raises(LakeflowError, match=message):
        rows.whole()


def test_a_job_looks_rows_up_by_key_and_shows_no_secret(stocked: Shop, customers: Postgres, monkeypatch: Any) -> None:
    place = read_place(customers.uri)
    assert place.password is not None
    monkeypatch.setenv("LAKEFLOW_SECRET_DIM", place.password)
    url = f"postgresql://{place.user}:{{{{ secret.DIM }}}}@{place.host}:{place.port}/{place.database}"
    text = """
import lakeflow as lf


@lf.job(target="gold.credits")
def credits(orders=lf.Read("bronze.orders"), who=lf.LookupPostgres("URL", "customers", key="customer")):
    return who.join(orders, on="customer").select("order_id", "n")
"""
    stocked.declare("jobs/credits.py", text.replace("URL", url))
    stocked.orders(("x1", "c7", 1.0))
    assert stocked.json("run", "credits")[0]["written"] == 5
    assert dict(told(stocked, "gold.credits"))["x1"] == 7
    monkeypatch.setenv("LAKEFLOW_SECRET_DIM", "wrong-secret")
    stocked.orders(("x2", "c8", 1.0))
    failed = stocked("run", "credits")
    assert failed.code == 1
    assert "customers of postgresql://" in failed.err
    assert "wrong-secret" not in failed.err + failed.out
    stocked.declare("jobs/credits.py", text.replace("URL", customers.uri))
    refused = stocked("run", "credits")
    assert "plain text" in refused.err
    assert place.password not in refused.err + refused.out
