"""Expectations and tests of jobs as their user meets them: `lakeflow run`, the table of findings, `lakeflow test`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lakeflow.cli.app import main
from tests import lakes

TABLES = """
CREATE TABLE bronze.flights (id BIGINT, carrier STRING, delay DOUBLE);
CREATE TABLE gold.late (
  id BIGINT, carrier STRING, delay DOUBLE,
  CONSTRAINT known EXPECT (carrier IS NOT NULL) ON VIOLATION DROP ROW,
  CONSTRAINT sane CHECK (delay < 5000)
);
CREATE MODEL delay_model INPUT (delay DOUBLE) OUTPUT (risk DOUBLE)
WITH ('provider' = 'openai', 'task' = 'regression', 'model' = 'm', 'api_key' = '{{ secret.NOWHERE }}');
"""
JOBS = {
    "late.sql": "INSERT INTO gold.late SELECT id, carrier, delay FROM bronze.flights WHERE delay > 0;",
    "numbered.py": """
import lakeflow as lf

@lf.job(target="gold.numbered")
def numbered(flights=lf.Read("bronze.flights")):
    return flights.with_row_index("place").select("place", "carrier")

@lf.job(target="gold.risky")
def risky(flights=lf.Read("bronze.flights")):
    print("a job may print")
    return lf.ml_predict(flights, "delay_model", ["delay"]).select("id", "risk")
""",
}
TESTS = {
    "late": """
tests:
  - name: late ones with a carrier
    given:
      - table: bronze.flights
        rows: [{id: 1, carrier: NO, delay: 7}, {id: 2, delay: 8.5}, {id: 3, carrier: AA, delay: -1}]
    expect: {rows: [{id: 1, carrier: NO}]}
""",
    "numbered": """
tests:
  - name: places
    given: [{table: bronze.flights, rows: [{carrier: AA}, {carrier: UA}]}]
    expect: {sql: "SELECT * FROM (VALUES (0, 'AA'), (1, 'UA')) AS t (place, carrier)"}
""",
    "risky": """
tests:
  - name: told
    given: [{table: bronze.flights, rows: [{id: 1, delay: 7}, {id: 2, delay: 8}]}]
    models: {delay_model: [{delay: 7, risk: 0.5}, {risk: 0.1}]}
    expect: {rows: [{id: 1, risk: 0.5}, {id: 2, risk: 0.1}]}
  - name: not told
    given: [{table: bronze.flights, rows: [{id: 1, delay: 7}]}]
    expect: {rows: []}
    row_by_row: false
""",
}
FLIGHTS = pa.schema([("id", pa.int64()), ("carrier", pa.string()), ("delay", pa.float64())])


@dataclass(frozen=True)
class Shop:
    folder: Path
    capsys: pytest.CaptureFixture[str]

    def run(self, *arguments: str) -> tuple[int, str, str]:
        code = main([*arguments, "--project", str(self.folder)])
        said = self.capsys.readouterr()
        return code, said.out, said.err

    def append(self, *rows: tuple[int, str | None, float]) -> None:
        lake = lakes.open_lake(self.folder / ".lakeflow")
        if not lake.exists("bronze.flights"):
            lakes.made(lake, FLIGHTS, name="bronze.flights")
        table = pa.Table.from_pylist([dict(zip(FLIGHTS.names, row, strict=True)) for row in rows], schema=FLIGHTS)
        lakes.append(lake, table, name="bronze.flights")

    def rows(self, query: str) -> list[Any]:
        code, out, err = self.run("query", query, "--output", "json")
        assert code == 0, err
        return [json.loads(line) for line in out.splitlines()]


@pytest.fixture
def shop(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shop:
    monkeypatch.delenv("LAKEFLOW_SECRET_NOWHERE", raising=False)
    catalog = lakes.catalog_in(tmp_path / ".lakeflow")
    settings = "\n".join(f'{key} = "{value}"' for key, value in catalog.items())
    (tmp_path / "lakeflow.toml").write_text(f'[project]\nname = "shop"\n[catalog]\n{settings}\n', encoding="utf-8")
    (tmp_path / ".lakeflow").mkdir()
    for folder, files in (("tables", {"all.sql": TABLES}), ("jobs", JOBS)):
        (tmp_path / folder).mkdir()
        for name, text in files.items():
            (tmp_path / folder / name).write_text(text, encoding="utf-8")
    for name, text in TESTS.items():
        (tmp_path / "jobs" / f"{name}.test.yaml").write_text(text, encoding="utf-8")
    return Shop(tmp_path, capsys)


def test_a_run_tells_what_it_left_out_and_keeps_off_main_what_must_not_be_there(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEFLOW_SECRET_NOWHERE", "a-key-of-nowhere")
    shop.append((1, "AA", 7.0), (2, None, 8.0))
    code, out, _ = shop.run("run", "late", "--output", "json")
    [row] = json.loads(out)
    assert (code, row["written"], row["skipped"]) == (0, 1, 1)
    assert [(one["expectation"], one["violations"]) for one in row["expectations"]] == [("known", 1), ("sane", 0)]
    shop.append((3, "AA", 9000.0))
    code, _, err = shop.run("run", "late")
    assert code == 1
    assert "expectation 'sane' is violated 1 time" in err
    assert shop.rows("SELECT id FROM gold.late") == [{"id": 1}]
    shown = next(line for line in err.splitlines() if line.startswith("next: lakeflow query"))
    query = shown.partition('"')[2].partition('"')[0]
    assert sorted(row["id"] for row in shop.rows(query)) == [1, 3]
    findings = shop.rows("SELECT expectation, on_violation, violations FROM lakeflow.expectations WHERE violations > 0")
    assert sorted(findings, key=str) == [
        {"expectation": "known", "on_violation": "drop", "violations": 1},
        {"expectation": "sane", "on_violation": "fail", "violations": 1},
    ]


def test_tests_run_at_once_and_row_by_row_and_show_what_differs(shop: Shop) -> None:
    code, out, _ = shop.run("test")
    assert code == 1
    table, _, told = out.partition("\n\n")
    assert [line.split()[-2] for line in table.splitlines()[1:]] == [
        *("passed", "passed"),  # late
        *("passed", "failed"),  # numbered
        *("passed", "passed", "error"),  # risky
    ]
    assert "jobs/numbered.test.yaml: places, row by row" in told
    assert "~ {carrier: 'UA'}: place is 0, expected 1" in told
    assert "model 'delay_model' is asked of a service, which a test does not do" in told
    assert not (shop.folder / ".lakeflow" / "warehouse").exists(), "the user's own lake is left alone"


def test_tests_of_some_jobs_as_json(shop: Shop) -> None:
    code, out, _ = shop.run("test", "late", "--output", "json")
    assert code == 0
    assert [(one["run"], one["status"], one["missing"]) for one in json.loads(out)] == [
        ("at once", "passed", []),
        ("row by row", "passed", []),
    ]


def test_without_tests_the_file_to_write_is_named(shop: Shop) -> None:
    (shop.folder / "jobs" / "late.test.yaml").unlink()
    code, _, err = shop.run("test", "late")
    assert code == 2
    assert "write jobs/late.test.yaml" in err
    code, _, err = shop.run("test", "lat")
    assert code == 2
    assert "did you mean 'late'" in err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "given: [{table: bronze.orders, rows: []}]",
            "unknown table read by job 'late', given in jobs/late.test.yaml: 'bronze.orders'",
        ),
        ("given: [{table: bronze.flights, rows: [{delai: 1}]}]", "did you mean 'delay'"),
        ("given: []\n    models: {nobody: [{}]}", "unknown model of jobs/late.test.yaml: 'nobody'"),
    ],
)
def test_a_test_that_names_what_is_not_there_is_an_error(shop: Shop, text: str, said: str) -> None:
    written = f"tests:\n  - name: a\n    {text}\n    expect: {{rows: []}}\n    row_by_row: false\n"
    (shop.folder / "jobs" / "late.test.yaml").write_text(written, encoding="utf-8")
    code, out, _ = shop.run("test", "late")
    assert code == 1
    assert said in out


def test_what_is_expected_of_a_column_that_is_not_there_is_an_error(shop: Shop) -> None:
    text = "tests: [{name: a, given: [], expect: {rows: [{carier: AA}]}, row_by_row: false}]"
    (shop.folder / "jobs" / "late.test.yaml").write_text(text, encoding="utf-8")
    code, out, _ = shop.run("test", "late")
    assert code == 1
    assert "unknown column of gold.late" in out
    assert "did you mean 'carrier'" in out
