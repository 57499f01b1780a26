"""Which files are compacted: pure, over files that exist in name only."""

from __future__ import annotations

import pytest

from lakeflow.lake.compact_plan import Piece, Readers, Run, Sizes, runs
from lakeflow.lake.compact_spans import Span
from lakeflow.progress import SnapshotPosition

SIZES = Sizes(below_bytes=100, target_bytes=1000, least_files=2)


def small(sequence: int, path: str = "a", *, size: int = 10, part: str = "p", movable: bool = True) -> Piece:
    return Piece(sequence, path, size, part, movable)


def at(sequence: int, path: str | None = None) -> SnapshotPosition:
    return SnapshotPosition("uuid", sequence, sequence, path)


def found(*pieces: Piece, readers: Readers = Readers(), sizes: Sizes = SIZES) -> list[list[tuple[int, str]]]:
    return [[(piece.sequence, piece.path) for piece in run.pieces] for run in runs(pieces, readers, sizes)]


def test_small_files_that_follow_each_other_become_one() -> None:
    (run,) = runs([small(3), small(1), small(2, "b"), small(2, "a")], Readers(), SIZES)
    assert [(piece.sequence, piece.path) for piece in run.pieces] == [(1, "a"), (2, "a"), (2, "b"), (3, "a")]
    assert (run.span, run.bytes) == (Span(1, 3), 40)


def test_a_large_file_parts_them() -> None:
    assert found(small(1), small(2), small(3, size=100), small(4), small(5)) == [[(1, "a"), (2, "a")], [(4, "a"), (5, "a")]]


def test_one_that_may_not_be_moved_parts_them() -> None:
    assert found(small(1), small(2, movable=False), small(3), small(4)) == [[(3, "a"), (4, "a")]]


def test_a_commit_is_taken_whole_or_not_at_all() -> None:
    assert found(small(1), small(2, "a"), small(2, "b", size=500), small(3)) == []


def test_each_run_is_about_the_target_size() -> None:
    sizes = Sizes(100, 200, 2)
    assert [len(run) for run in found(*(small(n, size=60) for n in range(1, 8)), sizes=sizes)] == [3, 3]


def test_too_few_files_are_not_worth_it() -> None:
    pieces = [small(1), small(2), small(3)]
    assert found(*pieces, sizes=Sizes(100, 1000, 4)) == []
    assert len(found(*pieces, sizes=Sizes(100, 1000, 3))) == 1


def test_files_that_would_become_as_many_again_stay() -> None:
    assert found(small(1, "a", size=90), small(1, "b", size=90), sizes=Sizes(100, 90, 2)) == []


class TestReaders:
    def test_nothing_beyond_the_slowest_is_taken(self) -> None:
        readers = Readers((at(9), at(3)))
        assert found(*(small(n) for n in range(1, 7)), readers=readers) == [[(1, "a"), (2, "a"), (3, "a")]]

    def test_a_commit_that_one_has_read_in_part_is_not_taken(self) -> None:
        readers = Readers((at(3, "a"),))
        assert found(small(1), small(2), small(3, "a"), small(3, "b"), readers=readers) == [[(1, "a"), (2, "a")]]

    def test_nothing_is_taken_before_each_has_begun(self) -> None:
        assert found(small(1), small(2), readers=Readers((at(2),), unread=("job late",))) == []

    @pytest.mark.parametrize(("border", "lengths"), [(0, [4]), (2, [2, 2]), (4, [4]), (3, [3])])
    def test_no_run_reaches_over_a_border(self, border: int, lengths: list[int]) -> None:
        readers = Readers(borders=frozenset([border]))
        assert [len(run) for run in found(*(small(n) for n in range(1, 5)), readers=readers)] == lengths


class TestPartitions:
    SEVERAL = (small(1, part="p"), small(2, part="q"), small(3, part="p"), small(4, part="q"))

    def test_each_is_compacted_by_itself(self) -> None:
        assert found(*self.SEVERAL) == [[(1, "a"), (3, "a")], [(2, "a"), (4, "a")]]

    def test_where_the_order_of_the_whole_table_counts_only_neighbours_are(self) -> None:
        by_key = Readers(by_key=True)
        assert found(*self.SEVERAL, readers=by_key) == []
        assert found(small(1), small(2), small(3, part="q"), small(4), readers=by_key) == [[(1, "a"), (2, "a")]]

    def test_there_a_commit_to_several_partitions_parts_them(self) -> None:
        pieces = (small(1), small(2), small(3, "a"), small(3, "b", part="q"), small(4), small(5))
        assert found(*pieces, readers=Readers(by_key=True)) == [[(1, "a"), (2, "a")], [(4, "a"), (5, "a")]]


def test_a_run_is_named_by_its_first_and_last_commit() -> None:
    assert Run((small(4), small(9))).span == Span(4, 9)
