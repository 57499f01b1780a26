"""The @job decorator: the plain value that it makes, and each contradiction that it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from lakeflow import Job, Lookup, Mode, Output, Read, job
from lakeflow.errors import DeclarationError
from lakeflow.job import Caps


def scored(flights=Read("bronze.flights"), carriers=Lookup("dim.carriers")) -> pl.LazyFrame:  # type: ignore[no-untyped-def]
    """Score the flights."""
    return flights.join(carriers, on="carrier")  # type: ignore[no-any-return]


def declared(**options: Any) -> Job:
    return job(**{"target": "gold.scored", **options})(scored)


def test_a_job_holds_what_was_declared() -> None:
    made = declared(max_rows=10)
    assert (made.name, made.target, made.writer) == ("scored", "gold.scored", "job.scored")
    assert made.inputs == {"flights": Read("bronze.flights"), "carriers": Lookup("dim.carriers")}
    assert made.reads == ("bronze.flights", "dim.carriers")
    assert (made.mode, made.output, made.key) == (Mode.INCREMENTAL, Output.APPEND, ())
    assert made.caps == Caps(rows=10)
    assert made.description == "Score the flights."
    assert made.origin.path == Path(__file__)


def test_the_function_is_called_with_lazy_frames() -> None:
    flights = pl.LazyFrame({"carrier": ["UA"], "flight": [1]})
    carriers = pl.LazyFrame({"carrier": ["UA"], "name": ["United"]})
    assert declared().function(flights, carriers).collect().row(0) == ("UA", 1, "United")


@pytest.mark.parametrize(
    ("options", "output"),
    [
        ({"mode": "incremental"}, Output.APPEND),
        ({"mode": "incremental", "key": "id"}, Output.UPDATE),
        ({"mode": "snapshot"}, Output.COMPLETE),
        ({"mode": "snapshot", "key": ["id", "day"]}, Output.UPDATE),
        ({"mode": "snapshot", "output": "complete"}, Output.COMPLETE),
    ],
)
def test_the_output_follows_from_mode_and_key(options: dict[str, Any], output: Output) -> None:
    assert declared(**options).output is output


def test_a_key_may_be_one_column_or_several() -> None:
    assert declared(key="id").key == ("id",)
    assert declared(key=["id", "day"]).key == ("id", "day")


def test_without_caps_the_settings_hold() -> None:
    assert declared().caps is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"mode": "incrementl"},
            "mode of job 'scored' is 'incrementl'; did you mean 'incremental'? valid: incremental, snapshot",
        ),
        ({"output": "upsert"}, "output of job 'scored' is 'upsert'"),
        ({"output": "update"}, "output 'update' and key= go together"),
        ({"output": "append", "key": "id"}, "output 'update' and key= go together"),
        ({"output": "complete"}, "valid with mode 'incremental': append, update"),
        ({"mode": "snapshot", "output": "append"}, "valid with mode 'snapshot': complete, update"),
        ({"target": "scored"}, "target of job 'scored' is 'scored'; a table is named namespace.table"),
        ({"target": "a.b.c"}, "a table is named namespace.table"),
        ({"target": "a."}, "a table is named namespace.table"),
    ],
)
def test_a_contradiction_is_refused_with_file_and_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        declared(**options)
    assert message in caught.value.message
    assert caught.value.message.startswith(f"{__file__}:")


def no_default(flights: Any) -> Any:
    return flights


def wrong_default(flights: Any = "bronze.flights") -> Any:
    return flights


def bad_name(flights: Any = Read("flights")) -> Any:
    return flights


def lookups_only(carriers: Any = Lookup("dim.carriers")) -> Any:
    return carriers


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (no_default, "parameter 'flights' has no default; valid: lf.Read"),
        (wrong_default, "parameter 'flights' has the default 'bronze.flights'; valid: lf.Read"),
        (bad_name, "parameter 'flights' of job 'bad_name' is 'flights'"),
        (lookups_only, "job 'lookups_only' reads no table"),
    ],
)
def test_parameters_that_say_nothing_to_read_are_refused(function: Callable[..., Any], message: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        job(target="gold.scored")(function)
    assert message in caught.value.message
