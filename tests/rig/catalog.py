"""A real Iceberg REST catalog that no one here wrote: the one of Iceberg's own library, over its JDBC catalog."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

from tests.rig.cache import HERE, Missing, jars
from tests.rig.process import HOST, Process, free_ports, java
from tests.rig.storage import ACCESS_KEY, BUCKET, REGION, SECRET_KEY, Storage

NAME = "catalog"
HEAP_MIB = 256
WAREHOUSE = f"s3://{BUCKET}/warehouse"


class RestCatalog:
    """One server that keeps its tables in an SQLite file and their files in `storage`; `uri` is for PyIceberg."""

    def __init__(self, folder: Path, storage: Storage) -> None:
        self._folder = folder / "catalog"
        self._class_path = jars(NAME)
        self._storage = storage
        self.uri = ""
        self.process: Process | None = None

    def start(self) -> None:
        (port,) = free_ports(1)
        self.uri = f"http://{HOST}:{port}"
        self._folder.mkdir(parents=True)
        properties = {
            "uri": f"jdbc:sqlite:file:{self._folder}/catalog.db?busy_timeout=10000",
            "jdbc.schema-version": "V1",
            "warehouse": WAREHOUSE,
            "io-impl": "org.apache.iceberg.aws.s3.S3FileIO",
            "http-client.type": "urlconnection",
            "s3.endpoint": self._storage.endpoint,
            "s3.path-style-access": "true",
        }
        arguments = [str(port), *(f"{name}={value}" for name, value in properties.items())]
        command = [*java(HEAP_MIB, self._class_path), str(HERE / "LoopbackCatalog.java"), *arguments]
        keys = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY, "AWS_REGION": REGION}
        self.process = Process("catalog", command, self._folder / "log", self._is_ready, keys)
        self.process.start()

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/v1/config", timeout=2) as answer:
                return bool(answer.status == 200)
        except urllib.error.HTTPError as error:
            raise Missing(f"the catalog answers {error.code} to /v1/config") from error
        except (urllib.error.URLError, OSError):
            return False

    def options(self) -> dict[str, str]:
        """[catalog] of a project that uses it."""
        return {"type": "rest", "uri": self.uri, "warehouse": WAREHOUSE, **self._storage.catalog_options()}

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
