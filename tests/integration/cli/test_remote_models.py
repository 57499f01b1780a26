"""Jobs that ask a remote model: what is recorded, what a limit and a signal leave behind, and the kept answers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.cli.conftest import Shop
from tests.services.http import Server
from tests.services.openai import KEY, OpenAI

JOB = """
import lakeflow as lf

@lf.job(target="gold.triaged")
def triage(orders=lf.Read("bronze.orders")):
    return lf.ml_predict(orders, "triage", ["order_id"])
"""
MODEL = """
CREATE MODEL triage INPUT (order_id STRING) OUTPUT (note STRING)
WITH ('provider' = 'openai', 'task' = 'text_generation', 'endpoint' = '{url}/v1', 'model' = 'gpt-4.1-mini',
      'api-key' = '{key}', 'prompt' = 'Order {{order_id}}', 'max-concurrent-operations' = '2');
"""
REFERENCE = "{{ secret.OPENAI }}"
PRICES = '[models.prices]\n"gpt-4.1-mini" = { input = 1.0, output = 10.0 }\n'


@pytest.fixture
def service() -> OpenAI:
    return OpenAI(random_answers=True)


@pytest.fixture
def server(service: OpenAI) -> Iterator[Server]:
    with Server(service) as server:
        yield server


@pytest.fixture
def asking(stocked: Shop, server: Server, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """The shop with a job that asks the service about each of four orders, two a file."""
    monkeypatch.setenv("LAKEFLOW_SECRET_OPENAI", KEY)
    stocked.declare("tables/models.sql", MODEL.format(url=server.url, key=REFERENCE))
    stocked.declare("jobs/triage.py", JOB)
    return stocked


def query(shop: Shop, sql: str) -> list[dict[str, Any]]:
    ran = shop("query", sql, "--output", "json")
    assert ran.code == 0, ran.err
    return [json.loads(line) for line in ran.out.splitlines()]


def notes(shop: Shop) -> dict[str, str]:
    rows = query(shop, "SELECT order_id, note FROM gold.triaged")
    return {row["order_id"]: row["note"] for row in rows}


def test_a_run_records_what_its_models_were_asked_and_shows_no_secret(asking: Shop) -> None:
    asking.configure(PRICES)
    ran = asking("-vv", "run", "triage", "--output", "json")
    assert ran.code == 0, ran.err
    answered = {order: note.partition("!")[0] for order, note in notes(asking).items()}
    assert answered == {f"o{number}": f"Order o{number}" for number in (1, 2, 3, 4)}
    [used] = query(asking, "SELECT * FROM lakeflow.usage")
    assert (used["name"], used["model"], used["rows"], used["calls"], used["cached"]) == ("triage", "triage", 4, 4, 0)
    assert used["input_tokens"] == 28
    assert used["cost"] == pytest.approx((28 + 10 * used["output_tokens"]) / 1e6)
    [run] = query(asking, "SELECT * FROM lakeflow.runs")
    assert (run["run_id"], run["model_calls"]) == (used["run_id"], 4)
    assert run["model_tokens"] == used["input_tokens"] + used["output_tokens"]
    shown = [ran.out, ran.err, *(asking(*words.split()).out for words in ("models show triage", "plan", "models cache stats"))]
    written = [path.read_bytes().decode("latin-1") for path in (asking.folder / ".lakeflow").rglob("*") if path.is_file()]
    assert [text for text in shown + written if KEY in text] == []


def test_a_table_made_anew_costs_nothing(asking: Shop, server: Server) -> None:
    assert asking("run", "triage").code == 0
    before, asked = notes(asking), len(server.asked)
    assert asking("run", "triage", "--mode", "snapshot").code == 0
    assert notes(asking) == before, "the service answers at random"
    assert len(server.asked) == asked


def test_a_spent_budget_stops_with_what_is_done_committed(asking: Shop, server: Server) -> None:
    asking.configure("[run]\nmax_files = 1\n[models]\nmax_calls = 3\n")
    ran = asking("run", "triage")
    assert ran.code == 1
    assert "model 'triage' is not asked any further: the run may take 3 calls" in ran.err
    assert len(server.asked) == 3
    assert sorted(notes(asking)) == ["o1", "o2"]
    [run] = query(asking, "SELECT status, written, model_calls FROM lakeflow.runs")
    assert run == {"status": "failed", "written": 2, "model_calls": 3}
    assert asking("run", "triage").code == 0
    assert len(server.asked) == 4, "the third answer was kept"
    assert sorted(notes(asking)) == ["o1", "o2", "o3", "o4"]


def test_an_evaluation_is_recorded_with_what_it_cost_and_a_wrong_question_is_not(asking: Shop, server: Server) -> None:
    ask = ("models", "evaluate", "triage", "bronze.orders", "--label", "customer", "--prediction", "note", "--task")
    assert asking(*ask, "text_generation", "--features", "nobody").code == 2
    assert asking.json("runs") == []
    assert asking(*ask, "text_generation", "--features", "order_id").code == 0
    [run] = asking.json("runs")
    assert (run["kind"], run["name"], run["status"], run["model_calls"]) == ("evaluation", "triage", "done", len(server.asked))
    assert len(server.asked) > 0
    [status] = [row for row in asking.json("status") if row["name"] == "triage"]
    assert status["last_run"] is None, "the job of that name has not run"


def test_a_limited_cost_without_a_price_is_refused_before_any_row(asking: Shop, server: Server) -> None:
    asking.configure("[models]\nmax_cost = 5\n")
    ran = asking("run", "triage")
    assert ran.code == 2
    assert "needs the price of 'gpt-4.1-mini'" in ran.err
    assert not server.asked


def test_kept_answers_are_counted_and_forgotten(asking: Shop, server: Server) -> None:
    assert asking.json("models", "cache", "stats") == []
    assert asking("run", "triage").code == 0
    [kept] = asking.json("models", "cache", "stats")
    assert (kept["model"], kept["answers"]) == ("triage", 4)
    assert asking("models", "cache", "clear").code == 2
    assert "did you mean 'triage'" in asking("models", "cache", "clear", "triag").err
    assert asking.json("models", "cache", "clear", "triage") == {"model": "triage", "forgotten": 4}
    assert asking("run", "triage", "--mode", "snapshot").code == 0
    assert len(server.asked) == 8


def test_a_model_of_a_statement_is_known_before_it_has_answers(asking: Shop) -> None:
    with_key = "('provider' = 'openai', 'task' = 'text_generation', 'model' = 'x', 'api-key' = '{{ secret.OPENAI }}')"
    assert asking("sql", "-e", f"CREATE MODEL stated INPUT (t STRING) OUTPUT (a STRING) WITH {with_key}").code == 0
    assert asking.json("models", "cache", "clear", "stated") == {"model": "stated", "forgotten": 0}
    assert "did you mean 'stated'" in asking("models", "cache", "clear", "state").err


def test_a_cache_that_cannot_be_read_is_named_and_can_be_cleared(asking: Shop) -> None:
    file = asking.folder / ".lakeflow" / "answers.db"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"noise" * 1000)
    ran = asking("run", "triage")
    assert ran.code == 1
    assert str(file) in ran.err
    assert "lakeflow models cache clear --yes" in ran.err
    assert asking("models", "cache", "clear", "--yes").code == 0
    assert asking("run", "triage").code == 0


def test_a_key_in_plain_text_is_refused_and_not_repeated(asking: Shop, server: Server) -> None:
    asking.declare("tables/models.sql", MODEL.format(url=server.url, key=KEY))
    ran = asking("run", "triage")
    assert ran.code == 2
    assert "option 'api-key' holds a secret in plain text" in ran.err
    assert KEY not in ran.err


def test_a_missing_secret_names_the_variable(asking: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LAKEFLOW_SECRET_OPENAI")
    ran = asking("run", "triage")
    assert ran.code == 2
    assert "LAKEFLOW_SECRET_OPENAI" in ran.err


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_signal_ends_a_run_soon_and_the_next_goes_on_from_the_kept_answers(asking: Shop, service: OpenAI) -> None:
    service.latency = 0.1
    asking.orders(*((f"p{number}", "eve", 1.0) for number in range(2000)))
    command = [sys.executable, "-m", "lakeflow", "run", "triage", "--project", str(asking.folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ}) as process:
        while len(service.answered) < 10:
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate()
    assert process.returncode == 143, err
    assert "stopped by a signal" in err
    assert "stopped" in out
    asked = dict(service.answered)
    assert len(asked) < 1000
    [kept] = asking.json("models", "cache", "stats")
    assert len(asked) - 2 <= kept["answers"] <= len(asked), "all but what was under way"
    service.latency = 0.0
    assert asking("run", "triage").code == 0
    assert len(notes(asking)) == 2004
    assert sum(service.answered.values()) <= 2004 + 2
