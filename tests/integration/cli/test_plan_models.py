"""What `lakeflow plan` says of remote models before any of them is asked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.cli.conftest import Shop
from tests.services.http import Server
from tests.services.openai import KEY, OpenAI

JOBS = """
import polars as pl
import lakeflow as lf

@lf.job(target="gold.triaged")
def triage(orders=lf.Read("bronze.orders")):
    return lf.ml_predict(orders.filter(pl.col("amount") > 100), "triage", ["customer"])

@lf.job(target="gold.vectors")
def vectors(orders=lf.Read("bronze.orders")):
    return lf.ml_embed(orders, "vectors", "order_id")

@lf.job(target="gold.both")
def both(orders=lf.Read("bronze.orders")):
    noted = lf.ml_predict(orders, "triage", ["customer"])
    return lf.ml_predict(noted.filter(pl.col("note").is_not_null()), "second", ["note"], output={"note": "second"})

@lf.job(target="gold.broken")
def broken(orders=lf.Read("bronze.orders")):
    noted = lf.ml_predict(orders, "triage", ["customer"])
    return noted.with_columns(number=pl.col("note").fill_null("none").str.to_integer())
"""
MODELS = """
CREATE MODEL triage INPUT (customer STRING) OUTPUT (note STRING)
WITH ('provider' = 'openai', 'task' = 'text_generation', 'endpoint' = '{url}/v1', 'model' = 'gpt-4.1-mini',
      'api-key' = '{{{{ secret.OPENAI }}}}', 'prompt' = 'About {{customer}}');
CREATE MODEL second INPUT (note STRING) OUTPUT (note STRING NOT NULL)
WITH ('provider' = 'openai', 'task' = 'text_generation', 'endpoint' = '{url}/v1', 'model' = 'gpt-4.1',
      'api-key' = '{{{{ secret.OPENAI }}}}', 'max-tokens' = '50');
CREATE MODEL vectors INPUT (t STRING) OUTPUT (v ARRAY<FLOAT>)
WITH ('provider' = 'openai', 'task' = 'embedding', 'endpoint' = '{url}/v1', 'model' = 'embed-3',
      'api-key' = '{{{{ secret.OPENAI }}}}', 'batch_size' = '3');
"""
PRICES = '[models.prices]\n"gpt-4.1-mini" = { input = 1.0, output = 10.0 }\n"embed-3" = { input = 0.5 }\n'


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(OpenAI()) as server:
        yield server


@pytest.fixture
def planning(stocked: Shop, server: Server, monkeypatch: pytest.MonkeyPatch) -> Shop:
    monkeypatch.setenv("LAKEFLOW_SECRET_OPENAI", KEY)
    stocked.declare("tables/models.sql", MODELS.format(url=server.url))
    stocked.declare("jobs/asking.py", JOBS)
    stocked.configure(PRICES)
    return stocked


def estimates(shop: Shop, job: str, *words: str) -> dict[str, Any]:
    [row] = shop.json("plan", job, *words)["jobs"]
    return {one["model"]: one for one in row["estimates"]}


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_rows_calls_tokens_and_cost_are_told_with_nobody_asked_and_nothing_written(planning: Shop, server: Server) -> None:
    before = files_of(planning.folder)
    found = estimates(planning, "triage")["triage"]
    assert files_of(planning.folder) == before
    assert not server.asked
    assert found["rows"] == 4
    assert (found["expected"]["asked"], found["expected"]["calls"]) == (2, 2), "of three large orders two are of bob"
    assert found["expected"]["input_tokens"] > 0
    assert (found["expected"]["output_tokens"], found["expected"]["cost"]) == (None, None)
    assert found["rests_on"][0] == "all rows: 3 come to the model, 2 distinct, 0 of them in the cache"


def test_after_a_run_the_plan_knows_what_is_kept_and_what_answers_took(planning: Shop, server: Server) -> None:
    assert planning("run", "triage").code == 0
    planning.orders(("o5", "carol", 900.0), ("o6", "bob", 900.0), ("o7", "dave", 1.0))
    asked = len(server.asked)
    found = estimates(planning, "triage")["triage"]
    assert (found["rows"], found["expected"]["asked"], found["most"]["asked"]) == (3, 1, 1), "carol alone"
    assert found["rests_on"] == [
        "all rows: 2 come to the model, 2 distinct, 1 of them in the cache",
        "tokens: 2 answers in the last 1 run",
    ]
    assert planning("run", "triage").code == 0
    assert len(server.asked) - asked == found["expected"]["calls"]
    usage = [json.loads(line) for line in planning("query", "FROM lakeflow.usage", "--output", "json").out.splitlines()]
    [last] = [one for one in usage if one["answered"] == 1]
    assert found["expected"]["input_tokens"] == pytest.approx(last["input_tokens"], abs=2)
    assert found["expected"]["cost"] == pytest.approx(last["cost"], rel=0.5)
    again = estimates(planning, "triage", "--mode", "snapshot")["triage"]
    assert (again["expected"]["calls"], again["expected"]["cost"]) == (0, 0.0)


def test_a_large_table_is_told_from_a_sample(planning: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lakeflow.runner.estimating.SAMPLE_ROWS", 10)
    planning.orders(*((f"p{number}", f"customer {number}", 1000.0 * (number % 2)) for number in range(1000)))
    found = estimates(planning, "triage")["triage"]
    assert (found["rows"], found["most"]["asked"]) == (1004, 1004)
    assert 300 < found["expected"]["asked"] < 700
    assert "8 of 1,004 rows" in found["rests_on"][0]


def test_vectors_need_a_call_for_several_rows_and_no_output(planning: Shop) -> None:
    found = estimates(planning, "vectors")["vectors"]
    assert (found["expected"]["asked"], found["expected"]["calls"], found["expected"]["output_tokens"]) == (4, 2, 0)
    assert found["expected"]["cost"] == pytest.approx(found["expected"]["input_tokens"] * 0.5 / 1e6)


def test_a_model_behind_a_model_is_estimated_at_the_most(planning: Shop) -> None:
    found = estimates(planning, "both")
    assert (found["triage"]["expected"]["asked"], found["second"]["expected"]["asked"]) == (2, 4)
    assert "at the most: which rows come depends on answers that are not there yet" in found["second"]["rests_on"]
    assert any("no price of 'gpt-4.1'" in line for line in found["second"]["rests_on"])


def test_a_version_that_a_job_names_is_estimated_as_its_model(planning: Shop) -> None:
    assert planning("run", "triage").code == 0
    planning.declare("jobs/asking.py", JOBS.replace('"triage", ["customer"]', '"triage$1", ["customer"]'))
    planning.orders(("o5", "carol", 900.0))
    found = estimates(planning, "triage")
    assert list(found) == ["triage"]
    assert found["triage"]["expected"]["asked"] == 1


def test_rows_that_a_model_leaves_out_are_estimated_too(planning: Shop, server: Server) -> None:
    """A sample has no answers, so none fails: whatever 'on_error' says, nothing is skipped and nobody else is asked."""
    more = MODELS.replace("'prompt' = ", "'on_error' = 'skip', 'prompt' = ")
    assert more != MODELS
    planning.declare("tables/models.sql", more.format(url=server.url))
    found = estimates(planning, "triage")["triage"]
    assert found["expected"]["asked"] == 2
    assert not server.asked


def test_what_a_job_prints_does_not_mix_with_the_plan(planning: Shop) -> None:
    loud = JOBS.replace("    noted = lf", "    print('a job may print')\n    noted = lf")
    assert loud != JOBS
    planning.declare("jobs/asking.py", loud)
    assert estimates(planning, "both")["triage"]["expected"]["asked"] == 2


def test_a_job_that_fails_over_a_sample_is_estimated_without_one(planning: Shop, caplog: pytest.LogCaptureFixture) -> None:
    found = estimates(planning, "broken")["triage"]
    assert "job broken fails over a sample" in caplog.text
    assert (found["expected"]["asked"], found["expected"]["input_tokens"]) == (4, None)
    assert found["rests_on"][0].startswith("every row that is read, at the most")


def test_the_text_shows_a_line_a_model_and_the_limit_that_is_passed(planning: Shop) -> None:
    planning.configure(PRICES + "[models]\nmax_calls = 1\n")
    ran = planning("plan", "vectors", "triage")
    assert ran.code == 0, ran.err
    lines = ran.out.splitlines()
    place = lines.index("Models")
    assert lines[place + 1].split()[:5] == ["job", "model", "rows", "asked", "calls"]
    assert any(line.startswith("vectors") and "stops at max_calls = 1" in line for line in lines[place:])
    assert KEY not in ran.out + ran.err


@pytest.mark.parametrize("slip", ["price", "secret"])
def test_what_a_run_would_be_refused_for_fails_the_plan(planning: Shop, slip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if slip == "price":
        planning.configure("[models]\nmax_cost = 5\n")
    else:
        monkeypatch.delenv("LAKEFLOW_SECRET_OPENAI")
    ran = planning("plan", "triage")
    assert ran.code in (1, 2)
    assert ("needs the price of 'gpt-4.1-mini'" if slip == "price" else "LAKEFLOW_SECRET_OPENAI") in ran.out + ran.err


def test_a_job_without_new_rows_asks_nothing(planning: Shop) -> None:
    assert planning("run", "triage").code == 0
    found = estimates(planning, "triage")["triage"]
    assert (found["rows"], found["expected"]["calls"], found["expected"]["cost"], found["rests_on"]) == (0, 0, 0.0, [])


def test_a_query_is_estimated_as_the_same_job_in_python_is(planning: Shop, server: Server) -> None:
    planning.declare(
        "jobs/asked.sql",
        "INSERT INTO gold.asked SELECT * FROM ML_PREDICT(TABLE bronze.orders, MODEL triage, DESCRIPTOR(customer)) "
        "WHERE amount > 100;",
    )
    assert estimates(planning, "asked")["triage"] == estimates(planning, "triage")["triage"]
    assert not server.asked
