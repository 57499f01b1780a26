"""A record that is among the dead letters is not landed otherwise, and none but such a one is kept back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lakeflow.expect import OnViolation
from lakeflow.lake.catalog import Lake
from lakeflow.lake.commit import Committer
from lakeflow.landing.counts import Counts
from lakeflow.landing.open import open_decoder, open_staying_decoder
from lakeflow.landing.staying import KeptLetters
from lakeflow.testing.source import Row
from lakeflow.topics.formats.format import Decoded
from lakeflow.topics.source import Records
from tests.crashes import Crashes, Plan, Where
from tests.unit.landing.letters import BROKEN, LARGE, TABLE, TOPIC, Post, record


def records(rows: list[Row], start: int = 0, partition: int = 0) -> Records:
    return Records(
        topics=[TOPIC] * len(rows),
        partitions=[partition] * len(rows),
        offsets=list(range(start, start + len(rows))),
        timestamps=[0] * len(rows),
        timestamp_types=[1] * len(rows),
        keys=[key for key, _, _ in rows],
        values=[value for _, value, _ in rows],
    )


ROWS = [record(1), record(LARGE), record(2), BROKEN, record(LARGE + 1)]


@pytest.fixture
def died(lake: Lake) -> Post:
    """A landing that made lakeflow.dead_letters, left letters at offsets 1, 3 and 4 in it, and died before its rows.

    The declaration was mended since.
    """
    post = Post(lake)
    post.land()
    post.add(*ROWS)
    with Crashes().survived(Plan(Where.BEFORE_COMMIT, 2), lake):
        post.land()
    post.mend()
    post.add(record(LARGE + 2))
    return post


def kept(post: Post) -> KeptLetters:
    return KeptLetters(post.lake, Committer(post.lake), TABLE)


def places(decoded: Decoded) -> list[int]:
    (part,) = decoded.parts
    return list(range(part.rows.num_rows)) if part.kept is None else part.kept.to_pylist()


def test_records_with_a_letter_are_rejected_again(died: Post) -> None:
    assert died.land().counts == Counts(6, 3, 3)
    assert [offset for _, offset, _ in died.rows()] == [0, 2, 5]
    assert set(died.states()) == {(0, 1), (0, 3), (0, 4)}
    died.replay()
    assert [offset for _, offset, _ in died.rows()] == [0, 1, 2, 4, 5]


@pytest.mark.parametrize("on_error", ["skip", "suspend"])
def test_where_rejects_become_no_letters_any_more_they_are_passed_over(died: Post, on_error: str) -> None:
    died.options = {"on_error": on_error}
    assert died.land().counts == Counts(6, 3, filtered=3)
    died.replay()
    assert [offset for _, offset, _ in died.rows()] == [0, 1, 2, 4, 5]


def test_why_it_stays_is_what_was_wrong_or_that_it_stays(died: Post) -> None:
    decoder = open_staying_decoder(died.spec, None, kept(died))
    decoded = decoder.decode(records(ROWS))
    assert places(decoded) == [0, 2]
    large, broken, _ = decoded.rejects
    assert "among the dead letters already" in large.reason
    assert replace(broken, on_violation=None) == open_decoder(died.spec, None).decode(records(ROWS)).rejects[0]
    assert {reject.on_violation for reject in decoded.rejects[:2]} == {OnViolation.DEAD_LETTER}


def test_once_a_partition_is_past_its_letters_none_is_looked_for(died: Post) -> None:
    some = kept(died)
    assert some.among(records(ROWS)) == {1, 3, 4}
    assert some.among(records(ROWS)) == {1, 3, 4}, "a poll may be decoded twice"
    assert some.among(records([record(9)], start=5)) == set()
    assert some.among(records(ROWS)) == set(), "a landing by itself reads nothing twice"


def test_where_partitions_come_letters_are_looked_up_anew(lake: Lake) -> None:
    """Another process had it meanwhile, left letters and died before its rows."""
    post = Post(lake)
    post.land()
    mine = kept(post)
    assert mine.among(records([record(1)])) == set()
    post.add(*ROWS)
    with Crashes().survived(Plan(Where.BEFORE_COMMIT, 2), lake):
        post.land()
    assert mine.among(records(ROWS)) == set()
    mine.look_anew()
    assert mine.among(records(ROWS)) == {1, 3, 4}


def test_a_table_without_letters_asks_for_none(lake: Lake) -> None:
    post = Post(lake)
    post.add(record(1))
    post.land()
    assert kept(post).among(records([record(1), BROKEN])) == set()


def test_letters_of_an_earlier_table_keep_nothing_back(died: Post) -> None:
    died.lake.drop(TABLE)
    died.land()
    died.options = {"on_error": "dead_letter"}
    assert {place for place, state in _all_states(died) if state == "waiting"} == {(0, 3)}
    assert [offset for _, offset, _ in died.rows()] == [0, 1, 2, 4, 5]


def _all_states(post: Post) -> list[tuple[tuple[int, int], str]]:
    from lakeflow.landing.letters_read import Wanted, newest_letters

    rows = newest_letters(post.lake, Committer(post.lake), Wanted((TABLE,)), 100)
    return [((row["partition"], row["offset"]), row["state"]) for row in rows]
