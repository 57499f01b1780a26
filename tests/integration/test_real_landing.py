"""Landings that share tables, on three real brokers, a catalog and an object store in bad weather: the short form.

The long one is `make chaos-real`. LAKEFLOW_CHAOS_SEED repeats the choices.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.real import Plan, Servers, play
from tests.chaos.real_proxy import Climate
from tests.chaos.real_report import report
from tests.integration.test_real_catalog import empty
from tests.rig.catalog import RestCatalog
from tests.rig.duck import DuckDB
from tests.rig.kafka import Kafka
from tests.rig.storage import Storage

SECONDS = 35.0
CLIMATES = (Climate(0.02, 0.25, 15.0, 3.0, 3.0), Climate(0.01, 0.01, 20.0, 3.0, 5.0))


@pytest.fixture
def catalog(rest_catalog: RestCatalog, storage: Storage) -> Iterator[RestCatalog]:
    """Of an empty lake."""
    empty(rest_catalog.options(), storage)
    yield rest_catalog
    empty(rest_catalog.options(), storage)


@pytest.mark.chaos
@pytest.mark.timeout(600)
@pytest.mark.skipif(sys.platform != "linux", reason="watches processes by /proc")
def test_every_committed_record_is_there_once_whatever_befalls_landings_brokers_catalog_and_store(
    three_kafkas: Kafka, catalog: RestCatalog, duckdb_iceberg: DuckDB, tmp_path: Path
) -> None:
    seed = int(os.environ.get("LAKEFLOW_CHAOS_SEED") or random.randrange(1_000_000))
    print(f"LAKEFLOW_CHAOS_SEED={seed}")
    outcome = play(
        Servers(three_kafkas, catalog, duckdb_iceberg),
        tmp_path,
        Plan(SECONDS, seed, brokers=(4.0, 10.0), pace=0.8, climates=CLIMATES),
    )
    print(report(outcome))
    assert outcome.tally.done["landings killed"] + outcome.tally.done["landings stopped past their session"] > 0
