"""Whether the warehouse can be written: a small file is written and deleted again."""

from __future__ import annotations

import uuid

from pyiceberg.io import load_file_io

from lakeflow.lake.catalog import Lake
from lakeflow.lake.failures import lake_errors


def warehouse_of(lake: Lake) -> str | None:
    """The place of new tables as a URI or path; None where the catalog alone knows it, as many REST catalogs do."""
    place = lake.catalog.properties.get("warehouse", "")
    return place if "://" in place or place.startswith("/") else None


def probe_warehouse(lake: Lake, place: str) -> None:
    """Write a file below `place` and delete it. Raises StorageFull, StorageUnavailable."""
    path = f"{place.rstrip('/')}/.lakeflow-probe-{uuid.uuid4().hex}"
    with lake_errors(f"the warehouse {place}"):
        files = load_file_io(lake.catalog.properties, path)
        with files.new_output(path).create(overwrite=True) as stream:
            stream.write(b"lakeflow doctor")
        files.delete(path)
