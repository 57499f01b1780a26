from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lakeflow.config import Settings, settings_of
from lakeflow.declare import TableSpec
from lakeflow.errors import CatalogUnavailable, ExpectationFailed, Fenced, Suspended
from lakeflow.expect import Finding, in_range, satisfies, unique
from lakeflow.lake.catalog import Lake
from lakeflow.lake.commit import Change, CommitProtocol, Committed, Committer
from lakeflow.models.usage import Asked
from lakeflow.observe.expectations import EXPECTATIONS
from lakeflow.observe.runs import RUNS, SCHEMA, USAGE, USAGE_SCHEMA, Run, RunLog, Status
from tests.lakes import open_lake

SECRET = "hunter22-and-more"


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return open_lake(tmp_path)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    document = {"kafka": {"bootstrap.servers": "x:9092", "sasl.password": "{{ secret.KAFKA }}"}}
    return settings_of(document, tmp_path, None, {"LAKEFLOW_SECRET_KAFKA": SECRET})


class Failing:
    """Commits that find no catalog."""

    def commit(self, change: Change) -> Committed:
        raise CatalogUnavailable(f"the catalog at pg://user:{SECRET}@db did not answer")

    def progress(self, table: str, writer: str) -> str | None:
        return None


def log_of(lake: Lake, settings: Settings, commits: CommitProtocol | None = None) -> RunLog:
    return RunLog(lake, commits or Committer(lake), settings)


def recorded(lake: Lake) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = lake.table(RUNS).scan().to_arrow().to_pylist()
    return sorted(rows, key=lambda row: row["ended_at"])


def test_a_run_is_recorded_with_its_counts_and_positions(lake: Lake, settings: Settings) -> None:
    before = datetime.now(UTC)
    with log_of(lake, settings).recorded(Run("land", "bronze.t", "bronze.t", "available-now")) as run:
        run.read, run.written, run.dead_lettered, run.skipped, run.filtered = 10, 5, 2, 1, 2
        run.start_position, run.end_position, run.snapshot_ids = "{}", '{"t":{"0":10}}', (1, 1 << 62)
    [row] = recorded(lake)
    assert before <= row.pop("started_at") <= row.pop("ended_at") <= datetime.now(UTC)
    assert row == {
        "run_id": run.run_id,
        "kind": "land",
        "name": "bronze.t",
        "table": "bronze.t",
        "mode": "available-now",
        "status": "done",
        "read": 10,
        "written": 5,
        "dead_lettered": 2,
        "skipped": 1,
        "filtered": 2,
        "start_position": "{}",
        "end_position": '{"t":{"0":10}}',
        "snapshot_ids": [1, 1 << 62],
        "error": None,
        "model_calls": 0,
        "model_tokens": 0,
        "model_cost": None,
        "models": [],
    }


def test_every_run_is_a_row_of_its_own(lake: Lake, settings: Settings) -> None:
    log = log_of(lake, settings)
    for name in ("a", "b", "a"):
        with log.recorded(Run("job", name, "gold.t", "incremental")):
            pass
    assert [row["name"] for row in recorded(lake)] == ["a", "b", "a"]
    assert len({row["run_id"] for row in recorded(lake)}) == 3


@pytest.mark.parametrize("status", [Status.EMPTY, Status.STOPPED])
def test_how_a_run_ended_is_what_it_says(lake: Lake, settings: Settings, status: Status) -> None:
    with log_of(lake, settings).recorded(Run("job", "a", "gold.t", "incremental")) as run:
        run.status = status
    assert recorded(lake)[0]["status"] == str(status)


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (
            Fenced("another process", left_behind="nothing", next_step="wait"),
            "failed",
            "another process\nleft behind: nothing\nnext: wait",
        ),
        (Suspended("at offset 3"), "suspended", "at offset 3"),
        (ValueError("no"), "failed", "no"),
        (KeyboardInterrupt(), "failed", "KeyboardInterrupt"),
    ],
)
def test_a_failing_run_is_recorded_with_what_it_did_and_its_error_is_raised_on(
    lake: Lake, settings: Settings, error: BaseException, status: str, said: str
) -> None:
    def failing() -> None:
        with log_of(lake, settings).recorded(Run("job", "a", "gold.t", "incremental")) as run:
            run.read, run.written, run.snapshot_ids = 7, 6, (5,)
            raise error

    with pytest.raises(type(error)) as caught:
        failing()
    assert caught.value is error
    [row] = recorded(lake)
    assert (row["status"], row["error"]) == (status, said)
    assert (row["read"], row["written"], row["snapshot_ids"]) == (7, 6, [5])


def test_no_secret_is_recorded(lake: Lake, settings: Settings) -> None:
    def failing() -> None:
        with log_of(lake, settings).recorded(Run("land", "a", "bronze.t", "follow")):
            raise ValueError(f"login with {SECRET} was refused")

    with pytest.raises(ValueError, match="login"):
        failing()
    [row] = recorded(lake)
    assert row["error"].startswith("login with ")
    assert SECRET not in row["error"]


def test_that_a_run_cannot_be_recorded_changes_nothing_about_it(
    lake: Lake, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), log_of(lake, settings, Failing()).recorded(Run("job", "a", "gold.t", "x")) as run:
        run.read = 7
    assert (run.status, run.error, run.read) == (Status.DONE, None, 7)
    assert run.ended_at is not None
    [record] = caplog.records
    assert f"run {run.run_id} of a could not be recorded in {RUNS}" in record.getMessage()
    assert SECRET not in record.getMessage()


def test_that_a_run_cannot_be_recorded_hides_no_error_of_its_own(lake: Lake, settings: Settings) -> None:
    def failing() -> None:
        with log_of(lake, settings, Failing()).recorded(Run("job", "a", "gold.t", "x")):
            raise Fenced("its own")

    with pytest.raises(Fenced, match="its own"):
        failing()


def test_a_table_of_runs_with_other_columns_is_left_alone(
    lake: Lake, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    lake.ensure(TableSpec(RUNS, pa.schema([("who", pa.string())])))
    with log_of(lake, settings).recorded(Run("job", "a", "gold.t", "x")) as run:
        pass
    assert run.status is Status.DONE
    assert "exists with other columns" in caplog.text


def test_the_seconds_of_a_run_are_those_until_its_end() -> None:
    run = Run(
        "job", "a", "gold.t", "x", started_at=datetime(2013, 1, 1, tzinfo=UTC), ended_at=datetime(2013, 1, 1, 0, 1, tzinfo=UTC)
    )
    assert run.seconds == 60.0


def test_the_schema_holds_every_fact_of_a_run() -> None:
    totals = {"model_calls", "model_tokens", "model_cost"}
    assert set(SCHEMA.names) - totals == set(Run.__slots__) - {"usage", "findings"}


def test_what_models_were_asked_is_recorded_a_row_a_model(lake: Lake, settings: Settings) -> None:
    with log_of(lake, settings).recorded(Run("job", "score", "gold.t", "incremental")) as run:
        run.usage = {
            "b": Asked(5, 1, requests=3, cached=2, answered=2, failed=1, input_tokens=10, output_tokens=4, cost=0.5),
            "a": Asked(rows=7, calls=2, seconds=1.5),
        }
    [row] = recorded(lake)
    assert (row["model_calls"], row["model_tokens"], row["model_cost"]) == (3, 14, 0.5)
    used = sorted(lake.table(USAGE).scan().to_arrow().to_pylist(), key=lambda one: one["model"])
    assert [(one["run_id"], one["name"], one["model"], one["rows"], one["calls"]) for one in used] == [
        (run.run_id, "score", "a", 7, 0),
        (run.run_id, "score", "b", 5, 3),
    ]
    counts = ("cached", "answered", "failed", "input_tokens", "output_tokens", "cost")
    assert [[one[name] for name in counts] for one in used] == [[0, 0, 0, 0, 0, None], [2, 2, 1, 10, 4, 0.5]]


def test_a_table_of_usage_from_before_a_column_gets_it(lake: Lake, settings: Settings) -> None:
    lake.ensure(TableSpec(USAGE, pa.schema([column for column in USAGE_SCHEMA if column.name != "answered"])))
    with log_of(lake, settings).recorded(Run("job", "score", "gold.t", "incremental")) as run:
        run.usage = {"a": Asked(rows=7, calls=2, answered=6)}
    assert lake.table(USAGE).scan().to_arrow().column("answered").to_pylist() == [6]


def test_how_expectations_fared_is_recorded_of_runs_that_end_well_and_of_those_that_do_not(
    lake: Lake, settings: Settings
) -> None:
    kept = Finding(in_range("delay", 0, on_violation="drop"), 2, (f'{{"password": "{SECRET}"}}',))
    broken = Finding(satisfies("count(*) > 0", on_violation="fail", name="some"), 1)
    with log_of(lake, settings).recorded(Run("job", "late", "gold.late", "incremental")) as run:
        run.findings = (kept, Finding(unique("id")))
    with pytest.raises(ExpectationFailed), log_of(lake, settings).recorded(Run("job", "late", "gold.late", "incremental")):
        raise ExpectationFailed("not as expected", [broken])
    rows = lake.table(EXPECTATIONS).scan().to_arrow().to_pylist()
    assert {(row["expectation"], row["kind"], row["on_violation"], row["violations"]) for row in rows} == {
        ("in_range(delay, 0, None)", "in_range", "drop", 2),
        ("unique(id)", "unique", "warn", 0),
        ("some", "satisfies", "fail", 1),
    }
    assert {row["run_id"] for row in rows} == {row["run_id"] for row in recorded(lake)}
    [sample] = [row["sample"] for row in rows if row["violations"] == 2]
    assert SECRET not in sample[0]
