"""What the log of the registry comes to, and what a declaration is beside it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pyarrow as pa
import pytest

from lakeflow.declare import ModelDeclaration
from lakeflow.errors import DeclarationError, ModelError, UnknownName, UsageError
from lakeflow.models.versions import (
    Due,
    Entry,
    Event,
    History,
    Identified,
    Known,
    Reference,
    Source,
    changed,
    decide,
    entry_of,
    histories,
    reference,
    require_same_bytes,
    version_of,
    with_options,
    without_options,
)

AT = datetime(2026, 1, 2, tzinfo=UTC)
FIRST = ModelDeclaration("m", pa.schema([("x", pa.float64())]), pa.schema([("y", pa.float64())]), {"a": "1", "Max-Tokens": "5"})
ONE, TWO = Identified("f1", {"graph": "aa"}), Identified("f2", {"graph": "bb"})


def made(number: int, found: Identified, source: Source = Source.TABLES, declared: ModelDeclaration = FIRST) -> Entry:
    return Entry(Event.VERSION, declared.name, AT, number, source, declared, found)


def known(*entries: Entry, name: str = "m") -> History:
    return histories(entries).get(name, History())


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("m", Reference("m")),
        ("m$2", Reference("m", 2)),
        ("m$all", Reference("m", every=True)),
        ("a b$12", Reference("a b", 12)),
    ],
)
def test_a_model_is_asked_for_with_a_version_or_without(text: str, meant: Reference) -> None:
    assert reference(text) == meant
    assert str(meant) == text


@pytest.mark.parametrize("text", ["m$", "m$0", "m$x", "$2", "m$-1", "m$02", "m$ALL"])
def test_a_dollar_stands_before_a_version_alone(text: str) -> None:
    with pytest.raises(UsageError, match="names no version of a model; valid: m, m\\$2, m\\$all"):
        reference(text)


def test_the_first_declaration_is_version_one() -> None:
    assert decide(History(), FIRST, ONE) == Due(1, "it has no version yet")


def test_the_same_fingerprint_is_the_same_version() -> None:
    history = known(made(1, ONE))
    assert decide(history, with_options(FIRST, {"threads": "4"}), ONE) == Known(1)
    assert entry_of(history, with_options(FIRST, {"threads": "4"}), ONE, Source.TABLES, AT) is None


def test_another_fingerprint_is_the_next_version_and_says_why() -> None:
    history = known(made(1, ONE))
    assert decide(history, FIRST, TWO) == Due(2, "the bytes of graph changed")
    again = with_options(FIRST, {"max_tokens": "6", "b": "1"})
    assert decide(history, again, Identified("f3", ONE.artifacts)) == Due(2, "b, max_tokens changed")
    assert decide(history, FIRST, Identified("f4", ONE.artifacts)) == Due(2, "what its options stand for changed")


def test_a_declaration_that_comes_back_is_its_old_version() -> None:
    history = known(made(1, ONE), made(2, TWO))
    assert decide(history, FIRST, ONE) == Known(1)
    assert entry_of(history, FIRST, ONE, Source.TABLES, AT) is None


def test_a_statement_says_anew_what_changes_only_speed() -> None:
    history = known(made(1, ONE, Source.STATEMENT), made(2, TWO, Source.STATEMENT))
    faster = with_options(FIRST, {"threads": "4"})
    entry = entry_of(history, faster, TWO, Source.STATEMENT, AT)
    assert entry is not None
    assert (entry.event, entry.version) == (Event.OPTIONS, 2)
    after = histories([entry], {"m": history})["m"]
    assert after.declared == faster
    assert sorted(after.versions) == [1, 2]
    assert entry_of(after, faster, TWO, Source.STATEMENT, AT) is None
    back = entry_of(after, FIRST, ONE, Source.STATEMENT, AT)
    assert back is not None
    assert histories([back], {"m": after})["m"].current == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"input": pa.schema([("x", pa.float32())])},
            r"another INPUT under one name:\n  version 1: x double\n  declared: x float",
        ),
        ({"input": pa.schema([("z", pa.float64())])}, "declared: z double"),
        (
            {"output": pa.schema([pa.field("y", pa.float64(), nullable=False)])},
            "another OUTPUT .*\n.*\n  declared: y double NOT NULL",
        ),
        ({"output": pa.schema([("y", pa.float64()), ("w", pa.string())])}, "declared: y double, w string"),
    ],
)
def test_input_and_output_stay_under_one_name(change: dict[str, pa.Schema], said: str) -> None:
    with pytest.raises(DeclarationError, match=said) as raised:
        decide(known(made(1, ONE)), replace(FIRST, **change), TWO)
    assert raised.value.next_step == 'declare it under a new name, or forget all versions: lakeflow sql -e "DROP MODEL m"'


def test_after_a_drop_columns_may_change_and_numbers_go_on() -> None:
    history = known(made(1, ONE), made(2, TWO), Entry(Event.DROP, "m", AT))
    assert not history.is_live
    other = replace(FIRST, input=pa.schema([("z", pa.string())]))
    assert decide(history, other, ONE) == Due(3, "it has no version yet")


def test_a_default_stays_until_it_is_taken_away() -> None:
    entries = [made(1, ONE), made(2, TWO), Entry(Event.DEFAULT, "m", AT, 1)]
    assert known(*entries).default == 1
    assert known(*entries, made(3, Identified("f3"))).default == 1
    assert known(*entries, Entry(Event.DEFAULT, "m", AT)).default is None


def test_a_rename_takes_versions_default_and_numbers_along() -> None:
    entries = [made(1, ONE, Source.STATEMENT), made(2, TWO, Source.STATEMENT), Entry(Event.DEFAULT, "m", AT, 1)]
    found = histories([*entries, Entry(Event.RENAME, "m", AT, renamed_to="n")])
    assert not found["m"].is_live
    assert found["m"].last == 2
    assert (found["n"].default, found["n"].current, sorted(found["n"].versions)) == (1, 2, [1, 2])
    assert {version.declaration.name for version in found["n"].versions.values()} == {"n"}


def test_a_name_that_was_dropped_does_not_give_old_numbers_to_what_is_renamed_to_it() -> None:
    old = [replace(made(number, Identified(str(number))), name="n") for number in (1, 2, 3)]
    found = histories([*old, Entry(Event.DROP, "n", AT), made(1, ONE), Entry(Event.RENAME, "m", AT, renamed_to="n")])
    assert found["n"].last == 3


def test_folding_goes_on_from_where_it_was() -> None:
    entries = [made(1, ONE), made(2, TWO), Entry(Event.DEFAULT, "m", AT, 1)]
    assert histories(entries[2:], histories(entries[:2])) == histories(entries)


def test_an_unknown_version_lists_those_that_there_are() -> None:
    with pytest.raises(UnknownName, match="unknown version of model 'm' '7'; valid: 1, 2"):
        version_of("m", 7, known(made(1, ONE), made(2, TWO)))


def test_a_version_whose_bytes_are_others_now_is_refused() -> None:
    version = known(made(1, ONE)).versions[1]
    require_same_bytes(version, ONE, "model 'm'")
    with pytest.raises(ModelError, match="version 1 was made of graph with the SHA-256 aa, and the bytes there are now bb"):
        require_same_bytes(version, TWO, "model 'm'")
    with pytest.raises(ModelError, match="the bytes there are now gone"):
        require_same_bytes(version, Identified("f2", {}), "model 'm'")
    with pytest.raises(ModelError, match="the environment fills in something else"):
        require_same_bytes(version, Identified("f2", ONE.artifacts), "model 'm'")


def test_options_are_set_and_reset_under_any_spelling() -> None:
    assert dict(with_options(FIRST, {"max_tokens": "6"}).options) == {"a": "1", "max_tokens": "6"}
    assert dict(without_options(FIRST, ["MAX_TOKENS"]).options) == {"a": "1"}
    with pytest.raises(UnknownName, match="unknown option of model 'm' 'max_token'; did you mean 'max_tokens'"):
        without_options(FIRST, ["max_token"])


def test_what_changed_names_no_values() -> None:
    version = known(made(1, ONE)).versions[1]
    assert changed(version, with_options(FIRST, {"system_prompt": "be brief"}), TWO) == (
        "system_prompt changed; the bytes of graph changed"
    )
