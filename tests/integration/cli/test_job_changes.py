"""A job that is not what it was when it wrote its target last: told by plan and run, with what may be done."""

from __future__ import annotations

import pytest

from tests.integration.cli.conftest import Shop

SQL = "INSERT INTO gold.big SELECT order_id, amount FROM bronze.orders WHERE amount > {least};"
PYTHON = """
import lakeflow as lf
import polars as pl


@lf.job(target="gold.big"{more})
def big(orders=lf.Read("bronze.orders")):
    return orders.filter(pl.col("amount") > {least}).select("order_id", "amount")
"""
ALSO = "its code changed since gold.big was last written"


def declare(shop: Shop, kind: str, least: int, more: str = "") -> None:
    text = SQL if kind == "sql" else PYTHON.replace("{more}", more)
    shop.declare(f"jobs/big.{kind}", text.replace("{least}", str(least)))


def planned(shop: Shop) -> list[str]:
    [job] = shop.json("plan", "big")["jobs"]
    changed: list[str] = job["changed"]
    return changed


@pytest.mark.parametrize("kind", ["sql", "py"])
def test_changed_code_is_told_until_all_is_made_anew(stocked: Shop, kind: str) -> None:
    declare(stocked, kind, 100)
    assert planned(stocked) == []
    assert ALSO not in stocked("run", "big").err
    declare(stocked, kind, 200)
    assert planned(stocked) == ["its code"]
    assert "changed since it ran last: its code" in stocked("plan", "big").out.replace("\n", " ")
    assert ALSO not in stocked("run", "big").err, "there is nothing to read, and so nothing of the new"
    stocked.orders(("o9", "eve", 900.0))
    ran = stocked("run", "big")
    assert ALSO in " ".join(ran.err.split())
    assert "lakeflow run big --mode snapshot makes all of them anew" in " ".join(ran.err.split())
    assert planned(stocked) == [], "the last commit is of the new"
    declare(stocked, kind, 300)
    assert ALSO not in stocked("run", "big", "--mode", "snapshot").err
    assert planned(stocked) == []


def test_blanks_change_nothing_and_settings_do(stocked: Shop) -> None:
    declare(stocked, "sql", 100)
    assert stocked("run", "big").code == 0
    stocked.declare("jobs/big.sql", "-- new\n\n" + SQL.replace("{least}", "100").replace(" WHERE", "\n  WHERE"))
    assert planned(stocked) == []
    (stocked.folder / "jobs" / "big.sql").unlink()
    declare(stocked, "py", 100)
    assert planned(stocked) == ["its code"]
    assert stocked("run", "big", "--mode", "snapshot").code == 0
    declare(stocked, "py", 100, ', key="order_id"')
    assert planned(stocked) == ["its code"]
