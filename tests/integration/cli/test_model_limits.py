"""Limits of what a run may take of remote models: it stops before the next call, and what is done stays done."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.cli.conftest import Shop
from tests.services.http import Server
from tests.services.openai import KEY, OpenAI

JOB = """
import lakeflow as lf

@lf.job(target="gold.triaged", max_files=1)
def triage(orders=lf.Read("bronze.orders")):
    return lf.ml_predict(orders, "triage", ["order_id"])
"""
MODEL = """
CREATE MODEL triage INPUT (order_id STRING) OUTPUT (note STRING)
WITH ('provider' = 'openai', 'task' = 'text_generation', 'endpoint' = '{url}/v1', 'model' = 'gpt-4.1-mini',
      'api-key' = '{{{{ secret.OPENAI }}}}', 'prompt' = 'Order {{order_id}}');
"""
PRICES = '[models.prices]\n"gpt-4.1-mini" = { input = 1.0, output = 10.0 }\n'
ORDERS = [f"o{number}" for number in range(8)]


@pytest.fixture
def service() -> OpenAI:
    return OpenAI(random_answers=True)


@pytest.fixture
def asking(shop: Shop, service: OpenAI, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """The shop with eight orders in eight files, each a step of the job."""
    monkeypatch.setenv("LAKEFLOW_SECRET_OPENAI", KEY)
    with Server(service) as server:
        shop.declare("tables/models.sql", MODEL.format(url=server.url))
        shop.declare("jobs/triage.py", JOB)
        for order in ORDERS:
            shop.orders((order, "ann", 1.0))
        yield shop


def rows(shop: Shop, sql: str) -> list[dict[str, Any]]:
    ran = shop("query", sql, "--output", "json")
    assert ran.code == 0, ran.err
    return [json.loads(line) for line in ran.out.splitlines()]


@pytest.mark.parametrize(
    ("limit", "most", "column"),
    [("max_calls", 3, "calls"), ("max_tokens", 90, "input_tokens + output_tokens"), ("max_cost", 0.0003, "cost")],
)
def test_a_limit_stops_before_the_next_call_and_the_steps_before_stay(
    asking: Shop, service: OpenAI, limit: str, most: float, column: str
) -> None:
    asking.configure(f"{PRICES}[models]\n{limit} = {most:f}\n".replace(".000000", ""))
    ran = asking("run", "triage", "--output", "json")
    assert ran.code == 1
    assert f"({limit} in [models])" in ran.err
    assert f"raise {limit}" in ran.err
    [used] = rows(asking, f"SELECT {column} AS taken, calls, answered FROM lakeflow.usage")
    assert 0 < used["taken"] <= most
    assert used["calls"] == used["answered"] == len(service.answered)
    triaged = {row["order_id"]: row["note"] for row in rows(asking, "SELECT order_id, note FROM gold.triaged")}
    assert 1 <= len(triaged) == used["answered"] < len(ORDERS), "each answered step is committed"
    [summary] = ran.json
    assert (summary["commits"], summary["models"]["triage"]["requests"]) == (len(triaged), used["calls"])
    while asking("run", "triage").code:
        assert len(service.answered) <= len(ORDERS)
    again = {row["order_id"]: row["note"] for row in rows(asking, "SELECT order_id, note FROM gold.triaged")}
    assert sorted(again) == ORDERS
    assert again.items() >= triaged.items()
    assert set(service.answered.values()) == {1}, "nothing is asked twice"


def test_calls_tokens_and_cost_are_in_the_summary_of_a_run_that_asked(asking: Shop) -> None:
    asking.configure(PRICES)
    first, again = asking("run", "triage"), asking("run", "triage", "--mode", "snapshot", "--into", "audit.triaged")
    heads = [ran.out.splitlines()[0].split() for ran in (first, again)]
    values = [
        dict(zip(head, ran.out.splitlines()[1].split(), strict=True)) for head, ran in zip(heads, (first, again), strict=True)
    ]
    [used, _] = rows(asking, "SELECT input_tokens + output_tokens AS tokens, cost FROM lakeflow.usage ORDER BY started_at")
    assert (values[0]["calls"], values[0]["cached"], values[0]["tokens"]) == ("8", "0", f"{used['tokens']}")
    assert float(values[0]["cost"]) == pytest.approx(used["cost"], rel=0.01)
    assert (values[1]["calls"], values[1]["cached"], values[1]["cost"]) == ("0", "8", "-")
    assert "model_cost" in asking("runs").out


def test_a_limit_of_nothing_asks_nothing_but_takes_what_is_kept(asking: Shop, service: OpenAI) -> None:
    assert asking("run", "triage").code == 0
    asking.configure("[models]\nmax_calls = 0\n")
    assert asking("run", "triage", "--mode", "snapshot").code == 0
    asking.orders(("new", "ann", 1.0))
    assert asking("run", "triage").code == 1
    assert sum(service.answered.values()) == len(ORDERS)


def test_the_tokens_of_several_models_count_together(asking: Shop, service: OpenAI) -> None:
    asking.declare("tables/second.sql", MODEL.replace("triage", "second").format(url=service_url(asking)))
    second = 'lf.ml_predict(lf.ml_predict(orders, "triage", ["order_id"]), "second", ["note"])'
    asking.declare("jobs/triage.py", JOB.replace('lf.ml_predict(orders, "triage", ["order_id"])', second))
    asking.configure("[models]\nmax_calls = 5\n")
    assert asking("run", "triage").code == 1
    used = rows(asking, "SELECT model, calls FROM lakeflow.usage ORDER BY model")
    assert used == [{"model": "second", "calls": 2}, {"model": "triage", "calls": 3}]
    assert len(rows(asking, "FROM gold.triaged")) == 2


def service_url(shop: Shop) -> str:
    text = (shop.folder / "tables" / "models.sql").read_text(encoding="utf-8")
    return text.partition("'endpoint' = '")[2].partition("/v1'")[0]
