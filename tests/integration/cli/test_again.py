"""What a job has made is made anew, in part and as a whole; what it knows is shown, set back and copied."""

from __future__ import annotations

import pytest

from lakeflow.runner.refresh import refresh_branch
from tests.integration.cli.conftest import Shop

LARGE = """
import polars as pl
import lakeflow as lf

@lf.job(target="gold.large", name="{name}", max_files=1)
def large(orders=lf.Read("bronze.orders")):
    return orders.with_columns(pl.col("amount") + {add})
"""
COUNTS = """
SET 'pipeline.name' = '{name}';
INSERT INTO gold.counts SELECT customer, count(*) AS n FROM bronze.orders GROUP BY customer;
"""


def declare(shop: Shop, add: int, name: str = "large") -> None:
    shop.declare("jobs/large.py", LARGE.format(add=add, name=name))


def amounts(shop: Shop) -> dict[str, float]:
    rows = shop.project.lake.table("gold.large").scan().to_arrow().to_pylist()
    return {row["order_id"]: row["amount"] for row in rows}


@pytest.fixture
def ran(stocked: Shop) -> Shop:
    """The job has read both files."""
    declare(stocked, 0)
    assert stocked("run", "large").code == 0
    declare(stocked, 1000)
    return stocked


def test_a_part_is_planned_made_anew_and_recorded(ran: Shop) -> None:
    asked = ("large", "--from", "order_id=o2", "--to", "order_id=o4", "--chunk", "1")
    planned = ran.json("plan", *asked)["backfill"]
    assert [(one["from"], one["to"], one["rows"], one["status"]) for one in planned["chunks"]] == [
        ("o2", "o3", 2, "to do"),
        ("o3", "o4", 2, "to do"),
    ]
    [done] = ran.json("run", *asked)
    assert (done["mode"], done["status"], done["read"], done["written"], done["commits"]) == ("backfill", "done", 2, 2, 2)
    assert amounts(ran) == {"o1": 50.0, "o2": 1150.0, "o3": 1500.0, "o4": 250.0}
    last = ran.json("runs", "--last", "1")[0]
    assert (last["name"], last["mode"], last["status"]) == ("large", "backfill", "done")
    text = ran("plan", *asked).out
    assert "in place of its rows of the same range of order_id; it begins" in text
    assert (
        "backfill  number 1, from order_id=o2 to order_id=o4 by 1: 2 of 2 chunks are done" in ran("state", "show", "large").out
    )


def test_all_is_made_anew(ran: Shop) -> None:
    [done] = ran.json("run", "large", "--full-refresh")
    assert (done["mode"], done["status"], done["read"], done["commits"]) == ("full-refresh", "done", 4, 3)
    assert amounts(ran) == {"o1": 1050.0, "o2": 1150.0, "o3": 1500.0, "o4": 1250.0}
    assert ran.json("plan", "large")["jobs"][0]["changed"] == []
    assert ran("run", "large", "--exit-on-empty", "3").code == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--from", "order_id=o2"), "--from makes the rows of one job anew; name it"),
        (("large", "totals", "--full-refresh"), "--full-refresh makes the rows of one job anew; name it"),
        (("large", "--chunk", "1d"), "--chunk cuts what --from and --to name"),
        (("large", "--full-refresh", "--to", "order_id=o2"), "valid: one of them"),
        (("large", "--full-refresh", "--mode", "snapshot"), "goes without --mode"),
        (("large", "--from", "order_id=o2", "--follow"), "goes without --mode"),
        (("large", "--from", "2013-01-01"), "has 0 columns of time"),
        (("totals", "--full-refresh"), "reads its whole table at each run"),
    ],
)
def test_what_cannot_be_meant_is_refused(ran: Shop, words: tuple[str, ...], said: str) -> None:
    assert ran("run", "totals").code == 0
    refused = ran("run", *words)
    assert refused.code == 2
    assert said in " ".join(refused.err.split())


def test_what_a_job_knows_is_shown(ran: Shop) -> None:
    ran.orders(("o5", "eve", 1.0))
    state = ran.json("state", "show", "large")
    [source] = state["sources"]
    assert (source["table"], source["files_waiting"], source["rows_waiting"]) == ("bronze.orders", 1, 1)
    assert (state["changed"], state["backfill"], state["refresh"]) == (["its code"], None, None)
    assert [(one["read"], one["written"]) for one in state["commits"]] == [(2, 2), (2, 2)]
    assert "its code changed since its last commit" in ran("state", "show", "large").out
    assert ran("state", "show", "larger").code == 2


def test_progress_is_set_back_where_it_is_confirmed(ran: Shop) -> None:
    first = min(ran.project.lake.table("bronze.orders").metadata.snapshots, key=lambda one: one.sequence_number or 0)
    unasked = ran("state", "reset", "large", "--to", str(first.snapshot_id))
    assert unasked.code == 2
    assert "There is no terminal to ask on" in unasked.err
    assert ran("run", "large", "--exit-on-empty", "3").code == 3
    done = ran("state", "reset", "large", "--to", str(first.snapshot_id), "--yes")
    assert "reads rows of bronze.orders that came after snapshot" in " ".join(done.err.split())
    assert "where the same rows are already" in " ".join(done.err.split())
    assert ran.json("run", "large")[0]["read"] == 2
    assert ran("state", "reset", "large", "--yes").code == 0
    assert ran.json("run", "large")[0]["read"] == 4
    for nothing in ("1", "²"):
        assert ran("state", "reset", "large", "--to", nothing, "--yes").code == 2
    head = ran.json("state", "show", "large")["sources"][0]["position"]["snapshot_id"]
    assert ran("state", "reset", "large", "--yes").code == 0
    assert ran("state", "reset", "large", "--to", str(head), "--yes").code == 0
    assert ran("run", "large", "--exit-on-empty", "3").code == 3


def test_a_job_that_was_renamed_goes_on_where_it_was(ran: Shop) -> None:
    still = ran("state", "copy", "large", "large")
    assert still.code == 2
    declare(ran, 0, "bigger")
    assert ran("run", "bigger").code == 2  # the table holds the rows of large
    assert ran("state", "copy", "large", "bigger").code == 0
    assert ran("run", "bigger", "--exit-on-empty", "3").code == 3
    assert ran("state", "copy", "large", "bigger").code == 2
    assert ran("state", "copy", "nobody", "bigger").code == 2


def test_what_it_keeps_by_key_goes_with_it(ran: Shop) -> None:
    ran.declare("jobs/counts.sql", COUNTS.format(name="counts"))
    assert ran("run", "counts").code == 0
    refused = ran("state", "reset", "counts", "--yes")
    assert refused.code == 2
    assert "lakeflow run counts --full-refresh" in refused.err
    ran.declare("jobs/counts.sql", COUNTS.format(name="tallies"))
    assert "lakeflow.state_counts is lakeflow.state_tallies now" in ran("state", "copy", "counts", "tallies").err
    ran.orders(("o5", "ann", 1.0))
    assert ran.json("run", "tallies")[0]["read"] == 1
    [kept] = ran.json("state", "show", "tallies")["kept"]
    assert (kept["name"], kept["rows"]) == ("lakeflow.state_tallies", 2)
    rows = ran.project.lake.table("gold.counts").scan().to_arrow().to_pylist()
    assert {row["customer"]: row["n"] for row in rows} == {"ann": 3, "bob": 2}


def test_a_refresh_under_way_is_shown_and_can_be_abandoned(ran: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    from lakeflow.runner.refresh import Refresh

    with monkeypatch.context() as patch:
        patch.setattr(Refresh, "_put_in_place", _dies)
        assert ran("run", "large", "--full-refresh").code != 0
    assert "under way on branch 'lakeflow_refresh_large'" in ran("state", "show", "large").out
    assert "is abandoned" in ran("state", "abandon", "large").err
    assert "no full refresh of large is under way" in ran("state", "abandon", "large").err
    job = ran.project.declarations.jobs["large"]
    assert refresh_branch(job) not in ran.project.lake.table("gold.large").metadata.refs


def _dies(self: object, end: str) -> int:
    raise KeyboardInterrupt
