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
    from tests.rig.kafka import Kafka
    from tests.rig.postgres import Postgres
    from tests.rig.rig import Rig
    from tests.rig.storage import Storage

Server = TypeVar("Server")


@pytest.fixture(scope="session")
def rig() -> Iterator[Rig]:
    from tests.rig.rig import OFF, Rig, is_off

    if is_off():
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
