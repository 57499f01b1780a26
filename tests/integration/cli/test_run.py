"""`lakeflow run`: what a failure leaves out, the rounds of --follow, and how the process ends."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from tests.integration.cli.conftest import Shop

BROKEN = """
import lakeflow as lf

@lf.job(target="gold.large")
def large(orders=lf.Read("bronze.orders")):
    return orders.select("amuont")
"""
LAST = """
import lakeflow as lf

@lf.job(target="gold.last", mode="snapshot")
def last(totals=lf.Read("gold.totals")):
    return totals
"""
STOPS = """
import os, signal
import lakeflow as lf

rounds = []

@lf.job(target="gold.every_round", mode="snapshot")
def every_round(orders=lf.Read("bronze.orders")):
    rounds.append(None)  # several times a round
    if len(rounds) == 9:
        os.kill(os.getpid(), signal.SIGTERM)
    return orders
"""
posix = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


def statuses(rows: list[dict[str, Any]]) -> dict[str, str]:
    return {row["name"]: row["status"] for row in rows}


def test_being_left_out_goes_on_down_the_graph(stocked: Shop) -> None:
    stocked.declare("jobs/last.py", LAST)
    assert stocked("run", "large", "totals", "last").code == 0
    stocked.orders(("o5", "ann", 700.0))
    stocked.declare("jobs/large.py", BROKEN)
    ran = stocked("run", "large", "totals", "last", "--output", "json")
    assert statuses(ran.json) == {"large": "failed", "totals": "left out", "last": "left out"}
    assert "last is left out: gold.totals was not brought up to date" in ran.err
    assert ran.code == 1


def test_a_run_that_fails_for_usage_alone_exits_with_2(stocked: Shop) -> None:
    assert stocked("run", "totals", "--mode", "incremental").code == 2


def test_an_index_whose_table_is_not_there_exits_with_2(shop: Shop) -> None:
    assert shop("index", "update", "docs_index").code == 2


def test_follow_ends_where_no_node_is_left(stocked: Shop) -> None:
    stocked.declare("jobs/large.py", BROKEN)
    ran = stocked("run", "large", "totals", "--follow", "--every", "0.1", "--output", "json")
    assert ran.code == 1
    assert statuses(ran.json) == {"large": "failed", "totals": "left out"}
    assert "large IS GIVEN UP until this command is started again, and with it what reads its table: totals" in ran.err


@posix
def test_follow_goes_on_without_a_node_that_is_given_up_and_exits_with_1(stocked: Shop) -> None:
    stocked.declare("jobs/large.py", BROKEN)
    stocked.declare("jobs/stops.py", STOPS)
    ran = stocked("run", "every_round", "large", "totals", "--follow", "--every", "0.1", "--output", "json")
    rounds = [statuses(json.loads(line)) for line in ran.out.splitlines()]
    assert sorted(rounds[0]) == ["every_round", "large"]
    assert [sorted(one) for one in rounds[1:]] == [["every_round"]] * (len(rounds) - 1)
    assert len(rounds) > 1
    assert ran.err.count("IS GIVEN UP") == 1
    assert ran.code == 1
    assert [row["status"] for row in stocked.json("runs", "--name", "large")] == ["failed"]


@posix
def test_a_round_that_finds_nothing_to_do_is_no_run_and_a_single_run_is(stocked: Shop) -> None:
    stocked.declare("jobs/stops.py", STOPS)
    ran = stocked("run", "large", "every_round", "--follow", "--every", "0.1")
    assert ran.code == 143, ran.err
    assert [row["status"] for row in stocked.json("runs", "--name", "large")] == ["done"]
    stocked.json("run", "large")
    assert [row["status"] for row in stocked.json("runs", "--name", "large")] == ["empty", "done"]


@posix
def test_follow_waits_for_a_table_that_is_not_there_yet(stocked: Shop) -> None:
    stocked.declare("jobs/stops.py", STOPS)
    ran = stocked("run", "embed", "every_round", "--follow", "--every", "0.1")
    assert ran.code == 143, ran.err
    assert "error" not in ran.err
    assert stocked.json("runs", "--name", "embed") == []


def test_a_run_that_failed_before_it_began_is_recorded_with_the_mode_it_was_asked_for(stocked: Shop) -> None:
    assert stocked("run", "large", "--as-of", "2013-01-01", "--output", "json").code == 2
    [run] = stocked("runs", "--name", "large", "--output", "json").json
    assert (run["mode"], run["status"]) == ("snapshot", "failed")
