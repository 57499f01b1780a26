"""How a check of the doctor ends."""

from __future__ import annotations

import threading

import pytest

from lakeflow.errors import CatalogUnavailable, ConfigError, StorageUnavailable
from lakeflow.observe.health import ADVICE, State, _within, attempt


def test_a_check_says_what_it_found() -> None:
    check = attempt("catalog", lambda: "sql, 5 tables")
    assert (check.state, check.detail, check.next_step) == (State.OK, "sql, 5 tables", None)
    check = attempt("warehouse", lambda: (State.NOT_CHECKED, "the catalog knows"))
    assert check.state is State.NOT_CHECKED


@pytest.mark.parametrize(("said", "shown"), [("mend it", "mend it"), ("lakeflow doctor", ADVICE["catalog"]), (None, None)])
def test_a_failed_check_never_advises_to_run_the_doctor(said: str | None, shown: str | None) -> None:
    def fail() -> str:
        raise ConfigError("wrong", next_step=said)

    check = attempt("catalog", fail)
    assert (check.state, check.detail, check.next_step) == (State.FAILED, "wrong", shown)


def test_a_server_that_does_not_answer_is_not_waited_for() -> None:
    never = threading.Event()

    def hang() -> str:
        never.wait(60)
        return "too late"

    with pytest.raises(CatalogUnavailable, match=r"no answer within 0\.05 s"):
        _within(0.05, hang)
    never.set()


def test_what_is_raised_or_said_in_time_comes_through() -> None:
    assert _within(5, lambda: "there") == "there"

    def fail() -> str:
        raise StorageUnavailable("full")

    with pytest.raises(StorageUnavailable, match="full"):
        _within(5, fail)
