"""The set of real servers: each started once, when it is first asked for, and all stopped at the end."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Protocol, TypeVar

from tests.rig import cache, storage
from tests.rig.cache import Missing
from tests.rig.catalog import RestCatalog
from tests.rig.duck import DuckDB
from tests.rig.kafka import Kafka
from tests.rig.postgres import Postgres
from tests.rig.process import NotReady
from tests.rig.secured import SecuredKafka
from tests.rig.spark import Spark
from tests.rig.storage import Storage

KEEP = "LAKEFLOW_RIG_KEEP"
SERVERS = ("kafka", "storage", "catalog", "postgres")
"""What `make servers` starts."""
TRIES = 3
LOG_LINES = 30


class Server(Protocol):
    def start(self) -> None: ...
    def stop(self) -> None: ...


Started = TypeVar("Started", bound=Server)


class Rig:
    """Use in a `with`. Each property gives a server that answers; Missing where it cannot run here.

    Ports are found free just before a server starts; while it does, no other rig of this machine starts one, so that two
    never take one port. A server that does not come up all the same is tried again on other ports. Whoever fills the
    cache at this time is waited for. Logs are in `folder`, which is removed at the end unless LAKEFLOW_RIG_KEEP is set.
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

    def logs(self) -> dict[str, str]:
        """The last lines of each server's log, by the log's place in `folder`."""
        found = sorted(log for log in self.folder.rglob("log") if log.is_file())
        texts = {str(log.relative_to(self.folder)): log.read_text(encoding="utf-8", errors="replace") for log in found}
        return {name: "\n".join(text.splitlines()[-LOG_LINES:]) for name, text in texts.items()}

    def stop(self) -> None:
        """Stops what was started, the last first."""
        for server in reversed(self._servers.values()):
            server.stop()
        self._servers.clear()
        if not os.environ.get(KEEP):
            shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def kafka(self) -> Kafka:
        return self.started("kafka", Kafka)

    @property
    def three_kafkas(self) -> Kafka:
        return self.started("three_kafkas", lambda folder: Kafka(folder, 3))

    @property
    def secured_kafka(self) -> SecuredKafka:
        return self.started("secured_kafka", SecuredKafka)

    @property
    def storage(self) -> Storage:
        return self.started("storage", Storage)

    @property
    def catalog(self) -> RestCatalog:
        storage = self.storage
        return self.started("catalog", lambda folder: RestCatalog(folder, storage))

    @property
    def postgres(self) -> Postgres:
        return self.started("postgres", Postgres)

    @property
    def spark(self) -> Spark:
        return self.started("spark", Spark)

    @property
    def duckdb(self) -> DuckDB:
        return self.started("duckdb", DuckDB)

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

    def started(self, name: str, make: Callable[[Path], Started]) -> Started:
        """The server of this name, which `make` makes where it was not asked for yet; it is given a folder of its own."""
        if name in self._missing:
            raise self._missing[name]
        if name not in self._servers:
            with cache.locked(cache.FETCHING):
                pass
            try:
                server = self._start(name, make)
            except Missing as error:
                self._missing[name] = error
                raise
            self._servers[name] = server
        return self._servers[name]  # type: ignore[return-value]

    def _start(self, name: str, make: Callable[[Path], Started]) -> Started:
        """Raises NotReady, which ends with the server's log, after the last try."""
        for attempt in range(1, TRIES + 1):
            server = make(self._place(name, attempt))
            try:
                with cache.locked("start"):
                    server.start()
            except NotReady as error:
                server.stop()
                if attempt == TRIES:
                    raise
                print(f"{name} is tried again: {error}", file=sys.stderr)
            else:
                return server
        raise AssertionError("unreachable")

    def _place(self, name: str, attempt: int) -> Path:
        place = self.folder / (name if attempt == 1 else f"{name}-{attempt}")
        place.mkdir()
        return place
