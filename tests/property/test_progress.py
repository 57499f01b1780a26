"""Progress survives its string, and reading in any order or in any pieces comes to the same progress."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lakeflow.progress import JobProgress, KafkaOffsets, SnapshotPosition

TOPICS = st.text(st.characters(exclude_characters="#"), min_size=1, max_size=8)
PARTITIONS = st.integers(0, 200)
COUNTS = st.integers(0, 2**63 - 1)
RECORDS = st.lists(st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 3), st.integers(0, 50)))
POSITIONS = st.builds(SnapshotPosition, st.text(), st.integers(-(2**63), 2**63 - 1), COUNTS, st.none() | st.text())


@given(st.dictionaries(st.tuples(TOPICS, PARTITIONS), COUNTS), st.dictionaries(TOPICS, st.text()))
def test_offsets_survive_their_string(offsets: dict[tuple[str, int], int], ids: dict[str, str]) -> None:
    assert KafkaOffsets.loads(KafkaOffsets(offsets, ids).dumps()) == KafkaOffsets(offsets, ids)


@given(POSITIONS)
def test_a_position_survives_its_string(position: SnapshotPosition) -> None:
    assert SnapshotPosition.loads(position.dumps()) == position


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), POSITIONS, max_size=3), st.dictionaries(st.text(), JSON, max_size=3), st.text())
def test_progress_of_a_job_survives_its_string(
    positions: dict[str, SnapshotPosition], state: dict[str, object], first: str
) -> None:
    """One position without state is kept without its table's name, which the reader knows."""
    progress = JobProgress(positions, state)  # type: ignore[arg-type]
    names = [first] if len(positions) == 1 and not state else list(positions)
    found = JobProgress.loads(progress.dumps(), first)
    assert found == JobProgress(dict(zip(names, positions.values(), strict=True)), state)  # type: ignore[arg-type]
    assert JobProgress.loads(found.dumps(), first).dumps() == progress.dumps()


@given(RECORDS, st.data(), st.integers(0, 50))
def test_records_in_any_order_and_pieces_come_to_the_same_progress(
    records: list[tuple[str, int, int]], data: st.DataObject, cut: int
) -> None:
    shuffled = data.draw(st.permutations(records))
    in_pieces = KafkaOffsets().advance(shuffled[:cut]).advance(shuffled[cut:])
    assert in_pieces.dumps() == KafkaOffsets().advance(records).dumps()


@given(POSITIONS, st.lists(st.tuples(st.integers(0, 5), st.text(max_size=3))))
def test_what_a_position_covers_is_a_beginning_of_the_order_of_files(
    position: SnapshotPosition, files: list[tuple[int, str]]
) -> None:
    covered = [position.covers(*file) for file in sorted(files)]
    assert covered == sorted(covered, reverse=True)
