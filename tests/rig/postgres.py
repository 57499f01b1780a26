"""A real PostgreSQL, of the machine's own package: no version of ours, so 14 or newer is asked for."""

from __future__ import annotations

import importlib.util
import os
import pwd
import re
import shutil
import signal
import subprocess
from pathlib import Path

from tests.rig.cache import Missing, cache_folder, run, tool
from tests.rig.process import HOST, Process, free_ports

USER = "lakeflow"
PASSWORD = "loopback-only-postgres"
DATABASE = "lakeflow"
OLDEST = 14
PACKAGE = "postgresql"
SERVER_USER = "postgres"
"""PostgreSQL refuses to run as root; Debian's package makes this user."""


def fetch() -> None:
    """The machine's package is its owner's to install; where CI=true it is installed here."""
    try:
        programs()
    except Missing:
        if os.environ.get("CI") != "true":
            raise
        _install()
        programs()


def _install() -> None:
    """Debian's package: as root, or by sudo where that asks for no password. Its own cluster is not wanted."""
    apt = tool("apt-get", PACKAGE)
    as_root = [] if os.getuid() == 0 else [tool("sudo", "sudo"), "--non-interactive"]
    command = [*as_root, "env", "DEBIAN_FRONTEND=noninteractive", apt, "--yes", "--no-install-recommends"]
    wait = ["-o", "DPkg::Lock::Timeout=300"]
    run([*command, *wait, "update"], cache_folder() / "apt-update.log")
    run([*command, *wait, "install", PACKAGE], cache_folder() / "apt-install.log")


def require_driver() -> None:
    """What SQLAlchemy reaches it with; an extra of lakeflow."""
    if importlib.util.find_spec("psycopg2") is None:
        raise Missing('psycopg2 is not installed: pip install "lakeflow[postgres]"')


def programs() -> Path:
    """The folder of initdb and postgres. Raises Missing."""
    places = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if found := shutil.which("initdb"):
        places.append(Path(found).resolve().parent)
    versions = {_version(place): place for place in places}
    if not versions or max(versions) < OLDEST:
        raise Missing(f"PostgreSQL {OLDEST} or newer is not installed: apt-get install postgresql")
    return versions[max(versions)]


def _version(place: Path) -> int:
    shown = subprocess.run([str(place / "postgres"), "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"(\d+)", shown)
    return int(found.group(1)) if found else 0


class Postgres:
    """One server with one database; `uri` is for SQLAlchemy."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "postgres"
        require_driver()
        self._programs = programs()
        self._user = SERVER_USER if os.getuid() == 0 else None
        if self._user is not None and self._user not in {one.pw_name for one in pwd.getpwall()}:
            raise Missing("PostgreSQL does not run as root, and there is no user postgres: apt-get install postgresql")
        self.uri = ""
        self.port = 0
        self.process: Process | None = None

    def start(self) -> None:
        (self.port,) = free_ports(1)
        self._folder.mkdir(parents=True)
        if self._user is not None:
            shutil.chown(self._folder, self._user, self._user)
        data = self._folder / "data"
        password = self._folder / "password"
        password.write_text(PASSWORD, encoding="utf-8")
        self._run(
            "initdb", "-D", str(data), "-U", USER, "--auth=scram-sha-256", f"--pwfile={password}", "--no-sync", "-E", "UTF8"
        )
        options = {
            "listen_addresses": HOST,
            "unix_socket_directories": "",
            "fsync": "off",
            "shared_buffers": "32MB",
            "max_connections": "50",
        }
        settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        command = [str(self._programs / "postgres"), "-D", str(data), "-p", str(self.port), *settings]
        log = self._folder / "log"
        self.process = Process("postgres", command, log, self._is_ready, user=self._user, stop_signal=signal.SIGINT)
        self.process.start()
        self._run("createdb", "-h", HOST, "-p", str(self.port), "-U", USER, DATABASE)
        self.uri = f"postgresql+psycopg2://{USER}:{PASSWORD}@{HOST}:{self.port}/{DATABASE}"

    def _is_ready(self) -> bool:
        command = [str(self._programs / "pg_isready"), "-q", "-h", HOST, "-p", str(self.port)]
        return subprocess.run(command, check=False).returncode == 0

    def _run(self, program: str, *arguments: str) -> None:
        environment = {**os.environ, "PGPASSWORD": PASSWORD, "LC_ALL": "C.UTF-8"}
        done = subprocess.run(
            [str(self._programs / program), *arguments], user=self._user, group=self._user, cwd=self._folder, env=environment,
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        if done.returncode:
            raise Missing(f"{program} failed with {done.returncode}: {done.stdout[-500:]}{done.stderr[-1000:]}")

    def stop(self) -> None:
        if self.process is not None:
            self.process.stop()
