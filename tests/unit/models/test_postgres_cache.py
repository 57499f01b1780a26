from __future__ import annotations

import sys

import pytest

from lakeflow.errors import ConfigError
from lakeflow.models.postgres_cache import PostgresAnswers, is_postgres
from lakeflow.postgres import Place, read_place


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("postgresql://db/lake", Place("db", 5432, "lake")),
        ("postgresql+psycopg2://me@db:6432/lake", Place("db", 6432, "lake", "me")),
        ("postgres://me:a@b/c?d#:e@db/lake", Place("db", 5432, "lake", "me", "a@b/c?d#:e")),
        ("postgresql://m%40e:50%25@db/l%20ke", Place("db", 5432, "l ke", "m@e", "50%")),
    ],
)
def test_a_place_is_read_with_whatever_its_password_holds(text: str, place: Place) -> None:
    assert is_postgres(text)
    assert read_place(text) == place


def test_libpqs_parameters_stand_behind_the_place() -> None:
    place = read_place("postgresql://me:hunter22@db/lake?sslmode=require&connect_timeout=3")
    given = place.parameters()
    assert (given["sslmode"], given["connect_timeout"], given["password"]) == ("require", "3", "hunter22")
    assert "hunter22" not in f"{place} {place!r}"


@pytest.mark.parametrize(
    "text", ["postgresql://db", "postgresql://me:hunter22@/lake", "postgresql:lake", "postgresql://db/lake?password=hunter22"]
)
def test_what_is_no_place_is_refused_without_being_shown(text: str) -> None:
    with pytest.raises(ConfigError, match="cache in \\[models\\]") as refused:
        read_place(text)
    assert "hunter22" not in str(refused.value)


def test_a_missing_driver_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg2", None)
    with pytest.raises(ConfigError, match="psycopg2 is not installed") as refused:
        PostgresAnswers(Place("db", 5432, "lake")).stats()
    assert refused.value.next_step == 'pip install "lakeflow[postgres]"'
