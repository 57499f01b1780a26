"""The pytest fixtures of the rig, for the suites that use real servers.

Each server is started when the first test asks for it and lives for the session. Without what it needs its tests are
skipped with the reason, and fail where CI=true; LAKEFLOW_RIG=off skips them everywhere. Imports are in the fixtures:
every test run loads this module.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

import pytest

if TYPE_CHECKING:
    from tests.rig.catalog import RestCatalog
    from tests.rig.duck import DuckDB
    from tests.rig.kafka import Kafka
    from tests.rig.postgres import Postgres
    from tests.rig.rig import Rig
    from tests.rig.spark import Spark
    from tests.rig.storage import Storage

WAIT_SECONDS = 1200

pytest.register_assert_rewrite("tests.rig.readers")

Server = TypeVar("Server")


@pytest.fixture(scope="session")
def rig() -> Iterator[Rig]:
    from tests.rig.parts import OFF
    from tests.rig.rig import Rig

    if os.environ.get(OFF) == "off":
        pytest.skip(f"{OFF}=off leaves out the real servers")
    with Rig() as servers:
        yield servers


def started(server: Callable[[], Server]) -> Server:
    from tests.rig.cache import Missing

    try:
        return server()
    except Missing as error:
        reason = str(error)
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def real_kafka(rig: Rig) -> Kafka:
    return started(lambda: rig.kafka)


@pytest.fixture(scope="session")
def three_kafkas(rig: Rig) -> Kafka:
    return started(lambda: rig.three_kafkas)


@pytest.fixture(scope="session")
def storage(rig: Rig) -> Storage:
    return started(lambda: rig.storage)


@pytest.fixture(scope="session")
def rest_catalog(rig: Rig) -> RestCatalog:
    return started(lambda: rig.catalog)


@pytest.fixture(scope="session")
def postgres(rig: Rig) -> Postgres:
    return started(lambda: rig.postgres)


@pytest.fixture(scope="session")
def spark(rig: Rig) -> Spark:
    return started(lambda: rig.spark)


@pytest.fixture(scope="session")
def duckdb_iceberg(rig: Rig) -> DuckDB:
    return started(lambda: rig.duckdb)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests with real servers come last, the others in their order: whoever fills the cache meanwhile has time for it.
    The first of them waits for the rest of that, and starts servers, within a time of its own."""
    items.sort(key=uses_servers)
    for item in items:
        if uses_servers(item):
            item.add_marker(pytest.mark.timeout(WAIT_SECONDS))
            break


def uses_servers(item: pytest.Item) -> bool:
    return "rig" in getattr(item, "fixturenames", ())
