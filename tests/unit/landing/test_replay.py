"""Letters that give a row now are landed, each once, wherever the process dies; the others stay."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lakeflow.errors import Fenced, SourceChanged, UnknownName, UsageError
from lakeflow.lake.catalog import Lake
from lakeflow.lake.commit import Change, Committed, Committer
from lakeflow.lake.history import PROGRESS
from lakeflow.landing.counts import Counts, Sizes
from lakeflow.landing.dead_letters import DEAD_LETTERS
from lakeflow.landing.letters_ordered import OrderedLetters
from lakeflow.landing.replay import Which
from lakeflow.landing.replays import REPLAYS, WRITER, Claims
from lakeflow.topics.registered import SchemaKind
from tests.crashes import Crashes, Plan, Where
from tests.lakes import query, rest_like, stored_files
from tests.unit.landing.letters import BROKEN, LARGE, TABLE, TOPIC, Post, record
from tests.unit.topics.formats.known import KnownSchemas, avro_body, framed


@pytest.fixture
def post(lake: Lake) -> Post:
    """Three rows, and letters at offsets 1, 2 and 4, of which the second is broken for good."""
    post = Post(lake)
    post.add(record(1), record(LARGE), BROKEN, record(2), record(LARGE + 1), record(3))
    assert post.land().counts == Counts(6, 3, 3)
    return post


def test_what_gives_a_row_now_is_landed_and_the_rest_stays(post: Post) -> None:
    post.mend()
    done = post.replay()
    assert done.counts == Counts(3, 2, dead_lettered=1)
    assert post.rows() == [(0, 0, 1), (0, 1, LARGE), (0, 3, 2), (0, 4, LARGE + 1), (0, 5, 3)]
    assert post.states() == {(0, 1): "replayed", (0, 2): "waiting", (0, 4): "replayed"}
    assert [(left.place, left.kind) for left in done.left] == [((TOPIC, 0, 2), "malformed")]


def test_a_second_replay_finds_only_what_stayed_and_commits_nothing(post: Post) -> None:
    post.mend()
    first = post.replay()
    head = post.lake.table(TABLE).metadata.current_snapshot_id
    again = post.replay()
    assert again.counts == Counts(1, dead_lettered=1)
    assert (again.snapshots, again.start, again.end) == ((), first.end, first.end)
    assert post.lake.table(TABLE).metadata.current_snapshot_id == head


def test_while_nothing_is_mended_nothing_is_written(post: Post) -> None:
    head = post.lake.table(TABLE).metadata.current_snapshot_id
    assert post.replay().counts == Counts(3, dead_lettered=3)
    assert not post.lake.exists(REPLAYS)
    assert post.lake.table(TABLE).metadata.current_snapshot_id == head


def test_a_preview_counts_the_same_and_changes_nothing(post: Post) -> None:
    post.mend()
    before = post.lake.table(TABLE).metadata
    previewed = post.replaying().preview()
    assert post.lake.table(TABLE).metadata == before
    assert not post.lake.exists(REPLAYS)
    assert previewed.counts == post.replay().counts


def test_of_a_kind_or_a_partition_only(post: Post) -> None:
    post.add(record(LARGE + 7), partition=1)
    post.land()
    post.mend()
    assert post.replay(Which(kind="malformed")).counts == Counts(1, dead_lettered=1)
    assert post.replay(Which(partition=(TOPIC, 1))).counts == Counts(1, 1)
    assert post.replay(Which(partition=("other", 0))).counts == Counts()
    assert post.replay(Which(kind="misfit")).counts == Counts(2, 2)


def test_rows_have_the_metadata_of_their_record(lake: Lake) -> None:
    options = {"metadata.columns": "all"}
    headers: dict[tuple[str, int, int], list[tuple[str, bytes | None]]] = {(TOPIC, 0, 0): [("h", b"1"), ("h", None)]}
    post = Post(lake, options=options, headers=headers)
    source = record(LARGE, b"key")
    post.add(source)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.unit.landing.letters.ListSource", _with_epochs)
        post.land()
    post.mend()
    post.replay()
    (row,) = lake.table(TABLE).scan().to_arrow().to_pylist()
    stamp = row.pop("kafka_timestamp")
    assert stamp.timestamp() * 1000 == source[2]
    assert row == {
        "id": LARGE,
        "v": f"v{LARGE}",
        "kafka_topic": TOPIC,
        "kafka_partition": 0,
        "kafka_offset": 0,
        "kafka_timestamp_type": "CreateTime",
        "kafka_leader_epoch": 5,
        "kafka_headers": [{"key": "h", "value": b"1"}, {"key": "h", "value": None}],
        "kafka_key": b"key",
        "kafka_value": source[1],
    }


def _with_epochs(partitions: Any, **switches: Any) -> Any:
    from lakeflow.testing.source import ListSource

    return ListSource(partitions, **switches, leader_epochs={(TOPIC, 0): 5})


def test_the_table_evolves_with_the_rows_that_need_it(lake: Lake) -> None:
    old = {"type": "record", "name": "R", "fields": [{"name": "id", "type": "long"}]}
    new = {"type": "record", "name": "R", "fields": [*old["fields"], {"name": "note", "type": "string"}]}
    known = {1: old}
    post = Post(lake, declared=None, options={"value.format": "avro-registry", "metadata.columns": "offset"})
    post.registry = KnownSchemas(SchemaKind.AVRO, known)
    post.add((None, framed(1, avro_body(old, {"id": 1})), 0), (None, framed(2, avro_body(new, {"id": 2, "note": "n"})), 0))
    assert post.land().counts == Counts(2, 1, 1)
    post.registry = KnownSchemas(SchemaKind.AVRO, {**known, 2: new})
    assert post.replaying().preview().counts == Counts(1, 1)
    assert post.replay().counts == Counts(1, 1)
    assert post.rows("SELECT id, note, kafka_offset FROM rows ORDER BY ALL") == [(1, None, 0), (2, "n", 1)]


def test_a_schema_that_the_table_cannot_hold_leaves_its_letters(lake: Lake) -> None:
    good = {"type": "record", "name": "R", "fields": [{"name": "id", "type": "long"}]}
    text = {"type": "record", "name": "R", "fields": [{"name": "id", "type": "string"}]}
    post = Post(lake, declared=None, options={"value.format": "avro-registry"})
    post.registry = KnownSchemas(SchemaKind.AVRO, {1: good})
    rows = [
        framed(1, avro_body(good, {"id": 1})),
        framed(3, avro_body(text, {"id": "x"})),
        framed(2, avro_body(good, {"id": 2})),
    ]
    post.add(*((None, row, 0) for row in rows))
    post.land()
    post.registry = KnownSchemas(SchemaKind.AVRO, {1: good, 2: good, 3: text})
    done = post.replay()
    assert done.counts == Counts(2, 1, dead_lettered=1)
    (left,) = done.left
    assert (left.place, left.kind) == ((TOPIC, 0, 1), "misfit")
    assert "int64" in left.reason or "long" in left.reason
    assert post.rows() == [(0, 0, 1), (0, 2, 2)]


def test_a_table_by_key_is_refused(lake: Lake) -> None:
    post = Post(lake, options={"changelog.mode": "upsert"}, key=("id",))
    post.add(record(LARGE))
    post.land()
    with pytest.raises(UsageError, match="would overwrite what came after it"):
        post.replay()


def test_a_table_that_is_not_there_is_named(lake: Lake) -> None:
    with pytest.raises(UnknownName, match=r"bronze\.orders"):
        Post(lake).replay()


def test_letters_of_an_earlier_table_of_the_name_are_not_replayed(post: Post) -> None:
    post.lake.drop(TABLE)
    post.partitions[TOPIC, 0] = [record(9), record(LARGE + 9)]
    post.land()
    post.mend()
    assert post.replay().counts == Counts(1, 1)
    assert [number for _, _, number in post.rows()] == [9, LARGE + 9]
    assert query(post.lake.table(DEAD_LETTERS), "SELECT count(*) FROM rows") == [(4,)]


def test_a_letter_that_its_landing_has_not_passed_is_left_to_it(post: Post) -> None:
    post.add(record(LARGE + 5))
    crashes = Crashes()
    with crashes.survived(Plan(Where.BEFORE_COMMIT, 1), post.lake):
        post.land()
    assert crashes.happened == 1
    post.mend()
    assert post.states()[0, 6] == "waiting"
    assert post.replay().counts == Counts(3, 2, dead_lettered=1)
    post.land()
    assert post.replay().counts == Counts(2, 1, dead_lettered=1)
    assert [row[2] for row in post.rows()].count(LARGE + 5) == 1


def test_beside_a_landing_both_land(post: Post) -> None:
    post.mend()
    post.add(record(100))
    landing = post.landing()
    post.replay()
    assert landing.run().counts == Counts(1, 1)
    assert len(post.rows()) == 6


def test_windows_are_as_small_as_memory_asks_and_in_order(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    for partition in (2, 1):
        post.add(*(record(LARGE + number) for number in range(20)), partition=partition)
    post.land()
    post.mend()
    seen: list[list[tuple[int, int]]] = []
    monkeypatch.setattr(OrderedLetters, "windows", _recorded(seen))
    sizes = Sizes(buffer_bytes=5 * 700, poll_seconds=0.0)
    done = post.replaying(sizes=sizes).run()
    assert done.counts == Counts(43, 42, dead_lettered=1)
    assert all(len(window) <= 5 for window in seen)
    assert [place for window in seen for place in window] == sorted(place for window in seen for place in window)
    assert len(post.rows()) == 3 + 42
    assert Claims.loads(done.end) == Claims(len(done.snapshots), ((1, len(done.snapshots)),))


def _recorded(seen: list[list[tuple[int, int]]]) -> Callable[..., Iterator[Any]]:
    windows = OrderedLetters.windows

    def recording(letters: OrderedLetters, chosen: Any) -> Iterator[Any]:
        for records in windows(letters, chosen):
            seen.append(list(zip(records.partitions, records.offsets, strict=True)))
            yield records

    return recording


def test_a_stop_ends_behind_the_batch_in_hand(post: Post) -> None:
    post.mend()
    stops = iter([False, True])
    done = post.replaying(sizes=Sizes(buffer_bytes=1, poll_seconds=0.0)).run(lambda: next(stops))
    assert done.counts == Counts(1, 1)
    assert post.replay().counts == Counts(2, 1, dead_lettered=1)


# What dies: after the claim and before, after the marks and before, before the rows land and after, and on the way.
DEATHS = [
    *(Plan(where, number) for where in (Where.BEFORE_COMMIT, Where.AFTER_COMMIT) for number in range(8)),
    *(Plan(Where.FILES, number) for number in range(5)),
    *(Plan(Where.WRITER, number) for number in range(5)),
]


@pytest.mark.parametrize("death", DEATHS, ids=lambda plan: f"{plan.where.name}-{plan.number}")
def test_wherever_it_dies_the_next_one_lands_each_letter_once(post: Post, death: Plan) -> None:
    post.mend()
    small = Sizes(buffer_bytes=700, poll_seconds=0.0)
    with Crashes().survived(death, post.lake):
        post.replaying(sizes=small).run()
    post.replay()
    assert post.rows() == [(0, 0, 1), (0, 1, LARGE), (0, 3, 2), (0, 4, LARGE + 1), (0, 5, 3)]
    assert post.states() == {(0, 1): "replayed", (0, 2): "waiting", (0, 4): "replayed"}


class Pausing:
    """A commit protocol that stands still before its `number`th commit (from 0) while `meanwhile` happens."""

    def __init__(self, lake: Lake, number: int, meanwhile: Callable[[], object]) -> None:
        self._real = Committer(lake)
        self._left = number
        self._meanwhile = meanwhile

    def progress(self, table: str, writer: str) -> str | None:
        return self._real.progress(table, writer)

    def commit(self, change: Change) -> Committed:
        if self._left == 0:
            self._meanwhile()
        self._left -= 1
        return self._real.commit(change)


CLAIM, MARK, LAND = range(3)


@pytest.mark.parametrize("before", [CLAIM, MARK, LAND])
def test_what_wakes_up_behind_another_replay_is_fenced(post: Post, before: int) -> None:
    post.mend()
    zombie = post.replaying(commits=Pausing(post.lake, before, post.replay))
    files = stored_files(post.lake.table(TABLE))
    with pytest.raises(Fenced, match="progress of replay"):
        zombie.run()
    assert len(stored_files(post.lake.table(TABLE)) - files) == 1, "the zombie's file is deleted"
    assert post.rows() == [(0, 0, 1), (0, 1, LARGE), (0, 3, 2), (0, 4, LARGE + 1), (0, 5, 3)]
    assert post.replay().counts == Counts(1, dead_lettered=1)


@pytest.mark.parametrize("before", [CLAIM, MARK, LAND])
def test_the_marks_of_one_that_was_fenced_count_for_nothing(post: Post, before: int) -> None:
    post.mend()
    other = Which(partition=(TOPIC, 0), kind="malformed")

    def claimed_elsewhere() -> None:
        with Crashes().survived(Plan(Where.AFTER_COMMIT, 0), post.lake):
            post.replay()
        assert post.replay(other).counts.written == 0

    with pytest.raises(Fenced):
        post.replaying(commits=Pausing(post.lake, before, claimed_elsewhere)).run()
    assert post.states() == {(0, 1): "waiting", (0, 2): "waiting", (0, 4): "waiting"}
    assert post.replay().counts == Counts(3, 2, dead_lettered=1)


def test_with_a_catalog_that_knows_standard_requirements_only_it_is_fenced_too(post: Post) -> None:
    post.mend()
    post.lake = rest_like(post.lake)
    with pytest.raises(Fenced):
        post.replaying(commits=Pausing(post.lake, LAND, post.replay)).run()
    assert len(post.rows()) == 5


def test_a_letter_is_its_table_s_whatever_the_route_says_by_now(post: Post) -> None:
    post.mend()
    post.options = {"route.by": "field:v", "route.values": "none-of-them"}
    assert post.replay().counts.written == 2


def test_what_needs_no_row_by_its_format_is_settled_and_a_truncate_stays(lake: Lake) -> None:
    post = Post(lake)
    post.add((b"k", None, 0), (b"k", b'{"before": null, "after": null, "op": "t", "source": {}, "ts_ms": 1}', 0))
    post.land()
    post.options = {"value.format": "debezium-json", "changelog.mode": "append"}
    done = post.replay()
    assert done.counts == Counts(2, filtered=1, dead_lettered=1)
    assert post.states() == {(0, 0): "replayed", (0, 1): "waiting"}
    assert "empties the table" in done.left[0].reason
    assert post.replay().counts == Counts(1, dead_lettered=1)


def rollback(lake: Lake, snapshot_id: int) -> None:
    table = lake.table(TABLE)
    table.manage_snapshots().rollback_to_snapshot(snapshot_id).commit()


def test_a_table_that_is_rolled_back_takes_its_letters_again(post: Post) -> None:
    before = post.lake.table(TABLE).metadata.current_snapshot_id
    assert before is not None
    post.mend()
    assert post.replay(Which(partition=(TOPIC, 0))).counts.written == 2
    rollback(post.lake, before)
    assert set(post.states().values()) == {"waiting"}
    assert post.replay().counts.written == 2
    claims = Claims.loads(Committer(post.lake).progress(TABLE, WRITER))
    assert claims == Claims(2, ((2, 2),)), "the number of what was rolled back is not given again"
    assert len(post.rows()) == 5


def test_numbers_are_not_given_again_even_where_only_the_marks_tell(post: Post) -> None:
    post.add(record(LARGE + 7), partition=1)
    post.land()
    post.mend()
    post.replay(Which(partition=(TOPIC, 1)))
    before = post.lake.table(TABLE).metadata.current_snapshot_id
    assert before is not None
    post.replay()
    rollback(post.lake, before)
    keeping_few = Committer(post.lake, keep_snapshots=2)
    for number in range(3):  # the first claim expires, and the property tells of it alone
        post.add(record(50 + number))
        post.landing(keeping_few).run()
    assert Claims.loads(post.lake.table(TABLE).properties[PROGRESS + WRITER]).claim == 1
    assert post.replay(Which(kind="misfit")).counts.written == 2
    assert Claims.loads(Committer(post.lake).progress(TABLE, WRITER)).claim == 3


def test_a_claim_that_was_rolled_back_has_a_number_of_its_own(post: Post) -> None:
    """Its replay wakes up and marks its letters behind another one that has landed: they must not count."""
    post.add(record(LARGE + 7), partition=1)
    post.land()
    before = post.lake.table(TABLE).metadata.current_snapshot_id
    assert before is not None
    post.mend()

    def rolled_back() -> None:
        rollback(post.lake, before)
        assert post.replay(Which(partition=(TOPIC, 1))).counts.written == 1

    with pytest.raises(Fenced):
        post.replaying(Which(partition=(TOPIC, 0)), commits=Pausing(post.lake, MARK, rolled_back)).run()
    assert post.states() == {(0, 1): "waiting", (0, 2): "waiting", (0, 4): "waiting", (1, 0): "replayed"}


def test_progress_survives_expiry(post: Post) -> None:
    post.mend()
    post.replay()
    keeping_few = Committer(post.lake, keep_snapshots=2)
    for number in range(4):
        post.add(record(50 + number))
        post.landing(keeping_few).run()
    assert post.replay().counts == Counts(1, dead_lettered=1)


def test_without_the_marks_it_is_refused_to_guess(post: Post) -> None:
    post.mend()
    post.replay()
    post.lake.drop(REPLAYS)
    with pytest.raises(SourceChanged, match=r"lakeflow\.replays is not there"):
        post.replay()


def test_a_mended_landing_leaves_its_letters_to_the_replay(post: Post) -> None:
    """It died between its letters and its rows; what it reads again has letters, which a replay would land too."""
    post.add(record(LARGE + 5), record(6))
    with Crashes().survived(Plan(Where.BEFORE_COMMIT, 1), post.lake):
        post.land()
    post.mend()
    assert post.land().counts == Counts(2, 1, 1)
    assert post.replay().counts == Counts(4, 3, dead_lettered=1)
    assert len(post.rows()) == len(set(post.rows())) == 7
