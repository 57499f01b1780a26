"""The set of real servers: each started once, when it is first asked for, and all stopped at the end."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Protocol, TypeVar

from tests.rig import cache, catalog, kafka, postgres, storage
from tests.rig.cache import Missing
from tests.rig.catalog import RestCatalog
from tests.rig.kafka import Kafka
from tests.rig.postgres import Postgres
from tests.rig.storage import Storage

OFF = "LAKEFLOW_RIG"
KEEP = "LAKEFLOW_RIG_KEEP"
PARTS = {"kafka": kafka, "storage": storage, "catalog": catalog, "postgres": postgres}


class Server(Protocol):
    def start(self) -> None: ...
    def stop(self) -> None: ...


Started = TypeVar("Started", bound=Server)


def is_off() -> bool:
    return os.environ.get(OFF) == "off"


def fetch() -> dict[str, str]:
    """Fills the cache. What could not be had, and why."""
    missing: dict[str, str] = {}
    with cache.locked("fetch"):
        for name, part in PARTS.items():
            try:
                part.fetch()
            except Missing as error:
                missing[name] = str(error)
    return missing


def record() -> None:
    """Takes what is in the cache for right: only after a version was changed on purpose."""
    for name in (kafka.NAME, catalog.NAME):
        cache.record(name, cache.digests(cache.jars_folder(name)))
    cache.record(storage.NAME, storage.sources())


class Rig:
    """Use in a `with`. Each property gives a server that answers; Missing where it cannot run here.

    Ports are chosen by the system. While a server starts, no other rig of this machine starts one, so that two never
    take one port. Logs are in `folder`, which is removed at the end unless LAKEFLOW_RIG_KEEP is set.
    """

    def __init__(self) -> None:
        # In the system's folder for such things: PostgreSQL runs as a user of its own and must be able to enter.
        self.folder = Path(tempfile.mkdtemp(prefix="lakeflow-rig-"))
        self.folder.chmod(0o755)
        self._servers: dict[str, Server] = {}
        self._missing: dict[str, Missing] = {}

    def __enter__(self) -> Rig:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """Stops what was started, the last first."""
        for server in reversed(self._servers.values()):
            server.stop()
        self._servers.clear()
        if not os.environ.get(KEEP):
            shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def kafka(self) -> Kafka:
        return self._started("kafka", Kafka, self.folder)

    @property
    def three_kafkas(self) -> Kafka:
        return self._started("three_kafkas", Kafka, self.folder / "three", 3)

    @property
    def storage(self) -> Storage:
        return self._started("storage", Storage, self.folder)

    @property
    def catalog(self) -> RestCatalog:
        return self._started("catalog", RestCatalog, self.folder, self.storage)

    @property
    def postgres(self) -> Postgres:
        return self._started("postgres", Postgres, self.folder)

    def postgres_options(self) -> dict[str, str]:
        """[catalog] of a project whose catalog is PostgreSQL, with its tables in the object store."""
        warehouse = f"s3://{storage.BUCKET}/postgres"
        return {"type": "sql", "uri": self.postgres.uri, "warehouse": warehouse, **self.storage.catalog_options()}

    def index_options(self) -> dict[str, str]:
        """[index.storage], for an index in the object store."""
        return {
            "endpoint": self.storage.endpoint,
            "allow_http": "true",
            "region": storage.REGION,
            "access_key_id": storage.ACCESS_KEY,
            "secret_access_key": storage.SECRET_KEY,
        }

    def _started(self, name: str, make: type[Started], *arguments: object) -> Started:
        if name in self._missing:
            raise self._missing[name]
        if name not in self._servers:
            try:
                server = make(*arguments)
            except Missing as error:
                self._missing[name] = error
                raise
            self._servers[name] = server
            with cache.locked("start"):
                server.start()
        return self._servers[name]  # type: ignore[return-value]
