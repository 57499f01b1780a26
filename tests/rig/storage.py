"""A real S3-compatible object store: MinIO."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

from pyarrow.fs import S3FileSystem

from tests.rig import minio
from tests.rig.process import HOST, Process, free_ports

ACCESS_KEY = "loopback-only-user"
SECRET_KEY = "loopback-only-storage"
REGION = "us-east-1"
BUCKET = "lakeflow"


class Storage:
    """One node with one folder. `endpoint` is its URL; BUCKET is there once it is started."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "storage"
        self._binary = minio.program()
        self.endpoint = ""
        self.process: Process | None = None

    def start(self) -> None:
        (port,) = free_ports(1)
        self.endpoint = f"http://{HOST}:{port}"
        (self._folder / "data").mkdir(parents=True)
        command = [str(self._binary), "server", str(self._folder / "data"), "--address", f"{HOST}:{port}", "--quiet"]
        environment = {
            "MINIO_ROOT_USER": ACCESS_KEY,
            "MINIO_ROOT_PASSWORD": SECRET_KEY,
            "MINIO_BROWSER": "off",
            "MINIO_UPDATE": "off",
            "GOMEMLIMIT": "256MiB",
        }
        self.process = Process("minio", command, self._folder / "log", self._is_ready, environment)
        self.process.start()
        self.files(creating=True).create_dir(BUCKET)

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.endpoint}/minio/health/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def files(self, creating: bool = False) -> S3FileSystem:
        """The store as PyArrow sees it, for tests that look at what is there."""
        return S3FileSystem(
            access_key=ACCESS_KEY,
            secret_key=SECRET_KEY,
            endpoint_override=self.endpoint,
            region=REGION,
            allow_bucket_creation=creating,
        )

    def catalog_options(self) -> dict[str, str]:
        """What PyIceberg needs to reach it."""
        return {
            "s3.endpoint": self.endpoint,
            "s3.region": REGION,
            "s3.access-key-id": ACCESS_KEY,
            "s3.secret-access-key": SECRET_KEY,
        }

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
