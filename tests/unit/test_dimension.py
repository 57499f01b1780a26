"""What a declaration may say of a target that keeps every version."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

import lakeflow as lf
from lakeflow.dimension import History, history_of
from lakeflow.errors import DeclarationError


def declared(**said: Any) -> lf.Job:
    @lf.job(target="dim.customers", **said)
    def customers(said: pl.LazyFrame = lf.Read("bronze.customers")) -> pl.LazyFrame:  # type: ignore[assignment]
        return said

    return customers


def test_a_job_in_python_names_the_columns() -> None:
    history = lf.History("since", "until", current="is_current", by="updated_at", deleted="is_deleted")
    assert declared(key=["id"], history=history).history == history
    assert history.kept == ("until", "is_current")
    assert History().kept == ("valid_to",)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"history": History()}, "history needs a key"),
        ({"history": History("at", "at"), "key": "id"}, "names one column twice, or a column of the key"),
        ({"history": History("id"), "key": "id"}, "a column of the key: key id"),
        ({"history": History(by="valid_to"), "key": "id"}, "names one column twice"),
        ({"history": History(deleted="id"), "key": "id"}, "a column of the key"),
        ({"history": History(), "key": "id", "output": "update"}, "leave output='update' out"),
        ({"history": History(), "key": "id", "on_change": "recompute"}, "the history of a key does not forget"),
        ({"history": History(), "key": "id", "window": lf.Tumble("at", "1h")}, "job 'customers'"),
    ],
)
def test_what_cannot_be_meant_is_refused(said: dict[str, Any], message: str) -> None:
    with pytest.raises(DeclarationError, match=message):
        declared(**said)


def test_a_declared_table_says_it_in_its_options() -> None:
    options = {"history": "scd2", "history.valid_to": "until", "history.current": "is_current", "write.format": "x"}
    assert history_of(options, ("id",), "job 'j'") == History(valid_to="until", current="is_current")
    assert history_of({"write.format": "x"}, ("id",), "job 'j'") is None


@pytest.mark.parametrize(
    ("options", "key", "message"),
    [
        ({"history": "scd3"}, ("id",), "unknown value of 'history' 'scd3'; did you mean 'scd2'"),
        ({"history": "scd2"}, (), "history needs a key"),
        ({"history": "scd2", "history.valid_form": "a"}, ("id",), "did you mean 'history.valid_from'"),
        ({"history.valid_from": "a"}, ("id",), "'history.valid_from' need 'history' = 'scd2'"),
    ],
)
def test_wrong_options_are_named(options: dict[str, str], key: tuple[str, ...], message: str) -> None:
    with pytest.raises(DeclarationError, match=message):
        history_of(options, key, "job 'j'")
