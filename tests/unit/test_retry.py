"""Retries take Transient errors only, a bounded number of times, with no time passing in tests."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lakeflow.errors import CommitConflict, Fenced, LakeflowError, SourceUnavailable
from lakeflow.retry import Backoff, retrying


def failing(*errors: LakeflowError) -> tuple[Callable[[], str], list[int]]:
    """A call that raises each error once, then returns; and the list that counts its calls."""
    left, calls = list(errors), []

    def call() -> str:
        calls.append(1)
        if left:
            raise left.pop(0)
        return "done"

    return call, calls


def test_a_transient_error_is_retried_until_the_call_returns() -> None:
    call, calls = failing(SourceUnavailable("a"), CommitConflict("b"))
    slept: list[float] = []
    assert retrying(call, Backoff(attempts=5), sleep=slept.append) == "done"
    assert (len(calls), len(slept)) == (3, 2)


def test_the_last_transient_error_comes_out_when_the_attempts_are_used_up() -> None:
    call, calls = failing(*[CommitConflict(str(n)) for n in range(9)])
    slept: list[float] = []
    with pytest.raises(CommitConflict, match=r"^2$"):
        retrying(call, Backoff(attempts=3), sleep=slept.append)
    assert (len(calls), len(slept)) == (3, 2)


@pytest.mark.parametrize("error", [Fenced("another writer"), LakeflowError("neither")])
def test_anything_else_comes_out_at_once(error: LakeflowError) -> None:
    call, calls = failing(error)
    with pytest.raises(type(error)):
        retrying(call, sleep=lambda _: pytest.fail("slept"))
    assert len(calls) == 1


def test_one_attempt_never_sleeps() -> None:
    call, _ = failing(CommitConflict("a"))
    with pytest.raises(CommitConflict):
        retrying(call, Backoff(attempts=1), sleep=lambda _: pytest.fail("slept"))


def test_the_longest_wait_doubles_up_to_the_cap_and_the_shortest_is_none() -> None:
    backoff = Backoff(base=0.1, cap=0.5)
    assert [backoff.wait(n, lambda low, high: high) for n in range(5)] == [0.1, 0.2, 0.4, 0.5, 0.5]
    assert [backoff.wait(n, lambda low, high: low) for n in range(5)] == [0.0] * 5
