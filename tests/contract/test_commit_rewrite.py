"""What a rewrite requires of a table, held by each implementation of the commit protocol."""

from __future__ import annotations

from pathlib import Path

import pytest

from lakeflow.errors import CommitConflict
from lakeflow.lake.commit import Change
from lakeflow.lake.compact_change import Rewrite
from lakeflow.lake.compact_spans import Span
from lakeflow.testing.lake import MemoryCommits, Outage
from tests.commit_systems import REAL, FakeSystem, System, real_system
from tests.lakes import NAME


@pytest.fixture(params=[*REAL, "in memory"])
def system(request: pytest.FixtureRequest, tmp_path: Path) -> System:
    return FakeSystem(MemoryCommits()) if request.param == "in memory" else real_system(request.param, tmp_path)


def rewrite(system: System) -> tuple[Change, Change]:
    """A commit of two files, and one that puts their rows into one."""
    first, second = system.file(1), system.file(2)
    system.commits().commit(Change(NAME, (first,)))
    system.commits().commit(Change(NAME, (second,)))
    together = system.file(1, 2)
    spans = (Span(1, 2),)
    change = Change(NAME, (together,), (first, second), rewrite=Rewrite({together.file_path: 2}, spans, planned_at=2))
    return Change(NAME, (system.file(3),)), change


def test_it_lands_on_a_head_that_moved_on(system: System) -> None:
    append, change = rewrite(system)
    system.commits().commit(append)
    assert system.commits().commit(change).attempts == 1
    assert (system.rows(), system.snapshots()) == ([1, 2, 3], 4)


def test_it_does_not_land_where_a_file_is_gone_and_its_own_are_deleted(system: System) -> None:
    append, change = rewrite(system)
    system.commits().commit(Change(NAME, append.add, change.remove[:1], base=system.head()))
    with pytest.raises(CommitConflict, match="no longer there to be written anew"):
        system.commits().commit(change)
    assert system.rows() == [2, 3]
    assert system.is_deleted(change.add[0])


@pytest.mark.parametrize("outage", list(Outage))
def test_it_lands_once_whatever_became_of_the_answer(system: System, outage: Outage) -> None:
    _, change = rewrite(system)
    system.fail(outage)
    system.commits().commit(change)
    assert (system.rows(), system.snapshots()) == ([1, 2], 3)
    assert not system.is_deleted(change.add[0])


def test_passed_again_it_changes_nothing(system: System) -> None:
    _, change = rewrite(system)
    first = system.commits().commit(change)
    assert system.commits().commit(change).snapshot_id == first.snapshot_id
    assert system.rows() == [1, 2]
