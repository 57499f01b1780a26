"""The jobs of examples/sql_flows, as their user runs them: over what is new and as a snapshot, with one end."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.integration.cli.conftest import REPOSITORY, Shop

EXAMPLE = REPOSITORY / "examples" / "sql_flows"
INCREMENTAL = ("actions", "answers", "recommend", "triage")
TARGETS = ("gold.actions", "gold.answers", "gold.recommended", "gold.triaged", "gold.forecast")
COUNTING = """

def _counted(model: type) -> None:
    from pathlib import Path

    predict = model.predict

    def counted(self, rows):
        with Path(__file__).with_name("asked").open("a") as asked:
            asked.write(f"{model.__name__} {rows.num_rows}\\n")
        return predict(self, rows)

    model.predict = counted


for _model in (Embedder, Assistant, Agent, Urgency, Click, NextHour):
    _counted(_model)
"""


@pytest.fixture
def flows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shop:
    return project(tmp_path / "flows", capsys)


def project(folder: Path, capsys: pytest.CaptureFixture[str]) -> Shop:
    """The example in a folder of its own, with models that note how many rows they are asked about."""
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns(".lakeflow", "__pycache__"))
    with (folder / "flow_models.py").open("a") as models:
        models.write(COUNTING)
    return Shop(folder, capsys)


def fill(flows: Shop, wave: str) -> None:
    done = flows("sql", str(flows.folder / "data" / f"{wave}.sql"))
    assert done.code == 0, done.err


def run(flows: Shop, *words: str) -> dict[str, Any]:
    return {row["name"]: row for row in flows.json("run", *words)}


def asked(flows: Shop) -> Counter[str]:
    """The rows that each model has been asked about since the last time."""
    path, rows = flows.folder / "asked", Counter[str]()
    for line in path.read_text().splitlines() if path.exists() else []:
        model, _, number = line.partition(" ")
        rows[model] += int(number)
    path.write_text("")
    return rows


def tables(flows: Shop) -> dict[str, list[Any]]:
    return {table: rows(flows, f"FROM {table} ORDER BY ALL") for table in TARGETS}


def rows(flows: Shop, query: str) -> list[Any]:
    done = flows("query", query, "--output", "json")
    assert done.code == 0, done.err
    return [list(json.loads(line).values()) for line in done.out.splitlines()]


def test_flows_end_in_the_same_tables_in_waves_and_as_a_snapshot(
    flows: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for wave in ("first", "second"):
        fill(flows, wave)
        done = run(flows)
        assert {done[name]["mode"] for name in INCREMENTAL} == {"incremental"}
        assert {row["status"] for row in done.values()} <= {"done", "empty"}
    in_waves = tables(flows)
    assert all(in_waves.values())
    assert {row["status"] for name, row in run(flows).items() if name in INCREMENTAL} == {"empty"}

    other = project(tmp_path / "other", capsys)
    fill(other, "first")
    fill(other, "second")
    assert {row["mode"] for row in run(other, "--mode", "snapshot").values()} == {"snapshot"}
    assert tables(other) == in_waves
    run(flows, "--mode", "snapshot")
    assert tables(flows) == in_waves


def test_questions_are_answered_out_of_the_nearest_passages(flows: Shop) -> None:
    fill(flows, "first")
    fill(flows, "second")
    run(flows)
    assert rows(flows, "SELECT question_id, sources, answer FROM gold.answers ORDER BY 1") == [
        [1, "a,b,c", "A refund takes five days."],
        [2, "c,b,a", "A new password is sent by mail."],
        [3, "b,c,a", "The delivery of an order takes two days."],
    ]


def test_the_expensive_model_is_asked_about_the_few_in_between(flows: Shop) -> None:
    fill(flows, "first")
    assert run(flows, "triage")["triage"]["written"] == 3
    assert asked(flows) == {"Urgency": 3, "Assistant": 1}
    fill(flows, "second")
    assert run(flows, "triage")["triage"]["written"] == 2
    assert asked(flows) == {"Urgency": 2, "Assistant": 1}
    assert rows(flows, "FROM gold.triaged ORDER BY 1") == [
        [1, 0.9, "urgent"],
        [2, 0.5, "normal"],
        [3, 0.1, "normal"],
        [4, 0.5, "urgent"],
        [5, 0.9, "urgent"],
    ]


def test_visits_are_recommended_the_nearest_items_by_what_will_be_clicked(flows: Shop) -> None:
    fill(flows, "first")
    run(flows, "catalogue", "recommend")
    assert asked(flows) == {"Embedder": 5, "Click": 4}
    likeliest = "rank() OVER (PARTITION BY visit_id ORDER BY click_probability DESC) = 1"
    best = f"SELECT visit_id, title FROM gold.recommended QUALIFY {likeliest}"
    assert sorted(rows(flows, best)) == [[1, "coffee mug"], [2, "tea"]]


def test_an_hour_that_grows_is_forecast_anew(flows: Shop) -> None:
    fill(flows, "first")
    run(flows, "forecast")
    rome = "SELECT sales, expected FROM gold.forecast WHERE city = 'Rome'"
    assert rows(flows, rome) == [[8.0, 12.0]]
    fill(flows, "second")
    run(flows, "forecast")
    assert rows(flows, rome) == [[10.0, 15.0]]
    assert rows(flows, "SELECT count(*), sum(sales) FROM gold.forecast") == [[3, 26.0]]


def test_an_agents_json_becomes_columns(flows: Shop) -> None:
    fill(flows, "first")
    run(flows, "actions")
    assert asked(flows) == {"Agent": 3}
    assert rows(flows, "FROM gold.actions ORDER BY 1") == [
        [1, "answer", 17, True],
        [2, "refund", 18, True],
        [3, "answer", None, False],
    ]


def test_a_plan_tells_of_every_job_before_a_model_is_asked(flows: Shop) -> None:
    fill(flows, "first")
    planned = {job["name"]: job for job in flows.json("plan")["jobs"]}
    assert set(planned) == {"passages", "catalogue", "forecast", *INCREMENTAL}
    assert planned["triage"]["models"] == ["assistant", "urgency"]
    assert asked(flows) == {}
