"""The pytest fixtures of the rig, for the suites that use real servers.

Each server is started when the first test asks for it and lives for the session. Without what it needs its tests are
skipped with the reason, and fail where CI=true; LAKEFLOW_RIG=off skips them everywhere. Imports are in the fixtures:
every test run loads this module.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Generator, Iterator
from types import ModuleType
from typing import TYPE_CHECKING, TypeVar

import pytest

from tests.rig import cache

if TYPE_CHECKING:
    from tests.rig.catalog import RestCatalog
    from tests.rig.duck import DuckDB
    from tests.rig.kafka import Kafka
    from tests.rig.postgres import Postgres
    from tests.rig.rig import Rig
    from tests.rig.secured import SecuredKafka
    from tests.rig.spark import Spark
    from tests.rig.storage import Storage

pytest.register_assert_rewrite("tests.rig.readers")

Server = TypeVar("Server")


LOGS = pytest.StashKey[dict[str, str]]()
"""How the logs of servers end, where a test has failed."""


@pytest.fixture(scope="session")
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    from tests.rig.rig import Rig

    if cache.is_off():
        pytest.skip(f"{cache.OFF}=off leaves out the real servers")
    with Rig() as servers:
        yield servers
        if request.session.testsfailed:
            request.config.stash[LOGS] = servers.logs()


def started(server: Callable[[], Server]) -> Server:
    try:
        return server()
    except cache.Missing as error:
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
def secured_kafka(rig: Rig) -> SecuredKafka:
    return started(lambda: rig.secured_kafka)


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

    Of several processes that share the tests one has all of those with servers, so that each server is there once.
    """
    items.sort(key=uses_servers)
    for item in items:
        if uses_servers(item):
            item.add_marker(pytest.mark.xdist_group("servers"))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Before the first of them, and before its own time begins to count, it is waited until the cache is filled."""
    if uses_servers(item):
        wait_for_the_cache()
    return (yield)


def uses_servers(item: pytest.Item) -> bool:
    """By a fixture that it names, or by what its module imports: a fixture may be asked for while the test runs."""
    return "rig" in getattr(item, "fixturenames", ()) or imports_servers(getattr(item, "module", None))


@functools.cache
def imports_servers(module: ModuleType | None) -> bool:
    places = (getattr(value, "__module__", None) for value in vars(module).values()) if module else ()
    return any(str(place).startswith(f"{__package__}.") for place in places)


@functools.cache
def wait_for_the_cache() -> None:
    if not cache.is_off():
        with cache.locked(cache.FETCHING):
            pass


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for name, end in config.stash.get(LOGS, {}).items():
        terminalreporter.section(f"{name} ends")
        terminalreporter.write_line(end)
