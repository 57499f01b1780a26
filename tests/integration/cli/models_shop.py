"""A shop with a small model of its own: what an order costs is `factor` times its amount."""

from __future__ import annotations

from pathlib import Path

import duckdb

from tests import lakes
from tests.integration.cli.conftest import Shop
from tests.unit.models import graphs

PRICE = """CREATE MODEL price INPUT (amount DOUBLE) OUTPUT (cost DOUBLE)
WITH ('provider' = 'onnx', 'task' = 'regression', 'model_path' = '{path}'{more});
"""
JOB = """
import lakeflow as lf

@lf.job(target="gold.priced")
def priced(orders=lf.Read("bronze.orders")):
    return lf.ml_predict(orders, "{model}", ["amount"], version_into="model_version").drop("customer")
"""
LOG = "lakeflow.models"


def graph(shop: Shop, factor: float, name: str = "price.onnx") -> str:
    """The model's file, made or made anew; its path as declarations say it."""
    graphs.regressor(shop.folder / "models" / name, [factor])
    return f"models/{name}"


def declare(shop: Shop, path: str = "models/price.onnx", **options: str) -> None:
    """CREATE MODEL price in tables/."""
    shop.declare("tables/price.sql", PRICE.format(path=path, more=written(options)))


def written(options: dict[str, str]) -> str:
    return "".join(f", '{name}' = '{value}'" for name, value in options.items())


def priced_by(shop: Shop, model: str = "price") -> None:
    """The job, the only one in jobs/."""
    for file in (shop.folder / "jobs").glob("*.py"):
        file.unlink()
    shop.declare("jobs/priced.py", JOB.format(model=model))


def priced(shop: Shop) -> list[tuple[str, float, int]]:
    """order_id, cost, model_version of every row."""
    table = shop.project.lake.table("gold.priced")
    return lakes.query(table, "SELECT order_id, cost, model_version FROM rows ORDER BY 1")


def log(shop: Shop, sql: str = "SELECT event, name, version FROM rows ORDER BY entry") -> list[tuple[object, ...]]:
    """The registry as DuckDB reads its files."""
    lake = shop.project.lake
    return lakes.query(lake.table(LOG), sql) if lake.exists(LOG) else []


def bytes_of_log(shop: Shop) -> bytes:
    """Everything that is stored of lakeflow.models, metadata and data."""
    location = lakes.path_of(shop.project.lake.table(LOG).location())
    return b"".join(file.read_bytes() for file in sorted(Path(location).rglob("*")) if file.is_file())


def texts_of_log(shop: Shop) -> str:
    """Every value in every row of lakeflow.models, by DuckDB."""
    paths = [str(lakes.path_of(path)) for path in lakes.live_paths(shop.project.lake.table(LOG))]
    with duckdb.connect() as connection:
        connection.read_parquet(paths).create_view("rows")
        return str(connection.sql("SELECT * EXCLUDE (created_at) FROM rows").fetchall())
