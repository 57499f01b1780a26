"""Two projects, as on two machines, that keep their answers in one PostgreSQL database."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lakeflow.models.postgres_cache import PostgresAnswers
from lakeflow.postgres import read_place
from tests.contract.test_answer_store import drop
from tests.integration.cli.conftest import Shop
from tests.integration.cli.test_model_limits import JOB, MODEL, rows
from tests.rig.postgres import PASSWORD, USER, Postgres
from tests.services.http import Server
from tests.services.openai import KEY, OpenAI


@pytest.fixture
def service() -> OpenAI:
    return OpenAI(random_answers=True)


@pytest.fixture
def machines(
    shop: Shop, service: OpenAI, postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Shop, Shop]]:
    monkeypatch.setenv("LAKEFLOW_SECRET_OPENAI", KEY)
    monkeypatch.setenv("LAKEFLOW_SECRET_DB", PASSWORD)
    other = replace(shop, folder=tmp_path / "other")
    shutil.copytree(shop.folder, other.folder)
    place = f"postgresql://{USER}:{{{{ secret.DB }}}}@127.0.0.1:{postgres.port}/lakeflow"
    with Server(service) as server:
        for one in (shop, other):
            one.orders(("o1", "ann", 1.0), ("o2", "ann", 1.0))
            one.configure(f'[models]\ncache = "{place}"\n')
            one.declare("tables/models.sql", MODEL.format(url=server.url))
            one.declare("jobs/triage.py", JOB)
        yield shop, other
        drop(postgres.uri)


def notes(shop: Shop) -> list[object]:
    return [row["note"] for row in rows(shop, "SELECT note FROM gold.triaged ORDER BY order_id")]


def test_what_one_machine_paid_for_the_other_has(machines: tuple[Shop, Shop], service: OpenAI) -> None:
    one, other = machines
    assert one("run", "triage").code == 0
    [job] = other.json("plan", "triage")["jobs"]
    assert job["estimates"][0]["expected"]["calls"] == 0, "the plan looks into the shared cache"
    ran = other("-vv", "run", "triage")
    assert ran.code == 0, ran.err
    assert notes(other) == notes(one), "the service answers at random"
    assert sum(service.answered.values()) == 2
    [kept] = other.json("models", "cache", "stats")
    assert (kept["model"], kept["answers"]) == ("triage", 2)
    assert other.json("models", "cache", "clear", "triage") == {"model": "triage", "forgotten": 2}
    assert one.json("models", "cache", "stats") == []
    written = [path.read_bytes() for shop in machines for path in (shop.folder / ".lakeflow").rglob("*") if path.is_file()]
    shown = [ran.out, ran.err, other("doctor").out]
    assert not [text for text in shown if PASSWORD in text]
    assert not [content for content in written if PASSWORD.encode() in content]


def test_the_doctor_tries_the_database_and_makes_nothing_there(
    machines: tuple[Shop, Shop], postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = machines
    place = f"postgresql://{USER}@127.0.0.1:{postgres.port}/lakeflow"
    for _ in range(2):
        assert tried(one) == ("ok", f"{place} answers; the first run that asks a remote model makes its table")
    assert one("run", "triage").code == 0
    assert tried(one) == ("ok", f"{place} answers")
    config = other.folder / "lakeflow.toml"
    config.write_text(config.read_text().replace('/lakeflow"', '/lakeflow?options=-cdefault_transaction_read_only%3Don"'))
    assert tried(other) == ("failed", f"the cache of answers {place}: the user may not write the table lakeflow_answers")
    monkeypatch.setenv("LAKEFLOW_SECRET_DB", "hunter22-is-wrong")
    state, detail = tried(one)
    assert (state, "refuses the user" in detail, "hunter22" in detail) == ("failed", True, False)


def tried(shop: Shop) -> tuple[str, str]:
    """What the doctor says of the database."""
    [check] = [check for check in shop("doctor", "--output", "json").json["checks"] if check["name"] == "cache of answers"]
    return check["state"], check["detail"]


def test_a_database_that_refuses_says_so_and_shows_no_secret(
    machines: tuple[Shop, Shop], service: OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = machines
    monkeypatch.setenv("LAKEFLOW_SECRET_DB", "hunter22-is-wrong")
    for words in (("run", "triage"), ("models", "cache", "stats")):
        ran = one(*words)
        assert ran.code == 2, ran.err
        assert "refuses the user" in ran.err
        assert "hunter22" not in ran.out + ran.err
    assert not service.answered


def test_a_database_that_was_started_anew_is_connected_to_again(
    machines: tuple[Shop, Shop], service: OpenAI, postgres: Postgres
) -> None:
    answers = PostgresAnswers(read_place(postgres.uri))
    answers.stats()
    one, _ = machines
    assert postgres.process is not None
    postgres.process.stop()
    postgres.process.start()
    assert one("run", "triage").code == 0
    assert answers.stats()[0].answers == 2, "a connection of before the restart is made anew"
    answers.close()
