from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from lakeflow.declare import Origin
from lakeflow.errors import JobFailed, ModelError, UnknownName
from lakeflow.job import Job, Read
from lakeflow.runner.user_code import user_code


def fails(rows: Any = Read("s.t")) -> pl.LazyFrame:
    raise ValueError("the users own words")


def calls(rows: Any = Read("s.t")) -> pl.LazyFrame:
    return fails(rows)


def a_job(function: Any) -> Job:
    return Job("score", "gold.t", {"rows": Read("s.t")}, function, origin=Origin(Path("jobs/score.py"), 3))


def failure(error: BaseException, function: Any = fails) -> JobFailed:
    with pytest.raises(JobFailed) as caught, user_code(a_job(function)):
        raise error
    return caught.value


def test_the_place_is_the_last_line_of_the_jobs_own_file() -> None:
    with pytest.raises(JobFailed) as caught, user_code(a_job(calls)):
        calls()
    line = fails.__code__.co_firstlineno + 1
    assert caught.value.message == f"job 'score' (jobs/score.py:{line}) failed: ValueError: the users own words"


def test_without_a_line_of_the_jobs_file_the_place_is_its_declaration(tmp_path: Path) -> None:
    code = compile("def elsewhere(rows): ...", str(tmp_path / "other.py"), "exec")
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102  a function of another file than this one
    assert failure(ValueError("no"), names["elsewhere"]).message == "job 'score' (jobs/score.py:3) failed: ValueError: no"


def test_what_polars_says_stands_without_the_plan_that_it_adds() -> None:
    error = pl.exceptions.ColumnNotFoundError('"dleay" not found\n\nResolved plan until failure:\n\n\t---> FAILED HERE')
    said = failure(error).message
    assert said.endswith('failed: "dleay" not found')


def test_what_was_left_behind_and_what_to_run_next_are_told() -> None:
    failed = failure(ValueError("no"))
    assert failed.left_behind == "gold.t, as of the last step that was committed"
    assert failed.next_step == "mend the job, then: lakeflow run score"
    assert isinstance(failed.__cause__, ValueError)


def test_an_error_of_lakeflow_is_raised_as_it_is() -> None:
    error = UnknownName("table", "x", ["y"], next_step="look")
    with pytest.raises(UnknownName) as caught, user_code(a_job(fails)):
        raise error
    assert caught.value is error


def test_an_error_of_lakeflow_behind_one_of_polars_is_raised_in_its_place() -> None:
    error = ModelError("the model", next_step="mend it")

    def wrapped() -> None:
        try:
            raise error
        except ModelError as cause:
            raise pl.exceptions.ComputeError("the model") from cause

    with pytest.raises(ModelError) as caught, user_code(a_job(fails)):
        wrapped()
    assert caught.value is error


def test_a_panic_of_polars_is_a_failure_of_the_job() -> None:
    assert "PanicException: not implemented" in failure(pl.exceptions.PanicException("not implemented")).message


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(130), SystemExit(143), GeneratorExit()])
def test_what_ends_the_process_passes(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, user_code(a_job(fails)):
        raise error
    assert caught.value is error


def test_an_error_without_words_is_named_by_its_kind() -> None:
    assert failure(AssertionError()).message.endswith("failed: AssertionError")
