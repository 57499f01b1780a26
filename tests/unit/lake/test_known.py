"""What is known of Iceberg's files is what they hold: tables are as they are now, and readers that are kept read alike."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyiceberg.avro import file as avro_file
from pyiceberg.avro.resolver import construct_reader, resolve_reader
from pyiceberg.manifest import DataFile

from lakeflow.errors import UnknownName
from lakeflow.lake import known
from lakeflow.lake.catalog import Lake
from lakeflow.lake.known import MOST_TABLES, KnowingSqlCatalog
from tests.lakes import NAME, append, ids, made, open_lake


@pytest.fixture
def lakes(tmp_path: Path) -> tuple[Lake, Lake]:
    """One lake as two processes have it."""
    ours, theirs = open_lake(tmp_path), open_lake(tmp_path)
    made(ours)
    return ours, theirs


def path_and_bounds(file: DataFile) -> object:
    bounds = file.lower_bounds, file.upper_bounds, file.column_sizes, file.null_value_counts
    return file.file_path, file.record_count, file.partition, [dict(one or {}) for one in bounds]


def head(lake: Lake) -> int | None:
    found = lake.table(NAME).current_snapshot()
    return None if found is None else found.snapshot_id


def test_a_commit_of_another_process_is_seen(lakes: tuple[Lake, Lake]) -> None:
    ours, theirs = lakes
    for turn in range(3):
        append(theirs if turn % 2 else ours, ids(turn))
        assert head(ours) == head(theirs) is not None


def test_a_table_that_was_made_anew_renamed_or_dropped(lakes: tuple[Lake, Lake]) -> None:
    ours, theirs = lakes
    append(ours, ids(1))
    before = ours.table(NAME).metadata.table_uuid
    assert theirs.table(NAME).metadata.table_uuid == before
    theirs.catalog.drop_table(NAME)
    with pytest.raises(UnknownName):
        ours.table(NAME)
    made(theirs)
    assert ours.table(NAME).metadata.table_uuid != before
    assert head(ours) is None
    theirs.catalog.rename_table(NAME, "bronze.other")
    assert ours.find(NAME) is None
    assert ours.table("bronze.other").name() == ("bronze", "other")


def test_whoever_asks_gets_a_table_of_his_own(lakes: tuple[Lake, Lake]) -> None:
    ours, _ = lakes
    old = ours.table(NAME)
    append(ours, ids(1))
    assert old.current_snapshot() is None
    assert old.refresh().current_snapshot() is not None
    assert ours.table(NAME) is not ours.table(NAME)


def test_metadata_that_did_not_change_is_not_read_again(lakes: tuple[Lake, Lake]) -> None:
    ours, _ = lakes
    assert ours.table(NAME).metadata is ours.table(NAME).metadata


def test_no_more_than_so_many_tables_are_kept(tmp_path: Path) -> None:
    lake = open_lake(tmp_path)
    made(lake)
    catalog = lake.catalog
    assert isinstance(catalog, KnowingSqlCatalog)
    table = catalog.load_table(NAME)
    for number in range(MOST_TABLES + 1):
        catalog._keep(("bronze", str(number)), table)
    assert len(catalog._known) == MOST_TABLES


def test_manifests_are_read_as_by_a_reader_of_their_own(lakes: tuple[Lake, Lake], monkeypatch: pytest.MonkeyPatch) -> None:
    ours, _ = lakes
    for number in range(3):
        append(ours, ids(number))

    def entries() -> list[object]:
        table = ours.table(NAME)
        snapshot = table.current_snapshot()
        assert snapshot is not None
        found = [entry for one in snapshot.manifests(table.io) for entry in one.fetch_manifest_entry(table.io)]
        return [(one.status, one.sequence_number, path_and_bounds(one.data_file)) for one in found]

    kept = entries()
    assert len(kept) == 3
    monkeypatch.setattr(avro_file, "resolve_reader", resolve_reader)
    monkeypatch.setattr(avro_file, "construct_reader", construct_reader)
    monkeypatch.setattr(avro_file.AvroFileHeader, "get_schema", known._schema_in_header)
    assert entries() == kept
