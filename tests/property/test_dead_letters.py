"""Landings and replays that die anywhere, while the declaration is mended: no record vanishes and none is there twice."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakeflow.landing.counts import Sizes
from lakeflow.landing.dead_letters import DEAD_LETTERS
from tests.crashes import Crashes, Plan, Where
from tests.lakes import open_lake
from tests.unit.landing.letters import BROKEN, LARGE, TABLE, TOPIC, Post, record

STEPS = st.sampled_from(["land", "replay", "mend"])
PLANS = st.none() | st.builds(
    Plan, st.sampled_from([Where.BEFORE_COMMIT, Where.AFTER_COMMIT, Where.FILES, Where.WRITER]), st.integers(0, 5)
)
RECORDS = st.lists(st.tuples(st.integers(0, 1), st.sampled_from(["good", "large", "broken"])), max_size=6)


@settings(max_examples=25, deadline=None)
@given(life=st.lists(st.tuples(RECORDS, STEPS, PLANS, st.integers(1, 4)), min_size=1, max_size=7))
def test_in_any_life_each_record_is_a_row_once_or_a_letter_that_waits(
    tmp_path_factory: pytest.TempPathFactory, life: list[tuple[list[tuple[int, str]], str, Plan | None, int]]
) -> None:
    post = Post(open_lake(tmp_path_factory.mktemp("life")))
    post.add(partition=1)
    kinds: dict[tuple[int, int], str] = {}
    for records, step, plan, some in life:
        for partition, kind in records:
            offset = len(post.partitions[TOPIC, partition])
            kinds[partition, offset] = kind
            post.add({"good": record(offset), "large": record(LARGE + offset), "broken": BROKEN}[kind], partition=partition)
        with Crashes().survived(plan, post.lake):
            if step == "land":
                post.land()
            elif step == "replay" and post.lake.exists(TABLE):
                post.replaying(sizes=Sizes(buffer_bytes=some * 700, poll_seconds=0.0)).run()
        if step == "mend":
            post.mend()
    post.mend()
    post.land()
    post.replay()
    rows = [(partition, offset) for partition, offset, _ in post.rows()]
    assert sorted(rows) == sorted(place for place, kind in kinds.items() if kind != "broken")
    waiting = {
        place for place, state in (post.states() if post.lake.exists(DEAD_LETTERS) else {}).items() if state == "waiting"
    }
    assert waiting == {place for place, kind in kinds.items() if kind == "broken"}
