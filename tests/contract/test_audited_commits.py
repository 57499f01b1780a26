"""Commits by way of a branch keep the contract of all commits, whatever the catalog and whatever it says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from lakeflow.lake.commit import Committer
from lakeflow.lake.publish import AuditedCommitter
from tests.commit_systems import (
    Fault,
    RealSystem,
    System,
    locked,
    lost_answer,
    no_answer,
    real_system,
    sent_twice,
    state_unknown_landed,
    state_unknown_not_landed,
)
from tests.contract.test_commit_protocol import TestEveryImplementation as EveryImplementation
from tests.contract.test_commit_protocol import TestRealCatalogs as RealCatalogs
from tests.contract.test_commit_protocol import step
from tests.lakes import NAME, live_paths, path_of, stored_files

NUMBERS = count()
UNLIKE: Any = None
"""In place of a test of what these commits do otherwise."""


@dataclass
class AuditedSystem(RealSystem):
    """Each writer has a branch of its own, as jobs have."""

    def commits(self, attempts: int = 4) -> Committer:
        return AuditedCommitter(super().commits(attempts), f"audit{next(NUMBERS)}", lambda table, snapshot, change: None)


def audited(kind: str, folder: Path) -> AuditedSystem:
    made = real_system(kind, folder)
    return AuditedSystem(made.lake, made.fence, made.catalog)


@pytest.fixture
def real(tmp_path: Path) -> Iterator[AuditedSystem]:
    """With the standard requirements alone."""
    system = audited("rest catalog", tmp_path)
    yield system
    assert {path_of(path) for path in live_paths(system.table())} <= stored_files(system.table())


@pytest.fixture
def system(tmp_path: Path) -> System:
    """With the requirement of our own too."""
    return audited("progress fence", tmp_path)


class TestByWayOfABranch(EveryImplementation):
    """But for columns, which no job brings, and for how many attempts it takes."""

    test_columns_land_in_the_commit_of_the_rows_that_need_them = UNLIKE
    test_columns_planned_on_a_schema_that_moved_are_a_conflict_and_land_nothing = UNLIKE
    test_columns_and_rows_land_once_whatever_answers_are_lost = UNLIKE
    test_a_merge_may_bring_columns = UNLIKE
    test_a_lost_answer_is_recognised_and_not_applied_again = UNLIKE


class TestCatalogsByWayOfABranch(RealCatalogs):
    test_whatever_the_catalog_says_the_change_lands_once = UNLIKE


@pytest.mark.parametrize("place", [0, 1], ids=["branch", "main"])
@pytest.mark.parametrize("fault", [lost_answer, no_answer, state_unknown_landed, state_unknown_not_landed, locked, sent_twice])
def test_whatever_is_said_to_either_of_the_two_commits_the_change_lands_once(
    real: AuditedSystem, fault: Fault, place: int
) -> None:
    real.commits().commit(step(real, None, "a", 1))
    real.catalog.faults.extend([lambda send: send()] * place + [fault])
    done = real.commits().commit(step(real, "a", "b", 2))
    assert (real.rows(), real.snapshots(), real.head()) == ([1, 2], 2, done.snapshot_id)
    assert real.commits().progress(NAME, "landing") == "b"
