"""A real S3-compatible object store: MinIO, built from its Go module."""

from __future__ import annotations

import hashlib
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

from pyarrow.fs import S3FileSystem

from tests.rig.cache import Missing, Spoiled, cache_folder, digest, run, tool, verify
from tests.rig.process import HOST, Process, free_ports

NAME = "minio"
MODULE = "github.com/minio/minio"
VERSION = "v0.0.0-20250907161309-07c3a429bfed"
"""RELEASE.2025-09-07T16-13-09Z."""
ACCESS_KEY = "loopback-only-user"
SECRET_KEY = "loopback-only-storage"
REGION = "us-east-1"
BUCKET = "lakeflow"


def _binary() -> Path:
    return cache_folder() / NAME / f"minio-{VERSION}"


def _noted(binary: Path) -> Path:
    """Where the checksum of what was built here is kept."""
    return binary.with_name(f"{binary.name}.sha256")


def fetch() -> None:
    """Builds it: minutes. What the binary then is depends on Go's version; what it was built from does not."""
    binary = _binary()
    if binary.exists():
        return
    go = tool("go", "golang")
    place = cache_folder() / f"{NAME}.part"
    environment = {"GOBIN": str(place), "CGO_ENABLED": "0"}
    run([go, "install", "-trimpath", "-ldflags=-s -w", f"{MODULE}@{VERSION}"], cache_folder() / f"{NAME}.log", environment)
    binary.parent.mkdir(exist_ok=True)
    checksum = digest(place / NAME)
    _noted(binary).write_text(checksum, encoding="utf-8")
    (place / NAME).rename(binary)
    place.rmdir()


def sources() -> dict[str, str]:
    """The modules that the binary says it was built from, each with its version and checksum, as one digest."""
    shown = subprocess.run([tool("go", "golang"), "version", "-m", str(_binary())], capture_output=True, text=True, check=True)
    modules = [line.split() for line in shown.stdout.splitlines() if line.split()[0] in ("mod", "dep", "=>")]
    text = "\n".join(" ".join(module[:4]) for module in modules)
    return {f"{MODULE}@{VERSION}": hashlib.sha256(text.encode()).hexdigest()}


class Storage:
    """One node with one folder. `endpoint` is its URL; BUCKET is there once it is started."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "storage"
        self._binary = _binary()
        if not self._binary.exists():
            raise Missing(f"MinIO is not in {self._binary.parent}: make rig")
        if digest(self._binary) != _noted(self._binary).read_text(encoding="utf-8"):
            raise Spoiled(f"{self._binary} is not what was built; remove it and: make rig")
        verify(NAME, sources())
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
