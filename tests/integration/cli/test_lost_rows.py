"""Rows that a model gives no answer to, from a declaration to the command line's counts and lakeflow.dead_letters."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.cli.conftest import Shop
from tests.services.http import Server
from tests.services.openai import KEY, OpenAI, error

JOB = """
import lakeflow as lf

@lf.job(target="gold.triaged")
def triage(orders=lf.Read("bronze.orders")):
    return lf.ml_predict(orders, "triage", ["order_id"])
"""
MODEL = """
CREATE MODEL {name} INPUT (order_id STRING) OUTPUT (note STRING)
WITH ('provider' = 'openai', 'task' = 'text_generation', 'endpoint' = '{url}/v1', 'model' = '{model}',
      'api-key' = '{{{{ secret.OPENAI }}}}', 'prompt' = 'Order {{order_id}}'{more});
"""


@pytest.fixture
def service() -> OpenAI:
    return OpenAI(refused_text="o2")


@pytest.fixture
def server(service: OpenAI) -> Iterator[Server]:
    with Server(service) as server:
        yield server


def declare(shop: Shop, server: Server, *more: str) -> None:
    models = (MODEL.format(name=name, url=server.url, model=model, more=options) for name, model, options in pairs(more))
    shop.declare("tables/models.sql", "\n".join(models))
    shop.declare("jobs/triage.py", JOB)


def pairs(more: tuple[str, ...]) -> Iterator[tuple[str, str, str]]:
    for number, options in enumerate(more):
        yield "triage" if number == 0 else "other", "gpt-4.1-mini" if number == 0 else "gpt-4.1-nano", options


def query(shop: Shop, sql: str) -> list[dict[str, Any]]:
    ran = shop("query", sql, "--output", "json")
    assert ran.code == 0, ran.err
    return [json.loads(line) for line in ran.out.splitlines()]


@pytest.fixture(autouse=True)
def _secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEFLOW_SECRET_OPENAI", KEY)


def test_a_dead_letter_is_counted_recorded_listed_and_shown(stocked: Shop, server: Server) -> None:
    declare(stocked, server, ", 'on_error' = 'dead_letter'")
    ran = stocked("run", "triage", "--output", "json")
    assert ran.code == 0, ran.err
    [counts] = json.loads(ran.out)
    assert {name: counts[name] for name in ("read", "written", "dead_lettered", "skipped", "filtered")} == {
        "read": 4,
        "written": 3,
        "dead_lettered": 1,
        "skipped": 0,
        "filtered": 0,
    }
    [run] = query(stocked, "SELECT read, written, dead_lettered FROM lakeflow.runs")
    assert run == {"read": 4, "written": 3, "dead_lettered": 1}
    assert [row["order_id"] for row in query(stocked, "SELECT order_id FROM gold.triaged ORDER BY 1")] == ["o1", "o3", "o4"]
    [letter] = json.loads(stocked("deadletters", "--output", "json").out)
    assert (letter["table"], letter["topic"], letter["kind"], letter["state"]) == (
        "gold.triaged",
        "#job.triage",
        "refused",
        "kept",
    )
    assert stocked.json("deadletters", "list", "--kind", "refused") == [letter]
    assert stocked.json("deadletters", "list", "--kind", "too_large") == []
    shown = stocked("deadletters", "show", "gold.triaged", "#job.triage:0:0", "--output", "json")
    assert shown.code == 0, shown.err
    assert "o2" in shown.out
    assert "triage" in shown.out


def test_kinds_of_letters_are_those_that_there_can_be(stocked: Shop) -> None:
    assert "did you mean 'refused'" in stocked("deadletters", "list", "--kind", "refuse").err
    for words in (("list", "--kind", "unauthorized"), ("replay", "bronze.orders", "--kind", "refused")):
        ran = stocked("deadletters", *words)
        assert ran.code == 2
        assert "unknown" in ran.err


def test_the_text_of_a_run_says_how_many_are_missing(stocked: Shop, server: Server) -> None:
    declare(stocked, server, ", 'on_error' = 'skip'")
    ran = stocked("run", "triage")
    assert ran.code == 0, ran.err
    assert "skipped" in ran.out
    assert stocked("run", "triage").out.count("skipped") == 0, "where there are none, nothing is said"


def test_a_fallback_is_counted_under_its_own_name(stocked: Shop, server: Server, service: OpenAI) -> None:
    service.refused_text = "nothing"
    declare(stocked, server, ", 'fallback_model' = 'other', 'retry-num' = '0', 'max-concurrent-operations' = '1'", "")
    service.scripted = [None, error(500, "down", "server_error"), None]
    ran = stocked("run", "triage")
    assert ran.code == 0, ran.err
    assert len(query(stocked, "SELECT * FROM gold.triaged WHERE note IS NOT NULL")) == 4
    used = {row["model"]: row["calls"] for row in query(stocked, "SELECT model, calls FROM lakeflow.usage")}
    assert used == {"triage": 4, "other": 1}
