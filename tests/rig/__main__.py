"""python -m tests.rig [fetch|record|serve]: fetch what the servers are made of; start them and stay until Ctrl-C."""

from __future__ import annotations

import signal
import sys
import threading
import time

from tests.rig import rig, storage
from tests.rig.cache import Missing, cache_folder
from tests.rig.rig import Rig


def main(arguments: list[str]) -> int:
    match arguments:
        case [] | ["serve"]:
            return serve()
        case ["fetch"]:
            return fetch()
        case ["record"]:
            rig.record()
            return 0
        case _:
            print(__doc__, file=sys.stderr)
            return 2


def fetch() -> int:
    if rig.is_off():
        print(f"{rig.OFF}=off: nothing is fetched, and tests with real servers are skipped")
        return 0
    missing = rig.fetch()
    for name, reason in missing.items():
        print(f"{name}: {reason}", file=sys.stderr)
    print(f"real servers: {', '.join(sorted(rig.PARTS.keys() - missing.keys())) or 'none'}, in {cache_folder()}")
    return 1 if missing else 0


def serve() -> int:
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    fetch()
    with Rig() as servers:
        for name in rig.PARTS:
            begin = time.monotonic()
            try:
                getattr(servers, name)
            except Missing as error:
                print(f"# {name} is missing: {error}", file=sys.stderr)
            else:
                print(f"# {name} answers after {time.monotonic() - begin:.1f} s", file=sys.stderr)
        print(overlay(servers), flush=True)
        print(f"# logs: {servers.folder}; Ctrl-C stops the servers", file=sys.stderr)
        ended.wait()
    return 0


def overlay(servers: Rig) -> str:
    """Environment variables for [target.servers] and [target.postgres] of lakeflow.toml; eval them, or copy them."""
    lines = {
        "LAKEFLOW_KAFKA": servers.kafka.bootstrap,
        "LAKEFLOW_S3": servers.storage.endpoint,
        "LAKEFLOW_CATALOG": servers.catalog.uri,
        "LAKEFLOW_POSTGRES": servers.postgres.uri.rpartition("@")[2],
        "LAKEFLOW_SECRET_S3_ACCESS_KEY": storage.ACCESS_KEY,
        "LAKEFLOW_SECRET_S3_SECRET_KEY": storage.SECRET_KEY,
        "LAKEFLOW_SECRET_POSTGRES_PASSWORD": "loopback-only-postgres",
    }
    return "\n".join(f"export {name}={value}" for name, value in lines.items())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
