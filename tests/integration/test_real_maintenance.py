"""Maintenance over a real REST catalog and a real object store."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from lakeflow.lake.catalog import Lake
from lakeflow.lake.commit import Committer
from lakeflow.lake.compact_plan import Readers, Sizes
from lakeflow.lake.maintain import Upkeep, maintain_table
from lakeflow.lake.orphans import find_orphans
from lakeflow.lake.orphans_listing import stored_under
from lakeflow.lake.read import appended, position_at, read
from tests.integration.test_real_catalog import empty
from tests.lakes import NAME, append, id_rows, ids, live_paths, made, path_of, stored_files
from tests.rig.catalog import RestCatalog
from tests.rig.storage import Storage

SIZES = Sizes(below_bytes=1 << 20, target_bytes=4 << 20, least_files=2)
SOON = timedelta(minutes=1)


@pytest.fixture
def lake(rest_catalog: RestCatalog, storage: Storage) -> Iterator[Lake]:
    empty(rest_catalog.options(), storage)
    lake = Lake.open(rest_catalog.options())
    made(lake)
    for value in range(6):
        append(lake, ids(value, value + 10))
    yield lake
    empty(rest_catalog.options(), storage)


def test_a_table_is_compacted_and_cleaned_and_its_readers_go_on(lake: Lake) -> None:
    table = lake.table(NAME)
    position = position_at(table, table.current_snapshot())
    before = id_rows(table)
    upkeep = Upkeep(SIZES, 20, 1, timedelta(0), orphan_age=timedelta(0))
    for done in maintain_table(lake, Committer(lake), NAME, upkeep, Readers, datetime.now(UTC) + SOON):
        assert done.left == ()
    table = lake.table(NAME)
    assert (done.compacted.files_before, len(live_paths(table)), done.expired.snapshots) == (6, 1, 6)
    assert id_rows(table) == before
    assert stored_files(table) == {path_of(live_paths(table)[0])}
    append(lake, ids(99))
    table = lake.table(NAME)
    assert [row for batch in read(table, appended(table, position)) for row in batch.column("id").to_pylist()] == [99]


def test_an_orphan_in_the_object_store_is_found_and_nothing_else(lake: Lake, storage: Storage) -> None:
    table = lake.table(NAME)
    stray = f"{path_of(table.location())}/data/deep/stray.parquet"
    with storage.files().open_output_stream(stray) as stream:
        stream.write(b"four")
    assert find_orphans(lake, NAME, datetime.now(UTC) - timedelta(hours=1)).orphans == ()
    (orphan,) = find_orphans(lake, NAME, datetime.now(UTC) + SOON).orphans
    assert (orphan.path, orphan.bytes) == (f"s3://{stray}", 4)


def test_everything_in_the_object_store_is_listed(lake: Lake) -> None:
    table = lake.table(NAME)
    listed = {stored.below for stored in stored_under(table.io, table.location())}
    assert {path.removeprefix(f"{table.location()}/") for path in live_paths(table)} <= listed
    assert any(below.startswith("metadata/") and below.endswith(".metadata.json") for below in listed)
