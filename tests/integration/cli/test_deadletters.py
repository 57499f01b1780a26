"""`lakeflow deadletters` on letters that landings from an embedded broker left."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator

import pytest

from lakeflow.landing.replays import REPLAYS
from lakeflow.topics.embedded import EmbeddedBroker
from tests.integration.cli.conftest import Shop

TABLE = """
CREATE TABLE bronze.events (id {kind} NOT NULL)
WITH ('connector' = 'kafka', 'topic' = 'events', 'on_error' = 'dead_letter', 'metadata.columns' = 'offset, headers' {more});
"""
LARGE = 1 << 40


def good(number: int) -> bytes:
    return json.dumps({"id": number}).encode()


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(partitions=1) as opened:
        yield opened


@pytest.fixture
def events(shop: Shop, broker: EmbeddedBroker) -> Shop:
    """One row, and letters: broken text, a number too large, bytes that are no text."""
    shop.configure(f'\n[kafka]\n"bootstrap.servers" = "{broker.bootstrap}"\n')
    shop.declare("tables/events.sql", TABLE.format(kind="INT", more=""))
    rows = [(b"k", good(1)), (b"k", b"{broken"), (None, good(LARGE)), (b"\xff", b"\xff\xfe")]
    broker.produce("events", [(key, value, 0, 1000, [("h", b"x"), ("b", b"\xff")]) for key, value in rows])
    assert shop("land", "bronze.events").code == 0
    return shop


def mend(shop: Shop, more: str = "") -> None:
    shop.declare("tables/events.sql", TABLE.format(kind="BIGINT", more=more))


def test_the_list_is_newest_first_with_states(events: Shop) -> None:
    rows = events.json("deadletters", "list", "bronze.events")
    assert [(row["offset"], row["kind"], row["state"]) for row in rows] == [
        (3, "malformed", "waiting"),
        (2, "misfit", "waiting"),
        (1, "malformed", "waiting"),
    ]
    assert events.json("deadletters", "--limit", "1") == rows[:1]
    assert [row["offset"] for row in events.json("deadletters", "list", "--kind", "misfit")] == [2]
    assert events.json("deadletters", "list", "--since", "2099-01-01") == []
    text = events("deadletters").out
    assert "waiting" in text
    assert "bronze.events" in text


def test_an_unknown_table_is_no_empty_list(events: Shop) -> None:
    asked = events("deadletters", "list", "bronze.event")
    assert asked.code == 2
    assert "bronze.events" in asked.err
    assert events.json("deadletters", "list", "bronze.events", "--kind", "schema") == []
    (events.folder / "tables" / "events.sql").unlink()
    assert events("tables", "drop", "bronze.events", "--yes").code == 0
    assert len(events.json("deadletters", "list", "bronze.events")) == 3


def test_an_unknown_kind_is_refused_with_the_valid_ones(events: Shop) -> None:
    ran = events("deadletters", "list", "--kind", "misfitt")
    assert ran.code == 2
    assert "did you mean 'misfit'" in ran.err


def test_a_letter_is_shown_whole_as_text(events: Shop) -> None:
    ran = events("deadletters", "show", "bronze.events", "events:0:1")
    assert ran.code == 0
    assert ran.out.endswith("\n{broken\n")
    assert "header h" in ran.out
    other = events("deadletters", "show", "bronze.events", "events:0:3").out
    assert other.endswith("\n0xfffe\n")
    assert "0xff" in other


def test_a_letter_is_shown_whole_as_json(events: Shop) -> None:
    row = events.json("deadletters", "show", "bronze.events", "events:0:1")
    assert (row["value"], row["value_encoding"], row["key"], row["key_encoding"]) == ("{broken", "utf-8", "k", "utf-8")
    assert row["headers"][0] == {"key": "h", "value": "x", "value_encoding": "utf-8"}
    row = events.json("deadletters", "show", "bronze.events", "events:0:3")
    assert (base64.b64decode(row["value"]), row["value_encoding"]) == (b"\xff\xfe", "base64")
    assert row["headers"][1] == {"key": "b", "value": "/w==", "value_encoding": "base64"}
    row = events.json("deadletters", "show", "bronze.events", "events:0:2")
    assert (row["key"], row["key_encoding"]) == (None, None)


@pytest.mark.parametrize(("place", "said"), [("events:0:9", "valid: events:0:1"), ("events", "TOPIC:PARTITION:OFFSET")])
def test_a_letter_that_is_not_there_is_refused(events: Shop, place: str, said: str) -> None:
    ran = events("deadletters", "show", "bronze.events", place)
    assert ran.code == 2
    assert said in ran.err


def test_a_replay_lands_what_gives_rows_and_is_recorded(events: Shop) -> None:
    mend(events)
    ran = events("deadletters", "replay", "bronze.events", "--output", "json")
    assert ran.code == 0, ran.err
    assert {name: ran.json[name] for name in ("status", "read", "written", "filtered", "left", "commits")} == {
        "status": "done",
        "read": 3,
        "written": 1,
        "filtered": 0,
        "left": 2,
        "commits": 1,
    }
    assert [one["offset"] for one in ran.json["first_left"]] == [1, 3]
    assert "events:0:1 still gives no row" in ran.err
    assert {row["offset"]: row["state"] for row in events.json("deadletters")} == {1: "waiting", 2: "replayed", 3: "waiting"}
    (run,) = [row for row in events.json("runs") if row["kind"] == "replay"]
    assert (run["name"], run["status"], run["read"], run["written"], run["dead_lettered"]) == ("bronze.events", "done", 3, 1, 2)
    out = events(
        "query", "SELECT id, kafka_offset, len(kafka_headers) AS headers FROM bronze.events ORDER BY ALL", "--output", "csv"
    )
    assert out.out.splitlines()[1:] == ["1,0,2", f"{LARGE},2,2"]


def test_with_nothing_to_replay_the_run_is_empty(events: Shop) -> None:
    mend(events)
    row = events.json("deadletters", "replay", "bronze.events", "--partition", "events:7")
    assert (row["status"], row["read"]) == ("empty", 0)


def test_a_dry_run_changes_nothing_and_is_not_recorded(events: Shop) -> None:
    mend(events)
    row = events.json("deadletters", "replay", "bronze.events", "--dry-run")
    assert (row["mode"], row["written"], row["left"], row["commits"]) == ("dry-run", 1, 2, 0)
    assert REPLAYS not in events.project.lake.names()
    assert [row["kind"] for row in events.json("runs")] == ["land"]
    assert str(events.project.lake.table("bronze.events").schema().find_type("id")) == "int"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["bronze.docs"], "table with connector 'kafka'"),
        (["bronze.events", "--partition", "events"], "TOPIC:PARTITION"),
        (["bronze.events", "--kind", "x"], "kind of dead letter"),
    ],
)
def test_what_cannot_be_meant_ends_with_2(events: Shop, words: list[str], said: str) -> None:
    ran = events("deadletters", "replay", *words)
    assert ran.code == 2
    assert said in ran.err


def test_a_table_by_key_is_refused(events: Shop) -> None:
    upsert = TABLE.format(kind="BIGINT", more=", 'changelog.mode' = 'upsert'")
    keyed = upsert.replace("NOT NULL)", "NOT NULL, PRIMARY KEY (id) NOT ENFORCED)")
    events.declare("tables/events.sql", keyed)
    ran = events("deadletters", "replay", "bronze.events")
    assert ran.code == 2
    assert "land the topic into a new table" in ran.err


def test_a_replay_that_fails_is_recorded_as_failed(events: Shop) -> None:
    mend(events)
    events("deadletters", "replay", "bronze.events")
    events.project.lake.drop(REPLAYS)
    ran = events("deadletters", "replay", "bronze.events", "--output", "json")
    assert ran.code == 1
    assert "lakeflow.replays is not there" in ran.err
    assert events.json("runs", "--failed")[0]["kind"] == "replay"


def test_letters_in_a_topic_are_a_table_s_records_again(shop: Shop, broker: EmbeddedBroker) -> None:
    shop.configure(f'\n[kafka]\n"bootstrap.servers" = "{broker.bootstrap}"\n')
    shop.declare("tables/events.sql", TABLE.format(kind="INT", more=", 'dead_letter.topic' = 'events-dlq'"))
    letters = TABLE.format(kind="BIGINT", more="").replace("bronze.events", "bronze.again").replace("'events'", "'events-dlq'")
    shop.declare("tables/again.sql", letters)
    broker.produce("events", [(b"k", good(1), 0, 1000), (b"k", good(LARGE), 0, 1000, [("trace", b"7")])])
    (landed,) = shop.json("land", "bronze.events")
    assert (landed["written"], landed["dead_lettered"]) == (1, 1)
    (again,) = shop.json("land", "bronze.again")
    assert again["written"] == 1
    (row,) = shop.project.lake.table("bronze.again").scan().to_arrow().to_pylist()
    assert row["id"] == LARGE
    headers = {pair["key"]: pair["value"] for pair in row["kafka_headers"]}
    assert (headers["trace"], headers["__connect.errors.offset"], headers["lakeflow.table"]) == (b"7", b"1", b"bronze.events")
