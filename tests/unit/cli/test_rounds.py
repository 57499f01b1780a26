"""What a round leaves out, whom the rounds of --follow give up, and the exit code of several failures."""

from __future__ import annotations

from typing import Any, cast

import pytest

from lakeflow.cli.common import exit_code_of
from lakeflow.cli.rounds import MOST_FAILURES, Patience, left_out
from lakeflow.errors import CatalogUnavailable, ConfigError, Fenced, JobFailed, LakeflowError, UnknownName
from lakeflow.runner.graph import Node


def node(name: str, reads: str, writes: str | None) -> Node:
    return Node(name, (reads,), writes, cast(Any, None))


CHAIN = [node("a", "t", "a.t"), node("b", "a.t", "b.t"), node("c", "b.t", None), node("d", "t", "d.t")]
UNREACHABLE = CatalogUnavailable("the catalog did not answer")


def test_what_reads_the_table_of_a_node_that_is_left_out_is_left_out_too() -> None:
    assert left_out(CHAIN, {"a"}) == {"a", "b", "c"}
    assert left_out(CHAIN, set()) == set()


def test_what_searches_an_index_that_was_not_brought_up_to_date_is_left_out() -> None:
    asks = Node("asks", ("questions",), "answers", cast(Any, None), ("c",))
    assert left_out([*CHAIN, asks], {"c"}) == {"c", "asks"}
    assert left_out([*CHAIN, asks], {"b"}) == {"b", "c", "asks"}
    assert left_out([*CHAIN, asks], {"d"}) == {"d"}


class TestPatience:
    def test_a_terminal_error_gives_a_node_up_with_all_that_follows_from_it(self) -> None:
        patience = Patience(CHAIN)
        assert patience.tell("a", JobFailed("no such column"))
        assert [left.name for left in patience.left()] == ["d"]

    def test_a_transient_error_is_tried_again_a_bounded_number_of_rounds_in_a_row(self) -> None:
        patience = Patience(CHAIN)
        told = [patience.tell("a", UNREACHABLE) for _ in range(MOST_FAILURES)]
        assert told == [False] * (MOST_FAILURES - 1) + [True]
        assert patience.given_up == {"a"}

    def test_a_round_that_works_starts_the_count_again(self) -> None:
        patience = Patience(CHAIN)
        for error in [*[UNREACHABLE] * (MOST_FAILURES - 1), None, *[UNREACHABLE] * (MOST_FAILURES - 1)]:
            assert not patience.tell("a", error)
        assert patience.left() == tuple(CHAIN)


@pytest.mark.parametrize(
    ("errors", "code"),
    [
        ([], 0),
        ([ConfigError("a"), UnknownName("table", "a.b", [])], 2),
        ([ConfigError("a"), Fenced("b")], 1),
        ([UNREACHABLE], 1),
    ],
)
def test_the_exit_code_of_failures(errors: list[LakeflowError], code: int) -> None:
    assert exit_code_of(errors) == code
