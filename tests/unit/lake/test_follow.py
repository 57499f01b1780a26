"""What a reader reads anew after a table changed: nothing twice, nothing that came and went, whole commits within the caps."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from lakeflow.job import Caps
from lakeflow.lake.follow import ChangeKind, NetChange, SplitFiles, TableChange, net_changes

ALL = Caps()


@dataclass(frozen=True)
class File:
    sequence: int
    path: str
    rows: int = 10
    bytes: int = 100


def change(
    sequence: int, kind: ChangeKind, added: list[File] | None = None, removed: list[File] | None = None
) -> TableChange[File]:
    return TableChange(sequence * 10, sequence, kind, tuple(added or []), tuple(removed or []))


def read_again(net: NetChange[File]) -> tuple[int, list[str], list[str]]:
    return net.sequence, [file.path for file in net.added], [file.path for file in net.removed]


OLD, NEW, LATER = File(1, "old"), File(4, "new"), File(5, "later")


def test_files_in_place_of_others_are_read_with_those_that_went() -> None:
    [net] = net_changes([change(4, ChangeKind.OVERWRITE, [NEW], [OLD])], 3, ALL)
    assert (net.snapshot_id, *read_again(net)) == (40, 4, ["new"], ["old"])


def test_a_file_that_came_and_went_is_not_read() -> None:
    changes = [change(4, ChangeKind.APPEND, [NEW]), change(5, ChangeKind.OVERWRITE, [LATER], [NEW])]
    assert [read_again(net) for net in net_changes(changes, 3, ALL)] == [(5, ["later"], [])]
    assert list(net_changes([changes[0], change(5, ChangeKind.DELETE, [], [NEW])], 3, ALL)) == []


def test_rows_that_were_read_and_moved_within_what_was_read_are_passed() -> None:
    moved = change(4, ChangeKind.REPLACE, [File(3, "one")], [File(2, "a"), File(3, "b")])
    assert list(net_changes([moved], 3, ALL)) == []
    overwritten = change(5, ChangeKind.OVERWRITE, [LATER], [File(3, "one")])
    assert [read_again(net) for net in net_changes([moved, overwritten], 3, ALL)] == [(5, ["later"], ["one"])]


def test_rows_that_moved_before_they_were_read_are_read_where_they_are() -> None:
    moved = change(6, ChangeKind.REPLACE, [File(5, "one")], [NEW, LATER])
    changes = [change(4, ChangeKind.APPEND, [NEW]), change(5, ChangeKind.APPEND, [LATER]), moved]
    assert [read_again(net) for net in net_changes(changes, 3, ALL)] == [(6, ["one"], [])]


def test_rows_that_were_read_and_moved_behind_others_come_again_in_their_new_place() -> None:
    """An engine may give the new files a sequence number of their own: then they are the last rows of their keys."""
    moved = change(4, ChangeKind.REPLACE, [NEW], [OLD])
    assert [read_again(net) for net in net_changes([moved], 3, ALL)] == [(4, ["new"], ["old"])]


@pytest.mark.parametrize("added", [[File(2, "one")], [File(2, "one"), File(5, "two")]])
def test_rows_of_which_only_some_were_read_may_not_move_to_a_place_that_was(added: list[File]) -> None:
    changes = [change(4, ChangeKind.APPEND, [NEW]), change(5, ChangeKind.REPLACE, added, [OLD, NEW])]
    with pytest.raises(SplitFiles) as refused:
        list(net_changes(changes, 3, ALL))
    assert (refused.value.snapshot_id, refused.value.span.low) == (50, 1)


def test_manifests_written_anew_move_nothing() -> None:
    assert list(net_changes([change(4, ChangeKind.REPLACE)], 3, ALL)) == []


WAVES = [change(number, ChangeKind.OVERWRITE, [File(number, f"n{number}")], [File(1, f"o{number}")]) for number in range(4, 8)]


@pytest.mark.parametrize(
    ("caps", "ends"),
    [
        (ALL, [7]),
        (Caps(files=4), [5, 7]),
        (Caps(rows=60), [6, 7]),
        (Caps(bytes=399), [4, 5, 6, 7]),
        (Caps(files=1), [4, 5, 6, 7]),
    ],
)
def test_batches_end_with_commits_and_hold_one_at_the_least(caps: Caps, ends: list[int]) -> None:
    nets = list(net_changes(WAVES, 3, caps))
    assert [net.sequence for net in nets] == ends
    assert sorted(file.path for net in nets for file in net.added) == ["n4", "n5", "n6", "n7"]
    assert sorted(file.path for net in nets for file in net.removed) == ["o4", "o5", "o6", "o7"]


def test_a_file_that_one_batch_read_is_removed_by_the_next() -> None:
    changes = [change(4, ChangeKind.APPEND, [NEW]), change(5, ChangeKind.OVERWRITE, [LATER], [NEW])]
    assert [read_again(net) for net in net_changes(changes, 3, Caps(files=0))] == [(4, ["new"], []), (5, ["later"], ["new"])]


def test_files_are_in_the_order_of_the_table() -> None:
    come = [File(4, "b"), File(4, "a")]
    [net] = net_changes([change(4, ChangeKind.OVERWRITE, come, [File(2, "y"), File(1, "z")])], 3, ALL)
    assert read_again(net) == (4, ["a", "b"], ["z", "y"])
