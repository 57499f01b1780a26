"""Lands what was computed against main's head: where another commit comes first, it is computed again on what that left."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from lakeflow.errors import CommitConflict
from lakeflow.lake.commit import Change
from lakeflow.lake.failures import lake_errors
from lakeflow.lake.write import DataWriter

ATTEMPTS = 5


class Outcome(Protocol):
    """What a computation against the snapshot `base` came to: files that come and files that go."""

    @property
    def add(self) -> tuple[DataFile, ...]: ...
    @property
    def remove(self) -> tuple[DataFile, ...]: ...
    @property
    def base(self) -> int | None: ...
    @property
    def replaces_all(self) -> bool: ...

    def summary(self) -> Mapping[str, str]:
        """As facts of a commit's summary."""
        ...


Result = TypeVar("Result", bound=Outcome, covariant=True)
Landed = TypeVar("Landed")


class OnBase(Protocol[Result]):
    """Writes the files of its outcome against the head of its table, again after the table was refreshed."""

    def merge(self, writer: DataWriter) -> Result: ...


def computed(work: OnBase[Result], writer: DataWriter) -> Result:
    """The outcome. Where it fails, what was written is deleted."""
    try:
        return work.merge(writer)
    except BaseException:
        writer.abort()
        raise


def change_of(outcome: Outcome, table: Table, summary: Mapping[str, str]) -> Change:
    """The commit of an outcome, without progress. `summary` is added to the outcome's own."""
    return Change(
        ".".join(table.name()),
        outcome.add,
        outcome.remove,
        replace_all=outcome.replaces_all,
        base=outcome.base,
        on_base=True,
        summary={**summary, **outcome.summary()},
        table_uuid=str(table.metadata.table_uuid),
    )


def land(
    work: OnBase[Result],
    table: Table,
    writer: Callable[[], DataWriter],
    commit: Callable[[Change], Landed],
    summary: Mapping[str, str] | None = None,
    attempts: int = ATTEMPTS,
) -> tuple[Landed, Result]:
    """Compute and commit, at most `attempts` times; what `commit` gave, and the outcome that landed.

    `table` is the one that `work` was made with: it is refreshed after a conflict. Raises CommitConflict where another commit
    came first each time, and what `work` and `commit` raise.
    """
    for attempt in range(attempts):
        outcome = computed(work, writer())
        try:
            return commit(change_of(outcome, table, summary or {})), outcome
        except CommitConflict as error:
            if attempt == attempts - 1:
                error.left_behind = error.left_behind or "nothing of this change is in the table"
                error.next_step = error.next_step or "run the same command again; it is worked out anew on what the table holds"
                raise
            with lake_errors(f"table {'.'.join(table.name())}"):
                table.refresh()
    raise AssertionError("the last attempt returns or raises")
