"""MinIO, built from its Go module: what the object store runs. Standard library only."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

from tests.rig.cache import FETCH, Missing, Spoiled, cache_folder, digest, run, tool, verify

NAME = "minio"
MODULE = "github.com/minio/minio"
VERSION = "v0.0.0-20250907161309-07c3a429bfed"
"""RELEASE.2025-09-07T16-13-09Z."""


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


def program() -> Path:
    """Raises Missing where it was not built, Spoiled where it is not what was built, or of other modules than recorded."""
    binary = _binary()
    if not binary.exists():
        raise Missing(f"MinIO is not in {binary.parent}: {FETCH}")
    if digest(binary) != _noted(binary).read_text(encoding="utf-8"):
        raise Spoiled(f"{binary} is not what was built; remove it and: {FETCH}")
    verify(NAME, sources())
    return binary
