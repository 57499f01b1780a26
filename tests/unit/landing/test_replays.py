from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakeflow.errors import Terminal
from lakeflow.lake.catalog import Lake
from lakeflow.lake.commit import Committer
from lakeflow.landing.replays import REPLAYS, Claims, Replays, mark

PLACES = [("orders", 0, 3), ("orders", 1, 4)]


def marked(lake: Lake, number: int, uuid: str = "u", table: str = "b.t") -> None:
    mark(lake, Committer(lake), table, uuid, PLACES, number, buffer_bytes=1 << 20)


def test_spans_grow_while_every_claim_lands_and_begin_anew_behind_one_that_did_not() -> None:
    claims = Claims()
    for number in (1, 2, 3):
        claims = claims.claimed(number).land()
    assert claims == Claims(3, ((1, 3),))
    claims = claims.claimed(4).claimed(5).land().claimed(6).land()
    assert claims == Claims(6, ((1, 3), (5, 6)))
    assert claims.dumps() == '{"claim":6,"landed":[[1,3],[5,6]]}'


@given(st.lists(st.tuples(st.integers(1, 3), st.booleans()), max_size=12))
def test_the_numbers_that_have_landed_are_those_that_did(steps: list[tuple[int, bool]]) -> None:
    claims, landed = Claims(), set()
    for step, lands in steps:
        claims = claims.claimed(claims.claim + step)
        if lands:
            claims = claims.land()
            landed.add(claims.claim)
    claims = Claims.loads(claims.dumps())
    numbers = list(range(claims.claim + 2))
    assert claims.have_landed(pa.array(numbers, pa.int64())).to_pylist() == [number in landed for number in numbers]


@pytest.mark.parametrize("text", ["[1]", "{}", '{"claim":1}', '{"claim":1,"landed":[1]}', "x"])
def test_what_is_no_progress_of_replays_is_refused(text: str) -> None:
    with pytest.raises(Terminal, match="not readable"):
        Claims.loads(text)


def test_marks_count_by_their_claim_their_table_and_its_identity(lake: Lake) -> None:
    marked(lake, 2)
    for claims, found in [(Claims(2, ((1, 2),)), set(PLACES)), (Claims(3, ((1, 1), (3, 3))), set()), (Claims(2), set())]:
        assert Replays(lake, "b.t", "u", claims).among([*PLACES, ("orders", 0, 9)]) == found
    landed = Claims(2, ((2, 2),))
    assert Replays(lake, "b.other", "u", landed).among(PLACES) == set()
    assert Replays(lake, "b.t", "of before", landed).among(PLACES) == set()


def test_the_last_number_is_of_the_tables_own_marks(lake: Lake) -> None:
    assert Replays(lake, "b.t", "u", Claims()).last_number() == 0
    marked(lake, 2)
    marked(lake, 7)
    marked(lake, 9, uuid="of before")
    assert Replays(lake, "b.t", "u", Claims()).last_number() == 7


def test_a_mark_is_a_row_of_the_system_table(lake: Lake) -> None:
    marked(lake, 4)
    rows = lake.table(REPLAYS).scan().to_arrow().to_pylist()
    assert all(row.pop("claimed_at").tzinfo is not None for row in rows)
    assert rows == [
        {"table": "b.t", "table_uuid": "u", "topic": topic, "partition": partition, "offset": offset, "claim": 4}
        for topic, partition, offset in PLACES
    ]
