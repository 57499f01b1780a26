"""The error tree: what each type promises, and what a message holds."""

from __future__ import annotations

import inspect
import re
from enum import StrEnum

import pytest

from lakeflow import errors
from lakeflow.errors import LakeflowError, Terminal, Transient, UnknownName, UsageError, did_you_mean

TREE = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, LakeflowError)]


def test_the_docstring_draws_every_error_and_no_other() -> None:
    drawn = set(re.findall(r"(?:──|^ {4})\s*([A-Z]\w+)", errors.__doc__ or "", re.MULTILINE))
    assert drawn == {kind.__name__ for kind in TREE}


@pytest.mark.parametrize("kind", [kind for kind in TREE if kind is not LakeflowError])
def test_every_error_is_either_transient_or_terminal(kind: type[LakeflowError]) -> None:
    assert issubclass(kind, Transient) != issubclass(kind, Terminal)


def test_usage_errors_are_those_that_the_command_line_ends_with_2_for() -> None:
    assert {kind.__name__ for kind in TREE if issubclass(kind, UsageError)} == {
        "UsageError",
        "ConfigError",
        "DeclarationError",
        "UnknownName",
    }


def test_the_text_has_the_message_then_what_was_left_behind_then_the_next_step() -> None:
    error = Terminal("it broke", left_behind="two files", next_step="lakeflow maintain")
    assert str(error) == "it broke\nleft behind: two files\nnext: lakeflow maintain"


def test_the_text_leaves_out_what_is_not_known() -> None:
    assert str(Terminal("it broke")) == "it broke"


def test_an_unknown_name_lists_the_nearest_and_the_valid_names_in_order() -> None:
    error = UnknownName("table", "bronze.flight", ["silver.flights", "bronze.flights"], next_step="lakeflow tables")
    assert (
        error.message == "unknown table 'bronze.flight'; did you mean 'bronze.flights'? valid: bronze.flights, silver.flights"
    )
    assert error.known == ("bronze.flights", "silver.flights")
    assert str(error).endswith("\nnext: lakeflow tables")


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("x", [], " (there are none)"),
        ("incremental", ["snapshot"], "; valid: snapshot"),
        ("snapshots", ["snapshot", "append"], "; did you mean 'snapshot'? valid: append, snapshot"),
        ("q", [f"t{n}" for n in range(5)], "; valid: t0, t1, and 3 more"),
    ],
)
def test_did_you_mean(name: str, known: list[str], expected: str) -> None:
    assert did_you_mean(name, known, most=2) == expected


def test_members_of_an_enumeration_are_shown_as_their_values() -> None:
    Kinds = StrEnum("Kinds", {"HTML": "html", "CODE": "code"})
    assert UnknownName("splitter", "htm", list(Kinds)).message == (
        "unknown splitter 'htm'; did you mean 'html'? valid: code, html"
    )
