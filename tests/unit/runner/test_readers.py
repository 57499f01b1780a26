"""Who reads a table and how far each has come."""

from __future__ import annotations

from lakeflow.lake.compact_plan import Readers
from lakeflow.progress import SnapshotPosition
from lakeflow.runner.readers import Reading, readers_at

UUID = "uuid"


def at(sequence: int, uuid: str = UUID) -> SnapshotPosition:
    return SnapshotPosition(uuid, sequence, sequence)


def test_positions_are_those_of_who_reads_incrementally() -> None:
    readings = (Reading("job a", at(3), False), Reading("index b", at(5), True, begins_anew=True))
    assert readers_at(readings, UUID) == Readers((at(3), at(5)), (), by_key=True)


def test_a_job_that_has_not_begun_is_named() -> None:
    assert readers_at([Reading("job a", None, False)], UUID) == Readers((), ("job a",))


def test_an_index_that_was_not_built_and_a_job_that_reads_the_whole_bind_nothing_but_the_order() -> None:
    readings = (Reading("index a", None, True, begins_anew=True), Reading("job b", None, False, incremental=False))
    assert readers_at(readings, UUID) == Readers((), (), by_key=True)


def test_a_position_in_an_earlier_table_of_the_name_binds_nothing() -> None:
    assert readers_at([Reading("job a", at(9, "other"), False)], UUID) == Readers()
